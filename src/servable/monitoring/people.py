"""What is held about people: found in segments, and taken out of them.

A person is a subject, whose rows are known by its id without opening any, or whoever has certain values in
certain inputs. Feedback is about them when it names one of their requests.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from servable.monitoring.capture import hasher
from servable.monitoring.compacting import forget_replaced
from servable.monitoring.labels import label_text
from servable.monitoring.sealed_tables import PLACE, REQUEST_KEY, SEALED, SUBJECT
from servable.monitoring.segments import Kind, Segment, TrafficStore

_REQUEST = "request_id"


class People(NamedTuple):
    """Whom rows are asked for.

    Attributes:
        subjects: subject ids.
        columns: values by the name of an input: whoever has all of them.
    """

    subjects: frozenset[str]
    columns: Mapping[str, frozenset[str]]


class Removed(NamedTuple):
    """What became of their rows in the traffic of one model.

    Attributes:
        sealed: rows that nobody can open without the subject's key.
        rows: captured rows that were taken out.
        feedback: rows of feedback that were taken out.
        segments: how many were written anew.
        damaged: those that nobody can read, so that nobody knows what is in them.
    """

    sealed: int
    rows: int
    feedback: int
    segments: int
    damaged: tuple[str, ...]


class About(NamedTuple):
    """The rows of one segment that are about a people.

    Attributes:
        segment: as it lies.
        places: of the rows in it.
        sealed: how many of them are known by their subject alone.
    """

    segment: Segment
    places: NDArray[np.int64]
    sealed: int


def spelled(store: TrafficStore, value: str) -> frozenset[str]:
    """A value in the forms in which a segment may hold it: itself, and hashed."""
    return frozenset({value, hasher(store.key())(value)})


def rows_about(store: TrafficStore, model: str, people: People, damaged: list[str]) -> Iterator[About]:
    """The segments of predictions with rows about a people.

    Args:
        store: of the home.
        model: the name.
        people: whom.
        damaged: gets the names of segments that nobody can read.

    Raises:
        DependencyMissing: pyarrow is not installed.
        StorageFailed: the storage cannot be read.
    """
    for segment in store.stored(store.segments(model, "predictions")):
        if segment.table is None:
            damaged.append(str(segment.path))
            continue
        told = _of_subjects(segment.table, people.subjects)
        found = np.union1d(told, _of_columns(store, segment, people))
        if len(found):
            yield About(segment, found, len(told))


def tables_about(store: TrafficStore, model: str, people: People) -> dict[Kind, list[Any]]:
    """Everything that is held about people in the traffic of a model, opened; see ``rows_about``."""
    import pyarrow as pa

    damaged: list[str] = []
    held: dict[Kind, list[Any]] = {"predictions": [], "feedback": []}
    requests: set[str] = set()
    for about in rows_about(store, model, people, damaged):
        rows = about.segment.table.take(pa.array(about.places))
        table = store.unsealed(Segment(about.segment.path, rows))
        requests.update(table[_REQUEST].to_pylist())
        held["predictions"].append(table)
    keys = {store.secret().request_key(each) for each in requests}
    for segment, places in _feedback_of(store, model, keys, damaged):
        rows = segment.table.take(pa.array(places))
        held["feedback"].append(store.unsealed(Segment(segment.path, rows)))
    return held


def remove(store: TrafficStore, model: str, people: People) -> Removed:
    """Take out everything that is held about people in the traffic of a model.

    Rows that are sealed under the key of the subject stay where they are: without the key they are noise, and
    its erasure comes first. Doing it again changes nothing. Nobody may put segments together meanwhile, see
    ``workflows.compacting.stand_alone``.

    Raises:
        StorageFull: no space left for a segment that is written anew; nothing is lost, do it again.
        StorageFailed: the storage fails; the same.
        DependencyMissing: pyarrow is not installed.
    """
    import pyarrow as pa

    # Rows that are in a larger segment by now would stay in those that it replaced.
    forget_replaced(store, model)
    damaged: list[str] = []
    sealed = rows = feedback = segments = 0
    doomed: list[tuple[Segment, NDArray[np.int64]]] = []
    keys: set[str] = set()
    for about in rows_about(store, model, people, damaged):
        table = about.segment.table
        chosen = table.take(pa.array(about.places))
        keys.update(_request_keys(store, chosen, about.segment.path))
        gone = np.setdiff1d(about.places, _of_subjects(table, people.subjects))
        sealed += about.sealed
        if len(gone):
            rows += len(gone)
            doomed.append((about.segment, gone))
    # Feedback goes first: who its requests were about is known only while these are there.
    for segment, places in _feedback_of(store, model, keys, damaged):
        feedback += len(places)
        segments += 1
        _without(store, segment, places)
    for segment, places in doomed:
        segments += 1
        _without(store, segment, places)
    return Removed(sealed, rows, feedback, segments, tuple(damaged))


def _without(store: TrafficStore, segment: Segment, places: NDArray[np.int64]) -> None:
    import pyarrow as pa

    left = np.setdiff1d(np.arange(segment.table.num_rows), places)
    store.replace(segment.path, segment.table.take(pa.array(left)))


def _of_subjects(table: Any, subjects: frozenset[str]) -> NDArray[np.int64]:
    import pyarrow as pa
    from pyarrow import compute

    if not subjects or SUBJECT not in table.column_names or SEALED not in table.column_names:
        return np.array([], np.int64)
    return np.flatnonzero(
        np.asarray(compute.is_in(table[SUBJECT], value_set=pa.array(sorted(subjects), pa.string())))
    )


def _of_columns(store: TrafficStore, segment: Segment, people: People) -> NDArray[np.int64]:
    """The places of rows with all of the values that are asked for."""
    if not people.columns:
        return np.array([], np.int64)
    names = {f"in.{name}": values for name, values in people.columns.items()}
    table = store.unsealed(segment, frozenset((*names, PLACE)))
    if not set(names) <= set(table.column_names):
        return np.array([], np.int64)
    matching = np.ones(table.num_rows, bool)
    for name, values in names.items():
        column = table[name].to_pylist()
        matching &= np.array([each is not None and label_text(each) in values for each in column], bool)
    return np.asarray(table[PLACE])[matching]


def _feedback_of(
    store: TrafficStore, model: str, keys: set[str], damaged: list[str]
) -> Iterator[tuple[Segment, NDArray[np.int64]]]:
    """Segments of feedback with rows about some requests, and where these stand."""
    if not keys:
        return
    paths: Sequence[PurePath] = store.segments(model, "feedback")
    for segment in store.stored(paths):
        if segment.table is None:
            damaged.append(str(segment.path))
            continue
        known = _request_keys(store, segment.table, segment.path)
        places = np.flatnonzero(np.array([key in keys for key in known], bool))
        if len(places):
            yield segment, places


def _request_keys(store: TrafficStore, table: Any, path: PurePath) -> list[str]:
    """The keyed hash of each row's request."""
    if REQUEST_KEY in table.column_names:
        return list(table[REQUEST_KEY].to_pylist())
    secret = store.secret()
    # Where only some inputs are sealed, the ids of requests are in clear.
    return [secret.request_key(each) for each in table[_REQUEST].to_pylist()]
