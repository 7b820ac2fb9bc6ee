"""Numbers without text: raw bytes and ``.npy`` arrays in, the JSON answer of the native format out.

``application/octet-stream`` is the bytes of the one array that a signature takes, little-endian, in C
order, rows first; how many rows there are follows from their number. ``application/x-npy`` is the
same array as ``numpy.save`` writes it, which says its own dtype and shape. Bytes of the right dtype
are looked at where they lie; nothing is copied.

Either is there for a signature whose only input is a tensor of numbers or booleans of at least one
element, and for a table all of whose columns are numbers, booleans, dates (seconds since 1970) or
numeric categories: float64, one column after the other.
"""

import math
import re
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from servable.errors import RequestMalformed, RequestTooLarge, ServableError
from servable.protocols.base import NO_HEAD, Head
from servable.protocols.native import MAX_ROWS, NativeCodec
from servable.protocols.native_array import WholeArray, refuse
from servable.tensors import Body, Request, Response

_MAGIC = b"\x93NUMPY"
# numpy itself reads no header beyond this without being told to.
_LONGEST_HEADER = 10_000
_ENTRY = re.compile(
    rb"\s*(['\"])(descr|fortran_order|shape)\1\s*:\s*"
    rb"(?:(['\"])([^'\"\s]{1,16})\3|(True|False)|\(([0-9,\sL]*)\))\s*(?:,|\Z)"
)
_PLAIN = re.compile(r"[<>=|]?([fiu][1248]|b1|\?)")
_HUGE = 2**62


class _BinaryCodec:
    """What both binary formats share: the answer is the native one."""

    #: The content type of what ``encode`` returns.
    media_type = NativeCodec.media_type

    def __init__(self, native: NativeCodec, whole: WholeArray, *, max_rows: int = MAX_ROWS) -> None:
        self._native = native
        self._whole = whole
        self._max_rows = max_rows

    def encode(self, response: Response) -> bytes:
        """As the native format."""
        return self._native.encode(response)

    def encode_error(self, error: ServableError, request_id: str) -> bytes:
        """As the native format."""
        return self._native.encode_error(error, request_id)

    def _check_count(self, rows: int) -> None:
        if rows > self._max_rows:
            raise RequestTooLarge(
                f"The request holds {rows} rows and {self._max_rows} are allowed; "
                "send them in several requests."
            )


class RawCodec(_BinaryCodec):
    """``application/octet-stream``. Immutable and safe to share.

    Args:
        native: the native codec of the same signature, which makes the answers.
        whole: the one array of the signature; its shape has no free size.
        max_rows: more rows in one request are refused with ``RequestTooLarge``.
    """

    def decode(self, body: Body, request_id: str, head: Head = NO_HEAD) -> Request:
        """Bytes to a Request; one row is answered on its own.

        Raises:
            RequestInvalid: another number of bytes, or values that the columns do not take.
            RequestTooLarge: more rows than allowed.
        """
        whole = self._whole
        rows, rest = divmod(len(body), whole.row_bytes)
        if rest or not rows:
            expected = f"{whole.row_bytes} bytes for each row ({whole.words}, little-endian)"
            raise refuse("input", expected, f"{len(body)} bytes")
        self._check_count(rows)
        array = np.frombuffer(body, whole.wire_dtype).reshape(rows, *whole.shape)
        return Request({whole.name: whole.checked(array, rows == 1)}, rows, request_id, rows == 1)


class NpyCodec(_BinaryCodec):
    """``application/x-npy``. Immutable and safe to share.

    Args:
        native: the native codec of the same signature, which makes the answers.
        whole: the one array of the signature.
        max_rows: more rows in one request are refused with ``RequestTooLarge``.
    """

    def decode(self, body: Body, request_id: str, head: Head = NO_HEAD) -> Request:
        """Bytes to a Request; an array without the row axis is one row and is answered on its own.

        Raises:
            RequestMalformed: no ``.npy`` file, or not as many bytes as its header says.
            RequestInvalid: another dtype or shape, or values that do not fit.
            RequestTooLarge: more rows than allowed.
        """
        header = read_header(body)
        whole = self._whole
        single = len(header.shape) == len(whole.shape)
        whole.check_shape(header.shape, single)
        rows = 1 if single else header.shape[0]
        self._check_count(rows)
        array = whole.cast(_content(body, header), single)
        shape = (1, *header.shape) if single else header.shape
        return Request({whole.name: whole.checked(array.reshape(shape), single)}, rows, request_id, single)


