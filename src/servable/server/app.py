"""The application: predictions by one dictionary lookup, and everything else behind Starlette.

It has two faces over the same core. ``handle`` begins to answer a whole request and returns at once;
the server's own connections use it. ``__call__`` is ASGI, for every other address and for whoever
wants to mount the application elsewhere. Every request passes ``admission`` first, every answer carries
its request id, and every error leaves through ``problems``.
"""

import asyncio
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, cast

from starlette.exceptions import HTTPException
from starlette.routing import Route, Router

from servable.errors import AccessError, LimitReached, MethodNotAllowed, ServableError, Unauthenticated
from servable.logs import fields, logger
from servable.protocols.base import VERSION_HEADER, Heavy
from servable.protocols.compression import decompress
from servable.security.actors import begin_acting
from servable.security.callers import NOBODY, Hidden
from servable.server import checks as check
from servable.server.addresses import Addresses
from servable.server.admission import Admission
from servable.server.asgi import from_starlette, not_http, request_of
from servable.server.audit import ServerAudit, actor_of
from servable.server.authentication import Authentication
from servable.server.cycle import split_target
from servable.server.desk import ADMITS, CALLER, COUNTED, Desk
from servable.server.dividing import SharedDivision
from servable.server.exchanges import AT_ONCE, Later, RequestIds
from servable.server.formats import asked_for, doors_of, format_routes, style_of
from servable.server.formats.base import Asked, Door, OpenRoute, Streaming
from servable.server.http import Exchange, HttpRequest, Reply
from servable.server.limits import Limiter
from servable.server.mounts import limited, routed
from servable.server.problems import NATIVE, Style, problem
from servable.server.replies import AsgiReply, read_body
from servable.server.routes import routes
from servable.server.safe_headers import safe_headers
from servable.server.streaming import deliver
from servable.server.workers import Link, NoLink
from servable.serving.answer import Prediction
from servable.serving.host import Host
from servable.serving.live import Cold, Live
from servable.serving.split import Split
from servable.serving.table import Table
from servable.settings import ServerSettings

if TYPE_CHECKING:
    from servable.server.http2_stream import Carrier, Stream
    from servable.server.rpc.table import Calls

_log = logger("server")
#: Addresses of which is remembered what they mean.
_KNOWN = 10_000
#: Headers that change how a prediction is answered; without any of them there is nothing to look at.
_UNUSUAL = frozenset({b"content-encoding", check.TIMEOUT, check.GRPC_TIMEOUT, check.PRIORITY, VERSION_HEADER})
_IDENTITY = frozenset({b"", b"identity"})


