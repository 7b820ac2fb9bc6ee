"""Predictions joined with what turned out to be true, by the id of the request and the row within it.

The join heeds neither the order in which anything was written nor how often: of several labels of one row the
newest holds, one that is said again changes nothing, and a request that was captured more than once, because
its caller tried again, counts once with its last answer. Outcome and reward of a row are held apart, so that
feedback that names one of them leaves the other as it is.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from servable.monitoring.journal import table_of, unsettled
from servable.monitoring.segments import Kind, need_pyarrow

#: Columns of a joined table that come from feedback.
LABELS = ("outcome", "reward", "labelled_at")
#: What is read of every segment of predictions besides the columns asked for.
_KEYS = ("request_id", "row", "version", "at")
Ints = NDArray[np.int64]


class Joined(NamedTuple):
    """What became of a join.

    Attributes:
        table: ``pyarrow.Table``: the predictions in the order of ``at``, with ``LABELS`` (null: none yet).
        unknown: rows of feedback about which no prediction is known here.
    """

    table: Any
    unknown: int


class Traffic(Protocol):
    """Gives segments: a ``TrafficStore``, or one that remembers what it read.

    Attributes:
        root: the folder in the home that holds the journals of feedback.
    """

    root: Path

    def tables(
        self,
        model: str,
        kind: Kind,
        since: datetime | None = None,
        until: datetime | None = None,
        columns: Iterable[str] | None = None,
    ) -> list[Any]:
        """See ``TrafficStore.tables``."""
        ...


def joined(
    store: Traffic,
    model: str,
    since: datetime | None = None,
    until: datetime | None = None,
    columns: Sequence[str] | None = None,
) -> Any:
    """The captured predictions of a model with their labels, as one ``pyarrow.Table``.

    Feedback counts as soon as a server on this machine acknowledged it, predictions when they are written.

    Args:
        store: of the home.
        model: its name.
        since: predictions from here on (aware); None for all.
        until: predictions before here (aware); None for all.
        columns: of the predictions, only these and those that name a row; None for all.

    Raises:
        DependencyMissing: pyarrow is not installed.
        StorageFailed: the storage cannot be read.
    """
    return join_stored(store, model, since, until, columns).table


def join_stored(
    store: Traffic,
    model: str,
    since: datetime | None = None,
    until: datetime | None = None,
    columns: Sequence[str] | None = None,
) -> Joined:
    """As ``joined``, with the count of labels that found nothing."""
    wanted = None if columns is None else (*_KEYS, *columns)
    # Before the segments are listed, so that a journal which becomes one meanwhile is seen in either form.
    waiting = unsettled(store.root, model)
    predictions = united(store.tables(model, "predictions", since, until, wanted))
    # A label comes after its prediction, so older feedback is about older predictions.
    feedback = store.tables(model, "feedback", since)
    found = join(predictions, united([*feedback, table_of(waiting)] if waiting else feedback))
    return Joined(_between(found.table, since, until), found.unknown)


def join(predictions: Any, feedback: Any) -> Joined:
    """Put predictions and feedback together. Pure.

    Args:
        predictions: a table of segments of predictions, or one without columns.
        feedback: a table of segments of feedback, or one without columns.
    """
    need_pyarrow()
    import pyarrow as pa

    if not predictions.num_columns:
        schema = pa.schema([("request_id", pa.string()), ("row", pa.int32()), ("version", pa.int32()),
                            ("at", pa.timestamp("us", "UTC")), *_label_fields()])  # fmt: skip
        return Joined(schema.empty_table(), _distinct(feedback))
    if not feedback.num_columns:
        feedback = pa.schema(_feedback_fields()).empty_table()
    ids, known = _ids(predictions, feedback)
    kept = _last_of_each(predictions, ids)
    predictions, ids = predictions.take(pa.array(kept)), ids[kept]
    table, labelled = predictions, []
    for name in ("outcome", "reward"):
        values, since = _newest(feedback, known, name, ids)
        table = table.append_column(name, values)
        labelled.append(since)
    at = np.maximum(labelled[0], labelled[1])
    moments = pa.array(at, mask=at < 0).cast(pa.timestamp("us", "UTC"))
    table = table.append_column("labelled_at", moments)
    return Joined(table, len(np.setdiff1d(known, ids)))


def united(tables: Iterable[Any]) -> Any:
    """Tables of several segments as one; a column that versions hold in different types becomes text."""
    need_pyarrow()
    import pyarrow as pa

    given = list(tables)
    if not given:
        return pa.table({})
    types: dict[str, Any] = {}
    for table in given:
        for field in table.schema:
            before = types.setdefault(field.name, field.type)
            if before != field.type:
                types[field.name] = _common(before, field.type)
    same = [
        pa.table({name: _as(table.column(name), types[name]) for name in table.column_names})
        for table in given
    ]
    return pa.concat_tables(same, promote_options="default")


def _common(one: Any, other: Any) -> Any:
    """A type that holds the values of both."""
    import pyarrow as pa

    if pa.types.is_null(one):
        return other
    if pa.types.is_null(other):
        return one
    numeric = [pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in (one, other)]
    return pa.float64() if all(numeric) else pa.string()


def _as(column: Any, kind: Any) -> Any:
    """A column in another type; lists have no text of their own in Arrow and become JSON."""
    import msgspec
    import pyarrow as pa

    if column.type == kind:
        return column
    if pa.types.is_list(column.type):
        texts = [None if each is None else msgspec.json.encode(each).decode() for each in column.to_pylist()]
        return pa.chunked_array([pa.array(texts, kind)])
    return column.cast(kind)


def _label_fields() -> list[tuple[str, Any]]:
    import pyarrow as pa

    return [("outcome", pa.string()), ("reward", pa.float64()), ("labelled_at", pa.timestamp("us", "UTC"))]


def _feedback_fields() -> list[tuple[str, Any]]:
    import pyarrow as pa

    moment = pa.timestamp("us", "UTC")
    return [("request_id", pa.string()), ("row", pa.int32()), ("outcome", pa.string()),
            ("reward", pa.float64()), ("at", moment), ("observed_at", moment)]  # fmt: skip


def _ids(predictions: Any, feedback: Any) -> tuple[Ints, Ints]:
    """A number for every row of both tables, equal where they speak of the same row of the same request."""
    import pyarrow as pa

    texts = pa.chunked_array(
        [*predictions["request_id"].chunks, *feedback["request_id"].chunks], type=pa.string()
    )
    codes = texts.combine_chunks().dictionary_encode()
    rows = pa.chunked_array([*predictions["row"].chunks, *feedback["row"].chunks], type=pa.int32())
    # Both are below 2**31, so that together they fit one number.
    numbers = np.asarray(codes.indices).astype(np.int64) << 31 | np.asarray(rows).astype(np.int64)
    return numbers[: predictions.num_rows], numbers[predictions.num_rows :]


def _moments(table: Any) -> Ints:
    """The column ``at`` in microseconds."""
    import pyarrow as pa

    return np.asarray(table["at"].cast(pa.timestamp("us", "UTC")).cast(pa.int64()))


def _last_of_each(predictions: Any, ids: Ints) -> Ints:
    """Of each version's rows of equal id the place of the last, all in the order of time."""
    at, version = _moments(predictions), np.asarray(predictions["version"])
    order = np.lexsort((at, version, ids))
    if not len(order):
        return order
    last = np.ones(len(order), bool)
    last[:-1] = (np.diff(ids[order]) != 0) | (np.diff(version[order]) != 0)
    kept = order[last]
    # The rows of one request were taken at one moment.
    return kept[np.lexsort((np.asarray(predictions["row"])[kept], at[kept]))]


