"""From the bytes of a connection to whole requests. httptools parses; limits and ambiguities are ours.

Everything that two programs could read differently is refused: two lengths, a length beside chunks, two
hosts, no host. The parser runs in its strict mode, which refuses bare line feeds, spaces before
colons, control characters and folded lines.
"""

from collections.abc import Callable

import httptools

from servable.errors import HeadersTooLarge, RequestMalformed, ServableError
from servable.server.checks import too_large
from servable.server.http import HttpRequest
from servable.settings import ServerSettings

#: How far a request has come: not begun, in its headers, in its body.
IDLE, HEAD, BODY = range(3)
#: Headers that make a message ambiguous when they come twice.
SINGLE = frozenset({b"host", b"content-length", b"transfer-encoding", b"content-type", b"content-encoding"})

#: How HTTP/2 begins for a client that knows the server speaks it.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#: What the parser says when it has read exactly that.
_PREFACE_READ = "PRI/Upgrade"


class RequestReader:
    """Reads the requests of one connection. Belongs to one event loop.

    Args:
        limits: on headers and bodies.
        take: is given every whole request, in order.
        admit: is given every request when its headers are there, and may set its ``refusal``.

    Attributes:
        arriving: how far the request that arrives has come.
        request: that request.
        body_size: bytes of its body so far.
        expects: whether its client waits for leave to send the body; the connection sets it back.
        http2: everything that came, when the client speaks HTTP/2.
    """

    __slots__ = (
        "_admit",
        "_chunk",
        "_fresh",
        "_head_size",
        "_limits",
        "_parser",
        "_parts",
        "_refusal",
        "_take",
        "_whole",
        "arriving",
        "body_size",
        "expects",
        "http2",
        "request",
    )

    def __init__(
        self,
        limits: ServerSettings,
        take: Callable[[HttpRequest], None],
        admit: Callable[[HttpRequest], None] = lambda _: None,
    ) -> None:
        self._limits = limits
        self._take = take
        self._admit = admit
        self._parser = httptools.HttpRequestParser(self)
        self._parts: list[bytes] = []
        self._head_size = 0
        self._chunk = 0
        self._whole = False
        #: Whether no request has come to its end yet.
        self._fresh = True
        self._refusal: ServableError | None = None
        self.arriving = IDLE
        self.request = HttpRequest()
        self.body_size = 0
        self.expects = False
        self.http2 = b""

    def feed(self, data: bytes) -> bool:
        """Read on.

        Returns:
            False when the client offers another protocol: HTTP allows to pass that over and to answer
            the request, but what follows it cannot be read. When it is HTTP/2 from the first byte on,
            ``http2`` holds what came.

        Raises:
            RequestMalformed: this is no HTTP/1.1, or can be read in two ways.
            HeadersTooLarge: more headers than allowed.
            RequestTooLarge: a longer body than allowed.
        """
        self._chunk = len(data)
        self._whole = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return False
        except httptools.HttpParserError as foreign:
            if self._fresh and _PREFACE_READ in str(foreign):
                # The pieces before this one were the beginning of the preface, and nothing else.
                self.http2 = PREFACE + data[len(PREFACE) - self._head_size :]
                return False
            raise self._refusal or RequestMalformed("The request is not valid HTTP/1.1.") from foreign
        if self.arriving == HEAD and not self._whole:
            # Of bytes that ended a request before, only what comes after them is counted: the next piece.
            self._head_size += len(data)
            if self._head_size > self._limits.max_header_bytes:
                raise self._too_many_bytes()
        return True

    def rest(self) -> int:
        """Bytes of the body that are still to come and need no parser; 0 when it comes in chunks."""
        if self.arriving != BODY or b"transfer-encoding" in self.request.headers:
            return 0
        return int(self.request.headers.get(b"content-length", b"0")) - self.body_size

    def lend(self) -> tuple[bytes, int]:
        """What came of the body so far, and its whole length; who reads the rest calls ``give``."""
        return b"".join(self._parts), int(self.request.headers[b"content-length"])

    def give(self, body: memoryview) -> None:
        """The whole body. The parser, which never saw its end, makes place for another."""
        self._parts = []
        self.request.body = body
        self._parser = httptools.HttpRequestParser(self)
        self.on_message_complete()

    # ------------------------------------------------------------------ the parser calls

    def on_message_begin(self) -> None:
        """A request begins; several may come in one piece."""
        self.request = HttpRequest()
        self.arriving = HEAD
        self._head_size = 0
        self.body_size = 0

    def on_url(self, url: bytes) -> None:
        """A piece of the target."""
        request = self.request
        request.target = request.target + url if request.target else url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        request = self.request
        key = name.lower()
        headers = request.headers
        # Refused here, not at the end of the head: each repetition copies what came before it, so that the
        # price of thousands grows with their square.
        if len(headers) + request.repeated >= self._limits.max_headers:
            self._refuse(
                HeadersTooLarge(f"The request has more than the {self._limits.max_headers} headers allowed.")
            )
        if key in headers:
            request.repeated += 1
            if key in SINGLE:
                self._refuse(RequestMalformed(f"The header {key.decode('ascii')} is there twice."))
            headers[key] = headers[key] + b", " + value
        else:
            headers[key] = value

    def on_headers_complete(self) -> None:
        """The head is whole."""
        request, parser, limits = self.request, self._parser, self._limits
        headers = request.headers
        request.method = parser.get_method()
        request.keep_alive = parser.should_keep_alive()
        if self._head_size + self._chunk > limits.max_header_bytes:
            size = len(request.target) + sum(len(name) + len(value) + 4 for name, value in headers.items())
            if size > limits.max_header_bytes:
                self._refuse(self._too_many_bytes())
        version = parser.get_http_version()
        if version not in ("1.1", "1.0"):
            self._refuse(RequestMalformed("The request is not HTTP/1.1."))
        if b"host" not in headers and version != "1.0":
            self._refuse(RequestMalformed("The request has no Host header."))
        length = headers.get(b"content-length")
        if length is not None and len(length) > 3 and int(length[:20]) > limits.max_body_bytes:
            self._refuse(too_large(limits.max_body_bytes))
        self._parts = []
        self.arriving = BODY
        if b"expect" in headers:
            self.expects = headers[b"expect"].lower() == b"100-continue"
        self._admit(request)

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self.body_size += len(body)
        if self.body_size > self._limits.max_body_bytes:
            self._refuse(too_large(self._limits.max_body_bytes))
        if self.request.refusal is None:
            # The body of one that is refused is of no use to anybody.
            self._parts.append(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        request, parts = self.request, self._parts
        if parts:
            request.body = parts[0] if len(parts) == 1 else b"".join(parts)
            self._parts = []
        self.arriving = IDLE
        self._whole = True
        self._fresh = False
        self.expects = False
        self._take(request)

    def _refuse(self, error: ServableError) -> None:
        """Leave the parser's callback; ``feed`` raises the error.

        Raises:
            ServableError: always.
        """
        self._refusal = error
        raise error

    def _too_many_bytes(self) -> HeadersTooLarge:
        return HeadersTooLarge(
            f"The headers hold more than the {self._limits.max_header_bytes} bytes that are allowed."
        )
