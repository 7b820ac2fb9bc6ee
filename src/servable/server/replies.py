"""The application's answers as ASGI messages, and an ASGI request's body."""

import asyncio
from typing import Any

from servable.server.checks import too_large
from servable.server.http import Exchange, Handler, Headers, HttpRequest, PlainReply, address_of
from servable.server.mounts import Receive

_BODILESS = frozenset({204, 304})


class AsgiReply(PlainReply):
    """Implements ``http.Reply`` for an ASGI server. Belongs to one event loop.

    Args:
        application: words the errors.
        send: of ASGI.
        request: that is answered.
        head_only: whether the answer has no body, as HEAD wants it.
        client: what the scope says of the caller.
    """

    def __init__(
        self, application: Handler, send: Any, request: HttpRequest, *, head_only: bool, client: Any = None
    ) -> None:
        self.application = application
        self._client = client
        self._send = send
        self._head_only = head_only
        self.request = request
        self._messages: asyncio.Future[tuple[Any, Any]] = asyncio.get_running_loop().create_future()

    def respond(self, status: int, headers: Headers, body: bytes, *, close: bool = False) -> None:
        """Any other answer."""
        whole = list(headers)
        if status not in _BODILESS:
            whole.append((b"content-length", b"%d" % len(body)))
        if close:
            whole.append((b"connection", b"close"))
        start = {"type": "http.response.start", "status": status, "headers": whole}
        if not self._messages.done():
            content = b"" if self._head_only else body
            self._messages.set_result((start, {"type": "http.response.body", "body": content}))

    def asked(self) -> tuple[HttpRequest, str]:
        """The request that is answered, and whose it is."""
        return self.request, address_of(self._client)

    async def sent(self, exchange: Exchange | None, receive: Receive | None = None) -> None:
        """Wait for the answer and send it. Cancelling this cancels the exchange.

        Args:
            exchange: what is cancelled when nobody waits any more.
            receive: of ASGI, after the whole body: tells that the caller hung up; None not to ask.
        """
        try:
            if receive is not None and not self._messages.done():
                await self._answered_or_gone(receive)
                if not self._messages.done():
                    return
            start, body = await self._messages
        finally:
            if exchange is not None:
                exchange.cancel()
        await self._send(start)
        await self._send(body)

    async def _answered_or_gone(self, receive: Receive) -> None:
        gone = asyncio.ensure_future(_hung_up(receive))
        try:
            either: list[asyncio.Future[Any]] = [self._messages, gone]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            # Whatever the host raises about a connection that is over concerns nobody here.
            await asyncio.gather(gone, return_exceptions=True)


async def _hung_up(receive: Receive) -> None:
    """Return once the caller left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def read_body(receive: Any, most: int) -> bytes | None:
    """The whole body of an ASGI request; None when the caller hung up first.

    Raises:
        RequestTooLarge: it is larger than allowed.
    """
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            raise too_large(most)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)
