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
from servable.protocols.oip_envelope import Envelope, Given
from servable.protocols.rows import RowReader
from servable.tensors import NUMBERS

#: Packed arrays, and how many rows.
Found = tuple[dict[str, Any], int]
_NUMBERS = frozenset({int, float})


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
        self._rows = RowReader(signature, limits.max_rows)
        types = self._rows.types if is_table(signature.inputs) else None
        self._form: Any = None if types is None else GenericAlias(list, (types[1],))
        # The datatypes that JSON values of the columns have by themselves.
        self._datatypes = tuple(tensor.datatype for tensor in Face.columns(signature))

    def read(self, envelope: Envelope) -> Found | None:
        """The arrays of a request; None when anything at all is unusual."""
        inputs = envelope.inputs
        if len(inputs) == 1 and self._whole and inputs[0].name not in self._names:
            return self._read_whole(inputs[0])
        if self._form is None or len(inputs) != len(self._names):
            return None
        return self._read_columns(inputs)

    def _read_whole(self, given: Given) -> Found | None:
        data, shape = given.data, given.shape
        if (
            given.parameters is not None
            or given.datatype != "FP64"
            or len(shape) != 2
            or type(data) is not list
        ):
            return None
        rows, columns = shape
        if columns != self._whole or not 0 < rows <= self._max_rows:
            return None
        if data and type(data[0]) is list:
            if len(data) != rows or any(type(row) is not list or len(row) != columns for row in data):
                return None
            data = data[0] if rows == 1 else [value for row in data for value in row]
        if len(data) != rows * columns or not _NUMBERS.issuperset(map(type, data)):
            return None
        if min(data) < INT_LEAST or max(data) >= INT_BEYOND:
            return None
        return {NUMBERS: np.array(data, np.float64).reshape(rows, columns)}, rows

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
