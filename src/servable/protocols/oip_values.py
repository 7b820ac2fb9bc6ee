"""The values of a tensor of the Open Inference Protocol from JSON, nested as its shape says or flat. Pure."""

import base64
import binascii
import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import simdjson

from servable.errors import RequestInvalid, RequestMalformed
from servable.protocols.datatypes import BF16, BYTES, DATATYPES, PLAIN, size_of
from servable.protocols.native_array import refuse
from servable.protocols.native_schema import shown
from servable.tensors import MISSING_STRING

#: Datatypes that JSON does not carry.
BINARY_ONLY = frozenset({"FP16", BF16})
_FLOATS = frozenset({"FP32", "FP64"})
_NUMBERS = frozenset({int, float})
_NULLABLE = frozenset({int, float, type(None)})
#: How simdjson names the numbers that it hands out, by the kind of the dtype.
_BUFFERS: dict[str, tuple[Any, Any]] = {"f": ("d", np.float64), "i": ("i", np.int64), "u": ("u", np.uint64)}
_FP32_MOST = float(np.finfo(np.float32).max)
# simdjson does not count the elements of a list beyond this.
_COUNTED = 0xFFFFFF


def array_of(datatype: str, shape: Sequence[int], data: Any, place: str) -> Any:
    """A tensor from its JSON values.

    Args:
        datatype: as the caller claims.
        shape: as the caller claims.
        data: a list, nested or flat.
        place: of the input, for messages, such as ``inputs[0]``.

    Returns:
        An array of this shape; of texts for BYTES. A null is NaN in numbers, which are floats then,
        and the missing text in BYTES.

    Raises:
        RequestMalformed: no such datatype, none for JSON, or no possible shape.
        RequestInvalid: the values are not of this datatype, or not as many as the shape says.
    """
    check_datatype(datatype, place)
    count = size_of(shape, place)
    values = _flat(data, shape, place)
    if len(values) != count:
        raise refuse(f"{place}.data", f"{count} values, as the shape says", f"{len(values)} values")
    if datatype in _FLOATS:
        array = _floats(datatype, values, place)
    elif datatype == BYTES:
        array = _texts(values, place)
    else:
        array = _whole(datatype, values, place)
    return array.reshape(shape)


def check_datatype(datatype: str, place: str) -> None:
    """See ``array_of``.

    Raises:
        RequestMalformed: no such datatype, or none for JSON.
    """
    if datatype in BINARY_ONLY:
        raise RequestMalformed(f"{place} is {datatype}, which JSON does not carry; send it as binary data.")
    if datatype != BYTES and datatype not in PLAIN:
        raise RequestMalformed(f"{place} has no known datatype; use one of {', '.join(DATATYPES)}.")


def _flat(data: Any, shape: Sequence[int], place: str) -> list[Any]:
    if type(data) is not list:
        # A tensor without axes may be a value on its own.
        if shape or type(data) is dict:
            raise refuse(f"{place}.data", "a list of values", shown(data))
        return [data]
    if not data or type(data[0]) is not list:
        return data
    level: list[Any] = [data]
    for size in shape:
        for each in level:
            if type(each) is not list or len(each) != size:
                raise refuse(
                    f"{place}.data", "lists nested as the shape says, or a flat list", "another form"
                )
        level = list(chain.from_iterable(level))
    return level


def _floats(datatype: str, values: list[Any], place: str) -> Any:
    if not _NUMBERS.issuperset(map(type, values)):
        if not _NULLABLE.issuperset(map(type, values)):
            raise _odd(values, (int, float, type(None)), f"a number ({datatype})", place)
        values = [math.nan if value is None else value for value in values]
    try:
        array = np.array(values, np.float64)
    except OverflowError:
        raise refuse(f"{place}.data", f"numbers that {datatype} holds", "a number out of range") from None
    if datatype == "FP64":
        return array
    bad = (np.abs(array) > _FP32_MOST) & np.isfinite(array)
    if bad.any():
        index = int(np.argmax(bad))
        raise refuse(f"{place}.data[{index}]", "a number that FP32 holds", shown(float(array[index])))
    return array.astype(np.float32)


