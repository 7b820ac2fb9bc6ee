"""What gRPC puts around messages: five bytes before each, a status after all of them. Pure.

Source: the description of gRPC over HTTP/2.
"""

import base64
import gzip
import re
import zlib
from collections.abc import Mapping

from servable.errors import MediaTypeUnsupported, RequestMalformed
from servable.protocols.compression import decompress
from servable.server.problems import Style
from servable.tensors import Body

OK, INVALID_ARGUMENT, NOT_FOUND, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 0, 3, 5, 12, 13, 14
#: The one table from an HTTP status to a code of gRPC; what is not here is INTERNAL.
CODES: dict[int, int] = {
    400: INVALID_ARGUMENT,
    401: 16,
    403: 7,
    404: NOT_FOUND,
    405: UNIMPLEMENTED,
    406: UNIMPLEMENTED,
    408: 4,
    409: 9,
    413: 8,
    415: UNIMPLEMENTED,
    421: INVALID_ARGUMENT,
    422: INVALID_ARGUMENT,
    429: 8,
    431: 8,
    500: INTERNAL,
    501: UNIMPLEMENTED,
    503: UNAVAILABLE,
    504: 4,
}
MEDIA_TYPE = b"application/grpc"
#: Content types of which the messages are read.
MEDIA_TYPES = frozenset({MEDIA_TYPE, b"application/grpc+proto"})
#: Every answer begins with these. The encodings that are read are told to those who use one: every header
#: costs on every call.
HEADS = ((b"content-type", MEDIA_TYPE),)
ACCEPTS = (b"grpc-accept-encoding", b"identity,deflate,gzip")
DONE = ((b"grpc-status", b"0"),)
#: Carries a ``google.rpc.Status``.
DETAILS = b"grpc-status-details-bin"
_RETRY_INFO = b"type.googleapis.com/google.rpc.RetryInfo"
#: Bytes before each message: whether it is compressed, and its length.
PREFIX = 5
#: Messages shorter than this are not worth compressing.
_WORTH = 512
_LEVEL = 1
#: Bytes that a message in trailers does not hold as they are.
_ESCAPED = re.compile(rb"[^\x20-\x24\x26-\x7e]")
#: How errors are worded: the message alone.
STYLE = Style(lambda error, _: error.message.encode(), MEDIA_TYPE)


def frame(message: bytes, encoding: bytes = b"") -> bytes:
    """A message with its prefix.

    Args:
        message: as it is.
        encoding: to compress it with; empty for none.
    """
    if encoding and len(message) >= _WORTH:
        packed = gzip.compress(message, _LEVEL) if encoding == b"gzip" else zlib.compress(message, _LEVEL)
        return b"\1" + len(packed).to_bytes(4, "big") + packed
    return b"\0" + len(message).to_bytes(4, "big") + message


def unpack(message: Body, encoding: bytes, most: int) -> Body:
    """A compressed message as it was.

    Args:
        message: without its prefix.
        encoding: the header ``grpc-encoding``.
        most: bytes that may come out.

    Raises:
        MediaTypeUnsupported: an encoding that is not read.
        RequestMalformed: not of this encoding.
        RequestTooLarge: more comes out.
    """
    if encoding not in (b"gzip", b"deflate"):
        raise MediaTypeUnsupported("The message is compressed and grpc-encoding is neither gzip nor deflate.")
    return decompress(encoding.decode(), message, most)


def encoding_for(head: Mapping[bytes, bytes]) -> bytes:
    """How the answer is compressed: as the request was, if its client reads that; empty for not at all."""
    given = head.get(b"grpc-encoding", b"")
    if given in (b"gzip", b"deflate") and given in head.get(b"grpc-accept-encoding", b""):
        return given
    return b""


def message_of(data: bytes) -> Body:
    """The one message of a whole body; compressed when the first byte of the body says so.

    Raises:
        RequestMalformed: there is not exactly one.
    """
    size = len(data)
    if size < PREFIX or int.from_bytes(data[1:PREFIX], "big") != size - PREFIX or data[0] > 1:
        raise RequestMalformed("The call must hold exactly one message of gRPC.")
    return data[PREFIX:] if size < 65_536 else memoryview(data)[PREFIX:]


def failed(status: int, message: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """The trailers of a call that failed.

    Args:
        status: of HTTP.
        message: in UTF-8.
    """
    text = _ESCAPED.sub(lambda found: b"%%%02X" % found[0][0], message)
    return ((b"grpc-status", b"%d" % CODES.get(status, INTERNAL)), (b"grpc-message", text))


def retry_details(status: int, message: bytes, seconds: int) -> bytes:
    """The trailer ``DETAILS`` of a call to be tried again: a ``google.rpc.Status`` with a ``RetryInfo``.

    Args:
        status: of HTTP.
        message: in UTF-8.
        seconds: after which another try has a chance.
    """
    # Fields by number: the seconds of a Duration in RetryInfo.retry_delay, an Any in Status.details.
    retry = _field(1, b"\x08" + _varint(seconds))
    details = _field(1, _RETRY_INFO) + _field(2, retry)
    whole = b"\x08" + _varint(CODES.get(status, INTERNAL)) + _field(2, message) + _field(3, details)
    return base64.b64encode(whole).rstrip(b"=")


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
