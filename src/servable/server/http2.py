"""One HTTP/2 connection: ``zttp`` reads and writes the frames; streams, limits and the end are ours.

Streams are independent: each becomes a ``Stream`` when its headers are there. What the streams answer is
collected and leaves in one write for each turn of the event loop.

zttp ends a connection as flooded at its 4,096th stream, and no connection should live for ever behind a
balancer. So a connection retires in good time, as RFC 9113 (6.8) tells: it announces its end, takes what
was on its way until the client has heard that, says which stream is the last one, and closes when all
are answered. Clients go on with a new connection and lose nothing.
"""

import asyncio
from typing import Any, cast

import zttp

from servable.errors import HeadersTooLarge, Overloaded, RequestMalformed
from servable.server.http import HttpRequest
from servable.server.http2_sending import Sending
from servable.server.http2_stream import NO_ERROR, REFUSED_STREAM, HttpStream, Stream
from servable.server.reader import SINGLE
from servable.server.shared import Shared

#: Streams after which a connection retires; zttp ends it rudely at 4,096.
RETIRE_AFTER = 2000
#: Bytes that a client may send ahead on one stream, and on all of them together. zttp gives back credit for
#: what it has read, so that these only have to be granted once.
_STREAM_WINDOW, _WINDOW = 1 << 20, 1 << 24
#: zttp enforces these two by itself and does not take others.
_STREAMS, _HEADER_LIST = 128, 65_536
#: Frames between two looks that ask for nothing but an acknowledgement, and resets by the client.
_MOST_CONTROL, _MOST_RESETS = 1000, 200
#: A window that grows by less counts as a part of such a frame: a client may do so for each short answer.
_SMALL, _SMALL_WEIGHS = 1024, 0.1
#: How many times the largest body all bodies that arrive on a connection may hold together.
_BODIES = 4
#: Seconds for which what still comes on an answered stream, or on a closed connection, is thrown away.
_LINGER_S = 2.0
#: Seconds within which a client has heard that the connection ends, if it does not say so.
_HEARD_S = 1.0
_CALM = 11
_LAST = 2**31 - 1
_PING = b"servable"
_PING_FRAME = b"\0\0\x08\x06\0\0\0\0\0" + _PING
# Of the module's own, because each is compared for every frame.
_REQUEST, _DATA, _END, _GRANT = zttp.Request, zttp.Data, zttp.EndOfMessage, zttp.WindowUpdate
_NEED_DATA, _CONNECTION_CLOSED = zttp.NEED_DATA, zttp.CONNECTION_CLOSED
#: How the end of a connection comes: not yet, announced, said which stream is the last.
_OPEN, _ANNOUNCED, _RETIRED = range(3)


def _opening() -> bytes:
    """The settings and the window of a server, in place of those that zttp would send.

    Its own leave a client 64 kB at a time: an upload over a line of 20 ms would take a second for 3 MB.
    """
    settings = ((3, _STREAMS), (4, _STREAM_WINDOW), (6, _HEADER_LIST))
    body = b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in settings)
    window = (_WINDOW - 65_535).to_bytes(4, "big")
    return len(body).to_bytes(3, "big") + b"\x04\0\0\0\0\0" + body + b"\0\0\x04\x08\0\0\0\0\0" + window


_OPENING = _opening()


