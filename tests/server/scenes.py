"""What the tests of connections share: an application that answers when it is told to. Nobody waits."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from servable.errors import ServableError, Unauthenticated
from servable.server.exchanges import AT_ONCE
from servable.server.http import HttpRequest, Reply
from servable.server.problems import STATUS


class Exchange:
    """A prediction that waits until the test answers it."""

    def __init__(self, request: HttpRequest, reply: Reply) -> None:
        self.request = request
        self.reply = reply
        self.over = False
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def answer(self, body: bytes = b"{}") -> None:
        self.over = True
        self.reply.answer(body, "id", b"application/json")


class Application:
    """Keeps predictions until they are answered; ``/now`` is answered at once, ``/asgi`` in pieces.

    Args:
        version: of HTTP, as the pieces must be asked for.
    """

    def __init__(self, version: str) -> None:
        self.exchanges: list[Exchange] = []
        self.refused: list[str] = []
        self.prepared: asyncio.Future[None] | None = None
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.breaks = False
        self._version = version

    def admit(self, request: HttpRequest) -> None:
        if request.target == b"/not-let-in":
            request.refusal = Unauthenticated()

    def handle(self, request: HttpRequest, reply: Reply) -> Exchange | None:
        if request.target == b"/asgi":
            return None
        if request.refusal is not None:
            self.refuse(request.refusal, reply)
            return AT_ONCE
        exchange = Exchange(request, reply)
        self.exchanges.append(exchange)
        if request.target == b"/now":
            exchange.answer(b"now")
        return exchange

    def reject(self, error: BaseException, request: HttpRequest, reply: Reply) -> None:
        # Over HTTP/1.1 it may be refused before the target is there.
        assert self._version == "1.1" or request.target.startswith((b"/", b"*"))
        self.refuse(error, reply, close=True)

    def refuse(
        self, error: BaseException, reply: Reply, request_id: str = "", *, close: bool = False, **more: Any
    ) -> None:
        assert isinstance(error, ServableError)
        self.refused.append(error.code)
        reply.respond(STATUS[error.code], (), error.message.encode(), close=close)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["http_version"] == self._version
        assert (await receive())["body"] == b""
        await send({"type": "http.response.start", "status": 200, "headers": [(b"X", b"y")]})
        await send({"type": "http.response.body", "body": b"first ", "more_body": True})
        await self.go_on.wait()
        if self.breaks:
            raise ZeroDivisionError
        await send({"type": "http.response.body", "body": b"second"})

    def prepare_calls(self) -> "asyncio.Future[None] | None":
        return self.prepared

    def call(self, carrier: Any, number: int, request: HttpRequest) -> Any:
        raise AssertionError("no test here calls")


def played(course: Callable[[Any], Awaitable[None]], scene: Callable[[], Any]) -> None:
    """Run a course of events on a scene that is made within the event loop."""

    async def inside() -> None:
        await course(scene())

    asyncio.run(inside())


async def turns(count: int = 5) -> None:
    """Let everything that can go on do so."""
    for _ in range(count):
        await asyncio.sleep(0)
