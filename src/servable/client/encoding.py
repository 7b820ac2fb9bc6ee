"""Rows of any usual Python form to what is sent: JSON, or the bytes of an array or a file.

Bytes and paths are files: pictures and sounds, which go as they are or in base64.

pandas, polars, pyarrow and numpy are recognised and never imported: a value of theirs cannot come before
its library was.
"""

import binascii
import io
import itertools
import math
import sys
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from servable.client.results import Source
from servable.errors import FieldProblem, FileMissing, RequestInvalid, SettingInvalid

#: Names of the classes that stand for a missing value in pandas.
_MISSING = frozenset({"NAType", "NaTType"})
#: Largest size of one number in an array that is sent as it is.
_WIDEST = 8


class Table(NamedTuple):
    """Rows in a plain form.

    Attributes:
        rows: a mapping, a list or an array.
        single: whether they look like one row.
        source: what they were.
    """

    rows: Any
    single: bool
    source: Source


def body(rows: Any, *, single: bool | None = None) -> tuple[bytes, bool]:
    """The JSON body for one row or several.

    One row is a mapping, a flat list, a one-dimensional array, a pandas Series or a file; it becomes
    ``{"input": ...}``. Several rows are a list of rows, a DataFrame (pandas, polars or alike), an Arrow
    table or an array of two or more dimensions; they become ``{"inputs": [...]}``. NaN and every other
    missing value become null; dates become ISO 8601.

    Args:
        rows: the row or rows.
        single: says which of the two it is where the form does not, for instance one image as an array.

    Returns:
        The body and whether it holds one row.

    Raises:
        RequestInvalid: a value that JSON cannot carry, or no row at all.
    """
    table = read(rows)
    one = table.single if single is None else single
    return json_body(table, one), one


def json_body(table: Table, single: bool) -> bytes:
    """The JSON body for rows in a plain form.

    Raises:
        RequestInvalid: a value that JSON cannot carry, or no row at all.
    """
    if not single and len(table.rows) == 0:
        raise RequestInvalid([FieldProblem("inputs", "at least one row", "none")])
    key = "input" if single else "inputs"
    return msgspec.json.encode({key: _value(table.rows, key)})


def listed_body(table: Table, key: str) -> bytes:
    """A JSON object with several rows under a key.

    Raises:
        RequestInvalid: a value that JSON cannot carry, or no row at all.
    """
    rows = [table.rows] if table.single else table.rows
    if len(rows) == 0:
        raise RequestInvalid([FieldProblem(key, "at least one row", "none")])
    return msgspec.json.encode({key: _value(rows, key)})


def lines_body(table: Table) -> bytes:
    """JSON lines, one row on each.

    Raises:
        RequestInvalid: a value that JSON cannot carry, or no row at all.
    """
    if len(table.rows) == 0:
        raise RequestInvalid([FieldProblem("inputs", "at least one row", "none")])
    return b"".join(msgspec.json.encode(row) + b"\n" for row in _value(table.rows, "inputs"))


def file_body(rows: Any) -> bytes | None:
    """The bytes of a single file; None for rows of any other form.

    Raises:
        FileMissing: the path is that of no file.
    """
    if isinstance(rows, Path):
        return file_bytes(rows)
    return bytes(rows) if isinstance(rows, bytes | bytearray | memoryview) else None


