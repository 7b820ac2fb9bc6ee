"""One HTTP/1.1 connection: requests come from a ``RequestReader``, the application answers, limits guard it.

A request is handed over when it is whole. A prediction then goes to its model without a task and
without a future of its own, and comes back as one write. Everything else runs as an ASGI request in
a task (``cycle``). What arrives on the connection meanwhile waits: answers leave in the order of the
requests.

A connection is in one phase at a time, and ``Listener`` lets it look now and then whether it has been
there for too long. Whatever is ambiguous or beyond a limit is answered once and the connection ended:
the answer is written, the sending side closed, and what still comes is thrown away for a moment so
that the answer is not lost with a reset.
"""

import asyncio
from collections import deque
from typing import cast

from servable.errors import RequestTimeout, ServableError
from servable.security.certificates import NO_PEER
from servable.server.certificates import peer_at
from servable.server.cycle import Cycle
from servable.server.filling import BodyFiller, worth_lending
from servable.server.http import Exchange, Headers, HttpRequest, address_of, client_of, head_bytes
from servable.server.reader import BODY, HEAD, IDLE, RequestReader
from servable.server.shared import Shared
from servable.server.upgrading import become_http2

#: Phases besides those of the reader. BUSY: a request is being answered. LINGER: the last answer was
#: written, and the client has not closed yet.
BUSY, LINGER = 3, 4
#: More requests than this ahead of their answers, and reading pauses.
_AHEAD = 16
#: Seconds for which what a refused client still sends is thrown away.
_LINGER_S = 2.0
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
#: A prediction, for one formatting and one write.
_PREDICTION = (
    b"HTTP/1.1 200 OK\r\nx-content-type-options: nosniff\r\ncontent-type: %b\r\n%bcontent-length: %d\r\n"
    b"x-request-id: %b\r\n%b%b\r\n%b"
)


