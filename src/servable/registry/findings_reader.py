"""What a server reads of the findings, when it is asked for its figures.

A home's SQLite file is read with the standard library alone, for the reason that ``reader`` gives.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from servable.errors import StorageFailed
from servable.registry.failures import BUSY_SECONDS, database_error
from servable.registry.records import DATABASE, Finding

if TYPE_CHECKING:
    from servable.registry.home import Home

_READ = "SELECT model, version, kind, updated_at, value FROM findings WHERE kind = ? ORDER BY model, version"


class FindingsReader:
    """Reads the findings of a home that may not exist yet. Blocks; not for several threads at once.

    Args:
        home: the folder.
        database_url: where the database is, if not in the folder.
    """

    def __init__(self, home: Path, database_url: str = "") -> None:
        self._path = home
        self._url = database_url
        self._home: Home | None = None

    def of(self, kind: str) -> tuple[Finding, ...]:
        """Everything of one kind, by model and version; nothing where there is no registry.

        Raises:
            StorageFailed: the database cannot be read.
        """
        if self._url:
            if self._home is None:
                from servable.registry.home import open_home  # Lazily: it brings SQLAlchemy.

                self._home = open_home(self._path, database_url=self._url)
            return self._home.findings.of(kind)
        file = self._path / DATABASE
        if not file.is_file():
            return ()
        try:
            with closing(sqlite3.connect(file, timeout=BUSY_SECONDS)) as connection:
                connection.execute("PRAGMA query_only = ON")
                rows = connection.execute(_READ, (kind,)).fetchall()
            return tuple(
                Finding(model, version, about, updated_at, msgspec.json.decode(value, type=dict[str, Any]))
                for model, version, about, updated_at, value in rows
            )
        except sqlite3.Error as error:
            raise database_error(error, str(file)) from error
        except msgspec.MsgspecError as error:
            raise StorageFailed(f"The registry holds a damaged finding about {kind}: {error}.") from error

    def close(self) -> None:
        """Give back handles."""
        if self._home is not None:
            self._home.close()
