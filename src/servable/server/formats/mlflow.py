"""MLflow's scoring server: ``/invocations``, ``/ping``, ``/health`` and ``/version``.

The same stand below ``/models/NAME``, so that ``http://host/models/NAME`` is the base address of a scoring
server with that one model. What ``/invocations`` takes beyond MLflow is SageMaker's; both come to the same
door, where the content tells them apart.
"""

import re

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from servable.server.desk import Desk, caller_of
from servable.server.formats.base import Door, Format, OpenRoute
from servable.server.formats.sagemaker import INVOCATIONS_STYLE, choose, targeted

_STYLE = INVOCATIONS_STYLE
DOORS = (
    Door(re.compile(r"/invocations"), choose, _STYLE, targeted, lasting=False),
    Door(re.compile(r"/models/(?P<name>[^/]+)/invocations"), choose, _STYLE),
)


def _routes(desk: Desk) -> list[Route]:
    async def ping(_request: Request) -> Response:
        """Whether the server takes requests; TorchServe's callers read the word, all others the status."""
        ready = desk.ready
        word = b'{"status": "Healthy"}\n' if ready else b'{"status": "Unhealthy"}\n'
        return Response(word, 200 if ready else 503, media_type="application/json")

    async def health(_request: Request) -> Response:
        return Response(b"\n", 200 if desk.ready else 503, media_type="application/json")

    async def model_ping(request: Request) -> Response:
        """The same of one model; a cold one is ready to be loaded."""
        desk.find(caller_of(request), request.path_params["name"])
        return await health(request)

    async def version(_request: Request) -> Response:
        return Response(desk.version, media_type="text/plain")

    async def model_version(request: Request) -> Response:
        desk.find(caller_of(request), request.path_params["name"])
        return await version(request)

    signs = {"/ping": ping, "/health": health}
    table = {
        "/version": version,
        "/models/{name}/ping": model_ping,
        "/models/{name}/health": model_ping,
        "/models/{name}/version": model_version,
    }
    return [
        *(OpenRoute(path, handler, methods=["GET"]) for path, handler in signs.items()),
        *(Route(path, handler, methods=["GET"]) for path, handler in table.items()),
    ]


FORMAT = Format(
    "MLflow",
    DOORS,
    _routes,
    _STYLE,
    re.compile(r"(?:/models/[^/]+)?/(?:invocations|ping|health|version)(?:/|$)"),
)
