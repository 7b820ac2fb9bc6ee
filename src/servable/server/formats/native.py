"""The native format: ``POST /models/NAME/predict``, ``/models/NAME/versions/V/predict`` and ``/predict``.

The content type says how a body is read, the header Accept in which form it is answered; JSON is both
when nothing is said. JSON lines are answered as they are ready.
"""

import re

from servable.protocols.answer_forms import LINES, NO_WISH, Formed, asked_form
from servable.protocols.base import Codec, Head, media_type_of
from servable.protocols.codecs import JSON, Reads, canonical
from servable.server.formats.base import Door, Format, Streaming
from servable.server.line_answers import asks_for_lines, begin
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


_STREAMING = Streaming(_line_by_line, begin)
DOORS = (
    Door(
        re.compile(r"/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?/predict"),
        codec_of,
        streaming=_STREAMING,
    ),
    Door(re.compile(r"/predict"), codec_of, streaming=_STREAMING),
)
FORMAT = Format("native", DOORS)
