"""Calls of gRPC with streams of messages, and ``ModelStreamInfer``."""

import asyncio
from collections import deque

from servable.errors import RequestMalformed, ServerStopping, Unauthenticated
from servable.protocols.oip_grpc_wire import id_of, streamed, streamed_error
from servable.server.checks import too_large
from servable.server.http import Exchange, Headers, HttpRequest
from servable.server.http2_stream import Carrier, Stream
from servable.server.rpc.framing import (
    ACCEPTS,
    DONE,
    HEADS,
    PREFIX,
    STYLE,
    encoding_for,
    failed,
    frame,
    unpack,
)
from servable.server.rpc.inference import Inference
from servable.tensors import Body

#: Messages of one stream that are worked on at once; with more, nothing is read until there are half as many.
_AT_ONCE = 64


class StreamCall(Stream):
    """A call whose messages are taken one by one; implements ``http.Reply`` for errors of the whole call."""

    __slots__ = ("_begun", "_buffer", "_encoding", "_request_id")

    def __init__(self, carrier: Carrier, number: int, request: HttpRequest, request_id: str) -> None:
        super().__init__(carrier, number, request)
        request.style = STYLE
        self._buffer = bytearray()
        self._begun = False
        self._encoding = encoding_for(request.headers)
        self._request_id = request_id

    def message(self, message: bytes, packed: bool) -> None:
        """One message came.

        Args:
            message: without its prefix.
            packed: whether it is compressed.
        """
        raise NotImplementedError

    @property
    def waits_for_bytes(self) -> bool:
        """Between two messages the client may take its time."""
        return self.arriving and bool(self._buffer)

    def data(self, data: bytes) -> None:
        """A piece of the stream: perhaps the end of a message, perhaps many."""
        buffer = self._buffer
        if not buffer:
            self.since, self.came = self.carrier.now, len(data)
        buffer += data
        most = self.carrier.limits.max_body_bytes
        while self.arriving and len(buffer) >= PREFIX:
            size = int.from_bytes(buffer[1:PREFIX], "big")
            if size > most or buffer[0] > 1:
                self.refuse(
                    too_large(most) if size > most else RequestMalformed("This is no message of gRPC.")
                )
                return
            if len(buffer) < PREFIX + size:
                return
            packed, message = buffer[0] == 1, bytes(buffer[PREFIX : PREFIX + size])
            del buffer[: PREFIX + size]
            self.carrier.taken(self, min(self.size, PREFIX + size))
            self.since, self.came = self.carrier.now, len(buffer)
            self.message(message, packed)

    def unpacked(self, message: bytes) -> Body:
        """A compressed message as it was.

        Raises:
            ServableError: it cannot be unpacked.
        """
        encoding = self.request.headers.get(b"grpc-encoding", b"")
        return unpack(message, encoding, self.carrier.limits.max_body_bytes)

    def look(self, now: float) -> None:
        """End the call when its caller is let in no more; see ``Stream.look``."""
        if self.application.admits(self.request):
            super().look(now)
            self.tick()
        else:
            self.refuse(Unauthenticated(shown=True))

    def tick(self) -> None:
        """Called a few times a second, as long as the caller is let in."""

    # ------------------------------------------------------------------ answers

    def send(self, message: bytes) -> bool:
        """One message; whether the client keeps up."""
        if not self._begun:
            self._begun = True
            head = [*HEADS, (b"x-request-id", self._request_id.encode("ascii"))]
            if self._encoding:
                head += [ACCEPTS, (b"grpc-encoding", self._encoding)]
            self.carrier.send_head(self, 200, head)
        return self.carrier.send_body(self, frame(message, self._encoding))

    def finish(self) -> None:
        """The end of the call."""
        if self._begun:
            self.carrier.send_end(self, DONE)
        else:
            self.carrier.send_whole(self, 200, HEADS, b"", DONE)

    def refuse(self, error: BaseException) -> None:
        """End the call with an error."""
        self.application.refuse(error, self, self._request_id, style=STYLE)

    def answer(self, body: bytes, request_id: str, media_type: bytes, headers: Headers = ()) -> None:
        """One message, as ``send``."""
        self.send(body)

    def fail(self, error: BaseException, request_id: str) -> None:
        """End the call with an error that was counted."""
        self.application.refuse(error, self, request_id, counted=True, style=STYLE)

    def respond(self, status: int, headers: Headers, body: bytes, *, close: bool = False) -> None:
        """End the call with an error."""
        if self._begun:
            self.carrier.send_end(self, failed(status, body))
        else:
            self.carrier.send_whole(self, 200, [*HEADS, *failed(status, body)], b"")


