"""What all connections of a server have in common, whichever protocol they speak."""

import asyncio
import importlib
import sys
from collections.abc import Callable
from typing import Any, Protocol

from servable.server.http import Dates, Handler
from servable.settings import ServerSettings


class Member(Protocol):
    """One connection."""

    def look(self, now: float) -> None:
        """End it if it has been in its phase for too long."""
        ...

    def end(self) -> None:
        """Close it as soon as nobody waits for anything on it."""
        ...

    def abort(self) -> None:
        """Drop it at once."""
        ...


_HTTP2 = "servable.server.http2"


def _import_http2() -> None:
    importlib.import_module(_HTTP2)


class Shared:
    """What all connections of a server have in common.

    Args:
        application: answers.
        settings: limits.
        server: address and port that are listened on.
        changed: is told how many connections are open whenever that changes.

    Attributes:
        scheme: of the addresses that callers use.
        now: seconds of the loop's clock, read a few times a second, because reading it for every request
            would cost more than it tells.
        draining: whether connections end with their next answer.
        shut: whether no connection may begin any more; nothing of it was read, its client may go elsewhere.
        connections: those that are open.
        empty: set whenever the last one has closed.
    """

    def __init__(
        self,
        application: Handler,
        settings: ServerSettings,
        server: Any,
        changed: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._changed = changed
        self.application = application
        self.limits = settings
        self.server = server
        self.scheme = settings.scheme
        self.dates = Dates()
        self.now = 0.0
        self.draining = False
        self.shut = False
        self.connections: set[Member] = set()
        self.empty = asyncio.Event()
        self._http2: asyncio.Future[None] | None = None

    def load_http2(self) -> "asyncio.Future[None] | None":
        """Import what HTTP/2 needs, in a thread; None when that is done.

        It happens when the first client wants it, so that a server without such clients does not pay for it.
        """
        # A module has its name before its contents, while another thread imports it.
        if hasattr(sys.modules.get(_HTTP2), "Http2Connection"):
            return None
        if self._http2 is None or self._http2.done():
            self._http2 = asyncio.get_running_loop().run_in_executor(None, _import_http2)
        return self._http2

    def opened(self, connection: Member) -> bool:
        """A connection begins; false when there are as many as are allowed."""
        if self.shut or len(self.connections) >= self.limits.max_connections:
            return False
        self.connections.add(connection)
        self._changed(len(self.connections))
        return True

    def closed(self, connection: Member) -> None:
        """A connection ended."""
        self.connections.discard(connection)
        self._changed(len(self.connections))
        if not self.connections:
            self.empty.set()

    def replaced(self, connection: Member, successor: Member) -> None:
        """A connection goes on as another object."""
        self.connections.discard(connection)
        self.connections.add(successor)
