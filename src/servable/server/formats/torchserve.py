"""TorchServe's predictions and explanations. Its management of models is not offered."""

import re
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from servable.errors import NotOffered
from servable.protocols.base import Head
from servable.protocols.torchserve import TorchServeCodec, error_body
from servable.server.desk import Desk, caller_of
from servable.server.formats.base import Door, Format, reference_of
from servable.server.formats.tfserving import made_by
from servable.server.problems import Style

STYLE = Style(error_body, statuses={422: 400})
_DECIMAL = re.compile(r"(\d+)\.0")


def _reference(parts: Mapping[str, str | None]) -> str:
    """The reference of an address; TorchServe's versions are commonly written ``1.0``."""
    found = _DECIMAL.fullmatch(parts.get("version") or "")
    return reference_of({**parts, "version": found[1]} if found else parts)


def _asked(found: re.Match[str], _head: Head) -> str:
    return _reference(found.groupdict())


def _routes(desk: Desk) -> list[Route]:
    async def explain(request: Request) -> Response:
        """There are no explanations."""
        found = desk.find(caller_of(request), _reference(request.path_params))
        raise NotOffered(f"{found.model}:{found.version} gives no explanations; use /predictions.")

    return [
        Route(f"/explanations/{{name}}{version}", explain, methods=["POST"]) for version in ("", "/{version}")
    ]


DOORS = (
    Door(
        re.compile(r"/predictions/(?P<name>[^/]+)(?:/(?P<version>[^/]+))?"),
        made_by(TorchServeCodec),
        STYLE,
        _asked,
    ),
)
FORMAT = Format("TorchServe", DOORS, _routes, STYLE, re.compile(r"/(?:predictions|explanations)/"))
