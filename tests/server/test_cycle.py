"""Requests that an ASGI application answers: when the place of one among those at once is given back."""

import asyncio
from typing import Any, cast

from servable.server.allowances import Ticket
from servable.server.cycle import Cycle
from servable.server.http import Handler, Headers, HttpRequest


class Counted(Ticket):
    """Knows how often it was given back."""

    __slots__ = ("released",)

    def __init__(self) -> None:
        self.released = 0

    def release(self) -> None:
        self.released += 1


class Client:
    """A connection that notes with each write whether the place was free by then."""

    chunks = True

    def __init__(self, ticket: Counted) -> None:
        self.ticket = ticket
        self.came: list[tuple[bytes, bool]] = []
        self.whole: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def head(self, status: int, headers: Headers, length: int | None) -> bytes:
        return b"%d " % status

    def write(self, data: bytes) -> bool:
        self.came.append((data, self.ticket.released > 0))
        return True

    def finished(self, *, whole: bool) -> None:
        self.whole.set_result(whole)


def answered(*parts: bytes) -> list[tuple[bytes, bool]]:
    async def inside() -> list[tuple[bytes, bool]]:
        async def application(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for place, part in enumerate(parts):
                await send({"type": "http.response.body", "body": part, "more_body": place + 1 < len(parts)})

        request = HttpRequest()
        request.method, request.target = b"GET", b"/version"
        request.ticket = ticket = Counted()
        client = Client(ticket)
        # Of all that a handler can do, a cycle only calls it.
        Cycle(request, client, cast(Handler, application), {"client": None, "server": None}).start()
        assert await client.whole
        return client.came

    return asyncio.run(inside())


def test_the_place_is_free_before_the_last_byte_leaves() -> None:
    assert answered(b"all") == [(b"200 3\r\nall\r\n0\r\n\r\n", True)]


def test_it_is_kept_while_more_is_to_come() -> None:
    assert answered(b"a", b"b", b"") == [
        (b"200 1\r\na\r\n", False),
        (b"1\r\nb\r\n", False),
        (b"0\r\n\r\n", True),
    ]
