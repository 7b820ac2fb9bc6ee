"""From a message that asks for a prediction to the prediction on its way."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, NamedTuple, Protocol, cast

from servable.protocols.base import VERSION_HEADER, Head, Maker, PieceCodec
from servable.protocols.oip_grpc import OipGrpcCodec, model_of
from servable.protocols.oip_grpc_wire import leading
from servable.security.callers import Caller
from servable.server import checks as check
from servable.server.authentication import Authentication
from servable.server.desk import Desk
from servable.server.exchanges import AT_ONCE, Later, RequestIds
from servable.server.formats.base import reference_of
from servable.server.http import Exchange, Handler, HttpRequest, Reply
from servable.server.rpc.framing import STYLE, unpack
from servable.serving.answer import Prediction
from servable.serving.live import Cold, Live
from servable.serving.pieces import Times, begin
from servable.serving.split import Split
from servable.serving.table import Table
from servable.tensors import Body

#: Headers that change how a prediction is answered.
_UNUSUAL = frozenset({check.TIMEOUT, check.GRPC_TIMEOUT, check.PRIORITY})
#: First bytes of messages of which is remembered what they mean.
_KNOWN = 10_000


class Sink(Reply, Protocol):
    """Where the answers to a request of a stream go, of which there may be several."""

    async def room(self) -> None:
        """Wait until it is this request's turn and the client keeps up."""
        ...

    def piece(self, body: bytes) -> None:
        """One answer."""
        ...

    def done(self) -> None:
        """That was the last."""
        ...


class Course:
    """The exchange of a request that is answered in pieces, by a task."""

    def __init__(self, work: Coroutine[Any, Any, None]) -> None:
        self.over = False
        self._task = asyncio.get_running_loop().create_task(work)
        self._task.add_done_callback(self._ended)

    def _ended(self, _task: "asyncio.Task[None]") -> None:
        self.over = True

    def cancel(self) -> None:
        """The caller left."""
        self._task.cancel()


class Spoken(NamedTuple):
    """How one service asks for predictions.

    Attributes:
        maker: makes the codec of its messages; a ``PieceCodec`` where it has streams.
        reference: of the model that a message asks; raises ``RequestMalformed``.
        leading: the first bytes of a message when they alone say which model it is; else none.
    """

    maker: Maker
    reference: Callable[[Body], str]
    leading: Callable[[Body], bytes]


