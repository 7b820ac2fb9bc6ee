"""The ASGI application: the hot path for predictions, and everything else behind it.

A prediction is dispatched by one dictionary lookup and answered with two ASGI messages; Starlette
routes the rest. Every request passes ``checks`` first, every answer carries its request id, and
every error leaves through ``problems``.
"""

import itertools
import os
import re
from collections.abc import Mapping, MutableMapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.routing import Router

from servable.errors import MethodNotAllowed, RouteNotFound, ServableError
from servable.logs import fields, logger
from servable.server.checks import REQUEST_ID, Head, Scope, checks, require_json, too_large
from servable.server.problems import problem
from servable.server.routes import routes
from servable.serving.answer import answer
from servable.serving.host import Host
from servable.serving.live import Live, Table
from servable.settings import ServerSettings

Receive = Any
Send = Any

_log = logger("server")
_PREDICT = re.compile(r"/models/([^/]+)(?:/versions/([^/]+))?/predict")
_SAFE = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
#: Refused before the body was read; what remains of it is not worth reading.
_UNREAD = frozenset({413, 415, 421})
_JSON_TYPE = (b"content-type", b"application/json")
_JSON_HEADERS = (_JSON_TYPE, *_SAFE)


class ClientGone(Exception):
    """The caller hung up before its request was complete; there is nobody to answer."""


class Application:
    """One server's face to HTTP. Belongs to one event loop.

    Args:
        host: the live models.
        settings: limits and host names.
        version: of Servable, for the documentation page.
    """

    def __init__(self, host: Host, settings: ServerSettings, version: str) -> None:
        self.host = host
        self.draining = False
        self._checks = checks(settings)
        self._max_body = settings.max_body_bytes
        self._router = Router(routes(self, host, version), redirect_slashes=False)
        self._table: Table | None = None
        self._paths: dict[str, Live] = {}
        self._prefix = os.urandom(6).hex()
        self._numbers = itertools.count(1)

    @property
    def ready(self) -> bool:
        """Whether new requests should be sent here."""
        return self.host.ready and not self.draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; see the ASGI specification."""
        if scope["type"] != "http":
            await _not_http(scope, receive, send)
            return
        head: Head = dict(scope["headers"])
        given = head.get(b"x-request-id")
        if given is not None and REQUEST_ID.fullmatch(given):
            request_id = given.decode("ascii")
        else:
            request_id = f"{self._prefix}{next(self._numbers):08x}"
        try:
            for check in self._checks:
                check(scope, head)
            path = scope["path"]
            if path.endswith("/predict"):
                await self._predict(scope, head, request_id, receive, send)
            else:
                await self._route(scope, request_id, receive, send)
        except ClientGone:
            return
        except HTTPException as error:
            await self._refuse(_from_starlette(error), scope, request_id, send)
        except Exception as error:  # noqa: BLE001 - the outermost border: the caller gets a clean answer, the log the cause
            await self._refuse(error, scope, request_id, send)

    # ------------------------------------------------------------------ predictions

    async def _predict(self, scope: Scope, head: Head, request_id: str, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if scope["method"] != "POST":
            self._find(path)
            if scope["method"] == "OPTIONS":
                await _send(send, 204, ((b"allow", b"POST, OPTIONS"), *_SAFE), b"", request_id)
                return
            raise MethodNotAllowed("Predictions are asked for with POST.", ["POST", "OPTIONS"])
        if path not in self._paths:
            self._find(path)
        if head.get(b"content-type") != b"application/json" or b"content-encoding" in head:
            require_json(head)
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            body = message.get("body", b"")
            if len(body) > self._max_body:
                raise too_large(self._max_body)
        else:
            body = await _rest_of_body(message, receive, self._max_body)
        # Looked for only now, because the table may have changed while the body arrived; nothing
        # waits between here and the moment when the model knows of the request.
        live = self._find(path)
        try:
            encoded = await answer(live, body, request_id)
        except Exception as error:  # noqa: BLE001 - as in __call__, but the model's own meter has counted it
            await self._refuse(error, scope, request_id, send, counted=True)
            return
        # Every header costs a microsecond on the way out, so the answer carries what it must.
        headers = [
            _JSON_TYPE,
            (b"content-length", b"%d" % len(encoded)),
            (b"x-request-id", request_id.encode("ascii")),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": encoded})

    def _find(self, path: str) -> Live:
        table = self.host.table
        if table is not self._table:
            self._paths = _paths_of(table)
            self._table = table
        live = self._paths.get(path)
        return live if live is not None else self.host.find(_reference_of(path))

    # ------------------------------------------------------------------ everything else

    async def _route(self, scope: Scope, request_id: str, receive: Receive, send: Send) -> None:
        own = (*_SAFE, (b"x-request-id", request_id.encode("ascii")))

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"]
                present = {name for name, _ in headers}
                message["headers"] = [*headers, *(pair for pair in own if pair[0] not in present)]
            await send(message)

        # Starlette raises for unknown paths and verbs, instead of answering, when an app is named.
        scope["app"] = self
        await self._router(scope, receive, send_with_headers)

    async def _refuse(
        self, error: Exception, scope: Scope, request_id: str, send: Send, *, counted: bool = False
    ) -> None:
        told = problem(error, request_id)
        if not counted:
            self.host.metrics.reject(told.code)
        if not isinstance(error, ServableError):
            _log.error("a request failed inside", extra=fields(request_id=request_id), exc_info=error)
        headers = (*_JSON_HEADERS, *told.headers)
        if told.status in _UNREAD:
            headers = (*headers, (b"connection", b"close"))
        await _send(send, told.status, headers, told.body, request_id, empty=scope["method"] == "HEAD")


def _paths_of(table: Table) -> dict[str, Live]:
    paths: dict[str, Live] = {}
    for reference, live in table.targets.items():
        paths[f"/models/{reference}/predict"] = live
    for live in table.targets.values():
        paths[f"/models/{live.model}/versions/{live.version}/predict"] = live
    if table.default is not None:
        paths["/predict"] = table.default
    return paths


def _reference_of(path: str) -> str:
    """The reference that a prediction path names.

    Raises:
        RouteNotFound: it is none.
    """
    if path == "/predict":
        return ""
    found = _PREDICT.fullmatch(path)
    if found is None:
        raise RouteNotFound("There is no such address; see /docs for those that there are.")
    name, version = found.groups()
    return name if version is None else f"{name}:{version}"


async def _rest_of_body(message: Mapping[str, Any], receive: Receive, most: int) -> bytes:
    """A body that came in several parts.

    Raises:
        ClientGone: the caller hung up first.
        RequestTooLarge: it is larger than allowed.
    """
    parts: list[bytes] = []
    size = 0
    while True:
        if message["type"] != "http.request":
            raise ClientGone
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            raise too_large(most)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)
        message = await receive()


async def _send(
    send: Send,
    status: int,
    headers: tuple[tuple[bytes, bytes], ...],
    body: bytes,
    request_id: str,
    *,
    empty: bool = False,
) -> None:
    whole = [*headers, (b"x-request-id", request_id.encode("ascii"))]
    if status != 204:
        whole.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": whole})
    await send({"type": "http.response.body", "body": b"" if empty else body})


def _from_starlette(error: HTTPException) -> ServableError:
    if error.status_code == 405:
        allowed = sorted((error.headers or {}).get("Allow", "GET").split(", "))
        return MethodNotAllowed(f"This address takes {', '.join(allowed)}.", allowed)
    return RouteNotFound("There is no such address; see /docs for those that there are.")


async def _not_http(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1000})
        return
    while True:
        message = await receive()
        kind = message["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return
