"""One stream of an HTTP/2 connection: a request, and where its answer goes.

``Stream`` is what the connection knows of a stream; subclasses say what becomes of the bytes. ``HttpStream``
is a plain HTTP request, answered like one over HTTP/1.1; calls of gRPC are in ``servable.server.rpc``.
"""

from typing import Any, Protocol

from servable.errors import RequestTimeout
from servable.server.checks import too_large
from servable.server.cycle import Cycle
from servable.server.http import Exchange, Handler, Headers, HttpRequest, PlainReply, address_of
from servable.settings import ServerSettings
from servable.tensors import Body

#: Errors of HTTP/2 with which a stream is ended.
NO_ERROR, INTERNAL_ERROR, REFUSED_STREAM, CANCEL = 0, 2, 7, 8


class Carrier(Protocol):
    """The connection of a stream. All of it goes out with the next write."""

    application: Handler
    limits: ServerSettings
    address: str

    @property
    def now(self) -> float:
        """The shared clock."""
        ...

    @property
    def draining(self) -> bool:
        """Whether the server goes down."""
        ...

    @property
    def addresses(self) -> dict[str, Any]:
        """What the ASGI scope says of the connection."""
        ...

    def send_whole(
        self,
        stream: "Stream",
        status: int,
        headers: Headers,
        body: Body,
        trailers: Headers | None = None,
    ) -> None:
        """A whole answer; the stream is over."""
        ...

    def send_head(self, stream: "Stream", status: int, headers: Headers) -> None:
        """The head of an answer that comes in pieces."""
        ...

    def send_body(self, stream: "Stream", data: Body) -> bool:
        """A piece of a body; returns whether the client keeps up."""
        ...

    def send_end(self, stream: "Stream", trailers: Headers | None = None) -> None:
        """The end of an answer; the stream is over."""
        ...

    def reset(self, stream: "Stream", code: int) -> None:
        """Break the stream off."""
        ...

    def taken(self, stream: "Stream", size: int) -> None:
        """A stream holds so many bytes of its body no more."""
        ...

    def hold(self, stream: "Stream", *, more: bool) -> None:
        """Read nothing more while a stream has more than it can work on."""
        ...


class Stream:
    """One stream. Belongs to one event loop.

    Args:
        carrier: the connection.
        number: of the stream.
        request: before its body.

    Attributes:
        carrier: as given.
        application: the connection's.
        number: as given.
        request: as given.
        arriving: whether more of the body is to come.
        since: when the wait began that may not last too long, by the shared clock.
        size: bytes of the body that are held.
        came: bytes that came since ``since``.
    """

    __slots__ = ("application", "arriving", "came", "carrier", "number", "request", "since", "size")

    def __init__(self, carrier: Carrier, number: int, request: HttpRequest) -> None:
        self.carrier = carrier
        self.application = carrier.application
        self.number = number
        self.request = request
        self.arriving = True
        self.since = carrier.now
        self.size = self.came = 0

    def begin(self) -> None:
        """The headers are there."""

    def data(self, data: bytes) -> None:
        """A piece of the body."""
        raise NotImplementedError

    def end(self) -> None:
        """The body is whole."""
        raise NotImplementedError

    def lost(self) -> None:
        """The client does not want it any more."""
        raise NotImplementedError

    def refuse(self, error: BaseException) -> None:
        """Answer what cannot be understood, is too large or comes too slowly."""
        raise NotImplementedError

    def writable(self) -> None:
        """The client has caught up."""

    def asked(self) -> tuple[HttpRequest, str]:
        """The request that is answered, and whose it is."""
        return self.request, address_of(self.carrier.addresses["client"])

    def closing(self) -> None:
        """The server goes down; what has nothing to do ends."""

    def look(self, now: float) -> None:
        """Called a few times a second.

        Args:
            now: of the shared clock, in seconds.
        """
        if self.waits_for_bytes:
            limits = self.carrier.limits
            elapsed = now - self.since
            if elapsed > limits.body_grace_s and self.came < limits.min_body_rate * elapsed:
                self.refuse(RequestTimeout("The body of the request arrives too slowly."))

    @property
    def waits_for_bytes(self) -> bool:
        """Whether the client owes bytes."""
        return self.arriving


class HttpStream(PlainReply, Stream):
    """A request over HTTP/2; implements ``http.Reply`` and ``cycle.Pieces``."""

    __slots__ = ("_cycle", "_exchange", "_parts")

    #: A body of unknown length needs no chunks: the frames say where it ends.
    chunks = False
    asked = Stream.asked

    def __init__(self, carrier: Carrier, number: int, request: HttpRequest) -> None:
        super().__init__(carrier, number, request)
        self._parts: list[bytes] = []
        self._exchange: Exchange | None = None
        self._cycle: Cycle | None = None

    def begin(self) -> None:
        """The headers are there: whoever is not let in sends the body to nobody."""
        self.application.admit(self.request)
        if self.request.refusal is not None:
            self.refuse(self.request.refusal)

    def data(self, data: bytes) -> None:
        """A piece of the body."""
        if self.size > self.carrier.limits.max_body_bytes:
            self.refuse(too_large(self.carrier.limits.max_body_bytes))
            return
        self._parts.append(data)

    def end(self) -> None:
        """The request is whole."""
        request, application = self.request, self.application
        request.body = b"".join(self._parts)
        self._parts = []
        exchange = application.handle(request, self)
        if exchange is None:
            self._cycle = Cycle(request, self, application, self.carrier.addresses)
            self._cycle.start()
        elif not exchange.over:
            self._exchange = exchange

    def lost(self) -> None:
        """The client does not want it any more."""
        if self._exchange is not None:
            self._exchange.cancel()
        if self._cycle is not None:
            self._cycle.disconnect()

    def refuse(self, error: BaseException) -> None:
        """Answer with an error before the request is whole."""
        self.application.reject(error, self.request, self)

    def writable(self) -> None:
        """The client has caught up."""
        if self._cycle is not None:
            self._cycle.writable.set()

    # ------------------------------------------------------------------ answers

    def respond(self, status: int, headers: Headers, body: bytes, *, close: bool = False) -> None:
        """Any other whole answer. Only the stream ends with it: frames keep the next request apart."""
        whole = [*headers, (b"content-length", b"%d" % len(body))] if status != 204 else headers
        self.carrier.send_whole(self, status, whole, b"" if self.request.method == b"HEAD" else body)

    def head(self, status: int, headers: Headers, length: int | None) -> bytes:
        """The head of a cycle's answer."""
        if length is not None:
            headers = [*headers, (b"content-length", b"%d" % length)]
        self.carrier.send_head(self, status, headers)
        return b""

    def write(self, data: bytes) -> bool:
        """Bytes of a cycle's body."""
        return self.carrier.send_body(self, data)

    def finished(self, *, whole: bool) -> None:
        """A cycle ended; half an answer breaks the stream off."""
        self._cycle = None
        if whole:
            self.carrier.send_end(self)
        else:
            self.carrier.reset(self, INTERNAL_ERROR)