def _whole(datatype: str, values: list[Any], place: str) -> Any:
    dtype = PLAIN[datatype]
    if datatype == "BOOL":
        for index, value in enumerate(values):
            if type(value) not in (bool, int) or value not in (0, 1):
                raise refuse(f"{place}.data[{index}]", "true or false", shown(value))
        return np.array(values, dtype)
    if not values:
        return np.zeros(0, dtype)
    if not {int}.issuperset(map(type, values)):
        if not {int, type(None)}.issuperset(map(type, values)):
            raise _odd(values, (int, type(None)), f"a whole number ({datatype})", place)
        present = [value for value in values if value is not None]
        if present:
            _whole(datatype, present, place)
        # As in a data frame, a column of whole numbers with gaps is one of floats.
        return np.array([math.nan if value is None else value for value in values])
    limits = np.iinfo(dtype)
    if min(values) < limits.min or max(values) > limits.max:
        index = next(i for i, value in enumerate(values) if not limits.min <= value <= limits.max)
        expected = f"a whole number from {limits.min} to {limits.max} ({datatype})"
        raise refuse(f"{place}.data[{index}]", expected, shown(values[index]))
    return np.array(values, dtype)


def _texts(values: list[Any], place: str) -> Any:
    array = np.empty(len(values), object)
    array[:] = values
    kinds = set(map(type, values))
    if kinds != {str}:
        if not kinds <= {str, type(None)}:
            raise _odd(values, (str, type(None)), "a text (BYTES)", place)
        array[:] = [MISSING_STRING if value is None else value for value in values]
    return array


def _odd(values: list[Any], kinds: tuple[type, ...], expected: str, place: str) -> RequestInvalid:
    index = next(i for i, value in enumerate(values) if type(value) not in kinds)
    return refuse(f"{place}.data[{index}]", expected, shown(values[index]))


def large_array_of(datatype: str, shape: Sequence[int], data: Any, place: str) -> tuple[Any, int] | None:
    """As ``array_of``, from many numbers that simdjson holds.

    Returns:
        The tensor, and of how many lists it consisted; None when anything at all is unusual.
    """
    dtype = PLAIN.get(datatype)
    if dtype is None or dtype.kind not in "fiu" or datatype in BINARY_ONLY or not shape:
        return None
    letter, read = _BUFFERS[dtype.kind]
    count = size_of(shape, place)
    if not 0 < count < _COUNTED or not isinstance(data, simdjson.Array):
        return None
    numbers: Any = np.frombuffer(data.as_buffer(of_type=letter), read)
    if numbers.size != count:
        return None
    first: Any = data[0]
    if isinstance(first, simdjson.Array):
        if not _nested(data, shape):
            return None
        lists = sum(math.prod(shape[:axis]) for axis in range(len(shape)))
    else:
        if len(data) != count:
            return None
        lists = 1
    if numbers.dtype != dtype:
        limits: Any = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
        if numbers.min() < limits.min or numbers.max() > limits.max:
            return None
        numbers = numbers.astype(dtype)
    return numbers.reshape(shape), lists


def _nested(values: Any, shape: Sequence[int]) -> bool:
    """Whether the lists of every level are as long as the shape says; what is no list raises TypeError."""
    if len(values) != shape[0]:
        return False
    if len(shape) == 2:
        return set(map(len, values)) == {shape[1]}
    return len(shape) == 1 or all(_nested(each, shape[1:]) for each in values)


def from_base64(array: Any, place: str) -> Any:
    """The bytes that texts in base64 stand for.

    Raises:
        RequestInvalid: one is not base64, or the tensor holds no texts.
    """
    if array.dtype != object:
        raise refuse(f"{place}.datatype", "BYTES for the content type base64", "another datatype")
    decoded = np.empty(array.size, object)
    for index, text in enumerate(array.ravel().tolist()):
        try:
            decoded[index] = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise refuse(f"{place}.data[{index}]", "a text in base64", shown(str(text)[:40])) from None
    return decoded.reshape(array.shape)