class Header(NamedTuple):
    """What a ``.npy`` file says of its content.

    Attributes:
        dtype: of numbers or booleans, in any byte order.
        fortran: whether the first axis runs fastest.
        shape: of the whole array.
        start: where in the file the content begins.
    """

    dtype: np.dtype[Any]
    fortran: bool
    shape: tuple[int, ...]
    start: int


def read_header(body: Body) -> Header:
    """The header of a ``.npy`` file, formats 1 and 2.

    It is matched, not evaluated: numpy's own reader takes it as Python source and warns about some of
    it, and whoever sends it is a stranger. What only structured and object arrays need is refused.

    Raises:
        RequestMalformed: no such header.
        RequestInvalid: an array of something else than numbers or booleans.
    """
    if body[: len(_MAGIC)] != _MAGIC or len(body) < 12:
        raise RequestMalformed("The body is not a .npy file; send one array as numpy.save writes it.")
    start = {1: 10, 2: 12}.get(body[6], 0)
    length = int.from_bytes(body[8:start], "little")
    if not start or length > _LONGEST_HEADER or start + length > len(body):
        raise _unreadable()
    dtype, fortran, shape = _read_fields(bytes(body[start : start + length]))
    return Header(dtype, fortran, shape, start + length)


@lru_cache(maxsize=256)
def _read_fields(header: bytes) -> tuple[np.dtype[Any], bool, tuple[int, ...]]:
    """Dtype, order and shape; remembered, because a caller sends the same header with every array."""
    text = header.strip()
    if not (text.startswith(b"{") and text.endswith(b"}")):
        raise _unreadable()
    text = text[1:-1].rstrip()
    entries: dict[bytes, tuple[bytes | None, ...]] = {}
    position = 0
    while position < len(text):
        found = _ENTRY.match(text, position)
        if found is None or found[2] in entries:
            raise _unreadable()
        entries[found[2]] = found.group(4, 5, 6)
        position = found.end()
    try:
        kind, fortran, sizes = entries[b"descr"][0], entries[b"fortran_order"][1], entries[b"shape"][2]
    except KeyError:
        raise _unreadable() from None
    if kind is None or fortran is None or sizes is None:
        raise _unreadable()
    return _plain_dtype(kind), fortran == b"True", _shape(sizes)


def _unreadable() -> RequestMalformed:
    return RequestMalformed(
        "The header of the .npy body cannot be read; send one plain array of numbers as numpy.save writes it."
    )


def _plain_dtype(said: bytes) -> np.dtype[Any]:
    word = said.decode("latin-1")
    if _PLAIN.fullmatch(word):
        try:
            return np.dtype(word)
        except TypeError:
            # A letter and a size that do not go together, such as a float of one byte.
            pass
    raise refuse("input", "an array of plain numbers or booleans", "an array of another kind")


def _shape(said: bytes) -> tuple[int, ...]:
    words = [word.strip() for word in said.replace(b"L", b"").split(b",")]
    if words[-1] == b"":
        words.pop()
    # More than 64 axes no array has, and more than 20 digits no size.
    if len(words) > 64 or not all(word.isdigit() and len(word) <= 20 for word in words):
        raise _unreadable()
    return tuple(int(word) for word in words)


def _content(body: Body, header: Header) -> Any:
    """The array behind a header, looked at where it lies."""
    count = math.prod(header.shape)
    held = len(body) - header.start
    promised = count * header.dtype.itemsize
    if promised != held:
        said = f"{promised} bytes" if promised < _HUGE else "more bytes than there are"
        raise RequestMalformed(
            f"The .npy body holds {held} bytes of numbers and its header promises {said}; "
            "send the whole file."
        )
    array: Any = np.frombuffer(body, header.dtype, count, header.start)
    return array.reshape(header.shape[::-1]).T if header.fortran else array.reshape(header.shape)
