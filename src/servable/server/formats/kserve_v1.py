"""KServe's first protocol: which models there are, and whether one is ready; ``tfserving`` has the rest.

TensorFlow Serving and OpenAI have other answers at the same addresses. Each client reads its own keys and
passes over the others, so these answers hold the keys of all three.
"""

import re
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from servable.errors import ModelNotReady, NotOffered
from servable.protocols.tfserving_metadata import State, version_status
from servable.security.callers import Caller
from servable.server.desk import Desk, caller_of, json_response
from servable.server.formats.base import Format
from servable.server.formats.openai import card_of
from servable.server.formats.tfserving import MODELS, STYLE, served
from servable.serving.live import ModelStatus

#: A model that is loaded when it is called takes requests, which is all that a client wants to know.
_STATES: dict[str, State] = {
    "live": "AVAILABLE",
    "cold": "AVAILABLE",
    "loading": "LOADING",
    "failed": "END",
    "warm": "UNLOADING",
}


class _Looks:
    """The handlers; they share what they read from."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def models(self, request: Request) -> Response:
        """The models that take requests, for KServe and for OpenAI."""
        found = self._desk.models(caller_of(request))
        cards = list(map(card_of, found.values()))
        return json_response({"models": list(found), "object": "list", "data": cards})

    async def model(self, request: Request) -> Response:
        """Whether a model is ready, for KServe, TensorFlow Serving and OpenAI."""
        reference, caller = served(request.path_params), caller_of(request)
        known = version_statuses(self._desk, caller, reference)
        try:
            found = self._desk.find(caller, reference)
        except ModelNotReady as error:
            name = _name_of(reference)
            content = {"name": name, "ready": False, "model_version_status": known, "error": error.message}
            return json_response(content, 503)
        card = card_of(found)
        return json_response({"name": found.model, "ready": True, "model_version_status": known, **card})

    async def explain(self, request: Request) -> Response:
        """There are no explanations."""
        found = self._desk.find(caller_of(request), served(request.path_params))
        raise NotOffered(f"{found.model}:{found.version} gives no explanations; ask it with :predict.")


def version_statuses(desk: Desk, caller: Caller, reference: str) -> list[dict[str, Any]]:
    """What became of the versions that a reference means; a name alone means all of them.

    Raises:
        ServableError: as ``Desk.find``, unless something is known of a model that is not ready.
    """
    statuses = desk.statuses(caller)
    try:
        found = desk.find(caller, reference)
    except ModelNotReady:
        known = [_version(status) for status in statuses if status.model == _name_of(reference)]
        if not known:
            raise
        return known
    # Of a name alone one version is perhaps not ready yet.
    plain = reference == found.model
    return [
        _version(status)
        for status in statuses
        if status.model == found.model and (plain or status.version == found.version)
    ]


def _name_of(reference: str) -> str:
    return reference.partition("@")[0].partition(":")[0]


def _version(status: ModelStatus) -> dict[str, Any]:
    message = status.reason if status.state == "failed" else ""
    return version_status(status.version, _STATES[status.state], message)


def _routes(desk: Desk) -> list[Route]:
    looks = _Looks(desk)
    return [
        Route("/v1/models", looks.models, methods=["GET"]),
        *(Route(f"{model}:explain", looks.explain, methods=["POST"]) for model in MODELS),
        *(Route(model, looks.model, methods=["GET"]) for model in MODELS),
    ]


FORMAT = Format("KServe V1", (), _routes, STYLE, re.compile(r"/v1/models(?:[/:]|$)"))
