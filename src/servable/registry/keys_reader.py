"""What a server reads of the API keys, again and again.

A home's SQLite file is read with the standard library alone, for the reason that ``reader`` gives.
"""

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from servable.errors import InputError, StorageFailed
from servable.registry.failures import BUSY_SECONDS, database_error
from servable.registry.reader import bring_up_to_date
from servable.registry.records import DATABASE
from servable.security.keys import KeyRecord
from servable.security.limits import limits_of
from servable.security.scopes import parse_scope

if TYPE_CHECKING:
    from servable.registry.home import Home

_NUMBER = "SELECT number FROM changes"
_READ = (
    "SELECT id, name, salt, digest, scopes, created_at, expires_at, revoked_at, limits FROM keys "
    "ORDER BY number"
)


class KeysReader(Protocol):
    """Reads the keys of a registry. Blocks; not for several threads at once."""

    def token(self) -> int:
        """A number that differs after any change of the registry."""
        ...

    def keys(self) -> tuple[KeyRecord, ...]:
        """Every key that was ever made, oldest first."""
        ...

    def close(self) -> None:
        """Give back handles."""
        ...


def open_keys_reader(home: Path, database_url: str = "") -> KeysReader:
    """The keys of a home, which may not exist yet; one of an older form is brought to today's.

    Args:
        home: the folder.
        database_url: where the database is, if not in the folder.

    Raises:
        StorageFailed: the database cannot be read or brought up to date.
    """
    if database_url:
        return _HomeKeys(home, database_url)
    if (home / DATABASE).is_file():
        bring_up_to_date(home, create=False)
    return _FileKeys(home / DATABASE)


class _FileKeys:
    """Reads a home's SQLite file, which may not exist yet."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._connection: sqlite3.Connection | None = None

    def token(self) -> int:
        rows = self._rows(_NUMBER)
        return int(rows[0][0]) if rows else -1

    def keys(self) -> tuple[KeyRecord, ...]:
        return tuple(record_of(*row) for row in self._rows(_READ))

    def _rows(self, statement: str) -> list[Any]:
        try:
            if self._connection is None:
                if not self._file.is_file():
                    return []
                self._connection = sqlite3.connect(
                    self._file, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
                )
                self._connection.execute("PRAGMA query_only = ON")
            return self._connection.execute(statement).fetchall()
        except sqlite3.Error as error:
            raise database_error(error, str(self._file)) from error

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


class _HomeKeys:
    """Reads any database through an open home."""

    def __init__(self, home: Path, database_url: str) -> None:
        # Lazily: they bring SQLAlchemy.
        from servable.registry.home import open_home
        from servable.registry.listening import ChangeToken

        self._home: Home = open_home(home, database_url=database_url)
        self._token = ChangeToken(self._home.state)

    def token(self) -> int:
        return self._token.read()

    def keys(self) -> tuple[KeyRecord, ...]:
        return self._home.keys.all()

    def close(self) -> None:
        self._token.close()
        self._home.close()


def record_of(
    key_id: str,
    name: str,
    salt: str,
    digest: str,
    scopes: str | list[str],
    created_at: str,
    expires_at: str,
    revoked_at: str,
    limits: str | dict[str, Any],
) -> KeyRecord:
    """A row of the table as a record.

    Raises:
        StorageFailed: it holds something that nobody stored there.
    """
    try:
        texts = msgspec.json.decode(scopes, type=list[str]) if isinstance(scopes, str) else scopes
        parsed = tuple(map(parse_scope, texts))
        known = msgspec.json.decode(limits, type=dict[str, Any]) if isinstance(limits, str) else limits
        limited = limits_of(known)
    except (msgspec.MsgspecError, InputError) as error:
        raise StorageFailed(f"The registry holds a damaged key {name}: {error}.") from error
    return KeyRecord(key_id, name, salt, digest, parsed, created_at, expires_at, revoked_at, limited)
