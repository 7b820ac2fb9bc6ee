"""Feedback in each form, and what is said about feedback that does not fit."""

import io
import json
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from servable.artifact.signature import Field, Signature
from servable.errors import MediaTypeUnsupported, RequestInvalid, RequestMalformed, RequestTooLarge
from servable.monitoring.feedback import CSV, JSON, PARQUET, FeedbackRow, read_feedback
from servable.monitoring.labels import Outcomes, label_text

OBSERVED = 1_769_860_800_000_000


def classifier(*classes: Any) -> Outcomes:
    outputs = (Field(name="y", kind="category", dtype="str", values=classes),)
    return Outcomes(Signature(task="classification", inputs=(), outputs=outputs))


REGRESSION = Outcomes(
    Signature(task="regression", inputs=(), outputs=(Field(name="y", kind="number", dtype="float64"),))
)
YES_NO = classifier("yes", "no")


def said(content: Any, outcomes: Outcomes = YES_NO, most: int = 10) -> list[FeedbackRow]:
    return read_feedback(json.dumps(content).encode(), JSON, outcomes, most)


def as_parquet(table: pa.Table) -> bytes:
    file = io.BytesIO()
    parquet.write_table(table, file)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        {"request_id": "a", "outcome": "yes"},
        [{"request_id": "a", "outcome": "yes", "row": None, "reward": None}],
        {"feedback": [{"request_id": "a", "outcome": "yes", "row": 0}]},
    ],
)
def test_json_in_three_shapes(content: Any) -> None:
    assert said(content) == [FeedbackRow("a", 0, "yes")]


def test_everything_that_can_be_said() -> None:
    row = {"request_id": "a", "row": 2, "outcome": "no", "reward": 0.5, "observed_at": "2026-01-31T12:00:00"}
    expected = [FeedbackRow("a", 2, "no", 0.5, OBSERVED)]
    assert said(row) == expected
    assert said({**row, "observed_at": "2026-01-31T13:00:00+01:00"}) == expected
    text = "note,request_id,row,outcome,reward,observed_at\nx,a,2,no,0.5,2026-01-31T12:00:00Z\n"
    assert read_feedback(text.encode(), CSV, YES_NO, 10) == expected
    moment = datetime(2026, 1, 31, 12, tzinfo=UTC)
    table = pa.table({**{name: [value] for name, value in row.items()}, "observed_at": [moment], "more": [1]})
    assert read_feedback(as_parquet(table), PARQUET, YES_NO, 10) == expected


def test_tables_say_less_where_they_have_nothing() -> None:
    text = b"\xef\xbb\xbfrequest_id,outcome,reward\r\na,,1\r\nb,yes,\r\n"
    assert read_feedback(text, CSV, YES_NO, 10) == [
        FeedbackRow("a", 0, None, 1.0),
        FeedbackRow("b", 0, "yes"),
    ]


@pytest.mark.parametrize(
    ("classes", "given", "text"),
    [((0, 1), 1, "1"), ((0, 1), 1.0, "1"), ((0.5, 1.5), 1.5, "1.5"), ((False, True), True, "true"),
     (("1", "2"), "1", "1")],
)  # fmt: skip
def test_classes_of_any_type(classes: Any, given: Any, text: str) -> None:
    assert said({"request_id": "a", "outcome": given}, classifier(*classes))[0].outcome == text
    cell = "True" if given is True else str(given)
    body = f"request_id,outcome\na,{cell}\n".encode()
    assert read_feedback(body, CSV, classifier(*classes), 10)[0].outcome == text
    assert label_text(classifier(*classes).value(text)) == text


@pytest.mark.parametrize(
    ("classes", "given"), [((0, 1), "1"), (("1", "2"), 1), ((0, 1), True), ((False, True), 1)]
)
def test_a_label_of_another_type_is_none_in_json(classes: Any, given: Any) -> None:
    with pytest.raises(RequestInvalid, match=r"feedback\.outcome: expected one of the classes"):
        said({"request_id": "a", "outcome": given}, classifier(*classes))


