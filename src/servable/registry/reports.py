"""What a server tells the registry while a rollout goes on, and whether somebody has to watch the home.

A home's SQLite file is written with the standard library alone, for the reasons of ``reader``. What is
written here is no desired state and moves no change token; it is replaced whole every time, so nothing
depends on any single write.
"""

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from servable.clock import Clock, SystemClock, timestamp
from servable.errors import StorageFailed
from servable.registry.failures import sqlite_errors
from servable.registry.records import DATABASE
from servable.registry.rollout_records import Counts, stored

#: How long a write waits for its turn; the next one says the same and more.
_WAIT_S = 2.0
_GOING_ON = "SELECT id, model, record FROM rollouts WHERE ended_at = ''"
_CAPTURING = "SELECT count(*) FROM deployments WHERE policy LIKE '%\"capture\"%'"
_CLEAR = "DELETE FROM evidence WHERE rollout = ? AND server = ?"
_COUNT = "INSERT INTO evidence (rollout, server, version, updated_at, counts) VALUES (?, ?, ?, ?, ?)"


class GoingOn(NamedTuple):
    """A rollout for which servers count.

    Attributes:
        id: its number.
        model: whose.
        versions: that take part.
    """

    id: int
    model: str
    versions: tuple[int, ...]


class Reports(Protocol):
    """Not safe for concurrent calls; never called from an event loop."""

    def going_on(self) -> tuple[GoingOn, ...]:
        """Every rollout that has not ended.

        Raises:
            StorageFailed: the database does not answer.
        """
        ...

    def capturing(self) -> bool:
        """Whether the traffic of any deployment is captured.

        Raises:
            StorageFailed: the database does not answer.
        """
        ...

    def count(self, number: int, server: str, counts: Mapping[int, Counts]) -> None:
        """Replace what a server counted for a rollout; see ``Rollouts.count``.

        Raises:
            StorageFull: no space left.
            StorageFailed: the database cannot be written now.
        """
        ...

    def close(self) -> None:
        """Give back the connection."""
        ...


def open_reports(home: Path, *, database_url: str = "", clock: Clock | None = None) -> Reports:
    """Open a home that exists.

    Args:
        home: the folder.
        database_url: where the database is, if not in the folder.
        clock: what dates the reports.

    Raises:
        StorageFailed: the database cannot be opened.
    """
    if database_url:
        return HomeReports(home, database_url)
    return SqliteReports(home, clock or SystemClock())


class SqliteReports:
    """Reports to a home's SQLite file."""

    def __init__(self, home: Path, clock: Clock) -> None:
        self._file = home / DATABASE
        self._clock = clock
        with sqlite_errors(str(self._file)):
            self._connection = sqlite3.connect(
                f"file:{self._file}?mode=rw",
                uri=True,
                timeout=_WAIT_S,
                isolation_level=None,
                check_same_thread=False,
            )

    def going_on(self) -> tuple[GoingOn, ...]:
        """See ``Reports``."""
        with sqlite_errors(str(self._file)):
            rows = self._connection.execute(_GOING_ON).fetchall()
        return tuple(GoingOn(number, model, _versions(record)) for number, model, record in rows)

    def capturing(self) -> bool:
        """See ``Reports``."""
        with sqlite_errors(str(self._file)):
            return bool(self._connection.execute(_CAPTURING).fetchone()[0])

    def count(self, number: int, server: str, counts: Mapping[int, Counts]) -> None:
        """See ``Reports``."""
        now = timestamp(self._clock.now())
        rows = [
            (number, server, version, now, msgspec.json.encode(stored(each)).decode())
            for version, each in sorted(counts.items())
        ]
        with sqlite_errors(str(self._file)):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.execute(_CLEAR, (number, server))
                self._connection.executemany(_COUNT, rows)
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """See ``Reports``."""
        self._connection.close()


class HomeReports:
    """Reports to any database through an open home."""

    def __init__(self, home: Path, database_url: str) -> None:
        from servable.registry.home import open_home  # Lazily: it brings SQLAlchemy, as in ``reader``.

        self._home = open_home(home, create=False, database_url=database_url)

    def going_on(self) -> tuple[GoingOn, ...]:
        """See ``Reports``."""
        return tuple(
            GoingOn(record.id, record.model, record.course.versions)
            for record in self._home.rollouts.going_on()
        )

    def capturing(self) -> bool:
        """See ``Reports``."""
        return any("capture" in record.policy for record in self._home.deployments.all())

    def count(self, number: int, server: str, counts: Mapping[int, Counts]) -> None:
        """See ``Reports``."""
        self._home.rollouts.count(number, server, dict(counts))

    def close(self) -> None:
        """See ``Reports``."""
        self._home.close()


class _Who(msgspec.Struct):
    """The part of a course that counting needs; the story is passed over."""

    versions: tuple[int, ...] = ()


def _versions(record: str) -> tuple[int, ...]:
    try:
        return msgspec.json.decode(record, type=_Who).versions
    except msgspec.MsgspecError as error:
        raise StorageFailed(f"The registry holds a damaged record of a rollout: {error}.") from error
