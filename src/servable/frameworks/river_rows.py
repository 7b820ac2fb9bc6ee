"""Packed arrays as the dictionaries that River takes, one a row. Needs neither pandas nor River."""

from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import numpy as np

from servable.artifact.signature import Field, Signature
from servable.tensors import MISSING_STRING, NUMBERS, STRINGS, Arrays

#: How a missing value is said: as None under the column's name, or by leaving the column out. Never as NaN,
#: which a model that learns from it keeps for ever.
Missing = Literal["none", "absent"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC).replace(tzinfo=None)


def rows_of(arrays: Arrays, signature: Signature, missing: Missing) -> list[dict[str, Any]]:
    """The rows as River's features by column name.

    Args:
        arrays: packed, as in ``tensors.Request``.
        signature: of a table; tells the types.
        missing: how a missing value is said.

    Returns:
        New dictionaries with values of Python: float and int for numbers, str, bool, and datetime without a
        zone, in UTC, for dates.
    """
    columns = columns_of(arrays, signature)
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    if missing == "none":
        return rows
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


def columns_of(arrays: Arrays, signature: Signature) -> dict[str, list[Any]]:
    """The rows by column, with the values of ``rows_of``; None for missing ones."""
    columns: dict[str, list[Any]] = {}
    places = {NUMBERS: 0, STRINGS: 0}
    for field in signature.inputs:
        place = places[field.array]
        places[field.array] += 1
        columns[field.name] = _values(arrays[field.array][:, place], field)
    return columns


def one_row(arrays: Arrays, signature: Signature, missing: Missing) -> dict[str, Any]:
    """The first row of ``rows_of``."""
    return rows_of({name: array[:1] for name, array in arrays.items()}, signature, missing)[0]


def without(arrays: Arrays, signature: Signature, name: str) -> dict[str, Any]:
    """Copies of packed arrays in which a column is missing in every row."""
    field = signature.input(name)
    place = [other.name for other in signature.packed(field.array)].index(name)
    copies = {key: array.copy() for key, array in arrays.items()}
    copies[field.array][:, place] = MISSING_STRING if field.array == STRINGS else np.nan
    return copies


def _values(column: Any, field: Field) -> list[Any]:
    """One packed column as values of the type that the field records; None for missing ones."""
    if field.array == STRINGS:
        if field.kind == "text":
            # An empty text is a text.
            return list(column)
        return [None if value == MISSING_STRING else value for value in column]
    make = _MAKERS.get(field.dtype, float)
    return [None if value != value else make(value) for value in column.tolist()]


def _date(seconds: float) -> datetime | float:
    """A moment; a number that no moment has stays one."""
    try:
        return _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return seconds


def _whole(value: float) -> int | float:
    return int(value) if value.is_integer() else value


_MAKERS: dict[str, Any] = {"int64": _whole, "bool": bool, "datetime": _date}
