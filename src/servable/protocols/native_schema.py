"""What one field of a signature accepts, read value by value.

This is the full meaning of the native format. ``native`` decodes the good case with a compiled
decoder and comes here only when that failed, so this part may be slow and must be exact: it accepts
everything that the compiled decoder accepts, gives the same packed values, and names every problem.
"""

import difflib
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from servable.artifact.signature import Field, Signature
from servable.errors import FieldProblem
from servable.inputs.samples import example_of
from servable.protocols import files
from servable.tensors import MISSING_STRING, STRINGS

#: A request with more problems than this is answered with the first of them.
MAX_PROBLEMS = 200
#: So many of them are told what was perhaps meant.
MAX_HINTS = 10
#: Whole-number columns refuse values outside of a signed 64-bit integer.
INT_LEAST, INT_BEYOND = -(2.0**63), 2.0**63
_SHOWN = 40
_LISTED_VALUES = 8
_CLOSE_AMONG = 1000

#: Reads one JSON value for one field: the packed value, or raises ``Misfit``.
Reader = Callable[[Any], Any]


class Misfit(Exception):
    """A value does not fit its field; carries what was expected and, inside a tensor, where."""

    def __init__(self, expected: str, got: str = "", place: str = "", known: Sequence[Any] = ()) -> None:
        super().__init__(expected)
        self.expected = expected
        self.got = got
        self.place = place
        #: Values among which the right one may be close to the one that came.
        self.known = known


class Problems(list[FieldProblem]):
    """The problems found so far."""

    def __init__(self) -> None:
        super().__init__()
        self._hints = MAX_HINTS

    def hint(self, word: Any, known: Sequence[Any]) -> str:
        """``; did you mean "x"?`` as from ``close_to``, for the first few problems of a request only.

        Looking for what is close costs more than anything else here, and whoever sends thousands of
        wrong names would make the server look thousands of times.
        """
        if not self._hints or not isinstance(word, str):
            return ""
        self._hints -= 1
        return close_to(word, [each for each in known if isinstance(each, str)])

    def note(self, path: str, expected: str, got: str) -> None:
        """Add one; more than ``MAX_PROBLEMS`` are dropped."""
        if not self.full:
            self.append(FieldProblem(path, expected, got))

    @property
    def full(self) -> bool:
        """Whether looking further is pointless."""
        return len(self) >= MAX_PROBLEMS


def shown(value: Any) -> str:
    """What a JSON value is, without the value: what callers send is in no message, which others may keep."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int):
        return "a whole number" if INT_LEAST <= value < INT_BEYOND else "a whole number beyond 64 bits"
    if isinstance(value, float):
        return "a number" if abs(value) < math.inf else "a number out of range"
    if isinstance(value, str):
        return f"a text of {counted(len(value), 'character')}" if value else "an empty text"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, list):
        return f"a list of {counted(len(value), 'value')}"
    return f"an object of {counted(len(value), 'key')}"


def counted(count: int, what: str) -> str:
    """A count of things in words: ``1 value``, ``3 values``."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def _short(text: str) -> str:
    safe = "".join(character if character.isprintable() else "�" for character in text[:_SHOWN])
    return safe if len(text) <= _SHOWN else safe[: _SHOWN - 3] + "..."


def close_to(word: str, known: Sequence[str]) -> str:
    """``; did you mean "x"?`` when a known word is close, else empty."""
    if len(word) > 64 or len(known) > _CLOSE_AMONG:
        return ""
    lowered = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(word.lower(), list(lowered), 1, 0.7)
    return f'; did you mean "{_short(lowered[found[0]])}"?' if found else ""


def joined(path: str, name: str) -> str:
    """The path of a named child: ``input.age``, or ``input["a b"]`` for a name that is no plain word."""
    plain = name.isidentifier()
    return f"{path}.{name}" if plain else f'{path}["{_short(name)}"]'


def expectation(field: Field) -> str:
    """What a field takes, in words for a person."""
    words = _kind_words(field)
    return f"{words} or null" if field.missing and not field.is_tensor else words


