"""What each column is: number, category, boolean, date, free text, or nothing that can be used, and why."""

import difflib
import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
import numpy as np
import pandas as pd

from servable.artifact.anonymity import example_text, least_rows, usual_range
from servable.artifact.signature import Field, Kind
from servable.errors import DataError, SettingInvalid
from servable.protocols.csv_text import MISSING_TEXT
from servable.training.table import LARGEST_EXACT_INT, dated

#: A text column with more different values than this is a category only if they repeat.
MANY_VALUES = 50
#: More different values than this are never a category.
MOST_VALUES = 1000
#: Share of different values among those present from which a text column counts as an id or free text.
UNIQUE_SHARE = 0.5
#: Text this long on average is prose, and so is one of so many words, or with so many signs of a script that
#: puts no blanks between words.
LONG_TEXT = 60
MANY_WORDS = 5
MANY_SIGNS = 8

#: Characters of a text that are shown as an example.
_LONGEST_EXAMPLE = 200

#: What a person may say that a column is; ``drop`` leaves it out.
CHOICES = ("number", "category", "boolean", "date", "text", "drop")

#: Signs of scripts that put no blanks between words: Chinese, Japanese, Thai, Lao, Khmer, Burmese.
UNSPACED = "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
_ID_NAME = re.compile(r"(^|[_\s-])(id|uuid|guid|key|index|rownum|row_?id)$|^unnamed", re.IGNORECASE)


class ColumnInfo(msgspec.Struct, frozen=True):
    """What was made of a column.

    Attributes:
        name: as in the file.
        kind: ``number category boolean date text``, or ``dropped``.
        note: the reason, a few words.
        chosen: whether a person said so.
        constant: the one value of a column that is dropped because it has no other; None for all others.
    """

    name: str
    kind: Literal["number", "category", "boolean", "date", "text", "dropped"]
    note: str
    chosen: bool = False
    constant: float | str | None = None


def check_choices(kinds: Mapping[str, str], columns: list[str]) -> None:
    """Refuse kinds for columns that do not exist and kinds that do not exist.

    Raises:
        DataError: no such column.
        SettingInvalid: no such kind.
    """
    for name, kind in kinds.items():
        if name not in columns:
            raise DataError(f"There is no column {name!r} to be a {kind}; {close_names(name, columns)}")
        if kind not in CHOICES:
            raise SettingInvalid(
                f"Column {name!r} cannot be a {kind!r}; it may be {', '.join(CHOICES)} (drop leaves it out)."
            )


def close_names(name: str, columns: list[str]) -> str:
    """A sentence that helps to find the name that was meant."""
    folded = {column.lower(): column for column in columns}
    near = [folded[match] for match in difflib.get_close_matches(name.lower(), list(folded), n=3, cutoff=0.6)]
    if near:
        return f"did you mean {' or '.join(repr(match) for match in near)}?"
    shown = ", ".join(columns[:12]) + (f" and {len(columns) - 12} more" if len(columns) > 12 else "")
    return f"the columns are {shown}."


def classify(column: "pd.Series[Any]", name: str, chosen: str | None) -> tuple[ColumnInfo, "pd.Series[Any]"]:
    """Decide what a column is.

    Args:
        column: as ``read_table`` gives it, or of any DataFrame.
        name: its name.
        chosen: the kind that a person asked for, one of ``CHOICES``, or None.

    Returns:
        The decision, and the column with the type that goes with it.

    Raises:
        DataError: the values cannot be of the kind that was asked for, or hold an infinite number.
    """
    if chosen == "drop":
        return ColumnInfo(name, "dropped", "left out on request", True), column
    column = _plain(column)
    if chosen is not None:
        return _forced(column, name, chosen)
    there = column.dropna()
    if not len(there):
        return ColumnInfo(name, "dropped", "no value at all"), column
    different = int(there.nunique())
    if different == 1 and len(there) == len(column):
        return ColumnInfo(name, "dropped", "the same value in every row", constant=_value(there)), column
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return ColumnInfo(name, "date", "dates"), column
    if _is_boolean(there):
        return ColumnInfo(name, "boolean", "true or false"), column
    if pd.api.types.is_numeric_dtype(column.dtype):
        return _number(column, there, name, different), column
    return _text(column, there, name, different)


