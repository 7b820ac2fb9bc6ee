"""One Arrow column as packed values: numbers, texts and dates, with what does not fit marked.

Values of the right type are converted as a whole; what Arrow itself does not understand is looked at
once for each distinct value, never once for each row. pyarrow is imported by the first call, because a
server starts without it.
"""

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from servable.artifact.signature import Field
from servable.protocols.csv_text import MISSING_OTHER, MISSING_TEXT, number, truth
from servable.protocols.native_array import unfit
from servable.protocols.native_schema import epoch_seconds, membership
from servable.tensors import MISSING_STRING

if TYPE_CHECKING:
    import pyarrow as pa

_MICROSECONDS = 1_000_000
#: Up to here a float64 holds every whole number.
EXACT = 2**53


class Texts(NamedTuple):
    """How values are read that come as text, as in CSV.

    Attributes:
        decimal_comma: whether ``3,14`` may be a number.
        dates: by column, the form of dates that are not ISO 8601, as ``strptime`` names it.
    """

    decimal_comma: bool = False
    dates: Mapping[str, str] = {}


class Cells(NamedTuple):
    """A column as it is packed.

    Attributes:
        values: one packed value a row; those of bad rows mean nothing.
        bad: for each row whether its value does not fit; None when all do.
        expected: what would fit a bad row; empty for what the field says of itself.
    """

    values: Any
    bad: Any = None
    expected: str = ""


class WrongType(Exception):
    """A column is of a type that its field never takes; carries the type's name."""


def is_text(kind: Any) -> bool:
    """Whether an Arrow type is one of texts."""
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def numbers(column: "pa.Array", field: Field, texts: Texts | None) -> Cells:
    """A column as it travels in ``numbers``: float64 ``[rows]``, NaN where a value is missing.

    Args:
        column: one chunk of any type.
        field: whose values they are.
        texts: how texts are read as numbers, booleans and dates; None when only dates may be texts.

    Raises:
        WrongType: nothing of this type can be a value of the field.
    """
    import pyarrow as pa

    kind = column.type
    wrong: Any = None
    if pa.types.is_null(kind):
        values = np.full(len(column), math.nan)
    elif is_text(kind):
        if texts is None and field.dtype != "datetime":
            raise WrongType(str(kind))
        values, wrong = _from_texts(column, field, texts)
    elif field.dtype == "datetime" and (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        values = _moments(column)
    elif pa.types.is_boolean(kind) and field.dtype != "datetime":
        values = _floats(column.cast(pa.uint8()))
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        values = _floats(column)
    else:
        raise WrongType(str(kind))
    bad = unfit(field, values)
    if wrong is not None:
        bad |= wrong
    return Cells(values, bad if bad.any() else None)


def strings(column: "pa.Array", field: Field, texts: Texts | None) -> Cells:
    """A column as it travels in ``strings``: object (str) ``[rows]``, "" where a value is missing.

    Whole numbers and booleans become the texts that training makes of them.

    Args:
        column: one chunk of any type.
        field: whose values they are.
        texts: see ``numbers``; when given, the words for a missing value count as missing.

    Raises:
        WrongType: nothing of this type can be a text.
    """
    import pyarrow.compute as pc

    held = _as_texts(column)
    if texts is not None:
        words = MISSING_TEXT.difference(field.values)
        held = _without(held, words)
    nulls = None if held.null_count == 0 else np.asarray(held.is_null())
    bad = nulls if nulls is not None and not field.missing else None
    held = held.fill_null(MISSING_STRING) if nulls is not None else held
    member = membership(field)
    if field.kind == "text" and member is None:
        return Cells(held.to_numpy(zero_copy_only=False), bad)
    coded = pc.dictionary_encode(held)
    known = coded.dictionary.to_numpy(zero_copy_only=False)
    places = coded.indices.to_numpy(zero_copy_only=False)
    values = known[places] if len(known) else np.empty(len(held), object)
    if member is not None:
        fits = np.fromiter((member(value) for value in known), bool, len(known))
        if not fits.all():
            refused = ~fits[places]
            bad = refused if bad is None else refused | bad
    return Cells(values, bad if bad is not None and bad.any() else None)


def _floats(column: "pa.Array") -> Any:
    """A column of numbers as float64, null as NaN."""
    import pyarrow as pa

    return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)


