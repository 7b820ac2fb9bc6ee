"""Arrays as bytes and back: a list of where each array lies, and the bytes themselves.

Numbers, booleans and times travel as they lie in memory. Texts travel as the lengths of all of them
(uint32, in characters) and then all characters together in UTF-8. Objects of any other kind do not
travel: that would need a format that executes code when it is read.

Arrays start at multiples of 64 bytes.
"""

import math
import re
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from servable.errors import ModelFailed
from servable.runtime.framing import broken
from servable.tensors import Arrays

ALIGNMENT = 64
#: Kinds of dtype that travel as they lie in memory.
_RAW = frozenset("biufcmM")
#: Kinds of dtype that may hold texts: objects, and numpy's own of fixed and of varying length.
_TEXT_KINDS = frozenset("OUT")
_TEXTS = "text"
_MOST_DIMENSIONS = 32
_LONGEST_AXIS = 2**46
#: A dtype that may be read back. Objects are not among them: reading one would make pointers of bytes.
_DTYPE = re.compile(r"[<>|][biufcmM]\d{1,2}(\[\d{0,6}[A-Za-z]{1,2}\])?")
_LENGTH = np.dtype("<u4")
#: Bytes of a list of forms that is remembered once it was looked at.
_REMEMBERED = 1024


class Form(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where an array lies in a payload.

    Attributes:
        name: of the array.
        dtype: numpy's short word, for instance ``<f8``, or ``text``.
        shape: of the array.
        offset: bytes before it.
        size: bytes of it.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    size: int


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Form]).decode


class Packed:
    """Arrays ready to be written.

    Attributes:
        meta: the list of forms in MessagePack.
        size: bytes that the payload takes.
    """

    __slots__ = ("_parts", "meta", "size")

    def __init__(self, arrays: Arrays) -> None:
        """Work out where everything goes; numbers are not copied yet.

        Raises:
            ModelFailed: an array holds neither numbers nor texts.
        """
        forms: list[tuple[str, str, tuple[int, ...], int, int]] = []
        parts: list[tuple[int, Any]] = []
        offset = 0
        for name, array in arrays.items():
            part: Any
            if array.dtype.kind in _RAW:
                word, part, size = array.dtype.str, array, array.nbytes
            else:
                word, part = _TEXTS, _texts(name, array)
                size = len(part)
            forms.append((name, word, array.shape, offset, size))
            if size:
                parts.append((offset, part))
            offset += -(-size // ALIGNMENT) * ALIGNMENT
        self.meta: bytes = _encode(forms)
        self.size = offset
        self._parts = parts

    def payload(self) -> bytes:
        """The payload in one piece; for small ones."""
        pieces = []
        place = 0
        for offset, part in self._parts:
            if offset > place:
                pieces.append(bytes(offset - place))
            piece = part if isinstance(part, bytes) else part.tobytes()
            pieces.append(piece)
            place = offset + len(piece)
        pieces.append(bytes(self.size - place))
        return b"".join(pieces)

    def write(self, area: memoryview) -> None:
        """Write the payload into memory of at least ``size`` bytes; numbers are copied once."""
        for offset, part in self._parts:
            if isinstance(part, bytes):
                area[offset : offset + len(part)] = part
            else:
                target: NDArray[Any] = np.ndarray(part.shape, part.dtype, area, offset)
                target[...] = part


def unpack(meta: bytes, payload: Any, *, copy: bool = False) -> dict[str, NDArray[Any]]:
    """The arrays of a payload.

    Args:
        meta: the list of forms in MessagePack.
        payload: bytes, or a read-only view of shared memory.
        copy: whether numbers are copied; otherwise they are read-only views of the payload.

    Raises:
        ModelDied: the two do not fit each other.
    """
    places = _places_again(meta) if len(meta) <= _REMEMBERED else _places(meta)
    available = len(payload)
    arrays: dict[str, NDArray[Any]] = {}
    for name, dtype, shape, values, offset, end in places:
        if end > available:
            raise broken("an array that lies outside its payload")
        try:
            if dtype is None:
                arrays[name] = _texts_back(payload[offset:end], values).reshape(shape)
            elif offset == end:
                # numpy takes no empty buffer; a huge shape with a zero in it costs nothing.
                arrays[name] = np.empty(shape, dtype)
            else:
                view: NDArray[Any] = np.ndarray(shape, dtype, payload, offset)
                arrays[name] = view.copy() if copy else view
        except ValueError as error:
            # Axes that are possible one by one and not together; numpy says so before it takes memory.
            raise broken("an array of an impossible shape") from error
    return arrays


class _Place(NamedTuple):
    """A form that was looked at: without a dtype for texts, with the number of values and where they end."""

    name: str
    dtype: np.dtype[Any] | None
    shape: tuple[int, ...]
    values: int
    offset: int
    end: int


def _places(meta: bytes) -> tuple[_Place, ...]:
    """What can be said of a list of forms before the payload is looked at.

    Raises:
        ModelDied: it is no list of forms, or one of them is impossible.
    """
    try:
        forms = _decode(meta)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise broken("a list of arrays that is none") from error
    if len({form.name for form in forms}) != len(forms):
        raise broken("an array twice")
    return tuple(map(_place, forms))


#: Batches of one number of rows have the same forms, and looking at them costs as much as all the rest.
_places_again = lru_cache(maxsize=256)(_places)


def _place(form: Form) -> _Place:
    if form.offset < 0 or form.size < 0:
        raise broken("an array that lies outside its payload")
    if len(form.shape) > _MOST_DIMENSIONS or not all(0 <= axis <= _LONGEST_AXIS for axis in form.shape):
        raise broken("an array of an impossible shape")
    count = math.prod(form.shape)
    dtype = None if form.dtype == _TEXTS else _dtype(form.dtype)
    if dtype is not None and count * dtype.itemsize != form.size:
        raise broken("an array whose shape does not fit its size")
    return _Place(form.name, dtype, form.shape, count, form.offset, form.offset + form.size)


@lru_cache(maxsize=256)
def _dtype(word: str) -> np.dtype[Any]:
    try:
        if _DTYPE.fullmatch(word):
            return np.dtype(word)
    except TypeError as error:
        raise broken("an array of an unknown type") from error
    raise broken("an array of an unknown type")


def _texts(name: str, array: NDArray[Any]) -> bytes:
    """An array of texts: the length of each in characters, then all characters.

    Raises:
        ModelFailed: something in it is no text.
    """
    flat: list[Any] = array.ravel().tolist() if array.dtype.kind in _TEXT_KINDS else [None]
    if not all(isinstance(each, str) for each in flat):
        raise ModelFailed(
            f"The array {name[:64]!r} holds neither numbers nor texts, and nothing else can leave "
            "or enter the process of a model."
        )
    lengths = np.fromiter(map(len, flat), dtype=_LENGTH, count=len(flat))
    return lengths.tobytes() + "".join(flat).encode("utf-8", "surrogatepass")


def _texts_back(data: Any, count: int) -> NDArray[Any]:
    start = count * _LENGTH.itemsize
    if start > len(data):
        raise broken("texts that are shorter than they say")
    try:
        text = bytes(data[start:]).decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise broken("texts that are not UTF-8") from error
    ends = np.frombuffer(data[:start], _LENGTH).cumsum(dtype=np.int64) if count else np.zeros(1, np.int64)
    if int(ends[-1]) != len(text):
        raise broken("texts whose lengths do not fit")
    array = np.empty(count, dtype=object)
    first = 0
    for index, last in enumerate(ends.tolist() if count else ()):
        array[index] = text[first:last]
        first = last
    return array
