"""The bytes of messages of the Open Inference Protocol over gRPC: cut apart and put together by hand. Pure.

What repeats from message to message, names and shapes, is left to the library of the messages; what differs
is found here, and looked at where it lies.
"""

from servable.errors import RequestMalformed
from servable.tensors import Body

#: The tags of fields that are bytes or messages.
NAME, VERSION, ID, RAW_IN = 0x0A, 0x12, 0x1A, 0x3A
OUT_ID, RAW_OUT = 0x1A, 0x32
#: Bytes from which on pieces of a message are looked at, not copied.
_LARGE = 2048


def leading(body: Body) -> bytes:
    """The first bytes of a request when they name the model and perhaps its version; empty if they do not."""
    size = len(body)
    if size < 2 or body[0] != NAME or body[1] >= 0x80:
        return b""
    end = 2 + body[1]
    if end + 1 < size and body[end] == VERSION and body[end + 1] < 0x80:
        end += 2 + body[end + 1]
    return bytes(body[:end]) if end <= size else b""


def streamed(answer: bytes) -> bytes:
    """An answer as ``ModelStreamInferResponse``."""
    return field(0x12, answer)


def streamed_error(message: str, own_id: bytes = b"") -> bytes:
    """An error as ``ModelStreamInferResponse``; the id tells which request it belongs to."""
    return field(0x0A, message.encode()) + (field(0x12, field(OUT_ID, own_id)) if own_id else b"")


def id_of(body: Body) -> bytes:
    """The id in a request; empty when there is none, or no request."""
    try:
        return cut(body)[1]
    except RequestMalformed:
        return b""


def malformed() -> RequestMalformed:
    """The error for bytes that are no request."""
    return RequestMalformed("The message is no ModelInferRequest; check which service definition was used.")


def cut(body: Body) -> tuple[bytes, bytes, list[Body]]:
    """A message without its id and raw tensors; its id; its raw tensors, looked at where they lie."""
    end = len(body)
    raws: list[Body] = []
    own_id: bytes = b""
    kept: list[Body] = []
    view = memoryview(body) if end > _LARGE else body
    position = start = 0
    try:
        while position < end:
            begin = position
            tag = body[position]
            position += 1
            kind = tag & 7
            if tag >= 0x80:
                _, position = _varint(body, position)
            if kind == 2:
                size = body[position]
                position += 1
                if size >= 0x80:
                    more, position = _varint(body, position)
                    size = (size & 0x7F) | more << 7
                content = position
                position += size
                if position > end:
                    raise malformed()
                if tag == RAW_IN:
                    raws.append(view[content:position])
                elif tag == ID:
                    own_id = bytes(view[content:position])
                else:
                    continue
                if begin > start:
                    kept.append(view[start:begin])
                start = position
            elif kind == 0:
                _, position = _varint(body, position)
            elif kind in (1, 5):
                position += 8 if kind == 1 else 4
            else:
                raise malformed()
    except IndexError:
        raise malformed() from None
    if position != end:
        raise malformed()
    if start < end:
        kept.append(view[start:end])
    return bytes(kept[0]) if len(kept) == 1 else b"".join(kept), own_id, raws


def _varint(body: Body, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = body[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise malformed()


def field(tag: int, content: bytes) -> bytes:
    """A field that holds bytes or a message."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    head = bytearray((tag,))
    while size >= 0x80:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    head.append(size)
    return bytes(head) + content