def _moments(column: "pa.Array") -> Any:
    """A column of dates as seconds since 1970 UTC; moments without a zone count as UTC."""
    import pyarrow as pa

    zone = getattr(column.type, "tz", None)
    held = column.cast(pa.timestamp("us", zone), safe=False)
    ticks = held.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    whole, rest = np.divmod(ticks, _MICROSECONDS)
    # Divided as one number where that is exact, as ``datetime.timestamp`` does it.
    seconds = np.where((rest == 0) | (np.abs(ticks) >= EXACT), whole + rest / 1e6, ticks / 1e6)
    if column.null_count:
        seconds[np.asarray(column.is_null())] = math.nan
    return seconds


def _without(column: "pa.Array", words: frozenset[str]) -> "pa.Array":
    """Texts with null in place of some words."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.is_in(column, pa.array(sorted(words), column.type))
    if not found.true_count:
        return column
    return pc.if_else(found, pa.scalar(None, column.type), column)


def _from_texts(column: "pa.Array", field: Field, texts: Texts | None) -> tuple[Any, Any]:
    """Texts as packed numbers, and which of them are none."""
    import pyarrow as pa

    if field.dtype == "datetime":
        form = "" if texts is None else texts.dates.get(field.name, "")
        cast: Callable[[Any], Any] = _nothing if form else _dates
        read = _date_reader(form)
    elif field.dtype == "bool":
        cast, read = _nothing, truth
    else:
        cast, read = _cast_numbers, _comma_number if texts is not None and texts.decimal_comma else number
    values = cast(column)
    if values is None and texts is not None:
        import pyarrow.compute as pc

        column = _without(pc.utf8_trim_whitespace(column), MISSING_OTHER)
        values = cast(column)
    if values is not None:
        return values, None
    coded = column.dictionary_encode()
    found = [read(text) for text in coded.dictionary.to_pylist()]
    # One more for what is missing.
    table = np.array([math.nan if value is None else value for value in found] + [math.nan])
    none = np.array([value is None for value in found] + [False])
    places = coded.indices.fill_null(pa.scalar(len(found), coded.indices.type))
    places = places.to_numpy(zero_copy_only=False)
    return table[places], none[places]


def _nothing(_column: "pa.Array") -> Any:
    """For texts that Arrow cannot read."""
    return None


def _cast_numbers(column: "pa.Array") -> Any:
    """Texts that are all numbers, as float64; None when one is not."""
    import pyarrow as pa

    try:
        return column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        return None


def _dates(column: "pa.Array") -> Any:
    """Texts that are all dates of one usual ISO form, as seconds; None when one is not."""
    import pyarrow as pa

    for zone in (None, "UTC"):
        try:
            return _moments(column.cast(pa.timestamp("us", zone)))
        except pa.ArrowInvalid:
            continue
    return None


def _comma_number(text: str) -> float | None:
    return number(text.replace(",", ".")) if text.count(",") == 1 and "." not in text else number(text)


def _date_reader(form: str) -> Callable[[str], float | None]:
    def read(text: str) -> float | None:
        try:
            if not form:
                return epoch_seconds(text)
            return datetime.strptime(text, form).replace(tzinfo=UTC).timestamp()
        except (ValueError, OverflowError):
            return None

    return read


def _as_texts(column: "pa.Array") -> "pa.Array":
    """A column as texts, whole floats without their point.

    Raises:
        WrongType: it holds neither texts, numbers nor booleans.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return column
    if pa.types.is_boolean(kind):
        return pc.if_else(column, "True", "False")
    if pa.types.is_floating(kind):
        present = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
        coded = present.dictionary_encode()
        said = [_float_text(value) for value in coded.dictionary.to_pylist()]
        return pa.array(said, pa.string()).take(coded.indices)
    if pa.types.is_integer(kind) or pa.types.is_null(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.string())
    raise WrongType(str(kind))


def _float_text(value: float) -> str:
    return str(int(value)) if value.is_integer() else str(value)