class Application:
    """One server's face to HTTP. Belongs to one event loop.

    Args:
        host: the live models.
        settings: limits and host names.
        version: of Servable, for the documentation page.
        link: to the other processes of the server, whose figures belong to the sum.
        authentication: knows callers; None for one that reads the registry once.
    """

    def __init__(
        self,
        host: Host,
        settings: ServerSettings,
        version: str,
        link: Link | None = None,
        authentication: Authentication | None = None,
    ) -> None:
        self.host = host
        self.draining = False
        self._safe = safe_headers(settings)
        self._max_body = settings.max_body_bytes
        self._limit_s = settings.request_timeout_s
        self.authentication = authentication or Authentication(settings)
        link = link or NoLink()
        #: The door that every request passes.
        limiter = Limiter(settings, link.limits, division=SharedDivision(settings, link.limits))
        self.admission = Admission(settings, self.authentication, limiter)
        self.audit = ServerAudit(settings, self.authentication)
        self._desk = Desk(host, settings, version, link, self.audit, lambda: self.ready)
        self._calls: Calls | None = None
        self._preparing: asyncio.Future[None] | None = None
        #: Every address for predictions.
        self.doors = doors_of(settings)
        every = list(format_routes(self._desk, routes(self._desk, self.authentication)))
        #: Every address that is no door for predictions.
        self.routes: tuple[Route, ...] = tuple(every)
        self._signs = frozenset(route.path for route in every if isinstance(route, OpenRoute))
        self._router = Router(every, redirect_slashes=False)
        self.audit.addresses = Addresses(self.doors, every, self._methods)
        self._table: Table | None = None
        self._known: dict[bytes, tuple[Live | Cold | Split, Door]] = {}
        self._ids = RequestIds()

    @property
    def ready(self) -> bool:
        """Whether new requests should be sent here."""
        return self.host.ready and not self.draining

    # ------------------------------------------------------------------ who is let in

    def admit(self, request: HttpRequest) -> None:
        """Let a request in, or keep why not; see ``http.Handler``."""
        try:
            self.admission.admit(request, self._is_sign)
        except Exception as error:  # noqa: BLE001 - the outermost border: the caller gets a clean answer, the log the cause
            request.refusal = error

    def _is_sign(self, target: bytes) -> bool:
        # What is known is a door for predictions.
        return target not in self._known and split_target(target)[0] in self._signs

    # ------------------------------------------------------------------ predictions

    def handle(self, request: HttpRequest, reply: Reply) -> Exchange | None:
        """Begin to answer a prediction.

        Args:
            request: whole, and let in or refused by ``admit``.
            reply: told what came of it, perhaps before this returns.

        Returns:
            What can be cancelled; None when the request is no prediction, or one that is answered piece
            by piece, and then nothing was done.
        """
        if request.refusal is not None:
            self.refuse(request.refusal, reply, self._ids.of(request.headers), style=self._style(request))
            return AT_ONCE
        if self.host.table is not self._table:
            self._table = self.host.table
            self._known.clear()
        known = self._known.get(request.target)
        if known is None:
            asked = asked_for(split_target(request.target)[0], request.headers, self.doors)
            if asked is None:
                return None
            request.style = asked.door.style
        else:
            request.style = known[1].style
        if (known[1] if known is not None else cast(Asked, asked).door).streams(
            request.method, request.headers
        ):
            return None
        request_id = self._ids.of(request.headers)
        try:
            caller = request.caller
            if known is None:
                known = self._find(cast(Asked, asked), request)
            else:
                caller.require("predict", known[0].model)
            if request.method != b"POST":
                return self._not_asked(request, reply, request_id)
            return self._predict(known, request, reply, request_id)
        except Exception as error:  # noqa: BLE001 - the outermost border: the caller gets a clean answer, the log the cause
            self.refuse(error, reply, request_id, style=request.style)
            return AT_ONCE

    def _predict(
        self, known: tuple[Live | Cold | Split, Door], request: HttpRequest, reply: Reply, request_id: str
    ) -> Exchange:
        target, door = known
        head = request.headers
        limit, weight = self._limit_s, 1.0
        packed = False
        waits = request.ticket.waits
        if not _UNUSUAL.isdisjoint(head):
            limit = check.limit_of(head, limit)
            weight = check.weight_of(head)
            packed = head.get(b"content-encoding", b"").lower() not in _IDENTITY
            if VERSION_HEADER in head:
                target = self._desk.meant(request.caller, self._asked(request).reference, head)
        if packed or waits or not isinstance(target, Live):
            if isinstance(target, Split):
                target = target.pick(head)
            if packed or waits or isinstance(target, Cold):
                return Later(self._prepare(target, request, reply, request_id, limit, weight))
        codec = door.codec(target, head)
        if isinstance(codec, Heavy) and codec.heavy(request.body, head):
            return Later(self._prepare(target, request, reply, request_id, limit, weight))
        prediction = Prediction(target, codec, request_id, reply, limit, weight)
        prediction.begin(request.body, head)
        return prediction

    async def _prepare(
        self,
        target: Live | Cold,
        request: HttpRequest,
        reply: Reply,
        request_id: str,
        limit: float,
        weight: float,
    ) -> Prediction | None:
        """Wait for the quota, unpack the body, load the model, and read what takes long to read.

        Between finding the model and making the prediction nothing can come.
        """
        started = asyncio.get_running_loop().time()
        try:
            await request.ticket.granted()
            body, encoding = request.body, request.headers.get(b"content-encoding", b"").lower()
            if encoding not in _IDENTITY:
                body = await asyncio.to_thread(decompress, encoding.decode("latin-1"), body, self._max_body)
            asked = self._asked(request)
            if isinstance(target, Live) and not target.retired:
                live = target
            else:
                spent = asyncio.get_running_loop().time() - started
                live = await self._desk.live(request.caller, asked.reference, request.headers, limit - spent)
            codec = asked.door.codec(live, request.headers)
        except Exception as error:  # noqa: BLE001 - as in handle
            self.refuse(error, reply, request_id, style=request.style)
            return None
        spent = asyncio.get_running_loop().time() - started
        prediction = Prediction(live, codec, request_id, reply, limit - spent, weight)
        if isinstance(codec, Heavy) and codec.heavy(body, request.headers):
            await prediction.begin_aside(body, request.headers)
        else:
            prediction.begin(body, request.headers)
        return prediction

    def _not_asked(self, request: HttpRequest, reply: Reply, request_id: str) -> Exchange:
        if request.method != b"OPTIONS":
            raise MethodNotAllowed("Predictions are asked for with POST.", ["POST", "OPTIONS"])
        own = (b"x-request-id", request_id.encode("ascii"))
        reply.respond(204, ((b"allow", b"POST, OPTIONS"), *self._safe, own), b"")
        return AT_ONCE

    def _asked(self, request: HttpRequest) -> Asked:
        """The door and the model of a request that came to one."""
        return cast(Asked, asked_for(split_target(request.target)[0], request.headers, self.doors))

    def _find(self, asked: Asked, request: HttpRequest) -> tuple[Live | Cold | Split, Door]:
        found = self._desk.target(request.caller, asked.reference), asked.door
        if asked.door.lasting and len(self._known) < _KNOWN:
            self._known[request.target] = found
        return found

    # ------------------------------------------------------------------ gRPC

    def prepare_calls(self) -> "asyncio.Future[None] | None":
        """Load what calls need, away from the event loop; see ``http.Handler``."""
        if self._calls is not None:
            return None
        if self._preparing is None:
            loop = asyncio.get_running_loop()
            self._preparing = loop.run_in_executor(None, self._load_calls)
        return self._preparing

    def _load_calls(self) -> None:
        # A server without callers of gRPC never loads the library of its messages.
        from servable.server.rpc.table import Calls

        self._calls = Calls(self, self._desk, self.admission)

    def call(self, carrier: "Carrier", number: int, request: HttpRequest) -> "Stream":
        """Begin a call; see ``http.Handler``."""
        if self._calls is None:
            self._load_calls()
        return cast("Calls", self._calls).open(carrier, number, request)

    def _methods(self) -> frozenset[bytes]:
        """The addresses of gRPC; none before the first call."""
        return frozenset() if self._calls is None else self._calls.addresses

    def admits(self, request: HttpRequest) -> bool:
        """Whether the caller is let in still; see ``http.Handler``."""
        if request.caller is NOBODY:
            return True
        try:
            request.caller = self.authentication.present.caller(request.headers, request.peer)
        except Unauthenticated:
            return False
        return True

    # ------------------------------------------------------------------ errors

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
        """Answer with an error; see ``http.Handler``."""
        request_id = request_id or self._ids.new()
        told = problem(error, request_id, style)
        if not counted:
            self.host.metrics.reject(told.code)
        if isinstance(error, AccessError | Hidden | LimitReached):
            self.audit.denied(error, *reply.asked())
        if not isinstance(error, ServableError):
            _log.error("a request failed inside", extra=fields(request_id=request_id), exc_info=error)
        own = (b"x-request-id", request_id.encode("ascii"))
        reply.respond(told.status, (*self._safe, *told.headers, own), told.body, close=close)

    def reject(self, error: BaseException, request: HttpRequest, reply: Reply) -> None:
        """Answer a request that could not be taken in whole; see ``http.Handler``."""
        self.refuse(error, reply, self._ids.of(request.headers), close=True, style=self._style(request))

    def _style(self, request: HttpRequest) -> Style:
        path = split_target(request.target)[0]
        asked = asked_for(path, request.headers, self.doors)
        return style_of(path) if asked is None else asked.door.style

    # ------------------------------------------------------------------ everything else

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request; see the ASGI specification."""
        if scope["type"] != "http":
            await not_http(scope, receive, send)
            return
        request, admitted = request_of(scope)
        reply = AsgiReply(
            self, send, request, head_only=scope["method"] == "HEAD", client=scope.get("client")
        )
        request_id = self._ids.of(request.headers)
        state: dict[str, Any] = {"request_id": request_id}
        try:
            request.style = self._style(request)
            if not admitted:
                self.admission.admit(request, self._is_sign)
            state[CALLER], state[ADMITS] = request.caller, lambda: self.admits(request)
            begin_acting(actor_of(request.caller, reply.asked()[1]))
            await request.ticket.granted()
            asked = asked_for(split_target(request.target)[0], request.headers, self.doors)
            if asked is not None:
                body = await read_body(receive, self._max_body)
                if body is None:
                    return
                request.body = body
                if asked.door.streams(request.method, request.headers):
                    await self._stream(asked, request, request_id, receive, send)
                    return
                exchange = self.handle(request, reply)
                await reply.sent(exchange, receive)
            else:
                await self._route(scope, state, limited(receive, self._max_body), send)
        except HTTPException as error:
            self.refuse(from_starlette(error), reply, request_id, style=request.style)
            await reply.sent(None)
        except Exception as error:  # noqa: BLE001 - as in handle
            self.refuse(error, reply, request_id, style=request.style, counted=COUNTED in state)
            await reply.sent(None)
        finally:
            if not admitted:
                request.release()

    async def _stream(
        self, asked: Asked, request: HttpRequest, request_id: str, receive: Any, send: Any
    ) -> None:
        own = (*self._safe, (b"x-request-id", request_id.encode("ascii")))
        begin = cast(Streaming, asked.door.streaming).begin
        await deliver(
            lambda: begin(self._desk, asked.reference, request, request_id),
            own,
            receive,
            send,
            lambda: self.admits(request),
        )

    async def _route(self, scope: Any, state: dict[str, Any], receive: Any, send: Any) -> None:
        own = (*self._safe, (b"x-request-id", str(state["request_id"]).encode("ascii")))

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"]
                present = {name for name, _ in headers}
                message["headers"] = [*headers, *(pair for pair in own if pair[0] not in present)]
            await send(message)

        # Starlette raises for unknown paths and verbs, instead of answering, when an app is named.
        own_scope = {**routed(scope), "app": self, "state": state}
        await self._router(own_scope, receive, send_with_headers)
