"""Answers in pieces over HTTP, for the doors and routes of the formats."""

import asyncio
from collections.abc import Callable
from typing import Any

from servable.protocols.base import Head, PieceCodec
from servable.protocols.compression import decompress
from servable.security.callers import Caller
from servable.server import checks as check
from servable.server.desk import ADMITS, Desk
from servable.server.formats.base import Streaming
from servable.server.http import HttpRequest
from servable.server.streaming import Streamed, always, deliver
from servable.serving.live import Live
from servable.serving.pieces import Times, begin
from servable.tensors import Body

Choice = Callable[[Live, Head], PieceCodec]


async def begin_at(
    desk: Desk, caller: Caller, reference: str, body: Body, head: Head, request_id: str, choose: Choice
) -> Streamed:
    """Begin an answer, with the deadline and the priority that the headers name; its first piece is there.

    Args:
        desk: finds the model.
        caller: who asks.
        reference: of the model.
        body: unpacked.
        head: the request's headers.
        request_id: kept in the answer and in the log.
        choose: the codec for the model.

    Raises:
        ServableError: whatever is wrong with it, and nothing was sent.
    """
    settings = desk.settings
    times = Times(check.limit_of(head, settings.stream_timeout_s), settings.request_timeout_s)
    weight = check.weight_of(head)
    live = await desk.live(caller, reference, head, times.whole_s)
    begun = await begin(live, choose(live, head), body, request_id, head=head, times=times, weight=weight)
    return Streamed(begun.media_type, begun.headers, begun.parts)


async def answer_in_pieces(
    desk: Desk, reference: str, request: HttpRequest, request_id: str, choose: Choice
) -> Streamed:
    """The same for a request at a door, whose body may be packed."""
    head, body = request.headers, request.body
    encoding = head.get(b"content-encoding", b"").decode("latin-1")
    if encoding:
        body = await asyncio.to_thread(decompress, encoding, body, desk.settings.max_body_bytes)
    return await begin_at(desk, request.caller, reference, body, head, request_id, choose)


def streaming(choose: Choice) -> Streaming:
    """The ``Streaming`` of a door whose every request is answered in pieces."""

    async def begins(desk: Desk, reference: str, request: HttpRequest, request_id: str) -> Streamed:
        return await answer_in_pieces(desk, reference, request, request_id, choose)

    return Streaming(lambda _head: True, begins)


class PiecesResponse:
    """A response of a route that is answered in pieces.

    Args:
        begins: makes the answer; what it raises is answered as an error.
    """

    def __init__(self, begins: Callable[[], Any]) -> None:
        self._begins = begins

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send it; see ``streaming.deliver``."""
        admits = scope.get("state", {}).get(ADMITS, always)
        await deliver(self._begins, (), receive, send, admits)
