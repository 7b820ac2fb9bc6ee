"""One request that is not a prediction: an ASGI call in a task, written to its connection in pieces."""

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import unquote

from servable.logs import logger
from servable.server.http import PEER, Handler, Headers, HttpRequest

_log = logger("server")
#: In the state of a request that was let in already: the request.
ADMITTED = "admitted"
_DROPPED = frozenset({b"content-length", b"date", b"connection", b"transfer-encoding"})


class Pieces(Protocol):
    """A connection that takes an answer in pieces."""

    #: Whether a body of unknown length must be cut into chunks; other protocols have frames of their own.
    chunks: bool

    def head(self, status: int, headers: Headers, length: int | None) -> bytes:
        """The bytes of the head, to be written with the first of the body; empty when it is on its way."""
        ...

    def write(self, data: bytes) -> bool:
        """Bytes of the body; returns whether the client keeps up."""
        ...

    def finished(self, *, whole: bool) -> None:
        """The answer ended; not whole when it broke off."""
        ...


class Cycle:
    """An ASGI request over a connection. Belongs to one event loop.

    Args:
        request: whole.
        connection: where the answer goes.
        application: is called.
        addresses: ``client`` and ``server`` of the ASGI scope, and ``http_version`` unless it is 1.1.
    """

    def __init__(
        self,
        request: HttpRequest,
        connection: Pieces,
        application: Handler,
        addresses: Mapping[str, Any],
    ) -> None:
        self._request = request
        self._connection = connection
        self._application = application
        self._scope = scope_of(request, addresses)
        self._task: asyncio.Task[None] | None = None
        self._gone = asyncio.Event()
        #: Set while the client keeps up with the answer.
        self.writable = asyncio.Event()
        self.writable.set()
        self._read = False
        self._begun = False
        self._ended = False
        self._chunked = False
        self._head = b""
        #: Whether a body may follow the head.
        self._body = request.method != b"HEAD"

    def start(self) -> None:
        """Begin the task."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def disconnect(self) -> None:
        """The client left."""
        self._gone.set()
        self.writable.set()

    async def _run(self) -> None:
        try:
            await self._application(self._scope, self._receive, self._send)
        except Exception:  # noqa: BLE001 - the border of the task: the log gets the cause, the client a closed connection
            _log.exception("a request failed inside")
        if not self._gone.is_set():
            self._connection.finished(whole=self._ended)

    async def _receive(self) -> Mapping[str, Any]:
        if not self._read:
            self._read = True
            return {"type": "http.request", "body": bytes(self._request.body), "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Mapping[str, Any]) -> None:
        if self._gone.is_set():
            return
        if message["type"] == "http.response.start":
            self._start_answer(message)
            return
        if message["type"] != "http.response.body":
            return
        data, more = message.get("body", b""), message.get("more_body", False)
        if self._body and self._chunked:
            data = (b"%x\r\n%b\r\n" % (len(data), data) if data else b"") + (b"" if more else b"0\r\n\r\n")
        data = self._head + (data if self._body else b"")
        self._head = b""
        if not more:
            # First, because who has the answer may ask another process before this one comes to its end.
            self._request.release()
        if data and not self._connection.write(data):
            self.writable.clear()
            await self.writable.wait()
        self._ended = not more

    def _start_answer(self, message: Mapping[str, Any]) -> None:
        headers = [(name.lower(), value) for name, value in message["headers"]]
        length = next((int(value) for name, value in headers if name == b"content-length"), None)
        bodiless = message["status"] in (204, 304)
        self._chunked = length is None and not bodiless and self._connection.chunks
        kept = [pair for pair in headers if pair[0] not in _DROPPED]
        self._head = self._connection.head(message["status"], kept, length)
        self._body = self._body and not bodiless


def scope_of(request: HttpRequest, addresses: Mapping[str, Any]) -> dict[str, Any]:
    """The ASGI scope of a request.

    Args:
        request: its target may be a path or, as HTTP allows, a whole address.
        addresses: ``client`` and ``server``, and ``http_version`` unless it is 1.1.
    """
    path, query = split_target(request.target)
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": request.method.decode("ascii"),
        "scheme": "http",
        "path": path,
        "raw_path": request.target.partition(b"?")[0],
        "query_string": query,
        "root_path": "",
        "headers": list(request.headers.items()),
        "state": {ADMITTED: request},
        PEER: request.peer,
        **addresses,
    }


def split_target(target: bytes) -> tuple[str, bytes]:
    """The decoded path and the raw query of a request's target."""
    if not target.startswith((b"/", b"*")):
        # ``http://host/path``: only what follows the host matters here; the Host header was checked.
        rest = target.partition(b"://")[2]
        target = b"/" + rest.partition(b"/")[2]
    raw, _, query = target.partition(b"?")
    return unquote(raw.decode("latin-1"), errors="replace"), query