class Http2Connection(Sending, asyncio.Protocol):
    """Talks to one client over HTTP/2. Belongs to one event loop; implements ``http2_stream.Carrier``.

    Args:
        shared: with all connections.
        transport: taken over from a connection that read the preface.
    """

    __slots__ = (
        "_control",
        "_deaf",
        "_end",
        "_ended_at",
        "_heard_all",
        "_last",
        "_opened",
        "_resets",
        "_stalled",
        "_unsent",
    )

    def __init__(self, shared: Shared, transport: asyncio.Transport) -> None:
        super().__init__(shared, transport)
        self._opened = 0
        self._last = 0
        self._control = 0.0
        self._resets = 0
        self._end = _OPEN
        self._ended_at = 0.0
        self._deaf = False
        #: Whether the client said that it sends no more.
        self._heard_all = False
        self._unsent: tuple[int, ...] = ()
        self._stalled = 0.0

    # ------------------------------------------------------------------ the transport calls

    def begin(self, came: bytes) -> None:
        """The client spoke first.

        Args:
            came: everything that came, the preface first.
        """
        self._protocol.initiate_connection()
        self._protocol.data_to_send()
        self._extra = _OPENING
        self._flush()
        waiting = self.application.prepare_calls()
        if waiting is None:
            self.data_received(came)
            return
        self._transport.pause_reading()
        waiting.add_done_callback(lambda _: self._prepared(came))

    def _prepared(self, came: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()
            self.data_received(came)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self._deaf:
            return
        protocol = self._protocol
        next_event = protocol.next_event
        streams = self._streams
        self._inside = True
        try:
            protocol.receive_data(data)
            while True:
                event = next_event()
                kind = type(event)
                if kind is _REQUEST:
                    self._open(cast(zttp.Request, event))
                elif kind is _DATA:
                    piece = cast(zttp.Data, event)
                    stream = streams.get(piece.stream_id)
                    if stream is not None:
                        self._piece(stream, piece.data)
                elif kind is _END:
                    self._whole(cast(zttp.EndOfMessage, event).stream_id)
                elif kind is _GRANT:
                    self._grant(cast(zttp.WindowUpdate, event))
                elif event is _NEED_DATA or event is _CONNECTION_CLOSED:
                    break
                else:
                    self._rare(event)
                if self._closed:
                    break
        except zttp.RemoteProtocolError:
            # zttp has said why in a GOAWAY.
            self._close()
        self._inside = False
        self._flush()

    def eof_received(self) -> bool:
        """The client sends no more; what was asked completely is still answered."""
        self._deaf = True
        for stream in tuple(self._streams.values()):
            if stream.arriving:
                self._forget(stream)
                stream.lost()
        self._end = _RETIRED
        self._heard_all = True
        self._rest()
        return bool(self._streams)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client left; nobody waits for what is being answered."""
        self._shared.closed(self)
        self._deaf = True
        streams = tuple(self._streams.values())
        self._streams.clear()
        for stream in streams:
            stream.lost()

    def pause_writing(self) -> None:
        """The client does not keep up with the answers: nothing more is read that would make more of them."""
        self._writable = False
        self._hear()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._writable = True
        self._hear()
        for stream in tuple(self._streams.values()):
            stream.writable()

    # ------------------------------------------------------------------ what comes

    def _open(self, event: zttp.Request) -> None:
        number = event.stream_id
        if self._end == _RETIRED and number > self._last:
            # The client was told that this one is not looked at, and asks again elsewhere.
            self._protocol.stream(number).reset(REFUSED_STREAM)
            return
        self._last = number
        self._opened += 1
        request = HttpRequest()
        request.method = event.method
        request.target = event.target
        request.peer = self._peer
        headers = request.headers
        size = len(request.target)
        wrong = False
        for name, value in cast(list[tuple[bytes, bytes]], event.headers):
            size += len(name) + len(value) + 4
            if name in headers:
                request.repeated += 1
                wrong = wrong or name in SINGLE
                headers[name] = headers[name] + (b"; " if name == b"cookie" else b", ") + value
            else:
                headers[name] = value
        called = headers.get(b"content-type", b"").startswith(b"application/grpc")
        opener = self.application.call if called else HttpStream
        stream: Stream = opener(self, number, request)
        self._streams[number] = stream
        limits = self.limits
        if len(headers) + request.repeated > limits.max_headers or size > limits.max_header_bytes:
            stream.refuse(HeadersTooLarge("The request has more headers than are allowed."))
        elif wrong:
            stream.refuse(RequestMalformed("A header that may come once is there twice."))
        else:
            stream.begin()
            if event.end_stream:
                self._whole(number)
        if self._opened >= RETIRE_AFTER and self._end == _OPEN:
            self._announce()

    def _piece(self, stream: Stream, data: bytes) -> None:
        size = len(data)
        stream.came += size
        stream.size += size
        self._bodies += size
        if self._bodies > self.limits.max_body_bytes * _BODIES:
            stream.refuse(
                Overloaded("This connection sends too many large bodies at once; open another one.")
            )
            return
        stream.data(data)

    def _whole(self, number: int) -> None:
        stream = self._streams.get(number)
        if stream is None:
            self._lingering.pop(number, None)
            return
        stream.arriving = False
        self._bodies -= stream.size
        stream.size = 0
        stream.end()

    def _grant(self, event: zttp.WindowUpdate) -> None:
        """The client takes more; some say so twice for each answer."""
        if event.increment < _SMALL:
            self._control += _SMALL_WEIGHS
            self._keep_calm()
        self._granted(event.stream_id)

    def _rare(self, event: Any) -> None:
        """Everything but requests, and room for their answers."""
        if isinstance(event, zttp.RstStream):
            self._lingering.pop(event.stream_id, None)
            self._parked.discard(event.stream_id)
            stream = self._streams.get(event.stream_id)
            if stream is not None:
                self._resets += 1
                self._forget(stream)
                stream.lost()
            self._rest()
        elif isinstance(event, zttp.Ping):
            if event.ack and event.data == _PING and self._end == _ANNOUNCED:
                self._retire()
            self._control += 1
        elif isinstance(event, zttp.GoAway):
            # The client wants no more streams; those that are open are answered.
            self._end = _RETIRED
            self._last = _LAST
            self._rest()
        else:
            self._control += 1
        self._keep_calm()

    def _keep_calm(self) -> None:
        """End the connection of a client that asks for nothing but acknowledgements."""
        if self._control > _MOST_CONTROL or self._resets > _MOST_RESETS:
            self._protocol.close(_CALM, self._last)
            self._close()

    # ------------------------------------------------------------------ ends

    def _announce(self) -> None:
        """Tell the client to begin nothing more here."""
        if self._end == _OPEN:
            self._end = _ANNOUNCED
            self._ended_at = self._shared.now
            self._protocol.close(NO_ERROR, _LAST)
            self._extra += _PING_FRAME
            self._soon()

    def _retire(self) -> None:
        """The client has heard it: what is open now is the last."""
        if self._end != _RETIRED:
            self._end = _RETIRED
            self._protocol.close(NO_ERROR, self._last)
            self._soon()
            self._rest()

    def _rest(self) -> None:
        """Close when everything was answered and nothing more will be asked."""
        if self._end == _RETIRED and not self._streams and not self._parked:
            self._close()

    def _close(self) -> None:
        """Write what is left, and end the sending side; the client closes, or a later look does."""
        if self._closed:
            return
        self._flush()
        self._end = _RETIRED
        self._ended_at = self._shared.now
        self._deaf = self._closed = True
        for stream in tuple(self._streams.values()):
            self._forget(stream)
            stream.lost()
        if self._transport.is_closing():
            return
        if self._heard_all or not self._transport.can_write_eof():
            self._transport.close()
        else:
            self._transport.write_eof()

    def look(self, now: float) -> None:
        """End the connection, or streams of it, after too long a wait.

        Args:
            now: of the shared clock, in seconds.
        """
        self._control, self._resets = 0.0, 0
        if self._stalls(now):
            return
        if self._closed:
            if now - self._ended_at > _LINGER_S:
                self._transport.abort()
            return
        for stream in tuple(self._streams.values()):
            stream.look(now)
        for number in [number for number, since in self._lingering.items() if now - since > _LINGER_S]:
            del self._lingering[number]
            self._protocol.stream(number).reset(NO_ERROR)
            self._soon()
        if self._shared.draining:
            self._announce()
        if self._end == _ANNOUNCED and now - self._ended_at > _HEARD_S:
            self._retire()
        if self._end == _OPEN and not self._streams and now - self._since > self.limits.keep_alive_s:
            self._announce()

    def _stalls(self, now: float) -> bool:
        """Whether the client does not read; one that takes nothing for too long is dropped."""
        self._unpark()
        unsent = self._transport.get_write_buffer_size()
        waiting = unsent or bool(self._parked)
        progress = (unsent, self._protocol.send_window, len(self._parked))
        if not waiting:
            self._stalled = 0.0
        elif progress != self._unsent or not self._stalled:
            self._unsent, self._stalled = progress, now
        elif now - self._stalled > self.limits.write_timeout_s:
            self._transport.abort()
        return unsent > 0

    def end(self) -> None:
        """Close it as soon as nobody waits for anything on it."""
        self._announce()
        for stream in tuple(self._streams.values()):
            stream.closing()
        if not self._streams:
            self._retire()
        self._flush()

    def abort(self) -> None:
        """Drop it at once."""
        self._transport.abort()
