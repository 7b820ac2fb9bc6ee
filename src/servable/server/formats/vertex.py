"""Vertex AI: addresses that its environment names, with the bodies of TensorFlow Serving's ``:predict``."""

import re

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from servable.protocols.tfserving import PredictCodec
from servable.server.desk import Desk
from servable.server.formats.base import Door, Format, OpenRoute
from servable.server.formats.tfserving import STYLE, made_by
from servable.settings import ServerSettings


def _doors(settings: ServerSettings) -> tuple[Door, ...]:
    if not settings.predict_route:
        return ()
    return (Door(re.compile(re.escape(settings.predict_route)), made_by(PredictCodec), STYLE),)


def _routes(desk: Desk) -> list[Route]:
    async def health(_request: Request) -> Response:
        """Whether requests should be sent here."""
        return JSONResponse({"ready": desk.ready}, 200 if desk.ready else 503)

    route = desk.settings.health_route
    return [OpenRoute(route, health, methods=["GET"])] if route else []


FORMAT = Format("Vertex AI", routes=_routes, style=STYLE, chosen=_doors, leads=True)
