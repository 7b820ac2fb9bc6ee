"""The Open Inference Protocol over REST and the extensions that its clients use: all below ``/v2``."""

import re
from collections.abc import Awaitable, Callable
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from servable.errors import InputError, ModelNotFound, ServableError
from servable.monitoring.totals import ModelFigures
from servable.protocols import oip_generate, oip_json
from servable.protocols import oip_metadata as metadata
from servable.protocols.base import Head
from servable.protocols.oip_answers import error_body
from servable.protocols.oip_envelope import read_slowly
from servable.security.scopes import Need
from servable.server.desk import Desk, caller_of, json_response
from servable.server.formats.base import Door, Format, OpenRoute, reference_of
from servable.server.piece_answers import streaming
from servable.server.problems import Style
from servable.serving.live import Live, ModelStatus

#: How its clients expect problems: what is wrong with a request is 400, and a server without time is 503.
STYLE = Style(error_body, statuses={409: 400, 413: 400, 415: 400, 422: 400, 504: 503})
_MODEL = r"/v2/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?"
#: What is answered about features that are not there.
_NO_LOGGING = "Log settings are not changed while the server runs; start it with other settings."
_NO_TRACING = "Traces are not kept by this server."
_NO_MEMORY = "Shared memory is not served; send the data itself."

Handler = Callable[[Request], Awaitable[Response]]


def _door(verb: str, maker: Any) -> Door:
    return Door(re.compile(f"{_MODEL}/{verb}"), lambda live, _head: live.codec_by(maker), STYLE)


def _generates(live: Live, _head: Head) -> oip_generate.StreamCodec:
    return cast(oip_generate.StreamCodec, live.codec_by(oip_generate.StreamCodec))


DOORS = (
    _door("infer", oip_json.OipCodec),
    _door("generate", oip_generate.GenerateCodec),
    _door("generate_stream", oip_generate.StreamCodec)._replace(streaming=streaming(_generates)),
)


def routes(desk: Desk) -> list[Route]:
    """The look-up addresses, the repository and what is not served.

    Args:
        desk: of the server.
    """
    looks, changes = _Looks(desk), _Repository(desk)
    gets: dict[str, Handler] = {
        "/v2": looks.server,
        "/v2/": looks.server,
        "/v2/models": looks.models,
        "/v2/models/stats": looks.statistics,
        "/v2/logging": _unserved(_NO_LOGGING),
        "/v2/trace/setting": _unserved(_NO_TRACING),
    }
    for kind in ("system", "cuda"):
        gets[f"/v2/{kind}sharedmemory/status"] = _nothing_registered
    for prefix in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        gets[prefix] = looks.model
        gets[f"{prefix}/ready"] = looks.model_ready
        gets[f"{prefix}/config"] = looks.config
        gets[f"{prefix}/stats"] = looks.statistics
        gets[f"{prefix}/trace/setting"] = _unserved(_NO_TRACING)
    posts: dict[str, Handler] = {
        "/v2/repository/index": changes.index,
        "/v2/repository/models/{name}/load": changes.load,
        "/v2/repository/models/{name}/unload": changes.unload,
        "/v2/repository/{repository}/index": changes.index,
        "/v2/repository/{repository}/models/{name}/load": changes.load,
        "/v2/repository/{repository}/models/{name}/unload": changes.unload,
        "/v2/logging": _unserved(_NO_LOGGING),
        "/v2/trace/setting": _unserved(_NO_TRACING),
        "/v2/models/{name}/trace/setting": _unserved(_NO_TRACING),
    }
    for kind in ("system", "cuda"):
        posts[f"/v2/{kind}sharedmemory/unregister"] = _nothing_registered
        posts[f"/v2/{kind}sharedmemory/region/{{region}}/unregister"] = _nothing_registered
        posts[f"/v2/{kind}sharedmemory/region/{{region}}/register"] = _unserved(_NO_MEMORY)
    signs = {"/v2/health/live": looks.live, "/v2/health/ready": looks.ready}
    return [
        *(OpenRoute(path, handler, methods=["GET"]) for path, handler in signs.items()),
        *(_route(path, gets.get(path), posts.get(path)) for path in {**gets, **posts}),
    ]


def _route(path: str, get: Handler | None, post: Handler | None) -> Route:
    """One route for both verbs, so that any other is refused with both named."""
    methods = [verb for verb, handler in (("GET", get), ("POST", post)) if handler is not None]

    async def handle(request: Request) -> Response:
        handler = post if request.method == "POST" else get
        # A route without GET takes no HEAD either.
        assert handler is not None  # noqa: S101 - by ``methods``
        return await handler(request)

    return Route(path, handle, methods=methods)


