"""What ASGI says, in the words of this server: requests, Starlette's errors, and what is no HTTP."""

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException

from servable.errors import MethodNotAllowed, RouteNotFound, ServableError
from servable.security.certificates import NO_PEER
from servable.server.cycle import ADMITTED
from servable.server.http import PEER, HttpRequest, address_of
from servable.server.mounts import target_of


def request_of(scope: Mapping[str, Any]) -> tuple[HttpRequest, bool]:
    """The request of a scope, and whether a connection of our own has let it in already."""
    request = HttpRequest()
    given = (scope.get("state") or {}).get(ADMITTED)
    request.address = address_of(scope.get("client"))
    if isinstance(given, HttpRequest):
        request.caller, request.ticket = given.caller, given.ticket
    request.method = scope["method"].encode("ascii")
    request.target = target_of(scope)
    request.peer = scope.get(PEER, NO_PEER)
    for name, value in scope["headers"]:
        before = request.headers.get(name)
        request.headers[name] = value if before is None else before + b", " + value
    return request, isinstance(given, HttpRequest)


def from_starlette(error: HTTPException) -> ServableError:
    """What Starlette raises for an address or a verb that is not there, as ours."""
    if error.status_code == 405:
        allowed = sorted((error.headers or {}).get("Allow", "GET").split(", "))
        return MethodNotAllowed(f"This address takes {', '.join(allowed)}.", allowed)
    return RouteNotFound("There is no such address; see /docs for those that there are.")


async def not_http(scope: Any, receive: Any, send: Any) -> None:
    """Close what is a WebSocket, and say yes to the beginning and the end of a server's life."""
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
