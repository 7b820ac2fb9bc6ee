"""Rows as comma-separated text (RFC 4180), with a line of column names or without one.

The first line is names when ``is_header`` finds it so; otherwise it is the first row, in the order of the
signature. A model whose only input is one tensor takes its numbers one after the other in a line.
"""

import io
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from servable.artifact.signature import Field, Signature
from servable.errors import RequestInvalid, RequestMalformed
from servable.protocols.csv_text import MISSING_OTHER, TRUTHS, is_header, number, records
from servable.protocols.native_schema import Problems
from servable.protocols.rows import RowReader
from servable.tensors import NUMBERS, Body

#: What stands before a row in the paths of problems.
PLACE = "rows"
#: What means a missing value in columns that are no texts, in letters of any case; with the rest of what
#: pandas reads so.
_MISSING = frozenset(word.lower() for word in MISSING_OTHER) | {"#na", "-nan", "nat", "1.#qnan", "1.#ind"}


class CsvReader:
    """Reads CSV for one signature. Immutable and safe to share.

    Args:
        signature: what the model takes.
        rows: reads the values.
    """

    def __init__(self, signature: Signature, rows: RowReader) -> None:
        self._rows = rows
        self._fields = signature.inputs
        self._names = tuple(field.name for field in signature.inputs)
        self._required = frozenset(field.name for field in signature.inputs if not field.missing)
        self._tensor = signature.inputs[0] if rows.bare else None
        self._readable = rows.bare or all(not field.is_tensor for field in signature.inputs)
        self._plain = all(field.kind == "number" and field.dtype == "float64" for field in signature.inputs)

    def read(self, body: Body) -> tuple[dict[str, Any], int]:
        """Packed arrays and how many rows they hold.

        Args:
            body: the whole text, UTF-8.

        Raises:
            RequestMalformed: no CSV, or no UTF-8.
            RequestInvalid: values that do not fit, or columns that are not there; every problem is named.
            RequestTooLarge: more rows than allowed.
        """
        if not self._readable:
            problems = Problems()
            problems.note(PLACE, "JSON, because CSV does not carry several tensors", "CSV")
            raise RequestInvalid(problems)
        text = io.TextIOWrapper(io.BytesIO(body), "utf-8-sig", newline="")
        lines = (record for _, record in records(text))
        first = next(lines, None)
        if first is None:
            raise RequestMalformed("The body is empty; send CSV, one row a line.")
        if self._is_header(first):
            return self._read_named(first, lines)
        lines_read = [first]
        for line in lines:
            lines_read.append(line)
            self._rows.check_count(len(lines_read))
        return self._packed(lines_read), len(lines_read)

    def _is_header(self, line: Sequence[str]) -> bool:
        if self._tensor is not None and self._tensor.dtype != "str":
            return False
        return is_header(line, self._names, self._required)

    # ------------------------------------------------------------------ with names

    def _read_named(self, names: Sequence[str], lines: Iterator[list[str]]) -> tuple[dict[str, Any], int]:
        places: dict[str, int] = {}
        problems = Problems()
        for place, name in enumerate(names):
            if name in places and name in self._names:
                problems.note(f"columns[{place}]", "each column once", f'"{name[:40]}" again')
            places[name] = place
        if problems:
            raise RequestInvalid(problems)
        absent = [name for name in self._names if name not in places]
        strangers = [name for name in places if name and name not in self._names] if absent else []
        order = [places[name] for name in self._names if name in places]
        kept: list[list[str]] = []
        for line in lines:
            if len(line) != len(names):
                problems.note(f"{PLACE}[{len(kept)}]", f"{len(names)} values", f"{len(line)}")
            kept.append([line[place] for place in order] if len(line) == len(names) else [])
            self._rows.check_count(len(kept))
        if problems:
            raise RequestInvalid(problems)
        if not absent:
            return self._packed(kept), len(kept)
        # As objects, so that a missing column, and one that is perhaps misspelled, is told by its name.
        fields = [field for field in self._fields if field.name in places]
        rows: list[Any] = []
        for line in kept:
            row = {field.name: _value(field, cell) for field, cell in zip(fields, line, strict=True)}
            rows.append(row | dict.fromkeys(strangers))
        return self._rows.read(rows, PLACE), len(rows)

    # ------------------------------------------------------------------ in the order of the signature

    def _packed(self, lines: list[list[str]]) -> dict[str, Any]:
        if self._plain and lines:
            numbers = _all_numbers(lines, len(self._fields))
            if numbers is not None:
                return {NUMBERS: numbers}
        if self._tensor is not None:
            return self._rows.read([_nested(self._tensor, line) for line in lines], PLACE)
        fields = self._fields
        rows: list[Any] = [
            [_value(field, cell) for field, cell in zip(fields, line, strict=True)]
            if len(line) == len(fields)
            else line
            for line in lines
        ]
        return self._rows.read(rows, PLACE)


def _all_numbers(lines: list[list[str]], width: int) -> Any:
    """The whole table as float64; None when anything else than finite numbers is there."""
    try:
        # What is no number becomes NaN, and lines of several lengths make no array.
        array = np.array([list(map(number, line)) for line in lines], np.float64)
    except ValueError:
        return None
    fits = array.ndim == 2 and array.shape[1] == width and bool(np.isfinite(array).all())
    return array if fits else None


def _value(field: Field, text: str) -> Any:
    """A cell as the JSON value that it stands for; what stands for none stays the text."""
    if field.dtype == "str":
        return None if not text and field.missing else text
    plain = text.strip().lower()
    if plain in _MISSING:
        return None
    if field.dtype == "bool":
        return TRUTHS.get(plain, text)
    return _numeric(plain, text)


def _numeric(plain: str, text: str) -> Any:
    read = number(plain)
    if read is None:
        return text
    # Whole numbers stay whole, for tensors of integers; Python refuses to read very long ones.
    return int(plain) if plain.lstrip("+-").isdecimal() and len(plain) < 20 else read


def _nested(field: Field, line: list[str]) -> Any:
    """The values of one tensor; cells that do not fill its shape are given as a flat list, to be refused."""
    if field.dtype == "str":
        cells: list[Any] = list(line)
    elif field.dtype == "bool":
        cells = [TRUTHS.get(cell.strip().lower(), cell) for cell in line]
    else:
        cells = [_numeric(cell.strip().lower(), cell) for cell in line]
    shape = field.shape
    if not shape and len(cells) == 1:
        return cells[0]
    free = [axis for axis, size in enumerate(shape) if size < 0]
    filled = list(shape)
    known = math.prod(size for size in shape if size >= 0)
    if len(free) == 1 and known:
        filled[free[0]] = len(cells) // known
    if len(free) > 1 or math.prod(filled) != len(cells):
        return cells
    for size in reversed(filled[1:]):
        cells = [cells[start : start + size] for start in range(0, len(cells), size)] if size else [cells]
    return cells
