"""Feedback as callers send it: JSON, CSV or Parquet to rows that were checked against the signature. Pure.

A row names a request by its id, which row of it is meant (0 when nothing is said), and an outcome, a reward,
or both. Whether the request is known is not asked: another server may have answered it, and its segment may
come later; the join finds out.
"""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

import msgspec

from servable.errors import (
    FieldProblem,
    MediaTypeUnsupported,
    RequestInvalid,
    RequestMalformed,
    RequestTooLarge,
)
from servable.monitoring.labels import Outcomes, read_reward
from servable.monitoring.segments import need_pyarrow

JSON = "application/json"
CSV = "text/csv"
PARQUET = "application/vnd.apache.parquet"
#: The content types in which feedback is read.
FORMS = (JSON, CSV, PARQUET)
#: What a row may say; ``request_id`` it must.
COLUMNS = ("request_id", "row", "outcome", "reward", "observed_at")
#: Longest id of a request.
MOST_ID = 256
#: Longest outcome.
MOST_OUTCOME = 4096
_MOST_ROW = 2**31 - 1
_MOST_PROBLEMS = 16


class FeedbackRow(NamedTuple):
    """What turned out about one row of a request.

    Attributes:
        request_id: of the request.
        row: place of the row within it, from 0.
        outcome: the label or the number that came true, as text; None: nothing is said about it.
        reward: what the answer was worth; None: nothing is said about it.
        observed_at: when it came true as the caller says, in microseconds since 1970; None: nothing is said.
    """

    request_id: str
    row: int = 0
    outcome: str | None = None
    reward: float | None = None
    observed_at: int | None = None


def read_feedback(body: bytes | memoryview, form: str, outcomes: Outcomes, most: int) -> list[FeedbackRow]:
    """The rows of a body.

    Args:
        body: as it came.
        form: one of ``FORMS``.
        outcomes: reads outcomes by the model's signature.
        most: more rows are refused.

    Raises:
        MediaTypeUnsupported: another form.
        RequestMalformed: the bytes are not of that form.
        RequestInvalid: values that do not fit; each is named by its place.
        RequestTooLarge: more rows than allowed.
        DependencyMissing: Parquet without pyarrow.
    """
    reader = _READERS.get(form)
    if reader is None:
        raise MediaTypeUnsupported(
            f"Feedback is read as {', '.join(FORMS)}; send one of them as Content-Type."
        )
    given = reader(bytes(body))
    if len(given) > most:
        raise RequestTooLarge(
            f"The feedback holds {len(given)} rows and {most} are allowed; send it in parts."
        )
    return checked_rows(given, outcomes, as_text=form != JSON)


def checked_rows(
    given: Sequence[Mapping[str, Any]], outcomes: Outcomes, *, as_text: bool = False
) -> list[FeedbackRow]:
    """Rows as their callers mean them.

    Args:
        given: by the names of ``COLUMNS``; what is None is not said.
        outcomes: reads outcomes.
        as_text: whether numbers and truths may be texts, and nothing an empty one, as tables have them.

    Raises:
        RequestInvalid: no rows, or values that do not fit.
    """
    if not given:
        raise RequestInvalid([FieldProblem("feedback", "at least one row", "none")])
    rows: list[FeedbackRow] = []
    problems: list[FieldProblem] = []
    for place, each in enumerate(given):
        path = f"feedback[{place}]" if len(given) > 1 else "feedback"
        row = _checked(each, path, outcomes, as_text)
        if isinstance(row, FieldProblem):
            problems.append(row)
            if len(problems) >= _MOST_PROBLEMS:
                break
        else:
            rows.append(row)
    if problems:
        raise RequestInvalid(problems)
    return rows


