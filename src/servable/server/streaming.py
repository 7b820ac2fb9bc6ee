"""Answers that are sent piece by piece while later pieces are still made."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

from servable.logs import logger
from servable.server.http import Headers

_log = logger("server")
#: Seconds between two looks whether a caller is let in still.
_LOOK_S = 0.25


class Streamed(NamedTuple):
    """An answer that has begun.

    Attributes:
        media_type: of the whole.
        headers: more of the answer.
        parts: its pieces, made as they are asked for; closed in any case, also when the caller leaves.
    """

    media_type: str
    headers: Headers
    parts: AsyncIterator[bytes]


def always() -> bool:
    """The caller of an answer whose caller needs nothing is let in."""
    return True


async def deliver(
    begin: Callable[[], Awaitable[Streamed]],
    own: Headers,
    receive: Any,
    send: Any,
    admits: Callable[[], bool] = always,
) -> None:
    """Send an answer to an ASGI caller; stop making it when the caller leaves or is let in no more.

    What is wrong before the first piece is raised. What goes wrong later is logged, and the answer ends
    without its end, so that nobody takes it for a whole one.

    Args:
        begin: makes the answer.
        own: headers that every answer has.
        receive: of ASGI; the body was read from it.
        send: of ASGI.
        admits: whether the caller is let in still; asked a few times a second.
    """
    writing = asyncio.create_task(_write(begin, own, send))
    others = {asyncio.create_task(_left(receive)), asyncio.create_task(_refused(admits))}
    try:
        await asyncio.wait({writing, *others}, return_when=asyncio.FIRST_COMPLETED)
        if writing.done():
            writing.result()
    finally:
        for task in (writing, *others):
            task.cancel()
        await asyncio.gather(writing, *others, return_exceptions=True)


async def _left(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _refused(admits: Callable[[], bool]) -> None:
    while admits():
        await asyncio.sleep(_LOOK_S)


async def _write(begin: Callable[[], Awaitable[Streamed]], own: Headers, send: Any) -> None:
    media_type, headers, parts = await begin()
    try:
        # Proxies that gather answers would hold back what is ready.
        more = ((b"content-type", media_type.encode("ascii")), (b"x-accel-buffering", b"no"))
        await send({"type": "http.response.start", "status": 200, "headers": [*more, *headers, *own]})
        async for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    except Exception:  # noqa: BLE001 - half of the answer is sent: the log gets the cause, the client a cut
        _log.exception("an answer broke off")
    finally:
        close = getattr(parts, "aclose", None)
        if close is not None:
            await close()
