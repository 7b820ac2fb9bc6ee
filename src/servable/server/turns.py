"""Several processes accept from one socket, and each gets its share of the connections.

Left to the kernel, one process takes all that come at once and keeps them for as long as they live.
So every process writes how many connections it has on a board in shared memory, and one that has more
than another lets it go first: the other was woken as well and takes the connection at once. Nobody
waits for long for a process that does not come, because it may be busy or dying.

A process whose models are not loaded yet takes connections only while no other one is ready: somebody has to
say that the server is not ready, and whoever saw that it is must not be refused by another process.
"""

import asyncio
import contextlib
import mmap
import os
import socket
import ssl
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

#: How often in a row a process lets another go first, and the seconds between two looks.
_PASSES = 4
_PASS_S = 0.001
#: Seconds without accepting when the process has run out of descriptors.
_FULL_S = 0.1
#: Seconds between two looks of a process that is not ready whether another one still is.
_OTHERS_S = 0.05
_BACKLOG = 2048
#: Seconds for the last words on an encrypted connection.
_SHUT_S = 2.0
#: On the board: does not accept; accepts where nobody is ready.
_ABSENT, _LOADING = -1, -2


class Board:
    """How many connections each process that is ready has. Each place is written by one process, read by all.

    Args:
        descriptor: of the shared memory; ``close`` closes it.
        places: how many processes fit on it.
    """

    def __init__(self, descriptor: int, places: int) -> None:
        self.descriptor = descriptor
        self.places = places
        self._memory = mmap.mmap(descriptor, places * 8)
        self._counts = memoryview(self._memory).cast("q")

    @classmethod
    def create(cls, places: int) -> "Board":
        """A board on which nobody is present."""
        descriptor = os.memfd_create("servable-board")
        os.ftruncate(descriptor, places * 8)
        board = cls(descriptor, places)
        for place in range(places):
            board.leave(place)
        return board

    def write(self, place: int, connections: int) -> None:
        """A process is ready and has so many."""
        self._counts[place] = connections

    def load(self, place: int) -> None:
        """A process accepts where nobody is ready, and is not ready itself."""
        self._counts[place] = _LOADING

    def leave(self, place: int) -> None:
        """A process does not accept (yet, or any more)."""
        self._counts[place] = _ABSENT

    def first(self, place: int) -> bool:
        """Whether no other process that is ready has fewer connections than this one."""
        own = self._counts[place]
        return all(not 0 <= count < own for count in self._counts)

    def anybody_ready(self) -> bool:
        """Whether a process is ready."""
        return any(count >= 0 for count in self._counts)

    def close(self) -> None:
        """Give this process's hold of it back."""
        self._counts.release()
        self._memory.close()
        os.close(self.descriptor)


class Place:
    """A process's own place on the board. Belongs to one event loop.

    Args:
        board: of all.
        number: of the place; nobody else writes there while the process lives.
    """

    def __init__(self, board: Board, number: int) -> None:
        self._board = board
        self._number = number
        self._ready = False
        #: Open connections.
        self._connections = 0
        #: Connections that were accepted and are not open yet.
        self._opening = 0

    def load(self) -> None:
        """From now on this process accepts what comes while nobody is ready."""
        self._board.load(self._number)

    def join(self) -> None:
        """From now on this process is ready and accepts."""
        self._ready = True
        self._write()

    def leave(self) -> None:
        """From now on it does not."""
        self._ready = False
        self._board.leave(self._number)

    def first(self) -> bool:
        """Whether it is this process's turn, so that no other one that is ready has fewer connections."""
        return self._board.first(self._number)

    def others_answer(self) -> bool:
        """Whether this process is not ready and another one is."""
        return not self._ready and self._board.anybody_ready()

    def connected(self, connections: int) -> None:
        """So many connections are open."""
        self._connections = connections
        self._write()

    def opening(self, connections: int) -> None:
        """So many connections were accepted and are not open yet."""
        self._opening = connections
        self._write()

    def _write(self) -> None:
        if self._ready:
            self._board.write(self._number, self._connections + self._opening)


class Secure(NamedTuple):
    """How connections are encrypted.

    Attributes:
        context: of TLS; None for connections without.
        within_s: seconds within which a client must have agreed on the encryption.
    """

    context: ssl.SSLContext | None = None
    within_s: float = 10.0

    @property
    def options(self) -> dict[str, Any]:
        """What the event loop is told."""
        if self.context is None:
            return {}
        return {"ssl": self.context, "ssl_handshake_timeout": self.within_s, "ssl_shutdown_timeout": _SHUT_S}


PLAIN = Secure()


class Accepting(Protocol):
    """What accepts connections until it is closed.

    Attributes:
        in_turn: whether other processes accept from the same socket.
    """

    in_turn: bool

    def ready(self) -> None:
        """The models are loaded: take part like the others."""
        ...

    def close(self) -> None:
        """Accept nothing more; connections stay."""
        ...


async def accept_alone(
    listening: socket.socket, factory: Callable[[], asyncio.Protocol], secure: Secure = PLAIN
) -> Accepting:
    """Accept everything that comes."""
    loop = asyncio.get_running_loop()
    return _Alone(await loop.create_server(factory, sock=listening, backlog=_BACKLOG, **secure.options))


class _Alone:
    """Accepts everything."""

    in_turn = False

    def __init__(self, server: asyncio.Server) -> None:
        self._server = server

    def ready(self) -> None:
        """It takes everything as before."""

    def close(self) -> None:
        """Accept nothing more."""
        self._server.close()


class Acceptor:
    """Accepts in turn with others, until ``ready`` only while nobody is ready. Belongs to one event loop.

    Args:
        listening: the socket, not blocking; stays the caller's.
        factory: makes the protocol of a connection.
        place: of this process.
        secure: how they are encrypted.
    """

    in_turn = True

    def __init__(
        self,
        listening: socket.socket,
        factory: Callable[[], asyncio.Protocol],
        place: Place,
        secure: Secure = PLAIN,
    ) -> None:
        self._secure = secure
        self._loop = asyncio.get_running_loop()
        self._listening = listening
        self._factory = factory
        self._place = place
        self._passed = 0
        self._later: asyncio.TimerHandle | None = None
        self._opening: set[asyncio.Task[None]] = set()
        place.load()
        self._loop.add_reader(listening, self._come)

    def ready(self) -> None:
        """The models are loaded: take part like the others."""
        self._place.join()

    def close(self) -> None:
        """Accept nothing more."""
        self._loop.remove_reader(self._listening)
        if self._later is not None:
            self._later.cancel()
        self._place.leave()

    def _come(self) -> None:
        if self._place.others_answer():
            self._pause(_OTHERS_S)
            return
        if self._passed < _PASSES and not self._place.first():
            self._passed += 1
            self._pause(_PASS_S)
            return
        self._passed = 0
        try:
            connection, _ = self._listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            # Another process took it, or the client left.
            return
        except OSError:
            self._pause(_FULL_S)
            return
        connection.setblocking(False)
        task = self._loop.create_task(self._open(connection))
        self._opening.add(task)
        self._place.opening(len(self._opening))
        task.add_done_callback(self._opened)

    def _opened(self, task: "asyncio.Task[None]") -> None:
        self._opening.discard(task)
        self._place.opening(len(self._opening))

    async def _open(self, connection: socket.socket) -> None:
        # The client may have left already.
        with contextlib.suppress(OSError):
            if connection.family != socket.AF_UNIX:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(self._factory, connection, **self._secure.options)

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._listening)
        self._later = self._loop.call_later(seconds, self._loop.add_reader, self._listening, self._come)
