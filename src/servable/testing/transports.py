"""A transport that remembers what was written, for tests of connections without a socket."""

import asyncio
from typing import Any


class RecordedTransport(asyncio.Transport):
    """Keeps what a protocol does with it.

    Attributes:
        written: every byte, in order.
        closed: whether ``close`` or ``abort`` was called.
        aborted: whether ``abort`` was called.
        ended: whether the sending side was closed.
        unsent: what ``get_write_buffer_size`` says; a test sets it.
        reading: whether reading is not paused.
    """

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__({"peername": ("127.0.0.1", 9)})
        self._protocol: Any = protocol
        self.written = bytearray()
        self.closed = False
        self.aborted = False
        self.ended = False
        self.unsent = 0
        self.reading = True

    def write(self, data: Any) -> None:
        """Remember the bytes."""
        self.written += data

    def take(self) -> bytes:
        """What was written since the last call."""
        taken = bytes(self.written)
        self.written.clear()
        return taken

    def close(self) -> None:
        """Remember it, and tell the protocol once."""
        if not self.closed:
            self.closed = True
            self._protocol.connection_lost(None)

    def abort(self) -> None:
        """Remember it, and tell the protocol once."""
        self.aborted = True
        self.close()

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self.closed

    def write_eof(self) -> None:
        """Remember it."""
        self.ended = True

    def can_write_eof(self) -> bool:
        """Always."""
        return True

    def get_write_buffer_size(self) -> int:
        """What the test says."""
        return self.unsent

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """From now on another protocol is told."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Who is told."""
        told: asyncio.BaseProtocol = self._protocol
        return told

    def pause_reading(self) -> None:
        """Remember it."""
        self.reading = False

    def resume_reading(self) -> None:
        """Remember it."""
        self.reading = True
