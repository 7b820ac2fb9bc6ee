"""The answer to a request that comes before there is an application to take it."""

import os
from collections.abc import Mapping
from typing import Any

from servable.server.checks import REQUEST_ID
from servable.server.cycle import split_target
from servable.server.formats import asked_for, doors_of, style_of
from servable.server.mounts import target_of
from servable.server.problems import problem
from servable.server.safe_headers import safe_headers
from servable.settings import ServerSettings


async def refuse(error: Exception, scope: Mapping[str, Any], send: Any, settings: ServerSettings) -> None:
    """Answer a request that no application can take yet, in the wording of the format that it came in.

    Args:
        error: why.
        scope: of ASGI.
        send: of ASGI.
        settings: that say which addresses there are.
    """
    path, _ = split_target(target_of(scope))
    head = dict(scope["headers"])
    given = head.get(b"x-request-id", b"")
    request_id = given.decode("ascii") if REQUEST_ID.fullmatch(given) else os.urandom(10).hex()
    asked = asked_for(path, head, doors_of(settings))
    told = problem(error, request_id, asked.door.style if asked is not None else style_of(path))
    own = ((b"x-request-id", request_id.encode("ascii")), (b"content-length", b"%d" % len(told.body)))
    headers = [*told.headers, *own, *safe_headers(settings)]
    await send({"type": "http.response.start", "status": told.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else told.body})
