"""What a server adds to the audit log: refusals, and what its callers change.

A home's SQLite file is written with the standard library alone, for the reason that ``reader`` gives.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from servable.errors import StorageFailed
from servable.registry.audit_rows import append
from servable.registry.failures import BUSY_SECONDS, database_error
from servable.registry.reader import bring_up_to_date
from servable.registry.records import DATABASE
from servable.security.audit_chain import Entry

if TYPE_CHECKING:
    from servable.registry.home import Home

_FULL = 2


class AuditWriter(Protocol):
    """Adds records to the log of a registry. Blocks; not for several threads at once."""

    def add(self, entries: Sequence[Entry]) -> None:
        """Add records, all or none; durable when this returns.

        Raises:
            StorageFailed: the database cannot be written.
            StorageFull: no space left.
        """
        ...

    def checkpoint_if_due(self) -> str:
        """See ``Audit.checkpoint_if_due``."""
        ...

    def drop(self, before: datetime) -> int:
        """See ``Audit.drop``."""
        ...

    def close(self) -> None:
        """Give back handles."""
        ...


class NoWriter:
    """Keeps nothing."""

    def add(self, entries: Sequence[Entry]) -> None:
        """Forget them."""

    def checkpoint_if_due(self) -> str:
        """Never."""
        return ""

    def drop(self, before: datetime) -> int:
        """Nothing."""
        return 0

    def close(self) -> None:
        """Nothing is held."""


def open_audit_writer(home: Path, database_url: str = "") -> AuditWriter:
    """Opens when it first writes, so that making one cannot fail.

    Args:
        home: the folder; what is missing is made.
        database_url: where the database is, if not in the folder.
    """
    return HomeAuditWriter(home, database_url) if database_url else SqliteAuditWriter(home)


class _Signing:
    """What needs the whole registry: signing and dropping, a few times an hour."""

    def __init__(self, home: Path, database_url: str) -> None:
        self._path = home
        self._url = database_url
        self._home: Home | None = None

    @property
    def home(self) -> "Home":
        """The open home."""
        if self._home is None:
            from servable.registry.home import open_home  # Lazily: it brings SQLAlchemy, as in ``reader``.

            self._home = open_home(self._path, database_url=self._url or None)
        return self._home

    def checkpoint_if_due(self) -> str:
        """See ``Audit.checkpoint_if_due``."""
        return self.home.audit.checkpoint_if_due()

    def drop(self, before: datetime) -> int:
        """See ``Audit.drop``."""
        return self.home.audit.drop(before)

    def close(self) -> None:
        """Give back handles."""
        if self._home is not None:
            self._home.close()


class SqliteAuditWriter(_Signing):
    """Writes to a home's SQLite file."""

    def __init__(self, home: Path) -> None:
        super().__init__(home, "")
        self._file = home / DATABASE
        self._connection: sqlite3.Connection | None = None

    def add(self, entries: Sequence[Entry]) -> None:
        """See ``AuditWriter``."""
        try:
            connection = self._opened()
            connection.execute("BEGIN IMMEDIATE")
            try:
                append(lambda statement, values: self._run(connection, statement, values), entries)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise database_error(error, str(self._file)) from error

    def _run(self, connection: sqlite3.Connection, statement: str, values: Mapping[str, Any]) -> list[Any]:
        return connection.execute(statement, dict(values)).fetchall()

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            bring_up_to_date(self._path, create=True)
            connection = sqlite3.connect(
                self._file, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            connection.execute("PRAGMA synchronous = FULL")
            if connection.execute("PRAGMA synchronous").fetchone()[0] != _FULL:
                connection.close()
                raise StorageFailed("SQLite does not write the audit log durably here; use a local disk.")
            self._connection = connection
        return self._connection

    def close(self) -> None:
        """See ``AuditWriter``."""
        super().close()
        if self._connection is not None:
            self._connection.close()


class HomeAuditWriter(_Signing):
    """Writes to any database through an open home."""

    def add(self, entries: Sequence[Entry]) -> None:
        """See ``AuditWriter``."""
        self.home.audit.add(entries)