class _Looks:
    """The handlers that only read."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def server(self, _request: Request) -> Response:
        """Name, version and extensions."""
        return json_response(metadata.server_metadata(self._desk.version))

    async def live(self, _request: Request) -> Response:
        """The process lives."""
        return json_response({"live": True})

    async def ready(self, _request: Request) -> Response:
        """Whether every model answers."""
        ready = self._desk.ready
        return json_response({"ready": ready}, 200 if ready else 503)

    async def models(self, request: Request) -> Response:
        """The names that are served."""
        return json_response({"models": sorted({status.model for status in _served(self._desk, request)})})

    async def model(self, request: Request) -> Response:
        """What a model takes and gives; a cold one stays cold."""
        reference = reference_of(request.path_params)
        found = self._desk.find(caller_of(request), reference)
        versions = {status.version for status in _served(self._desk, request) if status.model == found.model}
        signature = await self._desk.signature(caller_of(request), reference)
        return json_response(
            metadata.model_metadata(found.model, sorted(versions | {found.version}), signature)
        )

    async def model_ready(self, request: Request) -> Response:
        """Whether a model answers; a cold one does, unless it could not be loaded."""
        found = self._desk.find(caller_of(request), reference_of(request.path_params))
        ready = isinstance(found, Live) or not found.failure
        return json_response({"name": found.model, "ready": ready}, 200 if ready else 503)

    async def config(self, request: Request) -> Response:
        """The configuration of a model; a cold one stays cold."""
        reference = reference_of(request.path_params)
        found = self._desk.find(caller_of(request), reference)
        return json_response(
            metadata.model_config(
                found.model,
                await self._desk.signature(caller_of(request), reference),
                max_rows=self._desk.settings.max_rows,
                # What is not loaded has not said yet whether its rows may share a run.
                batched=isinstance(found, Live) and found.loaded.batching.shared,
            )
        )

    async def statistics(self, request: Request) -> Response:
        """What was counted: of one model, or of all that are served."""
        if "name" in request.path_params:
            found = self._desk.find(caller_of(request), reference_of(request.path_params), "read")
            wanted = [(found.model, found.version)]
        else:
            served = _served(self._desk, request, "read")
            wanted = [(status.model, status.version) for status in served]
        totals = await self._desk.totals()
        known = {(each.model, each.version): each for each in totals.models}
        figures = [known.get(key) or ModelFigures(model=key[0], version=key[1]) for key in wanted]
        return json_response(metadata.model_statistics(figures))


class _Repository:
    """The handlers of the model repository. What is to be served stands in the registry and nowhere else."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def index(self, request: Request) -> Response:
        """Every version that should be served, and what became of it."""
        wish = await self._object(request)
        entries = [
            metadata.index_entry(status.model, status.version, status.state, status.reason)
            for status in self._desk.statuses(caller_of(request))
        ]
        if wish.get("ready"):
            entries = [entry for entry in entries if entry["state"] == metadata.READY]
        return json_response(entries)

    async def load(self, request: Request) -> Response:
        """Make sure that a deployed model is loaded, in every process of the server."""
        wish = await self._object(request)
        if wish.get("parameters"):
            raise InputError(
                "Models and their configuration are not taken from a call; register them with servable add "
                "or servable train, then deploy them with servable deploy."
            )
        name = await self._desk.change(caller_of(request), self._deployed(request), load=True)
        return json_response({"name": name, "load": True})

    async def unload(self, request: Request) -> Response:
        """Let go of the memory of a model that is loaded on demand."""
        await self._object(request)
        name = await self._desk.change(caller_of(request), self._deployed(request), load=False)
        return json_response({"name": name, "unload": True})

    def _deployed(self, request: Request) -> str:
        """The reference that a call means.

        Raises:
            InputError: the model is not deployed.
            ServableError: it is, and does not answer.
        """
        name = request.path_params["name"]
        try:
            self._desk.find(caller_of(request), name, "deploy")
        except ModelNotFound as error:
            raise InputError(
                f"{error.message} Deploy a registered model with: servable deploy NAME."
            ) from error
        return str(name)

    async def _object(self, request: Request) -> dict[str, Any]:
        """The JSON object of a body, which may be empty."""
        body = bytes(await self._desk.body_of(request))
        return read_slowly(body, self._desk.settings.max_depth) if body.strip() else {}


def _served(desk: Desk, request: Request, need: Need = "see") -> list[ModelStatus]:
    """The versions that answer, if need be after a cold start, of the models that a caller sees."""
    return [status for status in desk.statuses(caller_of(request), need) if status.state in ("live", "cold")]


def _unserved(why: str) -> Handler:
    """Answers that a feature is not there, as the clients of the protocol expect it."""

    async def handle(_request: Request) -> Response:
        return Response(error_body(ServableError(why), ""), 501, media_type="application/json")

    return handle


async def _nothing_registered(_request: Request) -> Response:
    """No region of shared memory is registered, before and after it was taken back."""
    return json_response([])


FORMAT = Format("Open Inference Protocol", DOORS, routes, STYLE, re.compile(r"/v2(?:/|\Z)"))
