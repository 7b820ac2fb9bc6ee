"""OpenAI's addresses: ``/v1/embeddings``, ``/v1/completions`` and ``/v1/chat/completions``.

The body says which model is meant, so that these are routes and no doors. The same stand below ``/openai/v1``
and ``/v3``, where other servers have them; the list of models in OpenAI's form alone stands below
``/openai/v1`` and ``/v3``, because ``/v1/models`` is shared with other formats.
"""

import re
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from servable.artifact.signature import Signature
from servable.protocols.base import Codec, CodecLimits, Head, PieceCodec
from servable.protocols.openai import EmbeddingsCodec, error_body, model_entry, model_of
from servable.protocols.openai_text import CHAT, COMPLETION, TextCodec, wants_pieces
from servable.server.desk import Desk, caller_of, json_response, request_id_of
from servable.server.formats.base import Format
from servable.server.piece_answers import PiecesResponse, begin_at
from servable.server.problems import Style
from servable.serving.live import Cold, Live
from servable.tensors import Body

#: OpenAI's clients try again after 409, which here means that the body must name a model.
STYLE = Style(error_body, statuses={422: 400, 409: 400})
PREFIXES = ("/v1", "/openai/v1", "/v3")
_Choice = Callable[[Live, Head], Codec]


def _embeddings(live: Live, _head: Head) -> Codec:
    return live.codec_by(_embeddings_of)


def _embeddings_of(signature: Signature, limits: CodecLimits) -> Codec:
    return EmbeddingsCodec(signature, limits)


def _chat_of(signature: Signature, limits: CodecLimits) -> TextCodec:
    return TextCodec(signature, limits, CHAT)


def _completion_of(signature: Signature, limits: CodecLimits) -> TextCodec:
    return TextCodec(signature, limits, COMPLETION)


def _dated(maker: Callable[[Signature, CodecLimits], TextCodec]) -> _Choice:
    """A choice of codecs that know when they are asked; codecs themselves read no clock."""

    def choose(live: Live, _head: Head) -> Codec:
        codec = live.codec_by(maker)
        return codec.at(int(time.time())) if isinstance(codec, TextCodec) else codec

    return choose


def _asking(desk: Desk, choose: _Choice) -> Callable[[Request], Awaitable[Response]]:
    async def ask(request: Request) -> Response:
        body = await desk.body_of(request)
        name = model_of(body)
        if choose is not _embeddings and wants_pieces(body):
            return _pieces(desk, name, body, request, choose)
        encoded = await desk.ask(name, body, request, choose)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in encoded.headers}
        return Response(encoded.body, headers=headers, media_type=encoded.media_type)

    return ask


def _pieces(desk: Desk, name: str, body: Body, request: Request, choose: _Choice) -> Response:
    """The answer as events, each as soon as its text is there."""
    head, request_id, caller = dict(request.scope["headers"]), request_id_of(request), caller_of(request)

    def codec(live: Live, head: Head) -> PieceCodec:
        return cast(PieceCodec, choose(live, head))

    made = PiecesResponse(lambda: begin_at(desk, caller, name, body, head, request_id, codec))
    return cast(Response, made)


def card_of(found: Live | Cold) -> dict[str, Any]:
    """A model as OpenAI shows it; when a package was made that was never opened is not known."""
    created = 0
    if isinstance(found, Live):
        created = int(datetime.fromisoformat(found.loaded.package.manifest.created_at).timestamp())
    return model_entry(found.model, created)


def _routes(desk: Desk) -> list[Route]:
    async def models(request: Request) -> Response:
        seen = desk.models(caller_of(request)).values()
        return json_response({"object": "list", "data": list(map(card_of, seen))})

    async def model(request: Request) -> Response:
        return json_response(card_of(desk.find(caller_of(request), request.path_params["name"])))

    table = {
        "/embeddings": _asking(desk, _embeddings),
        "/completions": _asking(desk, _dated(_completion_of)),
        "/chat/completions": _asking(desk, _dated(_chat_of)),
    }
    asked = [
        Route(prefix + path, handler, methods=["POST"])
        for prefix in PREFIXES
        for path, handler in table.items()
    ]
    looked = [
        Route(f"{prefix}/models{path}", handler, methods=["GET"])
        for prefix in PREFIXES[1:]
        for path, handler in (("", models), ("/{name}", model))
    ]
    return [*asked, *looked]


FORMAT = Format(
    "OpenAI",
    routes=_routes,
    style=STYLE,
    covers=re.compile(r"/(?:openai/|v3/|v1/(?:embeddings|completions|chat)(?:/|$))"),
)