def _kind_words(field: Field) -> str:
    if field.is_tensor:
        size = " x ".join("any" if axis < 0 else str(axis) for axis in field.shape) or "no axes"
        file = f"{files.words(field)} in base64, or " if field.takes_files else ""
        return f"{file}a {field.dtype} tensor of shape {size}"
    if field.values and (field.unknown == "refuse" or field.dtype == "bool"):
        listed = ", ".join(_literal(value) for value in field.values[:_LISTED_VALUES])
        more = len(field.values) - _LISTED_VALUES
        return f"one of {listed}" + (f" and {more} more" if more > 0 else "")
    if field.dtype == "str":
        return "a text"
    if field.dtype == "bool":
        return "true or false"
    if field.dtype == "datetime":
        return "a date (ISO 8601 text, or seconds since 1970)"
    if field.kind == "category" and field.dtype == "int64":
        return "a whole number"
    return "a number"


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f'"{_short(value)}"' if isinstance(value, str) else str(value)


def epoch_seconds(value: str) -> float:
    """Seconds since 1970-01-01 UTC of an ISO 8601 text; a text without a zone is taken as UTC.

    Raises:
        ValueError: not ISO 8601, or out of range.
    """
    moment = datetime.fromisoformat(value)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def reader(field: Field) -> Reader:
    """The reader of one column or tensor."""
    if field.is_tensor:
        return _file_reader(field) if field.takes_files else _tensor_reader(field)
    expected = expectation(field)
    read: Callable[[Field, Any], Any] = _READERS.get(field.dtype, _read_number)
    member = membership(field)
    missing_value = MISSING_STRING if field.array == STRINGS else math.nan

    def read_column(value: Any) -> Any:
        if value is None:
            if field.missing:
                return missing_value
            raise Misfit(expected)
        packed = read(field, value)
        if packed is None or (member is not None and not member(packed)):
            raise Misfit(expected, known=field.values)
        return packed

    return read_column


def membership(field: Field) -> Callable[[Any], bool] | None:
    """Tells whether a packed value is allowed, for fields where the type alone does not say so."""
    if field.kind != "category":
        return None
    text = field.array == STRINGS
    if field.unknown == "refuse" and field.values:
        known = frozenset(field.values) | ({MISSING_STRING} if text and field.missing else set())
        return known.__contains__ if text or field.missing is False else _or_missing(known)
    if text:
        empty_fits = field.missing or MISSING_STRING in field.values
        return None if empty_fits else bool
    return _whole if field.dtype == "int64" else None


def _or_missing(known: frozenset[Any]) -> Callable[[Any], bool]:
    return lambda value: value in known or value != value


def _whole(value: float) -> bool:
    return value != value or float(value).is_integer()


