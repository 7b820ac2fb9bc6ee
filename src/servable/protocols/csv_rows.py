"""Rows as comma-separated text (RFC 4180) in UTF-8, with a line of column names or without one.

The first line is names when ``is_header`` finds it so; otherwise it is the first row, in the order of the
signature. With names the columns may stand in any order, and those that the signature does not name are
passed over - but not while a column of it is absent, because then the stranger is perhaps that one,
misspelled. A model whose only input is one tensor takes its numbers one after the other in a line. Where a
column takes missing values, an empty cell is one, and so are the words that mean one.

What all of it means is written down here; long tables of the plain kind are read by ``csv_large``.
"""

import io
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from servable.artifact.signature import Field, Signature
from servable.errors import RequestInvalid, RequestMalformed, RequestTooLarge
from servable.protocols.csv_large import BOM, LargeCsv
from servable.protocols.csv_text import MISSING_OTHER, MISSING_TEXT, TRUTHS, is_header, number, records
from servable.protocols.native_schema import Problems, epoch_seconds
from servable.protocols.rows import RowReader
from servable.tensors import NUMBERS, Body

#: What means a missing value in columns that are no texts, in letters of any case; with the rest of what
#: pandas reads so.
_MISSING = frozenset(word.lower() for word in MISSING_OTHER) | {"#na", "-nan", "nat", "1.#qnan", "1.#ind"}
#: More columns than the signature's and a body is refused.
_SPARE_COLUMNS = 1_000
#: The cells of a tensor with a free size, at most.
_MOST_SPREAD = 100_000


class CsvReader:
    """Reads CSV for one signature. Immutable and safe to share.

    Args:
        signature: what the model takes.
        rows: reads the values.
        place: what stands before a row in the paths of problems.
    """

    def __init__(self, signature: Signature, rows: RowReader, place: str) -> None:
        self._rows = rows
        self._place = place
        self._fields = signature.inputs
        self._names = tuple(field.name for field in signature.inputs)
        self._required = frozenset(field.name for field in signature.inputs if not field.missing)
        only = signature.inputs[0] if rows.bare else None
        self._tensor = None if only is None or only.takes_files else only
        self._readable = rows.bare or all(
            not field.is_tensor or field.takes_files for field in signature.inputs
        )
        self._plain = all(field.kind == "number" and field.dtype == "float64" for field in signature.inputs)
        width = len(self._names) if self._tensor is None else abs(math.prod(self._tensor.shape))
        free = self._tensor is not None and any(size < 0 for size in self._tensor.shape)
        self._most_columns = (_MOST_SPREAD if free else width) + _SPARE_COLUMNS
        self._large = LargeCsv(signature, self._most_columns)

    def read(self, body: Body, named: bool | None = None) -> tuple[dict[str, Any], int]:
        """Packed arrays and how many rows they hold.

        Args:
            body: the whole text, with or without a byte order mark.
            named: whether the first line is names; None where it speaks for itself.

        Raises:
            RequestMalformed: no CSV, or no UTF-8.
            RequestInvalid: values that do not fit, or columns that are not there; every problem is named.
            RequestTooLarge: more rows or columns than allowed.
        """
        if not self._readable:
            problems = Problems()
            problems.note(self._place, "JSON, because CSV does not carry several tensors", "CSV")
            raise RequestInvalid(problems)
        text = bytes(body).removeprefix(BOM).lstrip(b"\r\n")
        self._check_first_line(text)
        lines = records(io.TextIOWrapper(io.BytesIO(text), "utf-8", newline=""))
        line, first = next(lines, (0, None))
        if first is None:
            raise RequestMalformed("The body is empty; send CSV, one row a line.")
        named = self._is_header(first) if named is None else named
        found = self._large.read(text, first if named else None, line)
        if found is not None:
            self._rows.check_count(found[1])
            return found
        rest = (record for _, record in lines)
        if named:
            return self._read_named(first, rest)
        lines_read = [first]
        for record in rest:
            lines_read.append(record)
            self._rows.check_count(len(lines_read))
        return self._packed(lines_read), len(lines_read)

    def _check_first_line(self, text: bytes) -> None:
        end = text.find(b"\n")
        if text.count(b",", 0, end if end >= 0 else len(text)) >= self._most_columns:
            raise RequestTooLarge(f"The first line has more than {self._most_columns} fields.")

    def _is_header(self, line: Sequence[str]) -> bool:
        tensor = self._tensor
        if tensor is None or tensor.dtype == "str" or tensor.name in line:
            return is_header(line, self._names, self._required)
        return not any(_is_value(cell) for cell in line)

    # ------------------------------------------------------------------ with names

    def _read_named(self, names: Sequence[str], lines: Iterator[list[str]]) -> tuple[dict[str, Any], int]:
        if self._tensor is not None:
            # Whatever the elements are called, they stand in their order.
            return self._read_rest(list(lines))
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
                problems.note(f"{self._place}[{len(kept)}]", f"{len(names)} values", f"{len(line)}")
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
        return self._rows.read(rows, self._place), len(rows)

    def _read_rest(self, lines: list[list[str]]) -> tuple[dict[str, Any], int]:
        self._rows.check_count(len(lines))
        return self._packed(lines), len(lines)

    # ------------------------------------------------------------------ in the order of the signature

    def _packed(self, lines: list[list[str]]) -> dict[str, Any]:
        if self._plain and lines:
            numbers = _all_numbers(lines, len(self._fields))
            if numbers is not None:
                return {NUMBERS: numbers}
        if self._tensor is not None:
            return self._rows.read([_nested(self._tensor, line) for line in lines], self._place)
        fields = self._fields
        if self._rows.bare:
            (field,) = fields
            return self._rows.read([_lone(field, line) for line in lines], self._place)
        rows: list[Any] = [
            [_value(field, cell) for field, cell in zip(fields, line, strict=True)]
            if len(line) == len(fields)
            else line
            for line in lines
        ]
        return self._rows.read(rows, self._place)


def _all_numbers(lines: list[list[str]], width: int) -> Any:
    """The whole table as float64; None when anything else than finite numbers is there."""
    try:
        # What is no number becomes NaN, and lines of several lengths make no array.
        array = np.array([list(map(number, line)) for line in lines], np.float64)
    except ValueError:
        return None
    fits = array.ndim == 2 and array.shape[1] == width and bool(np.isfinite(array).all())
    return array if fits else None


def _is_value(text: str) -> bool:
    """Whether a cell can be an element of a tensor, and is no name therefore."""
    plain = text.strip().lower()
    return plain in _MISSING or plain in TRUTHS or number(plain) is not None


def _value(field: Field, text: str) -> Any:
    """A cell as the JSON value that it stands for; what stands for none stays the text."""
    if field.is_tensor:
        return _lone(field, [text])
    if field.dtype == "str":
        return None if field.missing and text in MISSING_TEXT and text not in field.values else text
    plain = text.strip().lower()
    if plain in _MISSING:
        return None
    if field.dtype == "bool":
        return TRUTHS.get(plain, text)
    if field.dtype == "datetime" and _is_date(text):
        return text
    return _numeric(plain, text)


def _is_date(text: str) -> bool:
    try:
        epoch_seconds(text)
    except (ValueError, OverflowError):
        return False
    return True


def _lone(field: Field, line: list[str]) -> Any:
    """The file of a line; numbers of a tensor stand one after the other."""
    return line[0].strip() if len(line) == 1 else _nested(field, line)


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
