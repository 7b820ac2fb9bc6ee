"""Rows of any usual Python form to JSON. Pure.

pandas and polars are recognised by their shape and never imported.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec
import numpy as np

from servable.errors import FieldProblem, RequestInvalid

#: Names of the classes that stand for a missing value in pandas.
_MISSING = frozenset({"NAType", "NaTType"})


def body(rows: Any, *, single: bool | None = None) -> tuple[bytes, bool]:
    """The JSON body for one row or several.

    One row is a mapping, a flat list, a one-dimensional array or a pandas Series; it becomes
    ``{"input": ...}``. Several rows are a list of rows, a DataFrame (pandas, polars or alike) or an
    array of two or more dimensions; they become ``{"inputs": [...]}``. NaN and every other missing
    value become null; dates become ISO 8601.

    Args:
        rows: the row or rows.
        single: says which of the two it is where the form does not, for instance one image as an array.

    Returns:
        The body and whether it holds one row.

    Raises:
        RequestInvalid: a value that JSON cannot carry, or no row at all.
    """
    plain, one = _rows(rows)
    if single is not None:
        one = single
    if not one and len(plain) == 0:
        raise RequestInvalid([FieldProblem("inputs", "at least one row", "none")])
    key = "input" if one else "inputs"
    return msgspec.json.encode({key: _value(plain, key)}), one


def _rows(rows: Any) -> tuple[Any, bool]:
    """The rows as dicts, lists or an array, and whether they look like one row."""
    if isinstance(rows, Mapping):
        return rows, True
    if isinstance(rows, np.ndarray):
        return rows, rows.ndim < 2
    if hasattr(rows, "to_dicts") and hasattr(rows, "columns"):
        return rows.to_dicts(), False
    if hasattr(rows, "to_dict") and hasattr(rows, "columns"):
        return rows.to_dict("records"), False
    if hasattr(rows, "to_dict"):
        return rows.to_dict(), True
    if isinstance(rows, Sequence) and not isinstance(rows, str | bytes):
        several = len(rows) == 0 or isinstance(rows[0], Mapping | list | tuple | np.ndarray)
        return rows, not several
    expected = "a dict, a list, an array or a DataFrame"
    raise RequestInvalid([FieldProblem("input", expected, type(rows).__name__)])


def _value(value: Any, path: str) -> Any:
    """A value as JSON's own types; ``path`` is for messages."""
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if kind is float:
        return _number(value, path)
    if isinstance(value, Mapping):
        return {str(name): _value(part, f"{path}.{name}") for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_value(part, f"{path}[{index}]") for index, part in enumerate(value)]
    if isinstance(value, np.ndarray):
        return _array(value, path)
    return _scalar(value, path)


def _scalar(value: Any, path: str) -> Any:
    """A single value that is not one of JSON's own types."""
    if type(value).__name__ in _MISSING:
        return None
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else str(value.astype("datetime64[us]"))
    if isinstance(value, np.generic):
        return _value(value.item(), path)
    if isinstance(value, float | Decimal):
        return _number(float(value), path)
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Enum):
        return _value(value.value, path)
    if isinstance(value, str | int):
        return str(value) if isinstance(value, str) else int(value)
    if isinstance(value, UUID):
        return str(value)
    expected = "a number, a text, a truth value, a date or null"
    raise RequestInvalid([FieldProblem(path, expected, type(value).__name__)])


def _number(value: float, path: str) -> float | None:
    """A float; NaN is a missing value, infinity has no form in JSON."""
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return None
    raise RequestInvalid([FieldProblem(path, "a finite number", str(value))])


def _array(array: np.ndarray[Any, Any], path: str) -> Any:
    """An array as nested lists; whole finite arrays need no look at single values."""
    if array.dtype.kind in "iub":
        return array.tolist()
    if array.dtype.kind == "f" and bool(np.isfinite(array).all()):
        return array.tolist()
    if array.dtype.kind == "M":
        texts = np.datetime_as_string(array.astype("datetime64[us]"))
        return np.where(np.isnat(array), np.array(None, dtype=object), texts.astype(object)).tolist()
    return _value(array.tolist(), path)