def file_bytes(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        FileMissing: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileMissing(f"There is no file {path} that can be read.") from error


def npy_body(table: Table) -> bytes | None:
    """An array of numbers as ``numpy.save`` writes it; None for what only JSON carries without a doubt.

    Args:
        table: rows on the first axis, or one row of several axes on its own.
    """
    array = table.rows
    if not _is_array(array) or array.dtype.kind not in "fiu" or array.dtype.itemsize > _WIDEST:
        return None
    if array.size == 0 or array.ndim < 2:
        return None
    numpy = sys.modules["numpy"]
    target = io.BytesIO()
    numpy.save(target, numpy.ascontiguousarray(array), allow_pickle=False)
    return target.getvalue()


def batches(rows: Any, size: int) -> Iterator[Any]:
    """Rows cut into parts of at most ``size``, taken from an iterator no sooner than they are asked for.

    Args:
        rows: a DataFrame, an array, or any iterable of rows.
        size: at least 1.

    Raises:
        RequestInvalid: one row, or something that holds none.
        SettingInvalid: a size below 1.
    """
    size = _checked(size)
    if isinstance(rows, Mapping | str | bytes) or not isinstance(rows, Iterable):
        raise RequestInvalid([FieldProblem("rows", "several rows", type(rows).__name__)])
    if hasattr(rows, "columns") or _is_array(rows):
        return _slices(rows, size)
    return _parts(iter(rows), size)


def _checked(size: int) -> int:
    if size < 1:
        raise SettingInvalid(f"A batch of {size} rows was asked for; ask for 1 or more.")
    return size


def async_batches(rows: Any, size: int) -> AsyncIterator[Any]:
    """The same as ``batches``, for asynchronous iterables as well; raises as it does."""
    if isinstance(rows, AsyncIterable):
        return _async_parts(rows, _checked(size))
    return _as_async(batches(rows, size))


async def _as_async(parts: Iterator[Any]) -> AsyncIterator[Any]:
    for part in parts:
        yield part


async def _async_parts(rows: AsyncIterable[Any], size: int) -> AsyncIterator[Any]:
    part = []
    async for row in rows:
        part.append(row)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


def _slices(rows: Any, size: int) -> Iterator[Any]:
    whole = getattr(rows, "iloc", rows)
    return (whole[start : start + size] for start in range(0, len(rows), size))


def _parts(rows: Iterator[Any], size: int) -> Iterator[Any]:
    while part := list(itertools.islice(rows, size)):
        yield part


def read(rows: Any) -> Table:
    """Rows in a plain form: a mapping, a list or an array.

    Raises:
        RequestInvalid: something that holds no rows.
    """
    if isinstance(rows, Mapping):
        return Table(rows, True, Source("rows"))
    if _is_file(rows):
        return Table(rows, True, Source("rows"))
    if _is_array(rows):
        return Table(rows, rows.ndim < 2, Source("numpy"))
    if hasattr(rows, "to_pylist") and hasattr(rows, "column_names"):
        return Table(rows.to_pylist(), False, Source("pyarrow"))
    if hasattr(rows, "to_dicts") and hasattr(rows, "columns"):
        return Table(rows.to_dicts(), False, Source("polars"))
    if hasattr(rows, "to_dict") and hasattr(rows, "columns"):
        return Table(rows.to_dict("records"), False, Source("pandas", rows.index))
    if hasattr(rows, "to_dict"):
        return Table(rows.to_dict(), True, Source("pandas"))
    if isinstance(rows, Sequence) and not isinstance(rows, str | bytes):
        first = rows[0] if len(rows) else ()
        several = isinstance(first, Mapping | list | tuple) or _is_array(first) or _is_file(first)
        return Table(rows, not several, Source("rows"))
    expected = "a dict, a list, an array, a DataFrame, the bytes of a file or its path"
    raise RequestInvalid([FieldProblem("input", expected, type(rows).__name__)])


def _is_file(value: Any) -> bool:
    return isinstance(value, bytes | bytearray | memoryview | Path)


def _is_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def _value(value: Any, path: str) -> Any:
    """A value as JSON's own types; ``path`` is for messages."""
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if kind is float:
        return _number(value, path)
    if isinstance(value, Mapping):
        return {str(name): _value(part, f"{path}.{name}") for name, part in value.items()}
    if _is_file(value):
        return binascii.b2a_base64(file_body(value) or b"", newline=False).decode("ascii")
    if isinstance(value, list | tuple):
        return [_value(part, f"{path}[{index}]") for index, part in enumerate(value)]
    if _is_array(value):
        return _array(value, path)
    return _scalar(value, path)


def _scalar(value: Any, path: str) -> Any:
    """A single value that is not one of JSON's own types."""
    if type(value).__name__ in _MISSING:
        return None
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        if isinstance(value, numpy.datetime64):
            return None if numpy.isnat(value) else str(value.astype("datetime64[us]"))
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


def _array(array: Any, path: str) -> Any:
    """An array as nested lists; whole finite arrays need no look at single values."""
    numpy = sys.modules["numpy"]
    if array.dtype.kind in "iub":
        return array.tolist()
    if array.dtype.kind == "f" and array.dtype.itemsize > _WIDEST:
        array = array.astype("float64")
    if array.dtype.kind == "f" and bool(numpy.isfinite(array).all()):
        return array.tolist()
    if array.dtype.kind == "M":
        texts = numpy.datetime_as_string(array.astype("datetime64[us]"))
        present = texts.astype(object)
        return numpy.where(numpy.isnat(array), numpy.array(None, dtype=object), present).tolist()
    return _value(array.tolist(), path)