def _read_number(field: Field, value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    if not math.isfinite(number):
        return None
    if field.dtype == "int64" and not INT_LEAST <= number < INT_BEYOND:
        raise Misfit("a number within 64 bits")
    return number


def _read_bool(_field: Field, value: Any) -> float | None:
    return float(value) if isinstance(value, bool) else None


def _read_text(_field: Field, value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _read_date(field: Field, value: Any) -> float | None:
    if isinstance(value, str):
        try:
            return epoch_seconds(value)
        except (ValueError, OverflowError):
            return None
    return _read_number(field, value)


_READERS: dict[str, Callable[[Field, Any], Any]] = {
    "bool": _read_bool,
    "str": _read_text,
    "datetime": _read_date,
}


def tensor_limits(dtype: str) -> tuple[int, int] | None:
    """The least and the greatest value of a whole-number tensor dtype; None for other dtypes."""
    if np.dtype(dtype).kind not in "iu":
        return None
    limits = np.iinfo(dtype)
    return int(limits.min), int(limits.max)


def float_limit(dtype: str) -> float:
    """The greatest finite value of a floating tensor dtype."""
    return float(np.finfo(dtype).max)


def cell_words(dtype: str) -> str:
    """What one cell of a tensor must be, with the range of a dtype that not every number of JSON fits."""
    if dtype == "str":
        return "a text"
    if dtype == "bool":
        return "true or false"
    limits = tensor_limits(dtype)
    if limits is not None:
        return f"a whole number from {limits[0]} to {limits[1]}"
    if dtype == "float64":
        return "a number"
    greatest = float_limit(dtype)
    return f"a number from {-greatest:.8g} to {greatest:.8g}"


def _cell_fits(dtype: str) -> tuple[Callable[[Any], bool], str]:
    """The check of one cell of a tensor, and its words."""
    words = cell_words(dtype)
    if dtype == "str":
        return (lambda cell: isinstance(cell, str)), words
    if dtype == "bool":
        return (lambda cell: isinstance(cell, bool)), words
    limits = tensor_limits(dtype)
    if limits is None:
        greatest = float_limit(dtype)
        return (lambda cell: _is_number_within(cell, greatest)), words
    least, most = limits
    return (lambda cell: _is_whole(cell) and least <= cell <= most), words


def _is_whole(cell: Any) -> bool:
    """Whether it is a whole number in the sense of JSON, which knows no other: 2 and 2.0 are the same."""
    return isinstance(cell, int | float) and not isinstance(cell, bool) and cell == cell // 1


def _is_number_within(cell: Any, greatest: float) -> bool:
    if isinstance(cell, bool) or not isinstance(cell, int | float):
        return False
    return abs(cell) <= greatest


def _tensor_reader(field: Field) -> Reader:
    fits, cell_words = _cell_fits(field.dtype)
    whole = expectation(field)

    def walk(value: Any, depth: int, place: str, sizes: list[int]) -> None:
        if depth == len(field.shape):
            if not fits(value):
                raise Misfit(cell_words, shown(value), place)
            return
        if not isinstance(value, list):
            raise Misfit(whole if not place else "a list", shown(value), place)
        size = field.shape[depth] if field.shape[depth] >= 0 else sizes[depth]
        if size >= 0 and len(value) != size:
            words = f"a list of {size} value{'' if size == 1 else 's'}"
            raise Misfit(f"{whole}: {words}" if not place else words, shown(value), place)
        sizes[depth] = len(value)
        for index, item in enumerate(value):
            walk(item, depth + 1, f"{place}[{index}]", sizes)

    def read(value: Any) -> Any:
        walk(value, 0, "", [-1] * len(field.shape))
        return value

    return read


def _file_reader(field: Field) -> Reader:
    """The reader of a field that takes a file, as bytes or as a text that holds it, or the tensor itself."""
    tensor = _tensor_reader(field)
    expected = f"{files.words(field)} in base64 or a data URL of it"

    def read(value: Any) -> Any:
        if isinstance(value, str):
            try:
                return files.file_of(value)
            except ValueError as error:
                raise Misfit(expected) from error
        if isinstance(value, bytes):
            if not value:
                raise Misfit(files.words(field), "an empty file")
            return value
        return tensor(value)

    return read


def example_row(signature: Signature) -> dict[str, Any]:
    """One row by column name that the signature accepts: its own example, or one made from the fields."""
    return {
        field.name: signature.example.get(field.name, _example_value(field)) for field in signature.inputs
    }


def _example_value(field: Field) -> Any:
    if field.example is not None:
        return field.example
    if field.takes_files and field.preparation is not None:
        return example_of(field.preparation)
    if field.is_tensor:
        return _nested(field.shape, "" if field.dtype == "str" else False if field.dtype == "bool" else 0)
    if field.values:
        return field.values[0]
    if field.dtype == "str":
        return "text"
    if field.dtype == "bool":
        return False
    if field.dtype == "datetime":
        return "2026-01-01T00:00:00"
    if field.minimum is not None and field.maximum is not None:
        middle = (field.minimum + field.maximum) / 2
        return round(middle) if field.dtype == "int64" else middle
    return 0


def _nested(shape: Sequence[int], cell: Any) -> Any:
    if not shape:
        return cell
    return [_nested(shape[1:], cell) for _ in range(max(shape[0], 1))]
