"""The change token, asked for no more often than it changes where the database tells of changes.

PostgreSQL tells those who listen (``NOTIFY``), so that looking costs a server one look at a socket and the
database nothing. Any other database is asked each time, which for a file of SQLite is as cheap.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from servable.registry.state import State

#: Seconds after which the database is asked although nobody told of anything.
_ASK_S = 5.0


class ChangeToken:
    """Reads the change token of a database. Not safe for concurrent calls.

    Args:
        state: the database.
        now: monotonic seconds.
    """

    def __init__(self, state: State, now: Callable[[], float] = time.monotonic) -> None:
        self._state = state
        self._now = now
        self._connection: Any = None
        self._token = 0
        self._until = 0.0

    def read(self) -> int:
        """A number that differs after any change by anybody.

        Raises:
            StorageFailed: the database cannot be read.
        """
        if self._told() or self._now() >= self._until:
            self._token = self._state.change_token()
            self._until = self._now() + _ASK_S
        return self._token

    def _told(self) -> bool:
        """Whether somebody told of a change since the last call, or nobody listened until now."""
        if not self._state.tells:
            return True
        if self._connection is None:
            self._connection = self._state.listen()
            return True
        try:
            return bool(list(self._connection.notifies(timeout=0)))
        except Exception:  # noqa: BLE001 - whatever the driver raises, the connection is of no more use
            self.close()
            return True

    def close(self) -> None:
        """Listen no more."""
        connection, self._connection = self._connection, None
        if connection is not None:
            # It may be broken already.
            with suppress(Exception):
                connection.close()
