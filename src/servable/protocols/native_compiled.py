"""The good case of the native format, compiled: typed decoders and the packing of values into arrays."""

import types
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np

from servable.artifact.signature import Field, Signature
from servable.protocols import files
from servable.protocols.native_schema import (
    INT_BEYOND,
    INT_LEAST,
    epoch_seconds,
    float_limit,
    membership,
    tensor_limits,
)
from servable.tensors import NUMBERS, STRINGS


class Packer:
    """Puts rows of values, in the order of the signature, into packed arrays. Safe to share."""

    def __init__(self, signature: Signature) -> None:
        indexed = list(enumerate(signature.inputs))
        columns = [(index, field) for index, field in indexed if not field.is_tensor]
        self._numbers = tuple(index for index, field in columns if field.array == NUMBERS)
        self._strings = tuple(index for index, field in columns if field.array == STRINGS)
        self._dates = frozenset(index for index, field in indexed if field.dtype == "datetime")
        self._tensors = tuple((index, field) for index, field in indexed if field.is_tensor)

    def pack(self, rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
        """Packed arrays; ``ValueError`` for a date that is none and for tensors of differing shapes."""
        arrays: dict[str, Any] = {}
        if self._numbers:
            indices = self._numbers
            if self._dates:
                values = [[self._seconds(index, row[index]) for index in indices] for row in rows]
            else:
                values = [[row[index] for index in indices] for row in rows]
            arrays[NUMBERS] = np.array(values, np.float64)
        if self._strings:
            texts = np.empty((len(rows), len(self._strings)), object)
            for number, row in enumerate(rows):
                texts[number] = [row[index] or "" for index in self._strings]
            arrays[STRINGS] = texts
        for index, field in self._tensors:
            arrays[field.name] = _tensor(field, [row[index] for row in rows])
        return arrays

    def _seconds(self, index: int, value: Any) -> Any:
        return epoch_seconds(value) if index in self._dates and isinstance(value, str) else value


def _tensor(field: Field, values: list[Any]) -> Any:
    if field.takes_files and (found := files.column_of(field, values)) is not None:
        return found
    array = np.array(values, object if field.dtype == "str" else field.dtype)
    shape = array.shape[1:]
    if len(shape) != len(field.shape) or any(
        want not in (-1, have) for want, have in zip(field.shape, shape, strict=True)
    ):
        raise ValueError(field.name)
    return array


def all_plain_numbers(signature: Signature) -> bool:
    """Whether a row is numbers and booleans only, which numpy packs without any work in Python."""
    return bool(signature.inputs) and all(
        field.array == NUMBERS
        and not field.is_tensor
        and field.dtype != "datetime"
        and membership(field) is None
        for field in signature.inputs
    )


def row_types(signature: Signature, bare: bool, file: type = str) -> tuple[type, Any] | None:
    """The type of a row given as an object, and that of any row; None when the names cannot be compiled.

    Args:
        signature: what the model takes.
        bare: whether a row may be the one tensor itself.
        file: what a file is in this format, a text or bytes.
    """
    columns = [(f"f{index}", _value_type(field, file), field) for index, field in enumerate(signature.inputs)]
    try:
        row_type = msgspec.defstruct(
            "Row",
            [
                (name, kind, None) if field.missing and not field.is_tensor else (name, kind)
                for name, kind, field in columns
            ],
            rename={name: field.name for name, _, field in columns},
            forbid_unknown_fields=True,
            kw_only=True,
            gc=False,
        )
        # A tuple type of a handful of columns is checked in C as fast as a list and knows each column.
        kinds = tuple(kind for _, kind, _ in columns)
        as_list: Any = columns[0][1] if bare else tuple[kinds]  # type: ignore[valid-type]  # Made at run time.
        row: Any = row_type | as_list
        # What it cannot compile it says here, and not at the first row.
        msgspec.json.Decoder(row)
    except (ValueError, TypeError):
        # A column name with a quote or a control character, or a tensor without axes.
        return None
    return row_type, row


def list_type(item: Any) -> Any:
    """The type of a list of this type."""
    return types.GenericAlias(list, (item,))


def typed_decoder(row: Any) -> Any:
    """The compiled decoder of a whole body whose rows are of this type."""
    body = msgspec.defstruct(
        "Body",
        [
            ("input", row | msgspec.UnsetType, msgspec.UNSET),
            ("inputs", list_type(row) | msgspec.UnsetType, msgspec.UNSET),
        ],
        forbid_unknown_fields=True,
        gc=False,
    )
    return msgspec.json.Decoder(body).decode


def _value_type(field: Field, file: type) -> Any:
    if field.is_tensor:
        kind: Any = _tensor_type(field)
        return kind | file if field.takes_files else kind
    kind = {"str": str, "bool": bool, "datetime": str | float}.get(field.dtype, float)
    if field.dtype == "int64":
        kind = Annotated[float, msgspec.Meta(ge=INT_LEAST, lt=INT_BEYOND)]
    return kind | None if field.missing else kind


def _tensor_type(field: Field) -> Any:
    limits = None if field.dtype == "str" else tensor_limits(field.dtype)
    cell: Any = {"str": str, "bool": bool}.get(field.dtype, float)
    if limits is not None:
        # Wider limits than 64 bits signed cannot be compiled; numpy refuses what does not fit.
        least, most = limits
        cell = Annotated[int, msgspec.Meta(ge=least, le=min(most, 2**63 - 1))]
    elif cell is float:
        greatest = float_limit(field.dtype)
        cell = Annotated[float, msgspec.Meta(ge=-greatest, le=greatest)]
    kind: Any = cell
    for size in reversed(field.shape):
        kind = _list_of(kind, size)
    return kind


def _list_of(kind: Any, size: int) -> Any:
    """The type of a list of this type; a negative size is a free one."""
    plain = list_type(kind)
    return plain if size < 0 else Annotated[plain, msgspec.Meta(min_length=size, max_length=size)]
