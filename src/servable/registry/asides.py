"""Small writes of servers beside everything that they follow: counts, which raise no change token.

A home's SQLite file is written with the standard library alone, for the reason that ``reader`` gives.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from servable.registry.failures import BUSY_SECONDS, database_error
from servable.registry.records import DATABASE

if TYPE_CHECKING:
    from servable.registry.home import Home
    from servable.registry.state import State

_T = TypeVar("_T")
#: Runs a statement, whose parameters are named ``:name``, and gives the rows, which are none for a change.
Run = Callable[[str, dict[str, Any]], list[Any]]


class Asides(Protocol):
    """Transactions beside. Block; not for several threads at once."""

    def within(self, work: Callable[[Run], _T]) -> _T:
        """Do something in a transaction.

        Raises:
            StorageFull: no space left.
            StorageFailed: the database cannot be written.
        """
        ...

    def close(self) -> None:
        """Give back handles."""
        ...


def open_asides(home: Path, database_url: str = "", *, durable: bool = True) -> Asides:
    """Transactions of a home for a server.

    Args:
        home: the folder.
        database_url: where the database is, if not in the folder.
        durable: whether what was written must outlive a power cut.
    """
    return _HomeAsides(home, database_url) if database_url else _FileAsides(home / DATABASE, durable)


def run_in(connection: Any) -> Run:
    """Statements in a transaction of SQLAlchemy that is open already."""
    from sqlalchemy import text

    def run(statement: str, values: dict[str, Any]) -> list[Any]:
        result = connection.execute(text(statement), values)
        return list(result.all()) if result.returns_rows else []

    return run


class StateAsides:
    """Transactions of an open database. Safe to share between threads; see ``Asides``."""

    def __init__(self, state: "State") -> None:
        self._state = state

    def within(self, work: Callable[[Run], _T]) -> _T:
        """See ``Asides``."""
        with self._state.aside() as connection:
            return work(run_in(connection))

    def close(self) -> None:
        """Nothing is held."""


class _FileAsides:
    """Transactions of a home's SQLite file, in which nobody else writes."""

    def __init__(self, file: Path, durable: bool) -> None:
        self._file = file
        self._durable = durable

    def within(self, work: Callable[[Run], _T]) -> _T:
        try:
            # Opened for each: it is seldom, and so nothing is held that could be in the way of anybody. An
            # address, so that a home that is gone is not begun anew.
            uri = f"{self._file.absolute().as_uri()}?mode=rw"
            with closing(
                sqlite3.connect(uri, timeout=BUSY_SECONDS, isolation_level=None, uri=True)
            ) as connection:
                connection.execute(f"PRAGMA synchronous = {'FULL' if self._durable else 'NORMAL'}")
                connection.execute("BEGIN IMMEDIATE")
                result = work(lambda text, values: connection.execute(text, values).fetchall())
                connection.execute("COMMIT")
                return result
        except sqlite3.Error as error:
            raise database_error(error, str(self._file)) from error

    def close(self) -> None:
        """Nothing is held."""


class _HomeAsides:
    """Transactions of any database through an open home."""

    def __init__(self, home: Path, database_url: str) -> None:
        # Lazily: it brings SQLAlchemy.
        from servable.registry.home import open_home

        self._home: Home = open_home(home, database_url=database_url)
        self._asides = StateAsides(self._home.state)

    def within(self, work: Callable[[Run], _T]) -> _T:
        return self._asides.within(work)

    def close(self) -> None:
        self._home.close()
