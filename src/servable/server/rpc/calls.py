"""One call of gRPC with one message and one answer: ``Call`` is the stream, subclasses say what is done."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from servable.errors import InputError, ServableError
from servable.protocols.base import VERSION_HEADER
from servable.security.actors import begin_acting
from servable.security.callers import Caller
from servable.server.audit import actor_of
from servable.server.checks import too_large
from servable.server.http import Exchange, Headers, HttpRequest, PlainReply
from servable.server.http2_stream import Carrier, Stream
from servable.server.rpc.framing import (
    ACCEPTS,
    DETAILS,
    DONE,
    HEADS,
    PREFIX,
    STYLE,
    encoding_for,
    failed,
    frame,
    message_of,
    retry_details,
    unpack,
)
from servable.server.rpc.inference import Inference
from servable.tensors import Body

_LIMITED = 429
#: Longer compressed messages are unpacked away from the event loop.
UNPACK_HERE = 65_536


class Call(PlainReply, Stream):
    """A call that is answered when it is whole; implements ``http.Reply``.

    Args:
        carrier: the connection.
        number: of the stream.
        request: its headers.
    """

    __slots__ = ("_exchange", "_parts")

    asked = Stream.asked

    def __init__(self, carrier: Carrier, number: int, request: HttpRequest) -> None:
        super().__init__(carrier, number, request)
        request.style = STYLE
        self._parts: list[bytes] = []
        self._exchange: Exchange | None = None

    def data(self, data: bytes) -> None:
        """A piece of the message."""
        parts = self._parts
        most = self.carrier.limits.max_body_bytes
        # The first bytes say how long the message will be.
        promised = int.from_bytes(data[1:PREFIX], "big") if not parts and len(data) >= PREFIX else 0
        if promised > most or self.size > most + PREFIX:
            self.refuse(too_large(most))
        else:
            parts.append(data)

    def whole(self) -> tuple[Body, bool]:
        """The message, and whether it is compressed.

        Raises:
            RequestMalformed: there is not exactly one.
        """
        parts = self._parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        self._parts = []
        return message_of(data), data[:1] == b"\1"

    def lost(self) -> None:
        """The client does not want it any more."""
        if self._exchange is not None:
            self._exchange.cancel()
            self._exchange = None

    def refuse(self, error: BaseException) -> None:
        """Answer before the call is whole."""
        self.application.refuse(error, self, style=STYLE)

    # ------------------------------------------------------------------ answers

    def answer(
        self,
        body: bytes,
        request_id: str,
        media_type: bytes,
        headers: Headers = (),
    ) -> None:
        """The answer: head, message and trailers at once."""
        self._exchange = None
        head: list[tuple[bytes, bytes]] = [HEADS[0], (b"x-request-id", request_id.encode("ascii"))]
        if b"grpc-encoding" in self.request.headers:
            encoding = encoding_for(self.request.headers)
            head += [ACCEPTS, (b"grpc-encoding", encoding or b"identity")]
            framed = frame(body, encoding)
        else:
            framed = b"\0" + len(body).to_bytes(4, "big") + body
        self.carrier.send_whole(self, 200, head, framed, DONE)

    def respond(self, status: int, headers: Headers, body: bytes, *, close: bool = False) -> None:
        """An error: nothing but trailers."""
        self._exchange = None
        self._parts = []
        told = [*_told(headers), *_details(status, headers, body)]
        self.carrier.send_whole(self, 200, [*HEADS, ACCEPTS, *failed(status, body), *told], b"")


def _told(headers: Headers) -> Headers:
    """What of an error's headers a client of gRPC understands."""
    told = []
    for name, value in headers:
        if name in (b"x-request-id", VERSION_HEADER):
            told.append((name, value))
        elif name == b"retry-after":
            told.append((b"grpc-retry-pushback-ms", value + b"000"))
    return told


def _details(status: int, headers: Headers, body: bytes) -> Headers:
    """What a client is told of a limit beyond the status: when to try again."""
    after = next((value for name, value in headers if name == b"retry-after"), b"")
    return [(DETAILS, retry_details(status, body, int(after)))] if after and status == _LIMITED else []


class InferCall(Call):
    """``ModelInfer``: neither a task nor a future stands between the message and its answer."""

    __slots__ = ("_inference",)

    def __init__(self, carrier: Carrier, number: int, request: HttpRequest, inference: Inference) -> None:
        super().__init__(carrier, number, request)
        self._inference = inference

    def end(self) -> None:
        """The call is whole."""
        try:
            message, packed = self.whole()
        except InputError as error:
            self.refuse(error)
            return
        exchange = self._inference.begin(message, packed, self.request, self)
        if not exchange.over:
            self._exchange = exchange


class _Task:
    """A task as an exchange."""

    over = False

    def __init__(self, task: "asyncio.Task[None]") -> None:
        self._task = task

    def cancel(self) -> None:
        """The caller left."""
        self._task.cancel()


class UnaryCall(Call):
    """Any other method with one message and one answer, as a task."""

    __slots__ = ("_method", "_request_id")

    def __init__(
        self,
        carrier: Carrier,
        number: int,
        request: HttpRequest,
        method: Callable[[bytes, Caller], Awaitable[bytes]],
        request_id: str,
    ) -> None:
        super().__init__(carrier, number, request)
        self._method = method
        self._request_id = request_id

    def end(self) -> None:
        """The call is whole."""
        self._exchange = _Task(asyncio.get_running_loop().create_task(self._run()))

    async def _run(self) -> None:
        try:
            await self.request.ticket.granted()
            message, packed = self.whole()
            if packed:
                most, encoding = (
                    self.carrier.limits.max_body_bytes,
                    self.request.headers.get(b"grpc-encoding", b""),
                )
                message = await asyncio.to_thread(unpack, message, encoding, most)
            begin_acting(actor_of(self.request.caller, self.asked()[1]))
            answer = await self._method(bytes(message), self.request.caller)
        except Exception as error:  # noqa: BLE001 - the border of the call: the caller gets a clean answer, the log the cause
            self.application.refuse(error, self, self._request_id, style=STYLE)
        else:
            self.answer(answer, self._request_id, b"")


class RefusedCall(Call):
    """A call that is answered with an error as soon as it begins."""

    __slots__ = ("_error",)

    def __init__(self, carrier: Carrier, number: int, request: HttpRequest, error: ServableError) -> None:
        super().__init__(carrier, number, request)
        self._error = error

    def begin(self) -> None:
        """Refuse it."""
        self.refuse(self._error)

    def end(self) -> None:
        """It was refused already."""


class OtherType(RefusedCall):
    """A call in a form that is not read, answered as HTTP: its client may not understand a status of gRPC."""

    __slots__ = ()

    def respond(self, status: int, headers: Headers, body: bytes, *, close: bool = False) -> None:
        """The error."""
        plain: Any = [(b"content-type", b"text/plain; charset=utf-8"), *_told(headers)]
        self.carrier.send_whole(self, status, plain, body)
