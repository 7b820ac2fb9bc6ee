"""The audit log over any database: records, checkpoints, dropping what is old. Imports no database library.

``registry.audit`` opens it over SQLAlchemy for whoever changes the registry, ``registry.audit_file`` over the
standard library for servers.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from servable.clock import Clock, timestamp
from servable.errors import InputError, StorageFailed
from servable.registry.audit_key import AuditKey
from servable.registry.audit_rows import Run, append, head_of, unsaid
from servable.security.actors import actor
from servable.security.audit_chain import Entry, Examined, Head, Row, Seen, content_of, examine
from servable.security.checkpoints import notes_in, opened, signed

#: After so many records, or seconds with at least one, a checkpoint is due.
DUE_RECORDS = 1_000
DUE_S = 600.0
#: Records that are read at once.
_PART = 2_000
_READ = "SELECT number, record, hash FROM audit WHERE number > :after ORDER BY number LIMIT :most"
_SIZE = "SELECT MAX(number) FROM audit"
_NOTES = "SELECT note FROM audit_checkpoints ORDER BY number"
_NEWEST = "SELECT size, note FROM audit_checkpoints ORDER BY number DESC LIMIT 1"
_KEEP = "INSERT INTO audit_checkpoints (size, note) VALUES (:size, :note)"
_FORGET_NOTES = "DELETE FROM audit_checkpoints WHERE size <= :last"
_FORGET = "DELETE FROM audit WHERE number <= :last"
_FOUND = "SELECT hash FROM audit WHERE number = :last"


class AuditDatabase(Protocol):
    """A database that holds an audit log. Blocks; as safe to share as what implements it."""

    def writing(self) -> AbstractContextManager[Run]:
        """A transaction in which nobody else writes; durable when the block ends.

        Raises:
            StorageFailed: the database cannot be written.
            StorageFull: no space left.
        """
        ...

    def reading(self) -> AbstractContextManager[Run]:
        """A transaction that changes nothing.

        Raises:
            StorageFailed: the database cannot be read.
        """
        ...


class _Last(NamedTuple):
    """The newest checkpoint: of how many records, and when."""

    size: int
    at: str


class AuditLog:
    """An audit log. As safe to share as its database is.

    Methods raise ``StorageFailed`` or ``StorageFull`` when the database does.

    Args:
        database: that holds it.
        clock: what dates records.
        home: the folder in which the key lies that signs checkpoints.

    Attributes:
        key: that signs checkpoints.
    """

    def __init__(self, database: AuditDatabase, clock: Clock, home: Path) -> None:
        self._database = database
        self._clock = clock
        self.key = AuditKey(home)

    def entry(self, what: str, **details: Any) -> Entry:
        """What whoever acts now does now."""
        who = actor()
        return Entry(timestamp(self._clock.now()), what, who.who, who.where, details)

    def add(self, entries: Sequence[Entry], once: Sequence[Entry] = ()) -> None:
        """Add records, all or none.

        Args:
            entries: in their order.
            once: about models; those are added that the log does not say already, see ``audit_rows.unsaid``.
        """
        with self._database.writing() as run:
            append(run, [*entries, *unsaid(run, once)])

    def rows(self, after: int = 0) -> Iterator[Row]:
        """The records, oldest first, as they are; each part of them as it was at one moment.

        Args:
            after: the number behind which to begin.
        """
        while True:
            with self._database.reading() as run:
                found = run(_READ, {"after": after, "most": _PART})
            part = [Row(int(number), _text(record), _text(hash_)) for number, record, hash_ in found]
            yield from part
            if len(part) < _PART:
                return
            after = part[-1].number

    def head(self) -> Head:
        """The log as it is."""
        with self._database.reading() as run:
            return head_of(run)

    def notes(self) -> tuple[str, ...]:
        """The checkpoints that are kept beside the log, oldest first."""
        with self._database.reading() as run:
            return tuple(str(row[0]) for row in run(_NOTES, {}))

    def checkpoint(self) -> str:
        """Sign the log as it is, and keep that beside it; the text of a signed note.

        Raises:
            StorageFailed: also when the key cannot be read.
            DependencyMissing: cryptography is not installed.
        """
        key = self.key.private()
        with self._database.writing() as run:
            head = head_of(run)
            if not head.size:
                head = append(run, (self.entry("audit.begin"),))
            note = signed(key, head, timestamp(self._clock.now()))
            run(_KEEP, {"size": head.size, "note": note})
        return note

    def checkpoint_if_due(self) -> str:
        """As ``checkpoint`` when enough was recorded since the last one; else the empty text."""
        with self._database.reading() as run:
            size = run(_SIZE, {})[0][0] or 0
            last = _newest(run)
        new = size - last.size
        if not new or (new < DUE_RECORDS and last.at and self._clock.now() < _later(last.at, DUE_S)):
            return ""
        return self.checkpoint()

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

    def examine(self, seen: Sequence[Seen]) -> Examined:
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
            StorageFailed: also when the key cannot be read, and when the log was changed by somebody, which
                a signature must not cover up.
            DependencyMissing: cryptography is not installed.
        """
        limit = timestamp(before)
        first, last = self._older(limit)
        if last is None:
            return 0
        key = self.key.private()
        faults = self.examine(self.own_checkpoints()).faults
        if faults:
            raise StorageFailed(
                f"The audit log was changed, so nothing is dropped from it: {faults[0].sentence}"
            )
        with self._database.writing() as run:
            cut = Head(head_of(run).log, last.number, last.hash)
            found = run(_FOUND, {"last": last.number})
            if not found or _text(found[0][0]) != last.hash:
                # Somebody else dropped them meanwhile.
                return 0
            run(_FORGET_NOTES, {"last": last.number})
            note = signed(key, cut, timestamp(self._clock.now()), cut=True)
            run(_KEEP, {"size": last.number, "note": note})
            run(_FORGET, {"last": last.number})
            append(run, (self.entry("audit.cut", dropped_to=last.number, written_before=limit),))
        return last.number - first + 1

    def _older(self, limit: str) -> tuple[int, Row | None]:
        """The first record, and the last of those at the beginning that are older; never the newest one."""
        first = 0
        last: Row | None = None
        before: Row | None = None
        for row in self.rows():
            first = first or row.number
            last = before
            content = content_of(row)
            if content is None or not isinstance(content.get("at"), str) or content["at"] >= limit:
                break
            before = row
        return first, last


def _newest(run: Run) -> _Last:
    found = run(_NEWEST, {})
    if not found:
        return _Last(0, "")
    try:
        return _Last(int(found[0][0]), next(iter(notes_in(str(found[0][1])))).at)
    except (InputError, StopIteration):
        # ``verify`` tells of it; a new one is due.
        return _Last(0, "")


def _later(at: str, seconds: float) -> datetime:
    return datetime.fromisoformat(at) + timedelta(seconds=seconds)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
