"""The audit log of a registry: who changed what, when and from where, and who was refused.

What changes the registry writes its record in the transaction of the change, with ``written``: either both are
there or neither is, so that a change which cannot be recorded is not made. ``security.audit_chain`` says how
records hold on to one another.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, func, insert, select, text

from servable.clock import Clock, timestamp
from servable.errors import InputError, StorageFailed
from servable.registry import tables
from servable.registry.audit_key import AuditKey
from servable.registry.audit_rows import Run, append, head_of
from servable.registry.state import State
from servable.security.actors import actor
from servable.security.audit_chain import Entry, Examined, Head, Row, Seen, content_of, examine
from servable.security.checkpoints import notes_in, opened, signed

#: Of the lock that writers of the log take turns by on PostgreSQL; on SQLite every writer takes turns.
_LOCK = 7367262562
#: Records that are read at once.
_PART = 2_000
#: After so many records, or seconds with at least one, a checkpoint is due.
DUE_RECORDS = 1_000
DUE_S = 600.0


def written(connection: Connection, clock: Clock, what: str, **details: Any) -> Head:
    """Record a change in the transaction in which it is made.

    Args:
        connection: of a transaction that writes, from ``State.writing`` or ``State.aside``.
        clock: what dates it.
        what: what is done, such as ``keys.create``.
        details: with what; see ``audit_chain.Entry``.
    """
    who = actor()
    entry = Entry(timestamp(clock.now()), what, who.who, who.where, details)
    return append(_alone(connection), (entry,))


class Audit:
    """The audit log of one registry. Safe to share between threads and processes.

    Methods raise ``StorageFailed`` or ``StorageFull`` when the database does.

    Args:
        state: the database.
        clock: what dates records.
        home: the folder in which the key lies that signs checkpoints.
    """

    def __init__(self, state: State, clock: Clock, home: Path) -> None:
        self._state = state
        self._clock = clock
        self.key = AuditKey(home)

    def record(self, what: str, connection: Connection | None = None, **details: Any) -> None:
        """Record something that is done now.

        Args:
            what: what, such as ``privacy.erase``.
            connection: of the transaction that does it; None where it is no matter of the database, and then
                this comes first.
            details: with what; see ``audit_chain.Entry``.
        """
        if connection is not None:
            written(connection, self._clock, what, **details)
            return
        with self._state.aside() as own:
            written(own, self._clock, what, **details)

    def add(self, entries: Sequence[Entry]) -> None:
        """Add records, all or none."""
        with self._state.aside() as connection:
            append(_alone(connection), entries)

    def rows(self, after: int = 0) -> Iterator[Row]:
        """The records, oldest first, as they are; each part of them as it was at one moment.

        Args:
            after: the number behind which to begin.
        """
        while True:
            with self._state.reading() as connection:
                part = _read(connection, after)
            yield from part
            if len(part) < _PART:
                return
            after = part[-1].number

    def head(self) -> Head:
        """The log as it is."""
        with self._state.reading() as connection:
            return head_of(_run(connection))

    def checkpoint(self) -> str:
        """Sign the log as it is, and keep that beside it; the text of a signed note.

        Raises:
            StorageFailed: also when the key cannot be read.
            DependencyMissing: cryptography is not installed.
        """
        key = self.key.private()
        with self._state.aside() as connection:
            head = head_of(_alone(connection))
            if not head.size:
                head = written(connection, self._clock, "audit.begin")
            note = signed(key, head, timestamp(self._clock.now()))
            _keep(connection, head.size, note)
        return note

    def checkpoint_if_due(self) -> str:
        """As ``checkpoint`` when enough was recorded since the last one; else the empty text."""
        with self._state.reading() as connection:
            size = connection.execute(select(func.max(tables.audit.c.number))).scalar() or 0
            last = _newest(connection)
        if size == (last.size if last else 0):
            return ""
        if last is not None and size - last.size < DUE_RECORDS:
            if self._clock.now() - datetime.fromisoformat(last.at) < timedelta(seconds=DUE_S):
                return ""
        return self.checkpoint()

    def notes(self) -> tuple[str, ...]:
        """The checkpoints that are kept beside the log, oldest first."""
        with self._state.reading() as connection:
            table = tables.audit_checkpoints
            return tuple(connection.execute(select(table.c.note).order_by(table.c.number)).scalars())

    def own_checkpoints(self) -> tuple[Seen, ...]:
        """The checkpoints beside the log that this home signed.

        Raises:
            StorageFailed: also when one of them was changed.
            DependencyMissing: cryptography is not installed.
        """
        keys = (self.key.private().public,)
        try:
            found = [opened(note, keys) for text in self.notes() for note in notes_in(text)]
        except InputError as error:
            raise StorageFailed(f"A checkpoint beside the audit log was changed: {error}") from error
        return tuple(one for one in found if one is not None)

    def examine(self, seen: tuple[Seen, ...]) -> Examined:
        """Look for anything that was done to the log.

        Args:
            seen: checkpoints whose signatures were checked.
        """
        return examine(self.rows(), seen)

    def drop(self, before: datetime) -> int:
        """Drop the records of before a moment; a signed checkpoint takes their place.

        Returns:
            How many were dropped; 0 where there is nothing so old.

        Raises:
            StorageFailed: also when the key cannot be read, and when the log was changed by somebody, of which
                a signature must not make an end.
            DependencyMissing: cryptography is not installed.
        """
        limit = timestamp(before)
        last = self._last_before(limit)
        if last is None:
            return 0
        key = self.key.private()
        faults = self.examine(self.own_checkpoints()).faults
        if faults:
            raise StorageFailed(f"The audit log was changed, so nothing is dropped from it: {faults[0].sentence}")
        with self._state.aside() as connection:
            run = _alone(connection)
            log = head_of(run).log
            if not [row for row in _read(connection, last.number - 1)[:1] if row == last]:
                # Somebody else dropped them meanwhile.
                return 0
            # Kept are the newest cut and the checkpoints of records that are there still.
            table = tables.audit_checkpoints
            connection.execute(delete(table).where(table.c.size <= last.number))
            cut = Head(log, last.number, last.hash)
            _keep(connection, last.number, signed(key, cut, timestamp(self._clock.now()), cut=True))
            dropped = connection.execute(delete(tables.audit).where(tables.audit.c.number <= last.number))
            written(connection, self._clock, "audit.cut", dropped_to=last.number, written_before=limit)
        return int(dropped.rowcount)

    def _last_before(self, limit: str) -> Row | None:
        """The last record of the row of records at the beginning that are older; never the newest one."""
        last: Row | None = None
        before: Row | None = None
        for row in self.rows():
            last = before
            content = content_of(row)
            if content is None or not isinstance(content.get("at"), str) or content["at"] >= limit:
                return last
            before = row
        return last


class _Last(NamedTuple):
    """The newest checkpoint: of how many records, and when."""

    size: int
    at: str


def _newest(connection: Connection) -> _Last | None:
    table = tables.audit_checkpoints
    row = connection.execute(
        select(table.c.size, table.c.note).order_by(table.c.number.desc()).limit(1)
    ).first()
    return None if row is None else _Last(row.size, next(iter(notes_in(row.note))).at)


def _keep(connection: Connection, size: int, note: str) -> None:
    connection.execute(insert(tables.audit_checkpoints).values(size=size, note=note))


def _read(connection: Connection, after: int) -> list[Row]:
    # As bytes where SQLite keeps them: what somebody wrote there need not be text.
    wanted = text(
        "SELECT number, CAST(record AS BLOB), CAST(hash AS BLOB) FROM audit WHERE number > :after "
        "ORDER BY number LIMIT :most"
        if connection.dialect.name == "sqlite"
        else "SELECT number, record, hash FROM audit WHERE number > :after ORDER BY number LIMIT :most"
    )
    rows = connection.execute(wanted, {"after": after, "most": _PART}).all()
    return [Row(int(number), _text(record), _text(hash_)) for number, record, hash_ in rows]


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _alone(connection: Connection) -> Run:
    """Runs statements while nobody else writes the log."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
    return _run(connection)


def _run(connection: Connection) -> Run:
    def run(statement: str, parameters: Mapping[str, Any]) -> Any:
        answer = connection.execute(text(statement), dict(parameters))
        return answer.all() if answer.returns_rows else ()

    return run
