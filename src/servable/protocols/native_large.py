"""The large case of the native format: bodies of many numbers, through simdjson into numpy.

Only what is plain is read here: ``{"input": ...}`` or ``{"inputs": ...}`` (or with the words of
another format) whose numbers stand in lists
of exactly the shape of the signature. Everything else - a null, a boolean, a ragged list, a number
that does not fit, a key given twice - gives None, and the ordinary ways of ``native`` accept it or
name what is wrong with it. So the meaning of the format is written down once.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import simdjson

from servable.artifact.signature import Field, Signature
from servable.protocols.native_schema import INT_BEYOND, INT_LEAST, float_limit, tensor_limits
from servable.tensors import NUMBERS

#: Shorter bodies are read as fast, or faster, by the compiled decoder.
LARGE_BYTES = 4096
# A parser keeps memory of about twelve times the largest text it has read; those of huge texts are let go.
_KEPT_BYTES = 4 * 1024 * 1024
# simdjson does not count the elements of a list beyond this.
_COUNTED = 0xFFFFFF
_HEAD = rb'[ \t\r\n]*\{[ \t\r\n]*"(?:%b)"[ \t\r\n]*:[ \t\r\n]*[\[{]'
# Parsers that wait for use. Taking and giving back are atomic, so threads share the list without a lock.
_idle: list[simdjson.Parser] = []

#: Packed arrays, how many rows, and whether it is one row on its own.
Found = tuple[dict[str, Any], int, bool]


class Unusual(Exception):
    """The body is not of the plain kind that is read here; perhaps it is fine all the same."""


class LargeReader:
    """Reads large bodies for one signature. Immutable and safe to share between threads.

    Args:
        signature: one for which ``reads_large`` is true.
        many: the keys under which rows stand, plain words.
        one: the key under which a row stands on its own; empty when there is none.
    """

    def __init__(self, signature: Signature, many: tuple[str, ...] = ("inputs",), one: str = "input") -> None:
        self._one = one
        words = "|".join((*many, one) if one else many)
        self._head = re.compile(_HEAD % words.encode("ascii"))
        self._fields = {field.name: field for field in signature.inputs}
        self._bare = len(signature.inputs) == 1
        self._table = not signature.inputs[0].is_tensor
        # In objects the names stand in the text and may hold brackets of their own.
        self._brackets = sum(name.count("[") for name in self._fields)
        self._bounded = [index for index, field in enumerate(signature.inputs) if field.dtype == "int64"]

    def read(self, body: bytes) -> Found | None:
        """The numbers of a body; None when anything at all is unusual.

        Args:
            body: a JSON text, perhaps.
        """
        if not self._head.match(body) or (self._table and b"null" in body):
            return None
        try:
            parser = _idle.pop()
        except IndexError:
            parser = simdjson.Parser()
        try:
            found = self._found(parser.parse(body), body.count(b"["))
        except (Unusual, ValueError, TypeError, RuntimeError, LookupError, OverflowError):
            # What simdjson and numpy raise for a text that is not of this kind. The parser is let go
            # with the exception, which may still hold parts of the document.
            return None
        if len(body) <= _KEPT_BYTES:
            _idle.append(parser)
        return found

    def _found(self, document: Any, lists: int) -> Found:
        keys = list(document.keys())
        if len(keys) != 1:
            raise Unusual
        single = keys[0] == self._one
        content = document[keys[0]]
        if self._table:
            if single:
                raise Unusual
            array, used = _table(content, len(self._fields))
            self._check_columns(array)
            arrays = {NUMBERS: array}
        elif single:
            arrays, used = self._row(content)
            arrays = {name: array[np.newaxis] for name, array in arrays.items()}
        elif self._bare and isinstance(_list(content)[0], simdjson.Array):
            (field,) = self._fields.values()
            array, used = _tensor(field, content, (-1, *field.shape))
            arrays = {field.name: array}
        else:
            arrays, used = self._rows(content)
        if used != lists:
            # Some number stands in a list of its own: the count fits, the shape does not.
            raise Unusual
        return arrays, next(iter(arrays.values())).shape[0], single

    def _row(self, row: Any) -> tuple[dict[str, Any], int]:
        """The tensors of one row, and how many brackets were open for them."""
        if self._bare and isinstance(row, simdjson.Array):
            (field,) = self._fields.values()
            array, lists = _tensor(field, row, field.shape)
            return {field.name: array}, lists
        if not isinstance(row, simdjson.Object):
            raise Unusual
        names = list(row.keys())
        if len(names) != len(self._fields):
            raise Unusual
        arrays = {}
        lists = self._brackets
        for name, field in self._fields.items():
            arrays[name], more = _tensor(field, row[name], field.shape)
            lists += more
        return arrays, lists

    def _rows(self, rows: Any) -> tuple[dict[str, Any], int]:
        read = [self._row(row) for row in _list(rows)]
        arrays = {name: np.stack([row[name] for row, _ in read]) for name in self._fields}
        return arrays, 1 + sum(lists for _, lists in read)

    def _check_columns(self, array: Any) -> None:
        for index in self._bounded:
            column = array[:, index]
            if column.min() < INT_LEAST or column.max() >= INT_BEYOND:
                raise Unusual


def reads_large(signature: Signature) -> bool:
    """Whether large bodies for this signature are worth reading here: tensors, or columns, of numbers."""
    if not signature.inputs:
        return False
    tensors = [field.is_tensor for field in signature.inputs]
    if any(tensors):
        return all(tensors) and all(_is_number(field) and field.shape for field in signature.inputs)
    return all(field.kind == "number" and field.dtype in ("float64", "int64") for field in signature.inputs)


def _is_number(field: Field) -> bool:
    return field.dtype not in ("str", "bool") and np.dtype(field.dtype).kind in "fiu"


def _table(rows: Any, columns: int) -> tuple[Any, int]:
    numbers = np.frombuffer(_list(rows).as_buffer(of_type="d"), np.float64)
    shape = (len(rows), columns)
    _check_shape(rows, shape, numbers.size)
    return numbers.reshape(shape), _lists_in(shape)


def _tensor(field: Field, values: Any, free: Sequence[int]) -> tuple[Any, int]:
    """One tensor and the number of its brackets.

    Args:
        field: says the dtype.
        values: the nested lists.
        free: the shape; -1 is a free size.
    """
    kind = np.dtype(field.dtype).kind
    letter, read = {"f": ("d", np.float64), "i": ("i", np.int64), "u": ("u", np.uint64)}[kind]
    numbers: Any = np.frombuffer(_list(values).as_buffer(of_type=letter), read)
    shape = _resolved(values, free)
    _check_shape(values, shape, numbers.size)
    if numbers.dtype != field.dtype:
        least, most = tensor_limits(field.dtype) or (-float_limit(field.dtype), float_limit(field.dtype))
        if numbers.min() < least or numbers.max() > most:
            raise Unusual
        numbers = numbers.astype(field.dtype)
    return numbers.reshape(shape), _lists_in(shape)


def _list(value: Any) -> Any:
    if not isinstance(value, simdjson.Array):
        raise Unusual
    return value


def _resolved(values: Any, free: Sequence[int]) -> tuple[int, ...]:
    """A shape with its free sizes taken from the first list of each level."""
    shape = []
    for size in free:
        shape.append(len(values) if size < 0 else size)
        if len(shape) < len(free):
            values = values[0]
    return tuple(shape)


def _check_shape(values: Any, shape: tuple[int, ...], count: int) -> None:
    if math.prod(shape) != count or not count or max(shape) >= _COUNTED or not _fits(values, shape):
        raise Unusual


def _fits(values: Any, shape: tuple[int, ...]) -> bool:
    """Whether the lists of every level are as long as the shape says; what is no list raises TypeError."""
    if len(values) != shape[0]:
        return False
    if len(shape) == 1:
        return True
    inner: Callable[[Any], bool]
    if len(shape) == 2:
        return set(map(len, values)) == {shape[1]}
    inner = _fits_below(shape[1:])
    return all(map(inner, values))


def _fits_below(shape: tuple[int, ...]) -> Callable[[Any], bool]:
    return lambda values: _fits(values, shape)


def _lists_in(shape: tuple[int, ...]) -> int:
    """How many lists a nested list of this shape consists of."""
    lists = each = 1
    for size in shape[:-1]:
        each *= size
        lists += each
    return lists
