"""What all readers of CSV and of forms share: which texts mean which values, and which line is names."""

import csv
from collections.abc import Collection, Iterable, Iterator, Mapping
from types import MappingProxyType

from servable.errors import RequestMalformed

#: What an absent value looks like in a column of text.
MISSING_TEXT = frozenset({"", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NULL", "null", "<NA>"})
#: What it may look like besides in a column whose other values are numbers, booleans or dates.
MISSING_OTHER = MISSING_TEXT | {"?", "-", "None", "none", ".", "NAN", "Na"}
#: Truths as people, programs and the fields of a page write them; the texts are in small letters.
TRUTHS: Mapping[str, bool] = MappingProxyType(
    dict.fromkeys(("true", "yes", "1", "1.0", "t", "y", "on"), True)
    | dict.fromkeys(("false", "no", "0", "0.0", "f", "n", "off"), False)
)


def number(text: str) -> float | None:
    """One text as a number; only the plain forms that every reader of CSV knows, and None for all others."""
    try:
        return None if "_" in text or not text.isascii() else float(text)
    except ValueError:
        return None


def is_number(text: str) -> bool:
    """Whether a text is a number of any form."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def truth(text: str) -> bool | None:
    """One text as true or false; None when it is neither."""
    return TRUTHS.get(text.strip().lower())


def is_header(record: Collection[str], names: Collection[str], required: Collection[str]) -> bool:
    """Whether a first record is names and not values.

    Args:
        record: its fields.
        names: of all columns.
        required: of the columns that must not be missing.
    """
    found = set(names).intersection(record)
    return bool(found) and (found.issuperset(required) or 2 * len(found) >= min(len(record), len(names)))


def records(lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """The records that are not empty, each with the number of its last line.

    Args:
        lines: with their ends, from an open text perhaps.

    Raises:
        RequestMalformed: no CSV, or no UTF-8.
    """
    reader = csv.reader(lines, strict=True)
    try:
        for record in reader:
            if record:
                yield reader.line_num, record
    except UnicodeDecodeError as error:
        raise malformed("it is not UTF-8") from error
    except csv.Error as error:
        raise malformed(f"line {reader.line_num}: {error}") from error


def malformed(reason: str = "") -> RequestMalformed:
    """The error for a body that is no CSV.

    Args:
        reason: what is wrong, without a full stop; empty where nobody knows.
    """
    why = f" ({reason})" if reason else ""
    return RequestMalformed(
        f"The body is not CSV in UTF-8{why}; send records of equally many fields, quoted as RFC 4180 has it."
    )