class Connection(asyncio.Protocol):
    """Talks to one client, until it turns out to speak HTTP/2. Belongs to one event loop.

    Implements ``http.Reply`` and ``cycle.Pieces`` for its present request.
    """

    __slots__ = (
        "_address",
        "_ahead",
        "_current",
        "_cycle",
        "_deaf",
        "_exchange",
        "_filler",
        "_peer",
        "_phase",
        "_reader",
        "_reading",
        "_shared",
        "_since",
        "_stalled",
        "_transport",
        "_unsent",
        "_writable",
    )

    #: A body of unknown length is written in chunks.
    chunks = True

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._reader = RequestReader(shared.limits, self._complete, self._admit)
        self._current = self._reader.request
        self._address = ""
        self._ahead: deque[HttpRequest] | None = None
        self._exchange: Exchange | None = None
        self._cycle: Cycle | None = None
        self._filler: BodyFiller | None = None
        self._peer = NO_PEER
        self._reading = True
        self._writable = True
        #: Whether nothing more is read from the client.
        self._deaf = False
        self._phase = IDLE
        #: When the phase began, by the shared clock; a little early, never late.
        self._since = shared.now
        #: Bytes that the client had not taken at the last look, and since when none was taken.
        self._unsent = 0
        self._stalled = 0.0

    # ------------------------------------------------------------------ the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client came."""
        self._transport = cast(asyncio.Transport, transport)
        self._peer = peer_at(transport)
        self._address = address_of(client_of(transport))
        if not self._shared.opened(self):
            # Beyond the limit it ends at once, so that those before it stay usable.
            self._deaf = True
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client left; nobody waits for what is being answered."""
        self._shared.closed(self)
        self._deaf = True
        self._drop()
        self._current.release()
        if self._exchange is not None:
            self._exchange.cancel()
            self._exchange = None
        if self._cycle is not None:
            self._cycle.disconnect()
            self._cycle = None

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self._deaf:
            return
        reader = self._reader
        try:
            if not reader.feed(data):
                self._current.keep_alive = False
                self._deaf = True
                if reader.http2:
                    become_http2(self, self._shared, self._transport, reader.http2)
                    return
        except ServableError as error:
            self._refuse(error)
            return
        if self._phase < BUSY and self._phase != reader.arriving:
            self._phase = reader.arriving
            self._since = self._shared.now
        if self._phase == BODY:
            refusal = reader.request.refusal
            if refusal is not None:
                # Whoever is not let in sends the rest of the body to nobody.
                self._refuse(refusal)
                return
            if reader.expects:
                reader.expects = False
                self._transport.write(_CONTINUE)
            if not self._deaf and worth_lending(reader.body_size, reader.rest()):
                self._lend()

    def eof_received(self) -> bool:
        """The client sends no more; what was asked completely is still answered."""
        self._current.keep_alive = False
        return self._phase >= BUSY

    def pause_writing(self) -> None:
        """The client does not keep up with the answers."""
        self._writable = False

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._writable = True
        if self._cycle is not None:
            self._cycle.writable.set()
        self._next()

    # ------------------------------------------------------------------ large bodies

    def _lend(self) -> None:
        """Let the rest of the body be read straight into its place."""
        first, length = self._reader.lend()
        self._filler = BodyFiller(self, first, length, self._came)
        self._switch(self._filler)

    def _came(self, size: int) -> None:
        filler, reader = self._filler, self._reader
        if filler is None:
            return
        reader.body_size = size
        if size == len(filler.body):
            self._filler = None
            self._switch(self)
            reader.give(filler.body)

    def _switch(self, protocol: asyncio.BaseProtocol) -> None:
        # The transport looks at the kind of its protocol when it begins to read.
        self._transport.pause_reading()
        self._transport.set_protocol(protocol)
        self._transport.resume_reading()

    # ------------------------------------------------------------------ one request after another

    def _admit(self, request: HttpRequest) -> None:
        request.address, request.peer = self._address, self._peer
        self._shared.application.admit(request)

    def _drop(self) -> None:
        """Nothing is answered any more of what came or is coming after the present request."""
        self._reader.request.release()
        for request in self._ahead or ():
            request.release()
        self._ahead = None

    def _complete(self, request: HttpRequest) -> None:
        # Those that came before and have not begun stay before it.
        if self._phase < BUSY and self._writable and not self._ahead:
            self._hand_over(request)
            return
        if self._ahead is None:
            self._ahead = deque()
        self._ahead.append(request)
        if len(self._ahead) >= _AHEAD and self._reading:
            self._reading = False
            self._transport.pause_reading()

    def _hand_over(self, request: HttpRequest) -> None:
        self._phase = BUSY
        self._current = request
        shared = self._shared
        exchange = shared.application.handle(request, self)
        if exchange is None:
            addresses = {
                "server": shared.server,
                "scheme": shared.scheme,
                "client": client_of(self._transport),
            }
            self._cycle = Cycle(request, self, shared.application, addresses)
            self._cycle.start()
        elif not exchange.over:
            self._exchange = exchange

    def _next(self) -> None:
        """The request after the one that was answered, if it has come already."""
        if self._ahead and self._writable and self._phase != BUSY:
            # From a fresh call of the loop, so that a long row of requests does not become a deep stack.
            asyncio.get_running_loop().call_soon(self._take)

    def _take(self) -> None:
        ahead = self._ahead
        if not ahead or self._phase >= BUSY or not self._writable:
            return
        request = ahead.popleft()
        if len(ahead) < _AHEAD // 2 and not self._reading:
            self._reading = True
            self._transport.resume_reading()
        self._hand_over(request)

    def _answered(self, *, keep: bool) -> None:
        self._exchange = None
        self._cycle = None
        self._since = self._shared.now
        if keep:
            self._phase = self._reader.arriving
            if self._ahead:
                self._next()
            elif self._phase == BODY and self._reader.request.refusal is not None:
                self._refuse(self._reader.request.refusal)
            return
        self._phase = LINGER
        self._deaf = True
        self._drop()
        self._transport.close()

    # ------------------------------------------------------------------ answers

    def answer(
        self,
        body: bytes,
        request_id: str,
        media_type: bytes,
        headers: Headers = (),
    ) -> None:
        """A prediction: one write."""
        shared = self._shared
        keep = self._current.keep_alive and not shared.draining
        more = b"".join([b"%b: %b\r\n" % pair for pair in headers]) if headers else b""
        # First, because who has the answer may ask another process before this one comes to its next line.
        self._current.release()
        self._transport.write(
            _PREDICTION
            % (
                media_type,
                shared.dates.line,
                len(body),
                request_id.encode("ascii"),
                more,
                b"" if keep else b"connection: close\r\n",
                body,
            )
        )
        self._answered(keep=keep)

    def asked(self) -> tuple[HttpRequest, str]:
        """The request that is answered, and whose it is."""
        return self._current, address_of(client_of(self._transport))

    def fail(self, error: BaseException, request_id: str) -> None:
        """A prediction that came to nothing."""
        self._shared.application.refuse(error, self, request_id, counted=True, style=self._current.style)

    def respond(self, status: int, headers: Headers, body: bytes, *, close: bool = False) -> None:
        """Any other whole answer."""
        keep = self._current.keep_alive and not self._shared.draining and not close
        head = head_bytes(status, headers, self._shared.dates.line, length=len(body), close=not keep)
        self._current.release()
        self._transport.write(head if self._current.method == b"HEAD" else head + body)
        if close:
            self._linger()
        else:
            self._answered(keep=keep)

    # The cycle writes its answer in pieces.

    def head(self, status: int, headers: Headers, length: int | None) -> bytes:
        """The head of a cycle's answer."""
        keep = self._current.keep_alive and not self._shared.draining
        self._current.keep_alive = keep
        return head_bytes(status, headers, self._shared.dates.line, length=length, close=not keep)

    def write(self, data: bytes) -> bool:
        """Bytes of a cycle's body; returns whether the client keeps up."""
        self._transport.write(data)
        return self._writable

    def finished(self, *, whole: bool) -> None:
        """A cycle ended; half an answer ends the connection, so that nobody takes it for a whole one."""
        self._current.release()
        if whole:
            self._answered(keep=self._current.keep_alive)
        else:
            self._transport.abort()

    # ------------------------------------------------------------------ ends

    def _refuse(self, error: BaseException) -> None:
        """Answer what cannot be understood or came too slowly, and end the connection."""
        self._deaf = True
        if self._phase == LINGER or self._transport.is_closing():
            return
        if self._filler is not None:
            # What still comes is thrown away.
            self._filler = None
            self._switch(self)
        if self._phase == BUSY:
            # The fault lies in what came after the request that is being answered: that one still gets
            # its answer, and the connection ends with it.
            self._current.keep_alive = False
            return
        self._current = self._reader.request
        self._shared.application.reject(error, self._current, self)

    def _linger(self) -> None:
        self._current.release()
        self._exchange = None
        self._cycle = None
        self._drop()
        self._deaf = True
        self._phase = LINGER
        self._since = self._shared.now
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()

    def look(self, now: float) -> None:
        """End the connection if it has been in its phase for too long.

        Args:
            now: of the shared clock, in seconds.
        """
        limits = self._shared.limits
        if self._stalls(now):
            return
        elapsed = now - self._since
        if self._phase == HEAD and elapsed > limits.header_timeout_s:
            self._refuse(RequestTimeout("The headers of the request took too long to arrive."))
        elif self._phase == BODY and elapsed > limits.body_grace_s:
            if self._reader.body_size < limits.min_body_rate * elapsed:
                self._refuse(RequestTimeout("The body of the request arrives too slowly."))
        elif self._phase == IDLE and elapsed > limits.keep_alive_s:
            self._transport.close()
        elif self._phase == LINGER and elapsed > _LINGER_S:
            self._transport.abort()

    def _stalls(self, now: float) -> bool:
        """Whether the client has still to take something; one that takes nothing for too long is dropped."""
        unsent = self._transport.get_write_buffer_size()
        if not unsent:
            self._stalled = 0.0
        elif unsent != self._unsent or not self._stalled:
            self._unsent, self._stalled = unsent, now
        elif now - self._stalled > self._shared.limits.write_timeout_s:
            self._transport.abort()
        return unsent > 0

    def end(self) -> None:
        """Close it if nobody waits for anything on it."""
        if self._phase == IDLE and not self._ahead:
            self._transport.close()

    def abort(self) -> None:
        """Drop it at once."""
        self._transport.abort()
