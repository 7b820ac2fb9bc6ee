"""The sending half of an HTTP/2 connection: answers become frames, and leave together."""

import asyncio
from typing import Any

import zttp

from servable.server.certificates import peer_at
from servable.server.http import Headers, address_of, client_of
from servable.server.http2_stream import INTERNAL_ERROR, Stream
from servable.server.shared import Shared
from servable.tensors import Body

#: Bytes of an answer that wait for a client's window from which on it does not keep up.
_BEHIND = 1 << 18


class Sending:
    """Implements ``http2_stream.Carrier``. Belongs to one event loop.

    Args:
        shared: with all connections.
        transport: to the client.

    Attributes:
        application: answers.
        limits: on sizes and speeds.
        address: of the client.
    """

    __slots__ = (
        "_bodies",
        "_closed",
        "_extra",
        "_flushing",
        "_held",
        "_inside",
        "_late",
        "_lingering",
        "_loop",
        "_parked",
        "_peer",
        "_protocol",
        "_shared",
        "_since",
        "_streams",
        "_transport",
        "_writable",
        "address",
        "application",
        "limits",
    )

    def __init__(self, shared: Shared, transport: asyncio.Transport) -> None:
        self.application = shared.application
        self.limits = shared.limits
        self._shared = shared
        self._transport = transport
        self._peer = peer_at(transport)
        self.address = address_of(client_of(transport))
        self._loop = asyncio.get_running_loop()
        self._protocol = zttp.Connection(zttp.SERVER, zttp.HTTP2)
        self._streams: dict[int, Stream] = {}
        #: Answered streams whose client still sends, by when they were answered.
        self._lingering: dict[int, float] = {}
        #: Answered streams of which something waits for the client's window.
        self._parked: set[int] = set()
        #: Streams whose client does not keep up, until it takes more.
        self._late: set[int] = set()
        #: Streams that have more than they can work on.
        self._held: set[int] = set()
        #: Bytes of the bodies that are arriving.
        self._bodies = 0
        #: Frames of our own that follow those of zttp.
        self._extra = b""
        self._flushing = False
        #: Whether frames are being read, after which everything is written anyway.
        self._inside = False
        self._writable = True
        #: Whether the sending side was closed.
        self._closed = False
        #: Since when no stream is open.
        self._since = shared.now

    # ------------------------------------------------------------------ for the streams

    @property
    def now(self) -> float:
        """The shared clock."""
        return self._shared.now

    @property
    def draining(self) -> bool:
        """Whether the server goes down."""
        return self._shared.draining

    @property
    def addresses(self) -> dict[str, Any]:
        """What the ASGI scope says of the connection."""
        return {
            "http_version": "2",
            "server": self._shared.server,
            "scheme": self._shared.scheme,
            "client": client_of(self._transport),
        }

    # ------------------------------------------------------------------ what goes

    def send_whole(
        self,
        stream: Stream,
        status: int,
        headers: Headers,
        body: Body,
        trailers: Headers | None = None,
    ) -> None:
        """A whole answer; the stream is over."""
        if self._streams.get(stream.number) is not stream:
            return
        try:
            out = self._protocol.stream(stream.number)
            if body or trailers is not None:
                out.send_response(status, headers)  # type: ignore[arg-type]  # Any sequence of pairs does.
                if body:
                    out.send_data(body)
                out.end_message(trailers)  # type: ignore[arg-type]  # Likewise.
            else:
                out.send_response(status, headers, True)  # type: ignore[arg-type]  # Likewise.
        except zttp.LocalProtocolError:
            self._broken(stream)
            return
        self._over(stream, out)

    def send_head(self, stream: Stream, status: int, headers: Headers) -> None:
        """The head of an answer that comes in pieces."""
        if self._streams.get(stream.number) is not stream:
            return
        try:
            self._protocol.stream(stream.number).send_response(status, headers)  # type: ignore[arg-type]  # Likewise.
        except zttp.LocalProtocolError:
            self._broken(stream)
        self._soon()

    def send_body(self, stream: Stream, data: Body) -> bool:
        """A piece of a body; returns whether the client keeps up."""
        if self._streams.get(stream.number) is not stream:
            return True
        out = self._protocol.stream(stream.number)
        try:
            out.send_data(data)
        except zttp.LocalProtocolError:
            self._broken(stream)
            return True
        self._soon()
        if self._writable and (out.pending_bytes or 0) < _BEHIND:
            return True
        self._late.add(stream.number)
        return False

    def send_end(self, stream: Stream, trailers: Headers | None = None) -> None:
        """The end of an answer; the stream is over."""
        if self._streams.get(stream.number) is not stream:
            return
        out = self._protocol.stream(stream.number)
        try:
            out.end_message(trailers)  # type: ignore[arg-type]  # Likewise.
        except zttp.LocalProtocolError:
            self._broken(stream)
            return
        self._over(stream, out)

    def reset(self, stream: Stream, code: int) -> None:
        """Break the stream off."""
        if self._streams.get(stream.number) is not stream:
            return
        self._forget(stream)
        self._protocol.stream(stream.number).reset(code)
        self._rest()
        self._soon()

    def hold(self, stream: Stream, *, more: bool) -> None:
        """Read nothing more while a stream has more than it can work on."""
        if more:
            self._held.add(stream.number)
        else:
            self._held.discard(stream.number)
        self._hear()

    def taken(self, stream: Stream, size: int) -> None:
        """A stream holds so many bytes of its body no more."""
        stream.size -= size
        self._bodies -= size

    def _broken(self, stream: Stream) -> None:
        """Zttp refuses to send an answer: the stream is gone, or more waits than it keeps."""
        self.reset(stream, INTERNAL_ERROR)
        stream.lost()

    def _over(self, stream: Stream, out: zttp.Stream) -> None:
        number = stream.number
        if stream.arriving:
            # What is still to come is thrown away for a moment, so that the answer is not lost with a reset.
            self._lingering[number] = self._shared.now
        if out.pending_bytes:
            self._parked.add(number)
        self._forget(stream)
        if not self._streams:
            self._rest()
        if not self._inside and not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _forget(self, stream: Stream) -> None:
        stream.request.release()
        if stream.size:
            self.taken(stream, stream.size)
        stream.arriving = False
        del self._streams[stream.number]
        if self._late:
            self._late.discard(stream.number)
        if self._held and stream.number in self._held:
            self.hold(stream, more=False)
        if not self._streams:
            self._since = self._shared.now

    def _soon(self) -> None:
        if not self._inside and not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Write everything that was said since the last turn of the loop."""
        self._flushing = False
        if self._closed:
            return
        data = self._protocol.data_to_send()
        if self._extra:
            data += self._extra
            self._extra = b""
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def _granted(self, number: int) -> None:
        """The client takes more, of one stream or of all together (0)."""
        self._unpark()
        late = self._late
        if not late:
            return
        for each in tuple(late) if number == 0 else (number,):
            stream = self._streams.get(each)
            if stream is not None and each in late:
                # It is late again when it does not get rid of what it has.
                late.discard(each)
                stream.writable()

    def _unpark(self) -> None:
        if self._parked:
            stream = self._protocol.stream
            self._parked = {number for number in self._parked if stream(number).pending_bytes}
            self._rest()

    def _rest(self) -> None:
        """Close when everything was answered and nothing more will be asked."""
        raise NotImplementedError

    def _hear(self) -> None:
        if self._transport.is_closing():
            return
        if self._writable and not self._held:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()
