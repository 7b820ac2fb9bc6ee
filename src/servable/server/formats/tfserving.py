"""TensorFlow Serving's REST interface: predict, classify, regress, metadata and its address for metrics.

``GET /v1/models/NAME``, which it shares with others, is in ``kserve_v1``.
"""

import re
from collections.abc import Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from servable.protocols.base import Codec, Head, Maker
from servable.protocols.tfserving import ClassifyCodec, PredictCodec, RegressCodec, error_body
from servable.protocols.tfserving_metadata import metadata
from servable.protocols.versioned import Versioned
from servable.server.desk import Desk, caller_of, json_response
from servable.server.formats.base import Door, Format, reference_of
from servable.server.problems import Style
from servable.serving.live import Live

#: Values that do not fit are a bad request here, and whatever the content type says, the body is JSON.
STYLE = Style(error_body, statuses={422: 400, 415: 400})
#: Every way to name a model under ``/v1/models``, as ``Route`` reads it.
MODELS = tuple(f"/v1/models/{{name}}{further}" for further in ("", "/versions/{version}", "/labels/{label}"))
_MODEL = r"/v1/models/(?P<name>[^/]+?)(?:/versions/(?P<version>[^/:]+)|/labels/(?P<label>[^/:]+))?"


def served(parts: Mapping[str, str | None]) -> str:
    """The reference that the parts of an address make.

    Version 0 is the one that is served: clients of OpenVINO's server send it when they were told of none.
    """
    return reference_of({**parts, "version": None} if parts.get("version") == "0" else parts)


def _by_path(found: re.Match[str], _head: Head) -> str:
    return served(found.groupdict())


def made_by(maker: Maker) -> Callable[[Live, Head], Codec]:
    """Chooses the codec that a maker makes, whatever the headers say; a header names the version."""
    versioned = Versioned(maker)
    return lambda live, _head: live.codec_by(versioned)


class _Looks:
    """The handlers; they share what they read from."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def metadata(self, request: Request) -> Response:
        """What a model takes and gives; a cold one stays cold."""
        reference = served(request.path_params)
        found = self._desk.find(caller_of(request), reference)
        signature = await self._desk.signature(caller_of(request), reference)
        content = metadata(found.model, found.version, signature)
        return json_response(content)

    async def metrics(self, request: Request) -> Response:
        """The same figures as at ``/metrics``."""
        figures = await self._desk.figures(caller_of(request))
        return Response(figures, media_type=self._desk.host.metrics.content_type)


def _routes(desk: Desk) -> list[Route]:
    looks = _Looks(desk)
    return [
        *(Route(f"{model}/metadata", looks.metadata, methods=["GET"]) for model in MODELS),
        Route("/monitoring/prometheus/metrics", looks.metrics, methods=["GET"]),
    ]


DOORS = tuple(
    Door(re.compile(f"{_MODEL}:{verb}"), made_by(maker), STYLE, _by_path)
    for verb, maker in (("predict", PredictCodec), ("classify", ClassifyCodec), ("regress", RegressCodec))
)
FORMAT = Format("TensorFlow Serving", DOORS, _routes, STYLE, re.compile(r"/v1/models(?:[/:]|$)|/monitoring/"))
