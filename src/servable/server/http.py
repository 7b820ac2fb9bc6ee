"""What the parts of the server say to one another about one HTTP exchange, and the bytes of an answer."""

import asyncio
import time
from collections.abc import Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Protocol

from servable.security.callers import NOBODY, Caller
from servable.security.certificates import NO_PEER, Peer
from servable.server.allowances import FREE, Ticket
from servable.server.problems import NATIVE, Style
from servable.tensors import Body

Headers = Sequence[tuple[bytes, bytes]]

#: Where an ASGI scope holds who is at the other end of the connection.
PEER = "servable.peer"

#: The status line of every status, such as ``HTTP/1.1 200 OK``.
STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode("ascii") for status in HTTPStatus
}
#: Statuses whose answers have no body and say no length.
_BODILESS = frozenset({204, 304})
#: A browser takes an answer for what it is said to be.
NOSNIFF = (b"x-content-type-options", b"nosniff")


class HttpRequest:
    """One request as it came: everything before the body, then the whole body.

    Attributes:
        method: in capitals, as bytes.
        target: what stood after the method, undecoded.
        headers: by name in small letters; repeated ones are joined with a comma.
        body: the whole body, still compressed when ``content-encoding`` says so; a large one is a view.
        keep_alive: whether the connection stays open after the answer.
        repeated: how many headers repeated a name.
        style: how errors are worded for this caller; whoever finds out what is asked sets it.
        caller: who asks; whoever checks the key sets it, and until then nothing is allowed.
        peer: who is at the other end of the connection, by a certificate.
        address: of the client; empty when it has none.
        ticket: of a request that was let in.
        refusal: why it was not let in.
    """

    __slots__ = (
        "address", "body", "caller", "headers", "keep_alive", "method", "peer", "refusal", "repeated",
        "style", "target", "ticket",
    )  # fmt: skip

    def __init__(self) -> None:
        self.method = b""
        self.target = b""
        self.headers: dict[bytes, bytes] = {}
        self.body: Body = b""
        self.keep_alive = True
        self.repeated = 0
        self.style: Style = NATIVE
        self.caller: Caller = NOBODY
        self.peer: Peer = NO_PEER
        self.address = ""
        self.ticket: Ticket = FREE
        self.refusal: BaseException | None = None

    def release(self) -> None:
        """It was answered, or nobody waits for the answer; again does nothing."""
        self.ticket.release()


class Reply(Protocol):
    """Where the answer to one request goes. One of them is called, once."""

    def answer(
        self,
        body: bytes,
        request_id: str,
        media_type: bytes,
        headers: Headers = (),
    ) -> None:
        """The prediction, in the format of its codec."""
        ...

    def fail(self, error: BaseException, request_id: str) -> None:
        """Why there is no prediction."""
        ...

    def asked(self) -> tuple[HttpRequest, str]:
        """The request that is answered, and the address of its caller; empty when that is not known."""
        ...

    def respond(self, status: int, headers: Headers, body: bytes, *, close: bool = False) -> None:
        """Any other whole answer.

        Args:
            status: of HTTP.
            headers: all but date, content-length and connection.
            body: empty for none.
            close: end the connection after it, because what follows on it cannot be trusted or read.
        """
        ...


class Exchange(Protocol):
    """One prediction on its way."""

    #: Whether it was answered already.
    over: bool

    def cancel(self) -> None:
        """The caller left."""
        ...


def client_of(transport: asyncio.BaseTransport) -> tuple[Any, ...] | None:
    """The other end of a connection, as the ASGI scope says it; None where it is not known, or gone."""
    try:
        client = transport.get_extra_info("peername")
    except OSError:
        return None
    return client[:2] if isinstance(client, tuple) else None


def address_of(client: Any) -> str:
    """The address in what a transport or an ASGI scope says of the other end; empty for none."""
    return str(client[0]) if isinstance(client, tuple | list) and client else ""


