"""Predictions and feedback on their way into segments, sealed where it is said whom they are about."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import PurePath
from typing import Any

from servable.artifact.signature import Signature
from servable.errors import StorageFailed
from servable.monitoring.capture import ABOUT, sealed_names
from servable.monitoring.sealed_tables import REQUEST_KEY, SUBJECT, data_keys, kept_rows, sealed_table
from servable.monitoring.sealing import NOBODY
from servable.monitoring.segments import TrafficStore

#: What of feedback is sealed.
_TOLD = ("request_id", "outcome", "reward")
#: The newest segments of a model in which feedback looks for its requests.
_MOST_SEGMENTS = 2_000
#: Requests that are remembered of one model, about 70 bytes each.
_MOST_REQUESTS = 500_000
_KEY_BYTES = 32


def sealed_predictions(
    store: TrafficStore, model: str, signature: Signature, table: Any, pause: Callable[[], None]
) -> Any:
    """A table of predictions as it may be written.

    Rows whose subject was erased after they were taken are sealed under a key that nobody keeps: they read
    as absent, and feedback about them is still known to be about that subject.

    Args:
        store: of the home.
        model: the name.
        signature: of the version.
        table: as ``PredictionTable`` makes it.
        pause: called again and again between two steps.

    Raises:
        StorageFailed: the keys cannot be read or kept, or one is damaged.
    """
    whole = ABOUT in table.column_names
    about: list[str | None] = table[ABOUT].to_pylist() if whole else [None] * table.num_rows
    table = table.drop_columns([ABOUT]) if whole else table
    names = sealed_names(signature, table.column_names, whole)
    if not names:
        return table
    secret = store.secret()
    known = {value: NOBODY if value is None else secret.subject_id(value) for value in set(about)}
    subjects = [known[value] for value in about]
    distinct = {subject for subject in known.values() if subject != NOBODY}
    keys = data_keys((), store.keys, secret)
    erased: Mapping[str, int] = {}
    if distinct:
        state = store.keys.ensure({subject: secret.new_key(subject) for subject in distinct})
        for subject in distinct:
            key = secret.data_key(subject, state.keys[subject])
            if key is None:
                raise StorageFailed("A key of a subject in the registry is damaged; erase that subject.")
            keys[subject] = key
        pause()
        erased = state.erased
    row_keys = [keys[subject] for subject in subjects]
    if erased:
        lost = _lost()
        kept = set(kept_rows(table["at"], subjects, erased).tolist())
        row_keys = [key if place in kept else lost for place, key in enumerate(row_keys)]
    return sealed_table(table, names, subjects, row_keys, secret, f"{model}/predictions", pause)


class FeedbackKeeper:
    """Writes feedback into segments. Belongs to one thread at a time.

    Args:
        store: of the home.
    """

    def __init__(self, store: TrafficStore) -> None:
        self._store = store
        self._known: dict[str, dict[PurePath, Any]] = {}

    def keep(self, model: str, name: str, table: Any, first: datetime) -> None:
        """Write feedback as a segment; sealed where the model says whom its rows are about.

        Feedback about a request of somebody who was erased is not kept. Where the request is not known here,
        it is sealed under the key of nobody.

        Args:
            model: the name.
            name: of the segment.
            table: see ``journal.table_of``.
            first: when its first row came.

        Raises:
            StorageFull: no space left.
            StorageFailed: the storage refuses it.
        """
        if self._store.keys.declares(model):
            table = self._sealed(model, table)
        if table.num_rows:
            self._store.write(model, "feedback", name, table, first)

    def _sealed(self, model: str, table: Any) -> Any:
        import pyarrow as pa

        secret = self._store.secret()
        requests = [secret.request_key(each) for each in table["request_id"].to_pylist()]
        subjects = self._subjects(model, requests)
        keys = data_keys(subjects, self._store.keys, secret)
        places = [place for place, subject in enumerate(subjects) if subject in keys]
        rows = table.take(pa.array(places, pa.int64()))
        theirs = [subjects[place] for place in places]
        row_keys = [keys[subject] for subject in theirs]
        return sealed_table(rows, _TOLD, theirs, row_keys, secret, f"{model}/feedback")

    def _subjects(self, model: str, requests: Sequence[str]) -> list[str]:
        """Whom requests were about, as far as the newest segments say."""
        import pyarrow as pa
        from pyarrow import compute

        tables = list(self._read(model))
        if not tables:
            return [NOBODY] * len(requests)
        known = pa.concat_tables(tables)
        places = compute.index_in(pa.array(requests, pa.string()), value_set=known[REQUEST_KEY])
        found = known[SUBJECT].take(places).to_pylist()
        return [NOBODY if subject is None else subject for subject in found]

    def _read(self, model: str) -> Iterable[Any]:
        """Who asked what, of the newest segments; each is opened once."""
        listed = self._store.segments(model, "predictions")[-_MOST_SEGMENTS:]
        before = self._known.get(model, {})
        now = {path: before[path] for path in listed if path in before}
        columns = frozenset((REQUEST_KEY, SUBJECT))
        for segment in self._store.each([path for path in listed if path not in now], columns):
            whole = segment.table is not None and columns <= set(segment.table.column_names)
            now[segment.path] = segment.table.replace_schema_metadata(None) if whole else None
        rows = 0
        for path in reversed(listed):
            table = now.get(path)
            rows += 0 if table is None else table.num_rows
            if rows > _MOST_REQUESTS:
                now[path] = None
        self._known[model] = now
        return [table for table in now.values() if table is not None]


def _lost() -> bytes:
    """A key that is kept nowhere."""
    return os.urandom(_KEY_BYTES)