def _newest(feedback: Any, known: Ints, name: str, ids: Ints) -> tuple[Any, Ints]:
    """For each id the newest value of a column of feedback, and since when it holds (-1: there is none).

    Args:
        feedback: the table.
        known: its rows' ids.
        name: ``outcome`` or ``reward``.
        ids: of the predictions.
    """
    import pyarrow as pa

    column = feedback[name].combine_chunks()
    there = np.flatnonzero(np.asarray(column.is_valid()))
    if not len(there):
        return pa.nulls(len(ids), column.type), np.full(len(ids), -1, np.int64)
    keys, at = known[there], _moments(feedback)[there]
    # Of two that came in the same microsecond the larger holds, whatever the order of the files.
    ranks = _ranks(column.take(pa.array(there)))
    order = np.lexsort((ranks, at, keys))
    keys, at, ranks = keys[order], at[order], ranks[order]
    fresh = np.ones(len(keys), bool)
    fresh[1:] = (np.diff(keys) != 0) | (np.diff(ranks) != 0)
    since = at[np.maximum.accumulate(np.where(fresh, np.arange(len(keys)), 0))]
    places = np.searchsorted(keys, ids, side="right") - 1
    found = (places >= 0) & (keys[np.maximum(places, 0)] == ids)
    chosen = np.where(found, there[order][np.maximum(places, 0)], 0)
    values = column.take(pa.array(chosen, mask=~found))
    return values, np.where(found, since[np.maximum(places, 0)], -1)


def _ranks(column: Any) -> Ints:
    """Equal numbers for equal values, in their order."""
    from pyarrow import compute

    return np.asarray(compute.rank(column, sort_keys="ascending", tiebreaker="dense")).astype(np.int64)


def _distinct(feedback: Any) -> int:
    """How many rows feedback speaks of."""
    if not feedback.num_columns:
        return 0
    import pyarrow as pa

    empty = pa.schema([("request_id", pa.string()), ("row", pa.int32())]).empty_table()
    return len(np.unique(_ids(empty, feedback)[1]))


def _between(table: Any, since: datetime | None, until: datetime | None) -> Any:
    """The rows of a span of time."""
    import pyarrow as pa
    from pyarrow import compute

    moment = pa.timestamp("us", "UTC")
    if since is not None:
        table = table.filter(compute.greater_equal(table["at"], pa.scalar(since, moment)))
    if until is not None:
        table = table.filter(compute.less(table["at"], pa.scalar(until, moment)))
    return table
