"""The way from servers to the keeper of shared models: a socket on which descriptors are handed over.

Whoever keeps the keeper makes the pair and holds both ends for as long as it lives. Each server gets the
one end, each keeper in turn the other. So the socket has no name that others could open and nothing of it
stays behind; and what is handed over while a keeper dies lies there until its successor takes it.
"""

import asyncio
import os
import socket
from collections.abc import Callable

from servable.runtime.confine import Look
from servable.runtime.confinement import USUAL, Confinement
from servable.runtime.spawning import Process

#: What comes with the descriptors, for a message is never empty.
_WORD = b"model"
_COUNT = 3


def mailbox() -> tuple[socket.socket, socket.socket]:
    """A new pair: the end of the keepers, the end of the servers. Neither blocks.

    Raises:
        OSError: no descriptor left.
    """
    keepers, servers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    keepers.setblocking(False)
    servers.setblocking(False)
    return keepers, servers


def hand_over(
    end: socket.socket,
    descriptors: tuple[int, int, int],
    died: Callable[[], None],
    confinement: Confinement = USUAL,
) -> Process:
    """Hand the other end of a conversation to the keeper; see ``spawning.Start``. It hears the rest there."""
    socket.send_fds(end, [_WORD], descriptors)
    return _Kept(died)


class Ended(Exception):
    """Nobody has an end of servers any more."""


def take_over(end: socket.socket) -> tuple[int, int, int] | None:
    """The descriptors of a conversation: socket, area of requests, area of answers. They are the caller's.

    Returns:
        None when nothing lies there, or something that is no conversation.

    Raises:
        Ended: nothing will come any more.
    """
    try:
        word, found, _, _ = socket.recv_fds(end, len(_WORD), _COUNT, socket.MSG_CMSG_CLOEXEC)
    except BlockingIOError:
        return None
    if not word:
        raise Ended
    if len(found) != _COUNT:
        for descriptor in found:
            os.close(descriptor)
        return None
    first, second, third = found
    return first, second, third


class _Kept:
    """A model that somebody else keeps: here it is as good as dead once its socket is closed."""

    pid = 0

    def __init__(self, died: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._died: Callable[[], None] | None = died

    def kill(self) -> None:
        """Its keeper ends what it keeps; closing the socket says that it is not wanted."""
        self.parted()

    def look(self) -> Look | None:
        """Its keeper looks."""
        return None

    def parted(self) -> None:
        """Nothing more is heard of it."""
        if self._died is not None:
            self._loop.call_soon(self._died)
            self._died = None

    def reap(self) -> str:
        """Nothing is held here."""
        return "was let go by its keeper"
