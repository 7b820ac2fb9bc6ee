"""What was taken out of the quotas of a day, by all servers of a registry together.

Servers take blocks, so that a request seldom waits for the database, and give back what they did not use.
What is taken is never more than the quota, so that what is answered is not either. Days are numbered from
1970-01-01 in UTC.

A home's SQLite file is written with the standard library alone, for the reason that ``reader`` gives.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from servable.registry.failures import BUSY_SECONDS, database_error
from servable.registry.records import DATABASE
from servable.security.limits import block

if TYPE_CHECKING:
    from servable.registry.home import Home
    from servable.registry.state import State

#: Days after which what was taken is forgotten.
_KEPT_DAYS = 40
# Both databases know these forms, and both ways to them these names of parameters.
_FORGET = "DELETE FROM quota_use WHERE name = :name AND day < :oldest"
_BEGIN = "INSERT INTO quota_use (name, day, taken) VALUES (:name, :day, 0) ON CONFLICT (name, day) DO NOTHING"
# It changes nothing and locks the row, so that of two who take at once one waits.
_LOCK = "UPDATE quota_use SET taken = taken WHERE name = :name AND day = :day"
_TAKEN = "SELECT taken FROM quota_use WHERE name = :name AND day = :day"
_TAKE = "UPDATE quota_use SET taken = taken + :count WHERE name = :name AND day = :day"
_GIVE = "UPDATE quota_use SET taken = taken - :count WHERE name = :name AND day = :day AND taken >= :count"
_USED = "SELECT name, taken FROM quota_use WHERE day = :day"

#: Runs a statement with its parameters and gives the rows, which are none for a change.
_T = TypeVar("_T")
_Run = Callable[[str, dict[str, Any]], list[Any]]


class QuotaStore(Protocol):
    """The quotas of a registry. Blocks; not for several threads at once.

    Every method raises ``StorageFailed`` or ``StorageFull`` when the database does.
    """

    def take(self, name: str, day: int, quota: int) -> int:
        """Take a block out of a quota.

        Args:
            name: of the key.
            day: for which.
            quota: of the key.

        Returns:
            How many requests may be answered; 0 when nothing is left.
        """
        ...

    def give_back(self, name: str, day: int, count: int) -> None:
        """Let others have what was taken and not used."""
        ...

    def close(self) -> None:
        """Give back handles."""
        ...


class Quotas:
    """The quotas of an open home. Safe to share between threads and processes; see ``QuotaStore``."""

    def __init__(self, state: "State") -> None:
        self._state = state

    def take(self, name: str, day: int, quota: int) -> int:
        """See ``QuotaStore``."""
        with self._state.aside() as connection:
            return _take(_runner(connection), name, day, quota)

    def give_back(self, name: str, day: int, count: int) -> None:
        """See ``QuotaStore``."""
        with self._state.aside() as connection:
            _runner(connection)(_GIVE, {"name": name, "day": day, "count": count})

    def used(self, day: int) -> dict[str, int]:
        """How many requests of a day servers have taken, by the name of the key."""
        with self._state.reading() as connection:
            return {str(name): int(taken) for name, taken in _runner(connection)(_USED, {"day": day})}

    def close(self) -> None:
        """Nothing is held."""


def open_quotas(home: Path, database_url: str = "") -> QuotaStore:
    """The quotas of a home for a server.

    Args:
        home: the folder.
        database_url: where the database is, if not in the folder.
    """
    return _HomeQuotas(home, database_url) if database_url else _FileQuotas(home / DATABASE)


class _FileQuotas:
    """Writes to a home's SQLite file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def take(self, name: str, day: int, quota: int) -> int:
        return self._within(lambda run: _take(run, name, day, quota))

    def give_back(self, name: str, day: int, count: int) -> None:
        self._within(lambda run: run(_GIVE, {"name": name, "day": day, "count": count}))

    def close(self) -> None:
        """Nothing is held."""

    def _within(self, work: Callable[[_Run], _T]) -> _T:
        """Do something in a transaction in which nobody else writes, durable when this returns."""
        try:
            # Opened for each: it is seldom, and so nothing is held that could be in the way of anybody. An
            # address, so that a home that is gone is not begun anew.
            uri = f"{self._file.absolute().as_uri()}?mode=rw"
            with closing(
                sqlite3.connect(uri, timeout=BUSY_SECONDS, isolation_level=None, uri=True)
            ) as connection:
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("BEGIN IMMEDIATE")
                result = work(lambda text, values: connection.execute(text, values).fetchall())
                connection.execute("COMMIT")
                return result
        except sqlite3.Error as error:
            raise database_error(error, str(self._file)) from error


class _HomeQuotas:
    """Writes to any database through an open home."""

    def __init__(self, home: Path, database_url: str) -> None:
        # Lazily: it brings SQLAlchemy.
        from servable.registry.home import open_home

        self._home: Home = open_home(home, database_url=database_url)

    def take(self, name: str, day: int, quota: int) -> int:
        return self._home.quotas.take(name, day, quota)

    def give_back(self, name: str, day: int, count: int) -> None:
        self._home.quotas.give_back(name, day, count)

    def close(self) -> None:
        self._home.close()


def _take(run: _Run, name: str, day: int, quota: int) -> int:
    row = {"name": name, "day": day}
    run(_BEGIN, row)
    run(_LOCK, row)
    taken = int(run(_TAKEN, row)[0][0])
    count = block(quota, taken)
    if count:
        run(_TAKE, {**row, "count": count})
    if not taken:
        run(_FORGET, {"name": name, "oldest": day - _KEPT_DAYS})
    return count


def _runner(connection: Any) -> _Run:
    from sqlalchemy import text

    def run(statement: str, values: dict[str, Any]) -> list[Any]:
        result = connection.execute(text(statement), values)
        return list(result.all()) if result.returns_rows else []

    return run
