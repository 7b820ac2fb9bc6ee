"""OpenAI's addresses: ``/v1/embeddings``, ``/v1/completions`` and ``/v1/chat/completions``.

The body says which model is meant, so that these are routes and no doors. The same stand below ``/openai/v1``
and ``/v3``, where other servers have them; the list of models in OpenAI's form alone stands below
``/openai/v1`` and ``/v3``, because ``/v1/models`` is shared with other formats.
"""

import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from servable.artifact.signature import Signature
from servable.errors import ServableError
from servable.protocols.base import Codec, CodecLimits, Head
from servable.protocols.openai import EmbeddingsCodec, error_body, model_entry, model_of
from servable.protocols.openai_text import CHAT, COMPLETION, EVENTS, TextCodec
from servable.server.desk import Desk, json_response, request_id_of
from servable.server.formats.base import Format
from servable.server.problems import Style
from servable.serving.live import Cold, Live

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


async def events(pieces: AsyncIterator[bytes], request_id: str) -> AsyncIterator[bytes]:
    """Events as they come; what goes wrong after the answer has begun is told as the last of them.

    Args:
        pieces: whole events, one or several at a time.
        request_id: of the request.
    """
    try:
        async for piece in pieces:
            yield piece
    except ServableError as error:
        yield b"data: " + error_body(error, request_id) + b"\n\n"


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _asking(desk: Desk, choose: _Choice) -> Callable[[Request], Awaitable[Response]]:
    async def ask(request: Request) -> Response:
        body = await desk.body_of(request)
        encoded = await desk.ask(model_of(body), body, request, choose)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in encoded.headers}
        if encoded.media_type != EVENTS:
            return Response(encoded.body, headers=headers, media_type=encoded.media_type)
        # Whatever can be wrong with the request was told above, with a status of its own.
        told = events(_once(encoded.body), request_id_of(request))
        return StreamingResponse(told, headers=headers, media_type=EVENTS)

    return ask


def card_of(found: Live | Cold) -> dict[str, Any]:
    """A model as OpenAI shows it; when a package was made that was never opened is not known."""
    created = 0
    if isinstance(found, Live):
        created = int(datetime.fromisoformat(found.loaded.package.manifest.created_at).timestamp())
    return model_entry(found.model, created)


def _routes(desk: Desk) -> list[Route]:
    async def models(_request: Request) -> Response:
        return json_response({"object": "list", "data": list(map(card_of, desk.models().values()))})

    async def model(request: Request) -> Response:
        return json_response(card_of(desk.find(request.path_params["name"])))

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
