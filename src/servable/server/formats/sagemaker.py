"""What a SageMaker endpoint asks of its container beside ``/ping`` and ``/invocations``: many models in one.

``/models/NAME/invoke`` answers like ``/invocations``. Which models there are is what was deployed, so that
loading and unloading over HTTP is refused in words that say how it is done. ``GET /models`` and
``GET /models/NAME`` are the native ones.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from servable.errors import ConflictError, MethodNotAllowed, NotFoundError, RequestMalformed, ServableError
from servable.protocols.base import Codec, CodecLimits, Head
from servable.protocols.mlflow import error_body
from servable.protocols.sagemaker import InvocationsCodec
from servable.protocols.versioned import Versioned
from servable.server.desk import Desk, caller_of, request_id_of
from servable.server.formats.base import Door, Format, by_path
from servable.server.problems import Style, problem
from servable.serving.live import Live

TARGET_MODEL = b"x-amzn-sagemaker-target-model"
TARGET_VARIANT = b"x-amzn-sagemaker-target-variant"
#: Everywhere a client of either expects 400 for values that do not fit.
INVOCATIONS_STYLE = Style(error_body, statuses={422: 400})
_ARCHIVE = re.compile(r"\.tar\.gz$|\.tgz$")
_Handler = Callable[[Request], Awaitable[Response]]


def choose(live: Live, _head: Head) -> Codec:
    """The codec of ``/invocations`` for a model."""
    return live.codec_by(_VERSIONED)


def _made(signature: Any, limits: CodecLimits) -> Codec:
    return InvocationsCodec(signature, limits)


_VERSIONED = Versioned(_made)


def targeted(found: re.Match[str], head: Head) -> str:
    """The model that SageMaker's headers name: a reference, perhaps with the ending of an archive.

    A target variant is a version or an alias of the target model; on its own it is a reference.
    """
    model, variant = (_plain(head.get(name, b"")) for name in (TARGET_MODEL, TARGET_VARIANT))
    if model and variant and not {":", "@"}.intersection(model):
        return f"{model}:{variant}" if variant.isdecimal() else f"{model}@{variant}"
    return model or variant or by_path(found, head)


def _plain(said: bytes) -> str:
    return _ARCHIVE.sub("", said.decode("latin-1").strip().lstrip("/"))


def _routes(desk: Desk) -> list[Route]:
    async def load(request: Request) -> Response:
        refused = MethodNotAllowed(
            "Models are not loaded over HTTP; deploy this one with: servable deploy NAME.", ["GET"]
        )
        body = await desk.body_of(request)
        if not body:
            # Nobody wants a model loaded: the address is the native one, and the verb is not.
            raise refused
        try:
            desk.find(caller_of(request), _name_in(body), "deploy")
        except NotFoundError:
            raise refused from None
        raise ConflictError("A model of this name is loaded already; deploy versions with: servable deploy.")

    async def unload(request: Request) -> Response:
        desk.find(caller_of(request), request.path_params["name"], "deploy")
        raise MethodNotAllowed(
            "Models are not unloaded over HTTP; take this one out of service with: servable undeploy NAME.",
            ["GET"],
        )

    return [
        Route("/models", _worded(desk, load), methods=["POST"]),
        Route("/models/{name}", _worded(desk, unload), methods=["DELETE"]),
    ]


def _name_in(body: Any) -> str:
    """The name in ``{"model_name": ..., "url": ...}``.

    Raises:
        RequestMalformed: there is none.
    """
    try:
        name = msgspec.json.decode(body, type=dict[str, Any]).get("model_name")
    except (msgspec.MsgspecError, RecursionError, ValueError):
        name = None
    if not isinstance(name, str) or not name:
        raise RequestMalformed('The body names no model; send {"model_name": "...", "url": "..."}.')
    return name


def _worded(desk: Desk, handler: _Handler) -> _Handler:
    """A handler at an address whose other verbs are native, so that its errors are worded here."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except ServableError as error:
            told = problem(error, request_id_of(request), INVOCATIONS_STYLE)
            desk.host.metrics.reject(told.code)
            headers = {name.decode(): value.decode() for name, value in told.headers}
            return Response(told.body, told.status, headers)

    return answer


FORMAT = Format(
    "SageMaker",
    (Door(re.compile(r"/models/(?P<name>[^/]+)/invoke"), choose, INVOCATIONS_STYLE),),
    _routes,
    INVOCATIONS_STYLE,
    re.compile(r"/models/[^/]+/invoke(?:/|$)"),
)
