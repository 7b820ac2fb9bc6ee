"""The dialect of a CSV file, found by its beginning: delimiter, column names, forms of dates.

Training and scoring read files by the same rules; scoring does so without pandas.
"""

import csv
import io
import re
from collections import Counter
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from servable.errors import DataError
from servable.protocols.csv_text import MISSING_OTHER, is_number

if TYPE_CHECKING:
    import pyarrow as pa

_VISIBLE = re.compile(r"\S")
DELIMITERS = (",", ";", "\t", "|")
#: Date forms besides ISO 8601 in the order in which they are tried, day first before month first.
DATE_FORMS = tuple(
    f"{day}{time}"
    for time in ("", " %H:%M", " %H:%M:%S")
    for day in ("%Y/%m/%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y")
)


def delimiter(text: str) -> str:
    """The delimiter that cuts the first rows into the same number (and most) of fields; comma in doubt."""
    lines = text[:65536].splitlines(keepends=True)[:50]
    best, best_key = ",", (0.0, 1)
    for one in DELIMITERS:
        try:
            rows = [row for row in islice(csv.reader(lines, delimiter=one), 20) if row]
        except csv.Error:
            continue
        head = len(rows[0]) if rows else 0
        if head < 2:
            continue
        even = sum(len(row) == head for row in rows) / len(rows)
        if (even, head) > best_key:
            best, best_key = one, (even, head)
    return best


def header(path: Path, text: str, delimiter: str) -> tuple[list[str], int]:
    """The column names, and the byte at which the rows begin; unnamed columns get ``unnamed_1`` and so on.

    Args:
        path: for the words of an error.
        text: the file or its beginning.
        delimiter: see there.

    Raises:
        DataError: no names, a name twice, numbers for names, or no rows.
    """
    lines = io.StringIO(text, newline="")
    try:
        raw: list[str] = next(
            (row for row in csv.reader(iter(lines.readline, ""), delimiter=delimiter) if row), []
        )
    except csv.Error as error:
        raise DataError(f"{path}: the line of column names cannot be read: {error}.") from error
    names = [name.strip() or f"unnamed_{place}" for place, name in enumerate(raw, start=1)]
    check_names(path, names)
    if raw and all(is_number(name) for name in raw):
        raise DataError(
            f"The first line of {path} holds numbers where column names are expected; add a line of names."
        )
    begin = len(text[: lines.tell()].encode())
    if not _VISIBLE.search(text, lines.tell()):
        raise DataError(f"{path} has column names and no rows below them.")
    return names, begin


def check_names(path: Path, names: list[str]) -> None:
    """Make sure that no two columns share a name.

    Raises:
        DataError: two do.
    """
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{path} has the column name {twice[0]!r} more than once; names must differ.")


def date_form(sample: "pa.Table", name: str) -> str:
    """The form of a column's dates that is not ISO 8601; empty where it is, or where no form fits."""
    values = [
        text
        for value in sample.column(name).unique().to_pylist()
        if (text := value.strip()) and text not in MISSING_OTHER
    ]
    for form in ("", *DATE_FORMS):
        if all(_is_date(text, form) for text in values):
            return form
    return ""


def _is_date(text: str, form: str) -> bool:
    try:
        datetime.strptime(text, form) if form else datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
