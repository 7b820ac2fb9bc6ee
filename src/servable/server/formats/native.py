"""The native format: ``POST /models/NAME/predict``, ``/models/NAME/versions/V/predict`` and ``/predict``.

The content type says how a body is read, the header Accept in which form it is answered; JSON is both
when nothing is said. JSON lines are answered as they are ready. At ``/stream`` in place of
``/predict`` the answer to a row comes in pieces as the model makes them, as events or JSON lines; events are
given at ``/predict``, too. ``/models/NAME/feedback`` takes what turned out; see ``feedback``.
"""

import re

from servable.errors import NotAcceptable, ServableError
from servable.protocols.answer_forms import EVENTS, LINES, NO_WISH, Form, Formed, asked_form
from servable.protocols.base import Codec, Head, media_type_of
from servable.protocols.codecs import JSON, Reads, canonical
from servable.protocols.native_pieces import NativePieces
from servable.server.desk import Desk
from servable.server.formats import feedback
from servable.server.formats.base import Door, Format, Streaming
from servable.server.http import HttpRequest
from servable.server.line_answers import asks_for_lines, begin
from servable.server.piece_answers import answer_in_pieces
from servable.server.streaming import Streamed
from servable.serving.live import Live

_JSON = JSON.encode()
_JSON_LIKE = re.compile(r"(application|text)/([a-z0-9.+-]+\+)?json")
#: Content types that are certainly not JSON lines, as nearly all callers say them.
_NO_LINES = frozenset({_JSON, b"application/octet-stream"})


def codec_of(live: Live, head: Head) -> Codec:
    """The codec that reads a body by its content type and answers as its Accept says.

    Args:
        live: the model.
        head: the request's headers.

    Raises:
        MediaTypeUnsupported: a content type in which the model is not asked.
        NotAcceptable: an Accept that takes no form of an answer.
    """
    reader = reader_of(live, head)
    accept = head.get(b"accept")
    if accept in NO_WISH:
        return reader
    form = asked_form(accept)
    return reader if form.media_type == JSON else live.codec_by(Formed(reader))


def reader_of(live: Live, head: Head) -> Codec:
    """The codec that reads a body by its content type; a caller who does not say is believed to send JSON.

    Raises:
        MediaTypeUnsupported: a content type in which the model is not asked.
    """
    codecs = live.codecs
    given = head.get(b"content-type")
    if given is None or given == _JSON:
        return codecs[JSON]
    plain = media_type_of(head)
    media_type = canonical(plain)
    codec = codecs.get(media_type)
    if codec is not None:
        return codec
    if not plain or _JSON_LIKE.fullmatch(plain):
        return codecs[JSON]
    return live.codec_by(Reads(media_type))


def _line_by_line(head: Head) -> bool:
    given = head.get(b"content-type")
    if given is None or given in _NO_LINES:
        return False
    return canonical(media_type_of(head)) == LINES and asks_for_lines(head)


def _in_pieces(head: Head) -> bool:
    """Whether an answer at an address for whole answers is wanted in pieces: line by line, or as events."""
    if _line_by_line(head):
        return True
    accept = head.get(b"accept")
    if accept is None or EVENTS.encode() not in accept:
        return False
    try:
        return asked_form(accept).name == EVENTS
    except ServableError:
        return False


def _pieces_of(live: Live, head: Head) -> NativePieces:
    """The codec of answers in pieces: lines where the caller likes them best, else events."""
    accept = head.get(b"accept")
    form = Form(EVENTS, EVENTS) if accept in NO_WISH else asked_form(accept)
    if form.name not in (EVENTS, LINES):
        raise NotAcceptable(f"Answers in pieces come as {EVENTS} or {LINES}; accept one of them.")
    return NativePieces(reader_of(live, head), live.signature, form)


async def _begin(desk: Desk, reference: str, request: HttpRequest, request_id: str) -> Streamed:
    if _line_by_line(request.headers):
        return await begin(desk, reference, request, request_id)
    return await answer_in_pieces(desk, reference, request, request_id, _pieces_of)


_MODEL = r"/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?"
_STREAMING = Streaming(_in_pieces, _begin)
_ALWAYS = Streaming(lambda _head: True, _begin)
DOORS = (
    Door(re.compile(f"{_MODEL}/predict"), codec_of, streaming=_STREAMING),
    Door(re.compile(r"/predict"), codec_of, streaming=_STREAMING),
    Door(re.compile(f"{_MODEL}/stream"), codec_of, streaming=_ALWAYS),
    Door(re.compile(r"/stream"), codec_of, streaming=_ALWAYS),
)
FORMAT = Format("native", DOORS, feedback.routes)
