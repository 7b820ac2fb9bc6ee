"""DataFrames to packed arrays and back: the one place where the two forms of a table meet.

``pack`` reads any DataFrame that has the signature's columns. ``to_frame`` makes the DataFrame that a
scikit-learn model is called with: ``canonical`` for pipelines trained here, ``pandas`` for models that
were trained elsewhere on the user's own dtypes.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from servable.artifact.signature import Field, Signature, names
from servable.errors import DataError
from servable.tensors import MISSING_STRING, NUMBERS, STRINGS, Arrays, row_count

#: How columns are typed: see ``to_frame``.
Style = Literal["canonical", "pandas"]

_TRUE = ("true", "yes", "1", "1.0", "t", "y")
_FALSE = ("false", "no", "0", "0.0", "f", "n")
_LONGEST_SHOWN = 40
_MICROSECONDS = 1e6
#: Beyond this a datetime64 in microseconds overflows; such a moment is shown as missing.
_LATEST_SECONDS = 9.0e12


def dtype_of(values: Sequence[Any]) -> str:
    """The dtype in which categories or classes travel."""
    if values and all(isinstance(value, bool) for value in values):
        return "bool"
    if values and all(isinstance(value, int) for value in values):
        return "int64"
    if values and all(isinstance(value, int | float) for value in values):
        return "float64"
    return "str"


def to_frame(arrays: Arrays, signature: Signature, style: Style = "canonical") -> pd.DataFrame:
    """Packed arrays as a DataFrame whose columns are the fields, in the order of the signature.

    Args:
        arrays: ``numbers`` float64 ``[rows, n]`` and ``strings`` object ``[rows, m]``, those that exist.
        signature: of a table; tensor fields have no column form.
        style: ``canonical``: numbers, booleans (0/1) and dates (seconds since 1970 UTC) float64 with NaN
            for missing, text object with "" for missing. ``pandas``: the dtype recorded in the field:
            ``int64`` and ``bool`` where no value is missing (and whole), ``datetime64[us]`` without zone in
            UTC, text ``str`` with NaN for missing; free text (kind ``text``) is "" where it is missing.

    Returns:
        A new DataFrame; in the canonical style of an all-number table it shares memory with ``numbers``.

    Raises:
        DataError: a field is a tensor.
    """
    if any(field.is_tensor for field in signature.inputs):
        raise DataError("This model takes whole tensors, which have no form as a table.")
    numbers = signature.packed(NUMBERS)
    strings = signature.packed(STRINGS)
    if style == "canonical" and not strings:
        return pd.DataFrame(arrays[NUMBERS], columns=list(names(numbers)), copy=False)
    rows = row_count(arrays)
    place = {field.name: index for index, field in enumerate(numbers)}
    place.update({field.name: index for index, field in enumerate(strings)})
    columns: dict[str, Any] = {}
    for field in signature.inputs:
        values = arrays[field.array][:, place[field.name]]
        if style == "pandas":
            columns[field.name] = _restored(values, field)
        else:
            columns[field.name] = pd.Series(values, dtype=object) if field.array == STRINGS else values
    return pd.DataFrame(columns, index=pd.RangeIndex(rows))


def _restored(values: NDArray[Any], field: Field) -> Any:
    """One packed column in the dtype that the field records."""
    if field.array == STRINGS:
        if field.kind == "text":
            # An empty text is a text; what splits texts takes no NaN.
            return pd.Series(values, dtype="str")
        missing = np.equal(values, MISSING_STRING)
        held = np.where(missing, np.nan, values) if missing.any() else values
        return pd.Series(held, dtype="str")
    if field.dtype == "datetime":
        fits = np.abs(values) < _LATEST_SECONDS
        moments = np.full(values.shape, np.datetime64("NaT", "us"))
        moments[fits] = np.round(values[fits] * _MICROSECONDS).astype("int64").astype("datetime64[us]")
        return moments
    if np.isnan(values).any():
        return values
    if field.dtype == "bool":
        return values != 0
    if field.dtype == "int64" and (np.floor(values) == values).all() and (np.abs(values) < 2.0**63).all():
        return values.astype("int64")
    return values


def pack(frame: pd.DataFrame, signature: Signature) -> dict[str, NDArray[Any]]:
    """The signature's columns of a DataFrame as packed arrays; other columns are ignored.

    Args:
        frame: the rows. Text is read as numbers, booleans and dates where the field is one; an empty text
            is a missing value. Dates without a zone count as UTC.
        signature: what to take. A single tensor field of shape ``(k,)`` takes the frame's k columns.

    Returns:
        Those of ``numbers`` (float64) and ``strings`` (object) that the signature has, C-contiguous; for a
        tensor its own name and dtype.

    Raises:
        DataError: a column is not there, or a value does not fit; names the column and the data row,
            counted from 1.
    """
    if any(field.is_tensor for field in signature.inputs):
        return _pack_tensor(frame, signature)
    absent = [field.name for field in signature.inputs if field.name not in frame.columns]
    if absent:
        raise DataError(f"The data has no column {_listed(absent)}; it has {_listed(list(frame.columns))}.")
    packed: dict[str, NDArray[Any]] = {}
    numbers, strings = signature.packed(NUMBERS), signature.packed(STRINGS)
    if numbers:
        array = np.empty((len(frame), len(numbers)), dtype=np.float64)
        for place, field in enumerate(numbers):
            array[:, place] = column_numbers(_one(frame, field.name), field)
        packed[NUMBERS] = array
    if strings:
        texts = np.empty((len(frame), len(strings)), dtype=object)
        for place, field in enumerate(strings):
            texts[:, place] = column_strings(_one(frame, field.name), field)
        packed[STRINGS] = texts
    return packed


def _one(frame: pd.DataFrame, name: str) -> pd.Series:
    """The one column of this name.

    Raises:
        DataError: several columns share the name.
    """
    count = int((frame.columns == name).sum())
    if count > 1:
        raise DataError(f"The data has {count} columns named {name!r}; rename or drop all but one.")
    return frame[name]


def column_numbers(column: pd.Series, field: Field) -> NDArray[np.float64]:
    """A column as it travels in ``numbers``: float64 ``[rows]``, NaN where missing.

    Raises:
        DataError: a value does not fit the field; names column and data row.
    """
    if field.dtype == "datetime" or field.kind == "date":
        values, bad = _seconds(column)
        expected = "a date such as 2026-01-31 or 2026-01-31T12:00:00"
    elif field.dtype == "bool":
        values, bad = _booleans(column)
        expected = "true or false"
    else:
        values, bad = _floats(column)
        bad = bad | np.isinf(values)
        expected = "a number"
    _refuse(column, field, bad, expected)
    if not field.missing:
        _refuse(column, field, np.isnan(values), f"{expected} (this column has no missing values)")
    if field.values and field.unknown == "refuse":
        known = np.asarray([float(value) for value in field.values], dtype=np.float64)
        _refuse(
            column, field, ~(np.isin(values, known) | np.isnan(values)), f"one of {_listed(field.values)}"
        )
    return values


def column_strings(column: pd.Series, field: Field) -> NDArray[Any]:
    """A column as it travels in ``strings``: object (str) ``[rows]``, "" where missing.

    Whole numbers lose a trailing ``.0``, which pandas gives them when others in the column are missing.

    Raises:
        DataError: a value is missing or unknown where the field refuses that; names column and data row.
    """
    missing = column.isna().to_numpy(dtype=bool)
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object)
    if pd.api.types.is_float_dtype(column.dtype):
        raw = [_text(value) for value in column.to_numpy(dtype=np.float64, na_value=np.nan).tolist()]
    else:
        raw = column.to_numpy(dtype=object, na_value=MISSING_STRING).tolist()
        if not all(type(value) is str for value in raw):
            raw = [value if type(value) is str else _text(value) for value in raw]
    texts = np.empty(len(raw), dtype=object)
    texts[:] = raw
    texts[missing] = MISSING_STRING
    empty = np.equal(texts, MISSING_STRING).astype(bool)
    if not field.missing:
        _refuse(column, field, empty, "a text (this column has no missing values)")
    if field.values and field.unknown == "refuse":
        known = pd.Index(list(field.values), dtype=object)
        unknown = known.get_indexer(pd.Index(texts, dtype=object)) < 0
        _refuse(column, field, unknown & ~empty, f"one of {_listed(field.values)}")
    return texts


def _text(value: Any) -> str:
    """A value of any type as text, whole floats as integers."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _floats(column: pd.Series) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """A column as float64, and which values are no numbers."""
    none = np.zeros(len(column), dtype=bool)
    if pd.api.types.is_bool_dtype(column.dtype) or pd.api.types.is_numeric_dtype(column.dtype):
        return column.to_numpy(dtype=np.float64, na_value=np.nan), none
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return np.full(len(column), np.nan), np.array(column.notna(), dtype=bool)
    texts = column.astype(object)
    values = pd.to_numeric(texts, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    bad = np.isnan(values) & _present(texts)
    return values, bad


def _present(column: pd.Series) -> NDArray[np.bool_]:
    """Where a column holds something: neither a missing value nor blank text."""
    blank = column.map(lambda value: isinstance(value, str) and not value.strip())
    present: NDArray[np.bool_] = column.notna().to_numpy(dtype=bool) & ~blank.to_numpy(dtype=bool)
    return present


def _booleans(column: pd.Series) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """A column as 0 and 1, and which values are neither."""
    if pd.api.types.is_bool_dtype(column.dtype) or pd.api.types.is_numeric_dtype(column.dtype):
        values: NDArray[np.float64] = column.to_numpy(dtype=np.float64, na_value=np.nan)
        return values, ~(np.isnan(values) | (values == 0) | (values == 1))
    present = _present(column)
    words = column.astype(object).map(lambda value: str(value).strip().lower())
    table = dict.fromkeys(_TRUE, 1.0) | dict.fromkeys(_FALSE, 0.0)
    values = np.array(words.map(table).to_numpy(dtype=np.float64, na_value=np.nan), dtype=np.float64)
    values[~present] = np.nan
    return values, np.isnan(values) & present


def _seconds(column: pd.Series) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """A column as seconds since 1970 UTC, and which values are no dates. Numbers are taken as seconds."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        return _floats(column)
    present = _present(column)
    held = column if pd.api.types.is_datetime64_any_dtype(column.dtype) else column.astype(object)
    moments = pd.to_datetime(held.where(present, None), utc=True, errors="coerce", format="ISO8601")
    if (moments.isna().to_numpy() & present).any():
        moments = pd.to_datetime(held.where(present, None), utc=True, errors="coerce", format="mixed")
    missing = moments.isna().to_numpy(dtype=bool)
    ticks = moments.dt.as_unit("us").astype("int64").to_numpy()
    values = np.where(missing, np.nan, ticks / _MICROSECONDS).astype(np.float64)
    return values, missing & present


