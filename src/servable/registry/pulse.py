"""Whether anybody wrote to the registry since the last look, for the price of a function call.

A server looks four times a second whether its registry changed, and as a rule it did not. Reading in a
thread takes the interpreter away from the event loop several times for each look, and every request that
comes meanwhile waits for up to a millisecond. SQLite counts the commits of others for each connection
(``PRAGMA data_version``, https://www.sqlite.org/pragma.html#pragma_data_version), in memory that all
processes share: so the event loop itself asks for that number, and only when it moved is anything read.
"""

import sqlite3
from pathlib import Path
from typing import Protocol

from servable.registry.records import DATABASE


class Pulse(Protocol):
    """Belongs to one event loop."""

    def moved(self) -> bool:
        """Whether somebody may have written since the last call; always at the first one.

        What is read after a call has everything that was written before it. Neither waits nor raises:
        where it cannot be known the answer is yes.
        """
        ...

    def close(self) -> None:
        """Give back handles."""
        ...


def pulse_of(home: Path, database_url: str = "") -> Pulse:
    """The pulse of a registry; of a database of its own it is not known.

    Args:
        home: the folder.
        database_url: where the database is, if not in the folder.
    """
    return UnknownPulse() if database_url else SqlitePulse(home / DATABASE)


class UnknownPulse:
    """Nothing is known, so that every look reads."""

    def moved(self) -> bool:
        """Always."""
        return True

    def close(self) -> None:
        """Nothing."""


class SqlitePulse:
    """Asks a home's SQLite file, which may not exist yet."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._connection: sqlite3.Connection | None = None
        self._version: object = None

    def moved(self) -> bool:
        """See ``Pulse``."""
        try:
            if self._connection is None:
                # Without the time to wait for a writer, because nobody may wait in the event loop.
                self._connection = sqlite3.connect(
                    f"{self._file.resolve().as_uri()}?mode=ro", uri=True, timeout=0, isolation_level=None,
                    check_same_thread=False,
                )  # fmt: skip
            version = self._connection.execute("PRAGMA data_version").fetchall()
        except sqlite3.Error:
            self.close()
            return True
        moved = version != self._version
        self._version = version
        return moved

    def close(self) -> None:
        """Give back the connection; the next call makes another one, for which everything moved."""
        self._version = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None
