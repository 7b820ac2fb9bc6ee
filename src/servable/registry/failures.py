"""What the database's exceptions mean. Imports no database library but the standard one."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from servable.errors import ServableError, StorageFailed, StorageFull

#: How long a transaction waits for its turn.
BUSY_SECONDS = 30.0
#: PostgreSQL's own words for "no room": disk full, and the two resource limits.
POSTGRES_FULL = frozenset({"53100", "53200", "53400"})
#: SQLite's: the second when its shared index could not grow, as at the first opening on a full disk.
_SQLITE_FULL = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE})


def database_error(error: BaseException, name: str) -> ServableError:
    """The error of ours that an exception of SQLite or of a PostgreSQL driver means. Pure.

    Args:
        error: as the driver raised it.
        name: the database as people know it.
    """
    number = getattr(error, "sqlite_errorcode", None)
    said = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if number in _SQLITE_FULL or getattr(error, "sqlstate", None) in POSTGRES_FULL:
        return StorageFull(f"No space left for the database {name}; free some space and try again.")
    primary = None if number is None else number & 0xFF
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StorageFailed(f"{name} is damaged or no database ({said}); restore it from a backup.")
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StorageFailed(f"The database {name} was busy for {BUSY_SECONDS:.0f} s; try again.")
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return StorageFailed(f"The database {name} cannot be written ({said}); check owner and mode.")
    return StorageFailed(f"The database {name} failed: {said}.")


@contextmanager
def sqlite_errors(name: str) -> Iterator[None]:
    """Turn the exceptions of SQLite into ``StorageFull`` or ``StorageFailed``.

    Args:
        name: the database as people know it.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise database_error(error, name) from error