def test_numbers_of_a_regression() -> None:
    rows = said([{"request_id": "a", "outcome": each} for each in (1, 2.5)], REGRESSION)
    assert [row.outcome for row in rows] == ["1", "2.5"]
    assert read_feedback(b"request_id,outcome\na,1e3\n", CSV, REGRESSION, 10)[0].outcome == "1000"
    for wrong in ("1", True, [1], 10**400):
        with pytest.raises(RequestInvalid, match="a finite number"):
            said({"request_id": "a", "outcome": wrong}, REGRESSION)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "feedback: expected at least one row, got none"),
        (3, r"feedback\[0\]: expected an object, got int"),
        ({"feedback": {}}, "feedback: expected a list of objects, got dict"),
        ({"outcome": "yes"}, r"feedback\.request_id: expected a text of 1 to 256 letters, got nothing"),
        ({"request_id": "", "outcome": "yes"}, r"feedback\.request_id"),
        ({"request_id": "a" * 257, "outcome": "yes"}, r"feedback\.request_id"),
        ({"request_id": "a"}, "feedback: expected an outcome or a reward, got neither"),
        ({"request_id": "a", "outcome": "maybe"}, "expected one of the classes yes, no, got 'maybe'"),
        ({"request_id": "a", "outcome": ["yes"]}, "expected one label, a text or a number, got list"),
        ({"request_id": "a", "reward": "1"}, r"feedback\.reward: expected a finite number"),
        ({"request_id": "a", "outcome": "yes", "row": -1}, r"feedback\.row: expected a whole number from 0"),
        ({"request_id": "a", "outcome": "yes", "row": "1"}, r"feedback\.row"),
        ({"request_id": "a", "outcome": "yes", "row": True}, r"feedback\.row"),
        ({"request_id": "a", "outcome": "yes", "observed_at": "soon"}, r"observed_at: expected a moment"),
        ({"request_id": "a", "outcome": "yes", "observed_at": 5}, r"feedback\.observed_at"),
        ({"request_id": "a", "outcome": "yes", "observed_at": ""}, r"feedback\.observed_at"),
        ({"request_id": "a", "outcome": ""}, r"feedback\.outcome: expected one of the classes"),
        ({"request_id": "a", "outcom": "yes"}, r"feedback\[0\]\.outcom: expected one of request_id"),
        ([{"request_id": "a", "reward": 1}, {"request_id": "b"}], r"feedback\[1\]: expected an outcome"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(content: Any, message: str) -> None:
    with pytest.raises(RequestInvalid, match=message):
        said(content)


@pytest.mark.parametrize(
    ("body", "form", "message"),
    [(b"{", JSON, "not JSON"), (b"\xff", CSV, "not CSV in UTF-8"),
     (b'request_id,outcome\n"a', CSV, "not CSV"),
     (b"PAR1", PARQUET, "not Parquet")],
)  # fmt: skip
def test_bytes_of_another_form_are_named(body: bytes, form: str, message: str) -> None:
    with pytest.raises(RequestMalformed, match=message):
        read_feedback(body, form, YES_NO, 10)


def test_tables_without_the_columns_are_refused() -> None:
    with pytest.raises(RequestInvalid, match="a column request_id"):
        read_feedback(b"id,outcome\na,yes\n", CSV, YES_NO, 10)
    with pytest.raises(RequestInvalid, match="a column outcome or reward"):
        read_feedback(as_parquet(pa.table({"request_id": ["a"]})), PARQUET, YES_NO, 10)


def test_limits_and_other_forms() -> None:
    with pytest.raises(RequestTooLarge, match="3 rows and 2 are allowed"):
        said([{"request_id": "a", "reward": 1}] * 3, most=2)
    with pytest.raises(MediaTypeUnsupported, match="text/csv"):
        read_feedback(b"", "text/html", YES_NO, 10)
    many = [{"request_id": "a"}] * 100
    with pytest.raises(RequestInvalid) as raised:
        said(many, most=1000)
    assert len(raised.value.problems) == 16