class Handler(Protocol):
    """What answers requests: the application."""

    def admit(self, request: HttpRequest) -> None:
        """Let a request in when its headers are there; one that is not let in keeps the ``refusal``.

        Args:
            request: its headers, and the address of its client.
        """
        ...

    def handle(self, request: HttpRequest, reply: Reply) -> Exchange | None:
        """Begin to answer a prediction; None when the request is something else and must be called."""
        ...

    def refuse(
        self,
        error: BaseException,
        reply: Reply,
        request_id: str = "",
        *,
        counted: bool = False,
        close: bool = False,
        style: Style = NATIVE,
    ) -> None:
        """Answer with an error.

        Args:
            error: what is wrong.
            reply: gets a ``respond``.
            request_id: of the request; a new one when empty.
            counted: whether the model's figures hold it already.
            close: end the connection after it.
            style: how it is worded.
        """
        ...

    def reject(self, error: BaseException, request: HttpRequest, reply: Reply) -> None:
        """Answer a request that could not be taken in whole, in the words of its address, and end there.

        Args:
            error: what is wrong.
            request: as far as it came.
            reply: gets a ``respond``.
        """
        ...

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer anything; see the ASGI specification."""
        ...

    def admits(self, request: HttpRequest) -> bool:
        """Whether the caller of a request is let in still, whose key may have been revoked meanwhile.

        Args:
            request: that was let in; is told what its caller may do now.
        """
        ...

    def prepare_calls(self) -> "asyncio.Future[None] | None":
        """Load what calls of gRPC need, away from the event loop; None when it is there."""
        ...

    def call(self, carrier: Any, number: int, request: HttpRequest) -> Any:
        """Begin a call of gRPC.

        Args:
            carrier: an HTTP/2 connection, ``http2_stream.Carrier``.
            number: of the stream.
            request: before its body.

        Returns:
            The stream that takes the body and answers, an ``http2_stream.Stream``.
        """
        ...


class PlainReply:
    """Predictions as plain answers, for a ``Reply`` that takes no shorter way; it brings ``respond``.

    Attributes:
        application: words the errors.
        request: that is answered.
    """

    __slots__ = ()

    application: Handler
    request: HttpRequest

    def answer(
        self,
        body: bytes,
        request_id: str,
        media_type: bytes,
        headers: Headers = (),
    ) -> None:
        """A prediction."""
        own = (NOSNIFF, (b"content-type", media_type), (b"x-request-id", request_id.encode("ascii")))
        self.respond(200, (*own, *headers), body)

    def fail(self, error: BaseException, request_id: str) -> None:
        """A prediction that came to nothing."""
        self.application.refuse(error, self, request_id, counted=True, style=self.request.style)

    def asked(self) -> tuple[HttpRequest, str]:
        """The request, and whose it is; see ``Reply``."""
        raise NotImplementedError

    def respond(self, status: int, headers: Headers, body: bytes, *, close: bool = False) -> None:
        """Any other whole answer; see ``Reply``."""
        raise NotImplementedError


class Dates:
    """The date header's line, made once a second."""

    def __init__(self) -> None:
        self.line = b""
        self.refresh()

    def refresh(self) -> None:
        """Set the line to the present second."""
        self.line = b"date: " + formatdate(time.time(), usegmt=True).encode("ascii") + b"\r\n"


def head_bytes(status: int, headers: Headers, date: bytes, *, length: int | None, close: bool) -> bytes:
    """The head of an answer, up to and with the empty line.

    Args:
        status: of HTTP.
        headers: without content-length, date and connection.
        date: the whole line.
        length: of the body; None for a chunked one.
        close: whether the connection ends after it.
    """
    lines = [STATUS_LINES[status], date]
    lines += [name + b": " + value + b"\r\n" for name, value in headers]
    if status not in _BODILESS:
        lines.append(
            b"transfer-encoding: chunked\r\n" if length is None else b"content-length: %d\r\n" % length
        )
    if close:
        lines.append(b"connection: close\r\n")
    lines.append(b"\r\n")
    return b"".join(lines)