def _refuse(column: pd.Series, field: Field, bad: NDArray[np.bool_], expected: str) -> None:
    """Raise for the first bad value of a column.

    Raises:
        DataError: there is one.
    """
    if not bad.any():
        return
    row = int(np.argmax(bad))
    value = column.iloc[row]
    missing = value is None or value is pd.NA or value is pd.NaT or value != value or value == MISSING_STRING
    shown = "nothing" if missing else _shortened(value)
    raise DataError(f"Column {field.name!r}, row {row + 1}: expected {expected}, got {shown}.")


def _shortened(value: Any) -> str:
    """A value for a message, cut to a readable length."""
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _listed(values: Sequence[Any]) -> str:
    """The first few of some names or values, for a message."""
    shown = ", ".join(repr(value) for value in values[:8])
    return f"{shown}, ... ({len(values)} in all)" if len(values) > 8 else shown


def _pack_tensor(frame: pd.DataFrame, signature: Signature) -> dict[str, NDArray[Any]]:
    """A frame for a model with one tensor of shape ``(k,)``: its k columns, in their order.

    Raises:
        DataError: the model takes another form, or the columns do not fit it.
    """
    field = signature.inputs[0]
    if len(signature.inputs) != 1 or len(field.shape) != 1 or field.dtype == "str":
        raise DataError("This model takes whole tensors, which cannot be read from a table.")
    width = field.shape[0]
    if width not in (-1, frame.shape[1]):
        raise DataError(f"The model takes {width} numbers a row, the data has {frame.shape[1]} columns.")
    array = np.empty(frame.shape, dtype=np.float64)
    for place, name in enumerate(frame.columns):
        column = Field(name=str(name), kind="number", dtype="float64", missing=True)
        array[:, place] = column_numbers(frame.iloc[:, place], column)
    return {field.name: array.astype(field.dtype)}
