"""The audit log of a registry, as whoever changes the registry writes it.

What changes the registry writes its record in the transaction of the change, with ``written``: either both
are there or neither is, so that a change which cannot be recorded is not made. ``security.audit_chain`` says
how records hold on to one another.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text

from servable.clock import Clock, timestamp
from servable.registry.audit_log import AuditLog
from servable.registry.audit_rows import Run, append
from servable.registry.state import State
from servable.security.actors import actor
from servable.security.audit_chain import Entry, Head

#: Of the lock that writers of the log take turns by on PostgreSQL; on SQLite every writer takes turns.
_LOCK = 7367262562


def written(connection: Connection, clock: Clock, what: str, **details: Any) -> Head:
    """Record a change in the transaction in which it is made.

    Args:
        connection: of a transaction that writes, from ``State.writing`` or ``State.aside``.
        clock: what dates it.
        what: what is done, such as ``keys.create``.
        details: with what; see ``audit_chain.Entry``.
    """
    who = actor()
    return append(_alone(connection), (Entry(timestamp(clock.now()), what, who.who, who.where, details),))


class Audit(AuditLog):
    """The audit log of one registry. Safe to share between threads and processes.

    Args:
        state: the database.
        clock: what dates records.
        home: the folder in which the key lies that signs checkpoints.
    """

    def __init__(self, state: State, clock: Clock, home: Path) -> None:
        super().__init__(_StateDatabase(state), clock, home)

    def record(self, what: str, connection: Connection | None = None, **details: Any) -> None:
        """Record something that is done now.

        Args:
            what: what, such as ``privacy.erase``.
            connection: of the transaction that does it; None where it is no matter of the database, and then
                this comes first.
            details: with what; see ``audit_chain.Entry``.
        """
        if connection is None:
            self.add((self.entry(what, **details),))
        else:
            written(connection, self._clock, what, **details)


class _StateDatabase:
    """An open registry; implements ``AuditDatabase``."""

    def __init__(self, state: State) -> None:
        self._state = state

    @contextmanager
    def writing(self) -> Iterator[Run]:
        """See ``AuditDatabase``."""
        # Servers need not look whether a deployment changed.
        with self._state.aside() as connection:
            yield _alone(connection)

    @contextmanager
    def reading(self) -> Iterator[Run]:
        """See ``AuditDatabase``."""
        with self._state.reading() as connection:
            yield _run(connection)


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