def _plain(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Nullable, categorical and timed types as the plain ones; blank text as missing."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object)
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        moments: pd.Series[Any] = column.dt.tz_convert("UTC").dt.tz_localize(None)
        return moments
    if pd.api.types.is_bool_dtype(column.dtype) or pd.api.types.is_datetime64_any_dtype(column.dtype):
        return column
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.astype("float64") if column.isna().any() else column
    if column.dtype == object:
        inferred = column.infer_objects()
        if inferred.dtype != object:
            return inferred
        kinds = {type(value) for value in column.dropna()}
        if kinds <= {bool, np.bool_}:
            return column
        column = column.where(column.isna(), column.astype(str))
    return column.mask(column.isin(list(MISSING_TEXT)))


def _value(there: "pd.Series[Any]") -> float | str | None:
    """The first value of a column, as later rows are compared with it; None for dates, which go on."""
    if pd.api.types.is_datetime64_any_dtype(there.dtype):
        return None
    first = there.iloc[0]
    if isinstance(first, bool | np.bool_):
        return "true" if first else "false"
    return float(first) if pd.api.types.is_numeric_dtype(there.dtype) else str(first)


def _is_boolean(there: "pd.Series[Any]") -> bool:
    if pd.api.types.is_bool_dtype(there.dtype):
        return True
    return there.dtype == object and {type(value) for value in there} <= {bool, np.bool_}


def _number(column: "pd.Series[Any]", there: "pd.Series[Any]", name: str, different: int) -> ColumnInfo:
    values = there.to_numpy(dtype="float64")
    _refuse_infinite(column, name)
    whole = bool((values == np.floor(values)).all())
    if whole and different == len(column) > 10:
        steps = np.diff(values)
        if (steps == 1).all():
            return ColumnInfo(name, "dropped", "counts the rows")
        if _ID_NAME.search(name):
            return ColumnInfo(name, "dropped", "an id: every row has its own")
    note = "whole numbers" if whole else "numbers"
    if whole and different <= 20:
        note = f"whole numbers, {different} different (say category if they are codes)"
    return ColumnInfo(name, "number", note)


def _refuse_infinite(column: "pd.Series[Any]", name: str) -> None:
    infinite = np.isinf(column.to_numpy(dtype="float64", na_value=np.nan))
    if infinite.any():
        row = int(np.argmax(infinite)) + 1
        raise DataError(
            f"Column {name!r} has an infinite number in data row {row}; correct it or leave it empty."
        )


def _text(
    column: "pd.Series[Any]", there: "pd.Series[Any]", name: str, different: int
) -> tuple[ColumnInfo, "pd.Series[Any]"]:
    moments, form = dated(column.fillna(""))
    if moments is not None:
        return ColumnInfo(name, "date", "dates, " + ("ISO 8601" if form == "ISO8601" else form)), moments
    if different > MANY_VALUES or different == len(there) > 20:
        share = different / len(there)
        if share > UNIQUE_SHARE:
            note = f"{different} different values in {len(there)} rows"
            if is_prose(there):
                return ColumnInfo(name, "text", f"free text, {note}"), column
            # Names and codes look alike; whoever knows that they are texts can say so.
            return ColumnInfo(name, "dropped", f"an id or short text: {note} (say text to read it)"), column
        if different > MOST_VALUES:
            note = f"too many different values for a category ({different})"
            return ColumnInfo(name, "dropped", note), column
    return ColumnInfo(name, "category", f"text, {different} different values"), column


def is_prose(there: "pd.Series[Any]") -> bool:
    """Whether texts are sentences rather than names or codes, judged by the first thousand."""
    some = there.iloc[:1000].astype(str)
    signs = float(some.str.count(UNSPACED).mean())
    words = float(some.str.count(r"\S+").mean())
    return float(some.str.len().mean()) > LONG_TEXT or words >= MANY_WORDS or signs >= MANY_SIGNS


def _forced(column: "pd.Series[Any]", name: str, chosen: str) -> tuple[ColumnInfo, "pd.Series[Any]"]:
    """The column as the kind that a person asked for."""
    if not column.notna().any():
        raise DataError(
            f"Column {name!r} has no value at all and cannot be a {chosen}; leave the choice out."
        )
    if chosen == "number":
        values = pd.to_numeric(column, errors="coerce").astype("float64")
        _refuse_lost(column, values, name, "number")
        _refuse_infinite(values, name)
        whole = not values.isna().any() and bool((values == np.floor(values)).all())
        safe = whole and float(values.abs().max()) < LARGEST_EXACT_INT
        return ColumnInfo(name, "number", "as asked", True), values.astype("int64") if safe else values
    if chosen == "date":
        if pd.api.types.is_datetime64_any_dtype(column.dtype):
            return ColumnInfo(name, "date", "as asked", True), column
        if pd.api.types.is_numeric_dtype(column.dtype):
            moments = pd.to_datetime(column, unit="s")
            return ColumnInfo(name, "date", "as asked, seconds since 1970", True), moments
        found, form = dated(column.fillna(""))
        if found is None:
            raise DataError(
                f"Column {name!r} holds values that are no dates of one common form, such as 2026-01-31."
            )
        return ColumnInfo(name, "date", f"as asked, {form}", True), found
    if chosen == "boolean":
        return ColumnInfo(name, "boolean", "as asked", True), _as_boolean(column, name)
    text = column
    if pd.api.types.is_numeric_dtype(column.dtype):
        numbers = column.to_numpy(dtype="float64", na_value=np.nan)
        whole_only = bool((numbers[~np.isnan(numbers)] == np.floor(numbers[~np.isnan(numbers)])).all())
        if whole_only and chosen == "category" and not pd.api.types.is_bool_dtype(column.dtype):
            return ColumnInfo(name, "category", "codes, as asked", True), column
        text = column.astype(object).where(column.isna(), column.astype(str))
    elif column.dtype == object or pd.api.types.is_datetime64_any_dtype(column.dtype):
        text = column.astype(object).where(column.isna(), column.astype(str))
    kind: Literal["text", "category"] = "text" if chosen == "text" else "category"
    return ColumnInfo(name, kind, "as asked", True), text.astype("str")


def _refuse_lost(before: "pd.Series[Any]", after: "pd.Series[Any]", name: str, kind: str) -> None:
    lost = (after.isna() & before.notna()).to_numpy()
    if lost.any():
        row = int(np.argmax(lost))
        value = str(before.iloc[row])[:40]
        raise DataError(f"Column {name!r} cannot be a {kind}: data row {row + 1} holds {value!r}.")


def _as_boolean(column: "pd.Series[Any]", name: str) -> "pd.Series[Any]":
    words = {"true": True, "yes": True, "y": True, "t": True, "1": True, "1.0": True}
    words |= {"false": False, "no": False, "n": False, "f": False, "0": False, "0.0": False}
    flags = column.map(lambda value: words.get(str(value).strip().lower()), na_action="ignore").astype(object)
    _refuse_lost(column, flags, name, "boolean")
    return flags.where(flags.notna(), None)


def field_of(column: "pd.Series[Any]", info: ColumnInfo, unknown: Literal["accept", "refuse"]) -> Field:
    """The signature's field of a column that ``classify`` typed.

    Args:
        column: with the type that goes with its kind.
        info: the decision.
        unknown: what to do with a category value that training did not see.
    """
    there = column.dropna()
    missing = len(there) < len(column)
    kind: Kind = "number" if info.kind == "dropped" else info.kind
    if kind == "text":
        return text_field(there, info.name)
    if kind == "category":
        values = sorted(there.unique().tolist())
        most = there.mode().iloc[0]
        if pd.api.types.is_numeric_dtype(column.dtype):
            codes = tuple(int(value) for value in values)
            return Field(
                name=info.name, kind=kind, dtype="int64", missing=missing, values=codes, unknown=unknown,
                example=int(most),
            )  # fmt: skip
        return Field(
            name=info.name, kind=kind, dtype="str", missing=missing,
            values=tuple(str(value) for value in values), unknown=unknown, example=str(most),
        )  # fmt: skip
    if kind == "boolean":
        return Field(
            name=info.name,
            kind=kind,
            dtype="bool",
            missing=missing,
            example=bool(there.astype(bool).mode().iloc[0]),
        )
    if kind == "date":
        seconds = there.to_numpy().astype("datetime64[us]").astype("int64") / 1e6
        middle = there.sort_values().iloc[len(there) // 2]
        least, most = usual_range(seconds.astype("float64"), least_rows())
        return Field(
            name=info.name, kind=kind, dtype="datetime", missing=missing, minimum=least, maximum=most,
            example=middle.isoformat(),
        )  # fmt: skip
    numbers = there.to_numpy(dtype="float64")
    whole = pd.api.types.is_integer_dtype(column.dtype)
    typical = float(np.sort(numbers)[len(numbers) // 2])
    least, most = usual_range(numbers, least_rows())
    return Field(
        name=info.name,
        kind="number",
        dtype="int64" if whole else "float64",
        missing=missing,
        minimum=least,
        maximum=most,
        example=int(typical) if whole else typical,
    )


def text_field(there: "pd.Series[Any]", name: str) -> Field:
    """The field of a column of free text. An empty text is a text, so a missing one is allowed.

    Its example is a made-up text of the usual length: no text of the rows is quoted.

    Args:
        there: the texts that are not missing.
        name: of the column.
    """
    lengths = sorted(len(str(text)) for text in there if str(text).strip())
    example = example_text(min(lengths[len(lengths) // 2], _LONGEST_EXAMPLE)) if lengths else ""
    return Field(name=name, kind="text", dtype="str", missing=True, example=example)
