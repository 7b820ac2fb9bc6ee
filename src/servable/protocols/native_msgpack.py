"""MessagePack: ``{"input": row}`` or ``{"inputs": [row, ...]}``, as the native JSON has it.

The same values are taken as in JSON; a timestamp of MessagePack is a date, and a file is its bytes.
The number of rows stands at the beginning of their list, so it is known before anything is unpacked.
"""

from datetime import datetime
from types import GenericAlias
from typing import Any

import msgspec

from servable.artifact.signature import Signature, is_table
from servable.errors import FieldProblem, RequestInvalid, RequestMalformed, RequestTooLarge
from servable.protocols.base import NO_HEAD, CodecLimits, Head
from servable.protocols.files import takes_files
from servable.protocols.json_values import undisturbed
from servable.protocols.native import NativeAnswer
from servable.protocols.native_schema import Problems, joined, shown
from servable.protocols.rows import RowReader
from servable.tensors import Body, Request

#: Most bytes of a body for models that take tensors: each value becomes an object before it is a number.
_MOST_TENSOR_BYTES = 16 * 1024 * 1024
#: A row of more bytes than this is not looked at value by value when it does not fit.
_LONGEST_NAMED = 1 << 20
_FIXED_ARRAY, _ARRAY_16, _ARRAY_32 = 0x90, 0xDC, 0xDD
_decode_outline = msgspec.msgpack.Decoder(dict[str, msgspec.Raw]).decode
_decode_rows = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_decode_anything = msgspec.msgpack.Decoder().decode
#: What a value that JSON has no word for is called.
_FOREIGN = "a binary or extension value"


class MsgpackCodec(NativeAnswer):
    """Immutable and safe to share.

    Args:
        signature: what the model takes and gives.
        limits: most rows and deepest nesting.
    """

    def __init__(self, signature: Signature, limits: CodecLimits) -> None:
        super().__init__(signature)
        deepest = max((len(field.shape) for field in signature.inputs), default=0)
        self._max_depth = max(limits.max_depth, 3 + deepest)
        self._rows = RowReader(signature, limits.max_rows, bytes)
        self._files = takes_files(signature)
        self._table = is_table(signature.inputs)
        types = self._rows.types
        rows: Any = None if types is None else GenericAlias(list, (types[1],))
        self._typed = None if rows is None else msgspec.msgpack.Decoder(rows).decode

    def decode(self, body: Body, request_id: str, head: Head = NO_HEAD) -> Request:
        """Bytes to a Request.

        Raises:
            RequestMalformed: not MessagePack, not an object, or nested too deeply.
            RequestInvalid: the values do not fit; every problem is named.
            RequestTooLarge: more rows, or more bytes of tensors, than allowed.
        """
        if not self._table and len(body) > _MOST_TENSOR_BYTES:
            instead = "fewer files at once, or application/x-npy" if self._files else "application/x-npy"
            raise RequestTooLarge(
                f"Tensors in MessagePack are read up to {_MOST_TENSOR_BYTES} bytes; send {instead}."
            )
        key, packed = self._outline(body)
        single = key == "input"
        if single:
            # A list of this one row.
            packed = bytes((_FIXED_ARRAY + 1,)) + packed
        count = _list_length(packed)
        if count is None:
            raise RequestInvalid([FieldProblem("inputs", "a list of rows", shown(self._plain(packed)))])
        self._rows.check_count(count)
        if not count:
            raise RequestInvalid([FieldProblem("inputs", "a list of at least one row", "an empty list")])
        arrays = self._read_typed(packed)
        if arrays is None:
            arrays = self._read_exactly(packed, key, single)
        return Request(arrays, count, request_id, single)

    def _outline(self, body: Body) -> tuple[str, bytes]:
        """The one key of the body and what stands under it."""
        try:
            content = _decode_outline(body)
        except RecursionError as error:
            raise self._too_deep() from error
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise RequestMalformed(
                f"The body is no object in MessagePack ({_words(error)}); "
                'send {"input": row} or {"inputs": [row, ...]}.'
            ) from error
        problems = Problems()
        for key in content:
            if key not in ("input", "inputs") and not problems.full:
                problems.note(joined("", key).lstrip("."), '"input" or "inputs" and nothing else', "this key")
        if len(content) != 1 and not problems:
            got = "both" if content else "neither"
            problems.note("input", '"input" (one row) or "inputs" (a list of rows)', got)
        if problems:
            raise RequestInvalid(problems)
        key, raw = next(iter(content.items()))
        return key, bytes(raw)

    def _read_typed(self, packed: bytes) -> dict[str, Any] | None:
        """The good case; None when anything at all is unusual."""
        if self._typed is None:
            return None
        try:
            return self._rows.pack(undisturbed(self._typed, packed))
        except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError):
            return None

    def _read_exactly(self, packed: bytes, key: str, single: bool) -> dict[str, Any]:
        values = []
        for index, raw in enumerate(_decode_rows(packed)):
            if len(raw) > _LONGEST_NAMED:
                place = key if single else f"{key}[{index}]"
                problem = FieldProblem(place, "a row that fits the signature", f"{len(raw)} bytes of another")
                raise RequestInvalid([problem])
            values.append(self._plain(bytes(raw)))
        return self._rows.read(values, key, single=single)

    def _plain(self, raw: bytes) -> Any:
        """A value as JSON has it.

        Raises:
            RequestMalformed: nested too deeply, or of a kind that JSON does not have.
        """
        try:
            return _as_json(_decode_anything(raw), self._max_depth, self._files)
        except RecursionError as error:
            raise self._too_deep() from error
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
            raise RequestMalformed(
                f"The body holds a value that is not read ({_words(error)}); "
                "send texts, numbers, booleans, lists and objects."
            ) from error

    def _too_deep(self) -> RequestMalformed:
        return RequestMalformed(
            f"The body is nested more than {self._max_depth} levels deep; send flatter values."
        )


def _list_length(packed: bytes) -> int | None:
    """How many values the list has that begins here; None when it is none."""
    first = packed[0]
    if _FIXED_ARRAY <= first < _FIXED_ARRAY + 16:
        return first - _FIXED_ARRAY
    size = {_ARRAY_16: 2, _ARRAY_32: 4}.get(first)
    return None if size is None else int.from_bytes(packed[1 : 1 + size], "big")


def _as_json(value: Any, levels: int, files: bool) -> Any:
    if files and isinstance(value, bytes):
        return value
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if not levels:
        raise RecursionError
    if isinstance(value, list):
        return [_as_json(item, levels - 1, files) for item in value]
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("an object with a key that is no text")
        return {key: _as_json(item, levels - 1, files) for key, item in value.items()}
    raise ValueError(_FOREIGN)


def _words(error: Exception) -> str:
    return "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
