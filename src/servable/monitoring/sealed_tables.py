"""Tables whose rows are sealed, one by one, under the keys of their subjects.

A sealed table has a column ``sealed`` of bytes in place of the columns that were sealed; their names and
types are in the table's metadata, where they say nothing about anybody. ``subject`` holds subject ids, and
``request_key`` a keyed hash of the request's id by which feedback finds its request without opening it.
Each row is sealed for itself: neighbours in a segment are about different subjects, and every row
of one must become unreadable with its key alone.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from servable.errors import StorageFailed
from servable.monitoring.sealing import NOBODY, Secret, SubjectKeys, seal_all, unseal

SEALED, SUBJECT, REQUEST_KEY = "sealed", "subject", "request_key"
#: Where a row stood before those left that nobody can open; only for who asks for it by this name.
PLACE = "\0place"
#: In the metadata of a table: the columns that are sealed, in Arrow's own form.
_SCHEMA = b"servable.sealed"
#: Rows that are sealed at once, before others may have the interpreter.
_AT_ONCE = 500

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Any])


def sealed_table(
    table: Any,
    names: Iterable[str],
    subjects: Sequence[str],
    keys: Sequence[bytes],
    secret: Secret,
    about: str,
    pause: Callable[[], None] = lambda: None,
) -> Any:
    """A table with some of its columns sealed.

    Args:
        table: ``pyarrow.Table`` with ``request_id``.
        names: of the columns to seal, as far as they are there.
        subjects: the subject id of each row.
        keys: the data key of each row.
        secret: of the home.
        about: what is kept: must be said again to open it.
        pause: called again and again between two steps.
    """
    import pyarrow as pa

    wanted = set(names)
    hidden = [name for name in table.column_names if name in wanted]
    requests = [secret.request_key(each) for each in table["request_id"].to_pylist()]
    sealed: list[bytes] = []
    for start in range(0, table.num_rows, _AT_ONCE):
        part = table.select(hidden).slice(start, _AT_ONCE)
        rows = zip(*(_plain(part[name]) for name in hidden), strict=True)
        plains = [_encoder.encode(row) for row in rows]
        sealed += seal_all(keys[start : start + _AT_ONCE], plains, about.encode())
        pause()
    left = table.drop_columns(hidden)
    left = left.append_column(SUBJECT, pa.array(list(subjects), pa.string()))
    left = left.append_column(REQUEST_KEY, pa.array(requests, pa.string()))
    left = left.append_column(SEALED, pa.array(sealed, pa.binary()))
    schema = table.select(hidden).schema.remove_metadata().serialize().to_pybytes()
    return left.replace_schema_metadata({_SCHEMA: schema})


def is_sealed(schema: Any) -> bool:
    """Whether the table of a schema is a sealed one."""
    return _SCHEMA in (schema.metadata or {})


def needed(schema: Any, wanted: frozenset[str] | None) -> list[str]:
    """The columns to read of a table, so that those that are asked for can be given.

    Args:
        schema: of the table as it lies.
        wanted: what is asked for; None for all.
    """
    if wanted is None:
        return list(schema.names)
    chosen = [name for name in schema.names if name in wanted]
    if is_sealed(schema) and not wanted.isdisjoint(_hidden(schema).names):
        chosen += [name for name in (SUBJECT, SEALED) if name not in chosen]
    return chosen


def opened_table(
    table: Any, wanted: frozenset[str] | None, keys: SubjectKeys, secret: Callable[[], Secret], about: str
) -> Any:
    """A table as it was before it was sealed; rows that nobody can open any more are not in it.

    Args:
        table: as read, with what ``needed`` says.
        wanted: what is asked for; None for all but what sealing added.
        keys: of subjects.
        secret: of the home; asked for when something is sealed.
        about: as it was sealed.

    Raises:
        StorageFailed: the keys cannot be read.
    """
    import pyarrow as pa

    if SEALED not in table.column_names:
        return _placed(table, range(table.num_rows), wanted)
    hidden = _hidden(table.schema)
    subjects = table[SUBJECT].to_pylist()
    found = data_keys(set(subjects), keys, secret())
    rows, there = [], []
    for place, (subject, sealed) in enumerate(zip(subjects, table[SEALED].to_pylist(), strict=True)):
        key = found.get(subject)
        plain = None if key is None else unseal(key, sealed, about.encode())
        if plain is not None:
            rows.append(_decoder.decode(plain))
            there.append(place)
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(hidden)
    kept = table.take(pa.array(there, pa.int64())) if len(there) < table.num_rows else table
    kept = kept.replace_schema_metadata(None)
    for field, values in zip(hidden, columns, strict=True):
        if wanted is None or field.name in wanted:
            kept = kept.append_column(field.name, pa.array(list(values), field.type))
    kept = _placed(kept, there, wanted)
    unasked = {SEALED, SUBJECT, REQUEST_KEY} - (wanted or set())
    return kept.drop_columns([name for name in kept.column_names if name in unasked])


def _placed(table: Any, places: Sequence[int], wanted: frozenset[str] | None) -> Any:
    import pyarrow as pa

    if wanted is None or PLACE not in wanted:
        return table
    return table.append_column(PLACE, pa.array(list(places), pa.int64()))


def data_keys(subjects: Iterable[str], keys: SubjectKeys, secret: Secret) -> dict[str, bytes]:
    """The data keys of those subjects that have one still."""
    known = sorted(set(subjects) - {NOBODY})
    wrapped = keys.find(known).keys if known else {}
    made = {subject: secret.data_key(subject, wrapped.get(subject)) for subject in (NOBODY, *known)}
    return {subject: key for subject, key in made.items() if key is not None}


def kept_rows(at: Any, subjects: Sequence[str], erased: Mapping[str, int]) -> Any:
    """The places of the rows that may be kept: those that are younger than the erasure of their subject.

    Args:
        at: moments of the rows, a column of timestamps in microseconds.
        subjects: of the rows.
        erased: see ``SubjectState``.
    """
    import pyarrow as pa

    moments = np.asarray(at.cast(pa.timestamp("us", "UTC")).cast(pa.int64()))
    limits = np.array([erased.get(subject, -1) for subject in subjects], np.int64)
    return np.flatnonzero(moments > limits)


def _hidden(schema: Any) -> Any:
    import pyarrow as pa

    try:
        return pa.ipc.read_schema(pa.py_buffer(schema.metadata[_SCHEMA]))
    except (KeyError, pa.ArrowException) as error:
        raise StorageFailed("A sealed segment does not say what is sealed in it.") from error


def _plain(column: Any) -> list[Any]:
    """The values of a column, as msgpack takes them."""
    values: list[Any] = column.to_pylist()
    return values
