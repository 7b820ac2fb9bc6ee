"""From a ``ModelInferRequest`` to a prediction on its way."""

import asyncio

from servable.protocols.oip_grpc import OipGrpcCodec, model_of
from servable.protocols.oip_grpc_wire import leading
from servable.server import checks as check
from servable.server.desk import Desk
from servable.server.exchanges import AT_ONCE, Later, RequestIds
from servable.server.formats.base import reference_of
from servable.server.http import Exchange, Handler, HttpRequest, Reply
from servable.server.rpc.framing import STYLE, unpack
from servable.serving.answer import Prediction
from servable.serving.live import Live, Table
from servable.tensors import Body

#: Headers that change how a prediction is answered.
_UNUSUAL = frozenset({check.TIMEOUT, check.GRPC_TIMEOUT, check.PRIORITY})
#: First bytes of messages of which is remembered what they mean.
_KNOWN = 10_000


class Inference:
    """Begins predictions. Belongs to one event loop.

    Args:
        application: words the errors.
        desk: finds models, and knows the limits.
    """

    def __init__(self, application: Handler, desk: Desk) -> None:
        settings = desk.settings
        self._application = application
        self._desk = desk
        self._host = desk.host
        self._most = settings.max_body_bytes
        self._limit_s = settings.request_timeout_s
        self._checks = check.checks(settings)
        self._table: Table | None = None
        self._known: dict[bytes, Live] = {}
        #: Gives the id under which a call is answered and logged, by its headers.
        self.request_id = RequestIds().of

    def check(self, request: HttpRequest) -> None:
        """What every call must pass.

        Raises:
            ServableError: it does not.
        """
        for passes in self._checks:
            passes(request)

    def begin(self, message: Body, packed: bool, request: HttpRequest, reply: Reply) -> Exchange:
        """Begin one prediction; what is wrong goes to the reply.

        Args:
            message: a ``ModelInferRequest``.
            packed: whether it is compressed.
            request: its headers.
            reply: told what came of it, perhaps before this returns.
        """
        request_id = self.request_id(request.headers)
        try:
            head = request.headers
            limit, weight = self._limit_s, 1.0
            if not _UNUSUAL.isdisjoint(head):
                limit = check.limit_of(head, limit)
                weight = check.weight_of(head)
            live = None if packed else self._live(message)
            if live is None:
                return Later(self._prepare(message, packed, request, reply, request_id, limit, weight))
            prediction = Prediction(live, live.codec_by(OipGrpcCodec), request_id, reply, limit, weight)
        except Exception as error:  # noqa: BLE001 - the border of the call: the caller gets a clean answer, the log the cause
            self._application.refuse(error, reply, request_id, style=STYLE)
            return AT_ONCE
        prediction.begin(message, head)
        return prediction

    def _live(self, message: Body) -> Live | None:
        """The model that a message means; None when it must be loaded first.

        Raises:
            ServableError: there is none, or the message is none.
        """
        if self._host.table is not self._table:
            self._table = self._host.table
            self._known.clear()
        first = leading(message)
        live = self._known.get(first)
        if live is None:
            found = self._host.find(_reference(message))
            if not isinstance(found, Live):
                return None
            live = found
            if first and len(self._known) < _KNOWN:
                self._known[first] = live
        return live

    async def _prepare(
        self,
        message: Body,
        packed: bool,
        request: HttpRequest,
        reply: Reply,
        request_id: str,
        limit: float,
        weight: float,
    ) -> Prediction | None:
        """Unpack the message and load the model; the prediction begins where nothing can come between."""
        started = asyncio.get_running_loop().time()
        try:
            if packed:
                encoding = request.headers.get(b"grpc-encoding", b"")
                message = await asyncio.to_thread(unpack, message, encoding, self._most)
            spent = asyncio.get_running_loop().time() - started
            live = await self._desk.live(_reference(message), limit - spent)
            codec = live.codec_by(OipGrpcCodec)
        except Exception as error:  # noqa: BLE001 - as in begin
            self._application.refuse(error, reply, request_id, style=STYLE)
            return None
        spent = asyncio.get_running_loop().time() - started
        prediction = Prediction(live, codec, request_id, reply, limit - spent, weight)
        prediction.begin(message, request.headers)
        return prediction


def _reference(message: Body) -> str:
    name, version = model_of(message)
    return reference_of({"name": name, "version": version})
