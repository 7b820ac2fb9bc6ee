"""The rest of a large body, read by the kernel straight into its place.

The ordinary way of a body is in pieces: each is read into the buffer of the loop, made an object, cut out by
the parser and joined with the others, three copies after the kernel's own. For a picture of 600 kB that
is a tenth of what a small network costs. So when a connection knows that much of a body is still to come,
it lends its transport to a ``BodyFiller`` until the body is whole.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

import numpy as np

#: Bytes still to come from which on the transport is lent.
_LARGE = 1 << 17
#: How many times what has come may still be to come: a client that only claims a large body gets no memory.
_MORE = 64
#: Bytes read at once, so that one client does not keep the loop.
_AT_ONCE = 1 << 18


class Owner(Protocol):
    """The connection that lends its transport."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The client left."""
        ...

    def eof_received(self) -> bool:
        """The client sends no more."""
        ...

    def pause_writing(self) -> None:
        """The client does not keep up with the answers."""
        ...

    def resume_writing(self) -> None:
        """The client has caught up."""
        ...


def worth_lending(came: int, rest: int) -> bool:
    """Whether what is still to come of a body should be read straight into its place.

    Args:
        came: bytes that are there.
        rest: bytes that are still to come.
    """
    return _LARGE <= rest <= came * _MORE


class BodyFiller(asyncio.BufferedProtocol):
    """Fills one body. Belongs to one event loop.

    Args:
        owner: hears of everything but bytes.
        first: of the body, those that came already.
        length: of the whole body.
        came: is told how many bytes are there whenever more came; with ``length`` of them, for the last time.
    """

    def __init__(self, owner: Owner, first: bytes, length: int, came: Callable[[int], None]) -> None:
        # Memory that nothing is written to before the body is.
        self.body = np.empty(length, np.uint8).data
        self.body[: len(first)] = first
        self._filled = len(first)
        self._owner = owner
        self._came = came

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes belong; never beyond the body."""
        return self.body[self._filled : self._filled + _AT_ONCE]

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes came."""
        self._filled += nbytes
        self._came(self._filled)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client left."""
        self._owner.connection_lost(exc)

    def eof_received(self) -> bool:
        """The client sends no more, in the middle of its body."""
        return self._owner.eof_received()

    def pause_writing(self) -> None:
        """The client does not keep up with the answers."""
        self._owner.pause_writing()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._owner.resume_writing()