class Inference:
    """Begins predictions. Belongs to one event loop.

    Args:
        application: words the errors.
        desk: finds models, and knows the limits.
        authentication: knows callers.
        spoken: how they are asked for.
    """

    def __init__(
        self, application: Handler, desk: Desk, authentication: Authentication, spoken: Spoken
    ) -> None:
        settings = desk.settings
        self._maker, self._reference, self._leading = spoken
        self._application = application
        self._desk = desk
        self._authentication = authentication
        self._host = desk.host
        self._most = settings.max_body_bytes
        self._limit_s = settings.request_timeout_s
        self._stream_limit_s = settings.stream_timeout_s
        self._checks = check.checks(settings)
        self._table: Table | None = None
        self._known: dict[bytes, Live | Split] = {}
        #: Gives the id under which a call is answered and logged, by its headers.
        self.request_id = RequestIds().of

    def check(self, request: HttpRequest, open_to_all: bool) -> None:
        """What every call must pass.

        Args:
            request: is told who asks.
            open_to_all: whether the method also answers callers without a key.

        Raises:
            ServableError: it does not.
        """
        for passes in self._checks:
            passes(request)
        request.caller = self._authentication.caller(request.headers, request.peer, open_to_all=open_to_all)

    def begin(
        self, message: Body, packed: bool, request: HttpRequest, reply: Reply, sink: Sink | None = None
    ) -> Exchange:
        """Begin one prediction; what is wrong goes to the reply.

        Args:
            message: of the service.
            packed: whether it is compressed.
            request: its headers.
            reply: told what came of it, perhaps before this returns.
            sink: gets the pieces of an answer in pieces; None where there is one answer to each request.
        """
        request_id = self.request_id(request.headers)
        try:
            head = request.headers
            limit, weight = self._limit_s, 1.0
            if not _UNUSUAL.isdisjoint(head):
                limit = check.limit_of(head, limit)
                weight = check.weight_of(head)
            live = None if packed else self._live(request.caller, message, head)
            if live is None:
                return Later(self._prepare(message, packed, request, reply, sink, request_id, limit, weight))
            if sink is not None and live.streams:
                return self._stream(live, message, request, sink, request_id, weight)
            prediction = Prediction(live, live.codec_by(self._maker), request_id, reply, limit, weight)
        except Exception as error:  # noqa: BLE001 - the border of the call: the caller gets a clean answer, the log the cause
            self._application.refuse(error, reply, request_id, style=STYLE)
            return AT_ONCE
        prediction.begin(message, head)
        return prediction

    def _live(self, caller: Caller, message: Body, head: Head) -> Live | None:
        """The model that answers a message; None when it must be loaded first.

        Raises:
            ServableError: there is none, or the message is none.
        """
        if self._host.table is not self._table:
            self._table = self._host.table
            self._known.clear()
        if VERSION_HEADER in head:
            wished = self._desk.meant(caller, self._reference(message), head)
            return wished if isinstance(wished, Live) else None
        first = self._leading(message)
        known = self._known.get(first)
        if known is None:
            found = self._desk.target(caller, self._reference(message))
            if isinstance(found, Cold):
                return None
            known = found
            if first and len(self._known) < _KNOWN:
                self._known[first] = known
        caller.require("predict", known.model)
        return known if isinstance(known, Live) else known.pick(head)

    async def _prepare(
        self,
        message: Body,
        packed: bool,
        request: HttpRequest,
        reply: Reply,
        sink: Sink | None,
        request_id: str,
        limit: float,
        weight: float,
    ) -> Exchange | None:
        """Unpack the message and load the model; the prediction begins where nothing can come between."""
        started = asyncio.get_running_loop().time()
        try:
            if packed:
                encoding = request.headers.get(b"grpc-encoding", b"")
                message = await asyncio.to_thread(unpack, message, encoding, self._most)
            spent = asyncio.get_running_loop().time() - started
            reference = self._reference(message)
            live = await self._desk.live(request.caller, reference, request.headers, limit - spent)
            codec = live.codec_by(self._maker)
            if sink is not None and live.streams:
                return self._stream(live, message, request, sink, request_id, weight)
        except Exception as error:  # noqa: BLE001 - as in begin
            self._application.refuse(error, reply, request_id, style=STYLE)
            return None
        spent = asyncio.get_running_loop().time() - started
        prediction = Prediction(live, codec, request_id, reply, limit - spent, weight)
        prediction.begin(message, request.headers)
        return prediction

    def _stream(
        self, live: Live, message: Body, request: HttpRequest, sink: Sink, request_id: str, weight: float
    ) -> Exchange:
        """Begin an answer in pieces.

        Raises:
            ServableError: a header that cannot be read.
        """
        times = Times(check.limit_of(request.headers, self._stream_limit_s), self._limit_s)
        # The task begins later, and until then nothing may unload the model.
        live.enter()
        return Course(self._pieces(live, message, request, sink, request_id, times, weight))

    async def _pieces(
        self,
        live: Live,
        message: Body,
        request: HttpRequest,
        sink: Sink,
        request_id: str,
        times: Times,
        weight: float,
    ) -> None:
        """Hand over one piece after the other, each when it is this request's turn and there is room."""
        parts: AsyncGenerator[bytes, None] | None = None
        try:
            await sink.room()
            codec = cast(PieceCodec, live.codec_by(self._maker))
            begun = await begin(
                live, codec, message, request_id, head=request.headers, times=times, weight=weight
            )
            parts = begun.parts
            async for part in parts:
                sink.piece(part)
                await sink.room()
            sink.done()
        except Exception as error:  # noqa: BLE001 - the border of the request: the caller gets a clean answer, the log the cause
            sink.fail(error, request_id)
        finally:
            live.leave()
            if parts is not None:
                await parts.aclose()


def _reference(message: Body) -> str:
    name, version = model_of(message)
    return reference_of({"name": name, "version": version})


#: How the Open Inference Protocol does.
OPEN_INFERENCE = Spoken(OipGrpcCodec, _reference, leading)
