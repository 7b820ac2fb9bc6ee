"""The good case of small requests of the Open Inference Protocol: columns of a table, or all of them as one.

Only what is plain is read here; everything else gives None, and ``oip_values`` and ``face`` accept it or
name what is wrong with it.
"""

from types import GenericAlias
from typing import Any

import msgspec
import numpy as np

from servable.artifact.signature import Signature, is_table
from servable.protocols.base import CodecLimits
from servable.protocols.face import Face
from servable.protocols.native_compiled import all_plain_numbers
from servable.protocols.native_schema import INT_BEYOND, INT_LEAST
from servable.protocols.oip_binary import SIZE
from servable.protocols.oip_envelope import Envelope, Given
from servable.protocols.rows import RowReader
from servable.tensors import NUMBERS, Body

#: Packed arrays, and how many rows.
Found = tuple[dict[str, Any], int]
_WHOLE = frozenset({int, type(None)})


class PlainGiven(Given, gc=False, kw_only=True):
    """One input whose values are a flat list of numbers."""

    data: list[float]


class PlainEnvelope(Envelope, gc=False, kw_only=True):
    """A whole request whose values are such lists."""

    inputs: list[PlainGiven]  # type: ignore[assignment]  # the values are narrower, and nobody writes to it


_decode_plain = msgspec.json.Decoder(PlainEnvelope).decode


class QuickReader:
    """Reads plain requests for one table. Immutable and safe to share.

    Args:
        signature: what the model takes.
        limits: what is refused.
    """

    def __init__(self, signature: Signature, limits: CodecLimits) -> None:
        self._max_rows = limits.max_rows
        self._names = {field.name: index for index, field in enumerate(signature.inputs)}
        numbers = all_plain_numbers(signature) and all(field.dtype != "bool" for field in signature.inputs)
        self._whole = len(signature.inputs) if numbers else 0
        self._bounded = any(field.dtype == "int64" for field in signature.inputs)
        self._rows = RowReader(signature, limits.max_rows)
        types = self._rows.types if is_table(signature.inputs) else None
        self._form: Any = None if types is None else GenericAlias(list, (types[1],))
        # The datatypes that JSON values of the columns have by themselves.
        self._datatypes = tuple(tensor.datatype for tensor in Face.columns(signature))

    def read_text(self, text: Body) -> tuple[Found, PlainEnvelope] | None:
        """A small request with all columns as one tensor of numbers, decoded straight into floats.

        Returns:
            The arrays, and the request without them; None when anything at all is unusual.
        """
        if not self._whole:
            return None
        try:
            envelope = _decode_plain(text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        if len(envelope.inputs) != 1 or _has_content_type(envelope):
            return None
        given = envelope.inputs[0]
        data, shape = given.data, given.shape
        if (
            given.datatype != "FP64"
            or len(shape) != 2
            or shape[1] != self._whole
            or len(data) != shape[0] * self._whole
            or not 0 < shape[0] <= self._max_rows
            or given.parameters is not None
            or given.name in self._names
        ):
            return None
        if self._bounded and (min(data) < INT_LEAST or max(data) >= INT_BEYOND):
            return None
        rows = shape[0]
        array: Any = np.array((data,), np.float64) if rows == 1 else np.array(data, np.float64).reshape(shape)
        return ({NUMBERS: array}, rows), envelope

    def read_bytes(self, envelope: Envelope, rest: memoryview) -> Found | None:
        """The arrays of a request whose columns are one tensor in bytes; None when anything is unusual.

        Args:
            envelope: without the bytes.
            rest: all that is behind the JSON.
        """
        given = envelope.inputs[0] if len(envelope.inputs) == 1 else None
        if given is None or given.datatype != "FP64" or len(given.shape) != 2 or given.name in self._names:
            return None
        if _has_content_type(envelope):
            return None
        rows, columns = given.shape
        if (
            columns != self._whole
            or not 0 < rows <= self._max_rows
            or len(rest) != rows * columns * 8
            or given.parameters != {SIZE: len(rest)}
            or given.data is not msgspec.UNSET
        ):
            return None
        # The JSON before them has any length, so that the numbers seldom lie where they may be computed with.
        array = np.frombuffer(rest, "<f8").reshape(rows, columns).copy()
        # False for NaN, too.
        return ({NUMBERS: array}, rows) if np.abs(array).max() < INT_BEYOND else None

    def read(self, envelope: Envelope) -> Found | None:
        """The arrays of a small request with a tensor for each column; None when anything is unusual."""
        inputs = envelope.inputs
        if self._form is None or len(inputs) != len(self._names):
            return None
        return self._read_columns(inputs)

    def _read_columns(self, inputs: list[Given]) -> Found | None:
        rows = inputs[0].shape[0] if inputs[0].shape else 0
        if not 0 < rows <= self._max_rows:
            return None
        shapes = ([rows], [rows, 1])
        columns: list[Any] = [None] * len(inputs)
        for given in inputs:
            index, data = self._names.get(given.name), given.data
            if (
                index is None
                or columns[index] is not None
                or given.parameters is not None
                or given.datatype != self._datatypes[index]
                or given.shape not in shapes
                or type(data) is not list
                or len(data) != rows
                or (given.datatype == "INT64" and not _WHOLE.issuperset(map(type, data)))
            ):
                return None
            columns[index] = data
        try:
            # What stands in a list of its own is none of the types.
            return self._rows.pack(
                msgspec.convert(list(map(list, zip(*columns, strict=True))), self._form)
            ), rows
        except (msgspec.MsgspecError, ValueError, OverflowError):
            return None


def _has_content_type(envelope: Envelope) -> bool:
    return envelope.parameters is not None and "content_type" in envelope.parameters
