"""What is to be sent over a socket that must not be waited for."""

import asyncio
import socket
from collections.abc import Callable


class Outbox:
    """Sends at once, or as soon as there is room. Belongs to one event loop.

    Args:
        end: of a socket that does not block; stays the caller's.
        lost: is called, in the loop, when the other side is gone while something waits for room.
    """

    __slots__ = ("_end", "_loop", "_lost", "_unsent")

    def __init__(self, end: socket.socket, lost: Callable[[], None]) -> None:
        self._end = end
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._unsent = b""

    @property
    def waits(self) -> bool:
        """Whether something waits for room."""
        return bool(self._unsent)

    def send(self, data: bytes) -> bool:
        """Send now or later. False when the other side is gone."""
        if self._unsent:
            self._unsent += data
            return True
        try:
            sent = self._end.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            return False
        if sent < len(data):
            self._unsent = data[sent:]
            self._loop.add_writer(self._end.fileno(), self._writable)
        return True

    def _writable(self) -> None:
        data, self._unsent = self._unsent, b""
        self._loop.remove_writer(self._end.fileno())
        if not self.send(data):
            self._lost()

    def close(self) -> None:
        """Send nothing any more; call before the socket is closed."""
        self._loop.remove_writer(self._end.fileno())
        self._unsent = b""
