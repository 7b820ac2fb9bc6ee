"""The tensor datatypes of the Open Inference Protocol, as numpy arrays and as bytes. Pure.

Bytes are little-endian and row after row, a BOOL is one byte, and each element of a BYTES tensor stands
behind its length in four bytes. A BF16, which numpy does not have, is held as float32. Source: the
protocol's specification and its extension for binary tensor data.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from servable.errors import RequestMalformed
from servable.tensors import Body

#: Every datatype but BYTES and BF16, as it lies on the wire.
PLAIN: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("bool"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
BYTES, BF16 = "BYTES", "BF16"
#: Every datatype.
DATATYPES = (*PLAIN, BF16, BYTES)
#: By the letter of a dtype, which says nothing of its byte order; some sizes have two letters.
_NAMES = {
    letter: name
    for letter in "?bBhHiIlLqQefd"
    for name, dtype in PLAIN.items()
    if np.dtype(letter) == dtype.newbyteorder("=")
}
#: Elements beyond this are in no tensor that fits into memory.
_MOST_ELEMENTS = 2**40


def datatype_of(dtype: Any) -> str:
    """The datatype of a numpy dtype; what is neither number nor boolean is BYTES."""
    return _NAMES.get(np.dtype(dtype).char, BYTES)


def size_of(shape: Sequence[int], name: str) -> int:
    """The elements of a tensor of this shape.

    Args:
        shape: as a caller wrote it.
        name: of the tensor, for messages.

    Raises:
        RequestMalformed: a size is negative, or there would be more elements than any memory holds.
    """
    count = math.prod(shape)
    if len(shape) <= 32 and 0 < count <= _MOST_ELEMENTS and min(shape, default=1) > 0:
        return count
    if len(shape) > 32 or any(size < 0 for size in shape):
        raise RequestMalformed(f"The shape of the input {name} is none: every size must be 0 or more.")
    # The sizes beside an empty one count as well, because numpy multiplies them all the same.
    if math.prod(size or 1 for size in shape) > _MOST_ELEMENTS:
        raise RequestMalformed(f"The shape of the input {name} has more elements than any memory holds.")
    return count


def from_raw(datatype: str, shape: Sequence[int], raw: Body, name: str) -> Any:
    """A tensor from its bytes, without a copy where the datatype allows it.

    Args:
        datatype: one of ``DATATYPES``.
        shape: of the tensor.
        raw: exactly its bytes.
        name: of the tensor, for messages.

    Returns:
        An array of this shape; of ``bytes`` objects for BYTES, float32 for BF16.

    Raises:
        RequestMalformed: no such datatype, or not as many bytes as the shape needs.
    """
    count = size_of(shape, name)
    if datatype == BYTES:
        return _texts_from_raw(raw, count, name).reshape(shape)
    wire = np.dtype("<u2") if datatype == BF16 else PLAIN.get(datatype)
    if wire is None:
        raise RequestMalformed(f"The input {name} has no known datatype; use one of {', '.join(DATATYPES)}.")
    if len(raw) != count * wire.itemsize:
        raise RequestMalformed(
            f"The input {name} holds {len(raw)} bytes; its shape and datatype need {count * wire.itemsize}."
        )
    array: Any = np.frombuffer(raw, wire).reshape(shape)
    if datatype == BF16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    if datatype == "BOOL" and (array.view(np.uint8) > 1).any():
        raise RequestMalformed(f"The input {name} holds a BOOL that is neither 0 nor 1.")
    return array


def _texts_from_raw(raw: Body, count: int, name: str) -> Any:
    data = bytes(raw)
    # Each element has four bytes at least, so that no claim makes an array that the bytes do not pay for.
    if count * 4 > len(data):
        raise RequestMalformed(f"The input {name} holds fewer elements than its shape says.")
    texts = np.empty(count, object)
    position = 0
    for index in range(count):
        start = position + 4
        position = start + int.from_bytes(data[start - 4 : start], "little")
        if start > len(data) or position > len(data):
            raise RequestMalformed(f"The input {name} is cut short in element {index}.")
        texts[index] = data[start:position]
    if position != len(data):
        raise RequestMalformed(f"The input {name} holds more bytes than its elements.")
    return texts


def to_raw(array: Any) -> bytes:
    """The bytes of a tensor.

    Args:
        array: of numbers or booleans; of texts or ``bytes`` objects for BYTES.
    """
    if datatype_of(array.dtype) != BYTES:
        dtype = array.dtype.newbyteorder("<")
        return bytes(np.ascontiguousarray(array, dtype).data.cast("B")) if array.size else b""
    parts: list[bytes] = []
    for element in array.ravel().tolist():
        data = element if isinstance(element, bytes) else str(element).encode()
        parts += (len(data).to_bytes(4, "little"), data)
    return b"".join(parts)
