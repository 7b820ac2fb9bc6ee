"""Accepts connections, watches over them, and ends them when the server goes down."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable

from servable.server.connection import Connection
from servable.server.http import Handler
from servable.server.shared import Shared
from servable.server.turns import Accepting, Secure
from servable.server.workers import Link
from servable.settings import ServerSettings

#: Seconds between two looks at all connections.
_LOOK_S = 0.25
#: Connections looked at in one turn of the loop, and seconds between two turns.
_TOGETHER, _BETWEEN_S = 25, 0.001
#: Seconds for which what the kernel has accepted already is still taken in.
_LAST_S = 0.03


class Listener:
    """One listening socket and its connections. Belongs to one event loop.

    Args:
        application: answers.
        settings: limits.
        listening: the bound socket; ``close`` closes it.
        link: to the other processes that accept from it.
        changed: is told how many connections are open whenever that changes.
        secure: of TLS; None for connections without.
    """

    def __init__(
        self,
        application: Handler,
        settings: ServerSettings,
        listening: socket.socket,
        link: Link,
        changed: Callable[[int], None],
        secure: ssl.SSLContext | None = None,
    ) -> None:
        self._secure = Secure(secure, settings.header_timeout_s)
        self._socket = listening
        self._link = link
        self._shared = Shared(application, settings, listening.getsockname()[:2], changed)
        self._server: Accepting | None = None
        self._looking: asyncio.Task[None] | None = None

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._shared.connections)

    async def open(self) -> None:
        """Begin to accept, before the models are loaded or after.

        Until ``ready`` every answer is the last one on its connection where there are other processes: by the
        time of the next request one of them may be ready.
        """
        loop = asyncio.get_running_loop()
        shared = self._shared
        shared.now = loop.time()
        self._server = await self._link.accept(self._socket, lambda: Connection(shared), self._secure)
        shared.draining = self._server.in_turn
        self._looking = loop.create_task(self._look())

    def ready(self) -> None:
        """The models are loaded."""
        self._shared.draining = False
        if self._server is not None:
            self._server.ready()

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        shared = self._shared
        while True:
            await asyncio.sleep(_LOOK_S)
            shared.now = now = loop.time()
            shared.dates.refresh()
            # A few at a time, so that nobody's answer waits for a look at thousands of idle clients.
            everybody = tuple(shared.connections)
            for start in range(0, len(everybody), _TOGETHER):
                for connection in everybody[start : start + _TOGETHER]:
                    connection.look(now)
                await asyncio.sleep(_BETWEEN_S)

    def announce_end(self) -> None:
        """From now on every answer is the last one on its connection."""
        self._shared.draining = True

    async def drain(self, grace_s: float) -> bool:
        """Accept nothing more, let what was asked be answered, then end every connection.

        Args:
            grace_s: seconds that running requests get.

        Returns:
            Whether everything was answered in time.
        """
        shared = self._shared
        self.announce_end()
        await asyncio.sleep(_LAST_S)
        if self._server is not None:
            self._server.close()
            # What was accepted a moment ago may still be on its way here.
            await asyncio.sleep(_LAST_S)
        shared.shut = True
        for connection in tuple(shared.connections):
            connection.end()
        shared.empty.clear()
        if shared.connections:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(shared.empty.wait(), max(grace_s, 0.01))
        return not shared.connections

    async def close(self) -> None:
        """Drop whatever is left."""
        for connection in tuple(self._shared.connections):
            connection.abort()
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking
        if self._server is not None:
            self._server.close()
        self._socket.close()