def _checked(
    each: Mapping[str, Any], path: str, outcomes: Outcomes, as_text: bool
) -> FeedbackRow | FieldProblem:
    """One row, or the first thing that is wrong with it."""
    request_id = each.get("request_id")
    if not isinstance(request_id, str) or not 0 < len(request_id) <= MOST_ID:
        return FieldProblem(f"{path}.request_id", f"a text of 1 to {MOST_ID} letters", _shown(request_id))
    row = _place(each.get("row"), as_text)
    if row is None:
        return FieldProblem(f"{path}.row", "a whole number from 0", _shown(each.get("row")))
    said: dict[str, Any] = {"outcome": None, "reward": None, "observed_at": None}
    readers: dict[str, Callable[[Any, str], Any]] = {
        "outcome": partial(outcomes.read, as_text=as_text),
        "reward": partial(read_reward, as_text=as_text),
        "observed_at": _moment,
    }
    for name, read in readers.items():
        value = each.get(name)
        if not _missing(value, as_text):
            found = read(value, f"{path}.{name}")
            if isinstance(found, FieldProblem):
                return found
            said[name] = found
    if said["outcome"] is None and said["reward"] is None:
        return FieldProblem(path, "an outcome or a reward", "neither")
    if said["outcome"] is not None and len(said["outcome"]) > MOST_OUTCOME:
        return FieldProblem(f"{path}.outcome", f"at most {MOST_OUTCOME} letters", str(len(said["outcome"])))
    return FeedbackRow(request_id, row, **said)


def _missing(value: Any, as_text: bool) -> bool:
    """Whether nothing is said."""
    return value is None or (as_text and value == "")


def _place(value: Any, as_text: bool) -> int | None:
    """The place of a row; None when it is none."""
    if _missing(value, as_text):
        return 0
    if isinstance(value, bool) or not isinstance(value, (int, float, str) if as_text else (int, float)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return int(number) if 0 <= number <= _MOST_ROW and number.is_integer() else None


def _moment(value: Any, path: str) -> int | FieldProblem:
    """A moment in microseconds since 1970; one without a zone is in UTC."""
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return FieldProblem(path, "a moment such as 2026-01-31T12:00:00Z", _shown(value))
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def _shown(value: Any) -> str:
    return "nothing" if value is None else repr(value)[:60]


def _from_json(body: bytes) -> list[Mapping[str, Any]]:
    """One object, a list of objects, or an object with such a list as ``feedback``."""
    try:
        content = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RequestMalformed(f"The body is not JSON ({error}).") from error
    if isinstance(content, dict) and content.keys() == {"feedback"}:
        content = content["feedback"]
        if not isinstance(content, list):
            raise RequestInvalid([FieldProblem("feedback", "a list of objects", type(content).__name__)])
    listed = content if isinstance(content, list) else [content]
    for place, each in enumerate(listed):
        if not isinstance(each, dict):
            raise RequestInvalid([FieldProblem(f"feedback[{place}]", "an object", type(each).__name__)])
        unknown = next((name for name in each if name not in COLUMNS), None)
        if unknown is not None:
            path = f"feedback[{place}].{unknown[:60]}"
            raise RequestInvalid([FieldProblem(path, f"one of {', '.join(COLUMNS)}", "another name")])
    return listed


def _from_csv(body: bytes) -> list[Mapping[str, Any]]:
    """A table with a line of names; further columns are passed over."""
    try:
        text = body.decode("utf-8-sig")
        lines = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        _need_columns(lines.fieldnames or ())
        return list(lines)
    except (UnicodeDecodeError, csv.Error) as error:
        raise RequestMalformed(f"The body is not CSV in UTF-8 ({error}).") from error


def _from_parquet(body: bytes) -> list[Mapping[str, Any]]:
    """A table; further columns are passed over."""
    need_pyarrow()
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(pa.BufferReader(body)) as file:
            names = file.schema_arrow.names
            _need_columns(names)
            table = file.read(columns=[name for name in names if name in COLUMNS], use_threads=False)
            rows: list[Mapping[str, Any]] = table.to_pylist()
            return rows
    except (pa.ArrowException, OSError) as error:
        raise RequestMalformed(f"The body is not Parquet ({error}).") from error


def _need_columns(names: Iterable[str]) -> None:
    """Refuse a table that cannot be feedback.

    Raises:
        RequestInvalid: it names no requests, or says nothing about them.
    """
    known = frozenset(names)
    if "request_id" not in known:
        raise RequestInvalid([FieldProblem("feedback", "a column request_id", "none")])
    if known.isdisjoint(("outcome", "reward")):
        raise RequestInvalid([FieldProblem("feedback", "a column outcome or reward", "neither")])


_READERS: dict[str, Callable[[bytes], list[Mapping[str, Any]]]] = {
    JSON: _from_json,
    CSV: _from_csv,
    PARQUET: _from_parquet,
}