class _Place:
    """One request of a stream, and its answer until those before it were sent.

    Implements ``http.Reply`` and ``inference.Sink``.
    """

    __slots__ = ("_own_id", "_owner", "exchange", "text", "turn")

    def __init__(self, owner: "InferStream", own_id: bytes) -> None:
        self._owner = owner
        self._own_id = own_id
        self.exchange: Exchange | None = None
        #: The answer; empty when it was sent in pieces.
        self.text: bytes | None = None
        #: Resolved when all before it were sent; made by one that is answered in pieces.
        self.turn: asyncio.Future[None] | None = None

    def answer(self, body: bytes, request_id: str, media_type: bytes, headers: Headers = ()) -> None:
        """The answer."""
        self.text = streamed(body)
        self._owner.advance()

    async def room(self) -> None:
        """Wait until it is its turn and the client keeps up."""
        owner = self._owner
        while owner.first is not self:
            self.turn = asyncio.get_running_loop().create_future()
            await self.turn
        await owner.room()

    def piece(self, body: bytes) -> None:
        """One of several answers."""
        self._owner.send(streamed(body))

    def done(self) -> None:
        """The last of several answers was sent."""
        self.text = b""
        self._owner.advance()

    def asked(self) -> tuple[HttpRequest, str]:
        """The stream, and whose it is."""
        return self._owner.asked()

    def fail(self, error: BaseException, request_id: str) -> None:
        """Why there is none."""
        self._owner.carrier.application.refuse(error, self, request_id, counted=True, style=STYLE)

    def respond(self, status: int, headers: Headers, body: bytes, *, close: bool = False) -> None:
        """An error: by custom one more message of the stream, so that the others go on."""
        if self._owner.strict:
            self._owner.respond(status, headers, body)
            return
        self.text = streamed_error(body.decode(), self._own_id)
        self._owner.advance()


class InferStream(StreamCall):
    """``ModelStreamInfer``: requests are worked on side by side, and answered in their order.

    A model that answers in pieces begins with a request when those before it are answered.
    """

    __slots__ = ("_behind", "_holding", "_inference", "_places", "strict")

    def __init__(self, carrier: Carrier, number: int, request: HttpRequest, inference: Inference) -> None:
        super().__init__(carrier, number, request, inference.request_id(request.headers))
        self._inference = inference
        self._places: deque[_Place] = deque()
        self._holding = False
        #: Resolved when the client has caught up; None while it keeps up.
        self._behind: asyncio.Future[None] | None = None
        #: Whether an error ends the stream.
        self.strict = request.headers.get(b"triton_grpc_error", b"").lower() == b"true"

    def message(self, message: bytes, packed: bool) -> None:
        """One request."""
        place = _Place(self, b"" if packed else id_of(message))
        self._places.append(place)
        exchange = self._inference.begin(message, packed, self.request, place, place)
        if place.text is None:
            place.exchange = exchange
        if len(self._places) >= _AT_ONCE and not self._holding:
            self._holding = True
            self.carrier.hold(self, more=True)

    def end(self) -> None:
        """No more requests."""
        if self._buffer:
            self.refuse(RequestMalformed("The stream ends in the middle of a message."))
        elif not self._places:
            self.finish()

    @property
    def first(self) -> _Place | None:
        """The request whose answer goes next."""
        return self._places[0] if self._places else None

    def send(self, message: bytes) -> bool:
        """One message; whether the client keeps up."""
        keeps_up = super().send(message)
        if not keeps_up and self._behind is None:
            self._behind = asyncio.get_running_loop().create_future()
        return keeps_up

    def writable(self) -> None:
        """The client has caught up."""
        behind, self._behind = self._behind, None
        if behind is not None and not behind.done():
            behind.set_result(None)

    async def room(self) -> None:
        """Wait until the client keeps up."""
        while (behind := self._behind) is not None:
            await asyncio.shield(behind)

    def advance(self) -> None:
        """An answer is there: send what is due."""
        places = self._places
        while places and places[0].text is not None:
            if text := places.popleft().text:
                self.send(text)
        if places and (turn := places[0].turn) is not None and not turn.done():
            turn.set_result(None)
        if self._holding and len(places) < _AT_ONCE // 2:
            self._holding = False
            self.carrier.hold(self, more=False)
        if not places and not self.arriving:
            self.finish()

    def lost(self) -> None:
        """The client does not want it any more."""
        places = tuple(self._places)
        self._places.clear()
        for place in places:
            if place.exchange is not None:
                place.exchange.cancel()

    def respond(self, status: int, headers: Headers, body: bytes, *, close: bool = False) -> None:
        """End the call with an error; what is still worked on is taken back."""
        self.lost()
        super().respond(status, headers, body, close=close)

    def closing(self) -> None:
        """The server goes down."""
        if not self._places:
            self.refuse(ServerStopping("The server is stopping; open the stream again."))
