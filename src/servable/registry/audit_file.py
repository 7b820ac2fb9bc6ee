"""The audit log as servers write it: refusals, and what their callers change.

A home's SQLite file is written with the standard library alone, for the reason that ``reader`` gives.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from servable.clock import Clock
from servable.errors import StorageFailed
from servable.registry.audit_log import AuditLog
from servable.registry.audit_rows import Run
from servable.registry.failures import BUSY_SECONDS, sqlite_errors
from servable.registry.reader import bring_up_to_date
from servable.registry.records import DATABASE

#: What SQLite answers for ``synchronous=FULL``.
_FULL = 2


class OpenAuditLog:
    """The audit log of a home, opened when it is first needed. Blocks; not for several threads at once.

    Args:
        home: the folder; what is missing is made.
        database_url: where the database is, if not in the folder.
        clock: what dates records.
    """

    def __init__(self, home: Path, database_url: str, clock: Clock) -> None:
        self._home = home
        self._url = database_url
        self._clock = clock
        self._log: AuditLog | None = None
        self._close: Any = None

    @property
    def log(self) -> AuditLog:
        """The log.

        Raises:
            StorageFailed: the database cannot be opened.
            StorageFull: no space left.
        """
        if self._log is None:
            self._log = self._opened()
        return self._log

    def close(self) -> None:
        """Give back handles."""
        if self._close is not None:
            self._close()

    def _opened(self) -> AuditLog:
        if self._url:
            from servable.registry.home import open_home  # Lazily: it brings SQLAlchemy, as in ``reader``.

            home = open_home(self._home, database_url=self._url, clock=self._clock)
            self._close = home.close
            return home.audit
        database = _FileDatabase(self._home)
        self._close = database.close
        return AuditLog(database, self._clock, self._home)


class _FileDatabase:
    """A home's SQLite file; implements ``AuditDatabase``."""

    def __init__(self, home: Path) -> None:
        bring_up_to_date(home, create=True)
        self._file = home / DATABASE
        with sqlite_errors(str(self._file)):
            self._connection = sqlite3.connect(
                self._file, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._connection.text_factory = lambda data: data.decode("utf-8", "replace")
            self._connection.execute("PRAGMA synchronous = FULL")
            if self._connection.execute("PRAGMA synchronous").fetchone()[0] != _FULL:
                self._connection.close()
                raise StorageFailed("SQLite does not write durably here; put the home on a local disk.")

    @contextmanager
    def writing(self) -> Iterator[Run]:
        """See ``AuditDatabase``."""
        with self._transaction("BEGIN IMMEDIATE") as run:
            yield run

    @contextmanager
    def reading(self) -> Iterator[Run]:
        """See ``AuditDatabase``."""
        with self._transaction("BEGIN") as run:
            yield run

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[Run]:
        with sqlite_errors(str(self._file)):
            self._connection.execute(begin)
            try:
                yield self._run
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _run(self, statement: str, parameters: Mapping[str, Any]) -> list[Any]:
        return self._connection.execute(statement, dict(parameters)).fetchall()

    def close(self) -> None:
        """Give back the handle."""
        self._connection.close()
