import base64
import json
import math
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.client import encoding, wire
from servable.errors import FileMissing, RequestInvalid

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_infinity=False), st.text()
)


def sent(rows, **options):
    body, single = encoding.body(rows, **options)
    value = json.loads(body)
    assert list(value) == ["input" if single else "inputs"]
    return value["input" if single else "inputs"], single


@pytest.mark.parametrize(
    ("rows", "single"),
    [
        ({"age": 42, "plan": "basic"}, True),
        ([5.1, 3.5, 1.4], True),
        ((5.1, 3.5), True),
        (np.array([1.0, 2.0]), True),
        (pd.Series({"age": 42}), True),
        ([{"age": 42}], False),
        ([[1, 2], [3, 4]], False),
        ([(1, 2)], False),
        ([np.array([1.0, 2.0])], False),
        (np.ones((2, 3)), False),
        (pd.DataFrame({"age": [1, 2]}), False),
    ],
)
def test_the_form_says_whether_it_is_one_row(rows, single):
    assert sent(rows)[1] is single


def test_the_caller_may_say_what_the_form_does_not():
    image = np.zeros((2, 2))
    assert sent(image) == ([[0, 0], [0, 0]], False)
    assert sent(image, single=True) == ([[0, 0], [0, 0]], True)


def test_a_dataframe_with_every_kind_of_column():
    frame = pd.DataFrame(
        {
            "float": [1.5, math.nan],
            "integer": pd.array([1, None], dtype="Int64"),
            "text": ["a", None],
            "flag": [True, False],
            "moment": pd.to_datetime(["2026-01-31T12:00:00", None]),
            "category": pd.Categorical(["x", "y"]),
        }
    )
    assert sent(frame)[0] == [
        {
            "float": 1.5,
            "integer": 1,
            "text": "a",
            "flag": True,
            "moment": "2026-01-31T12:00:00",
            "category": "x",
        },
        {"float": None, "integer": None, "text": None, "flag": False, "moment": None, "category": "y"},
    ]


def test_anything_with_the_shape_of_polars():
    class Frame:
        columns = ("a",)

        def to_dicts(self):
            return [{"a": 1}, {"a": None}]

    assert sent(Frame()) == ([{"a": 1}, {"a": None}], False)


class Colour(Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(1.5), 1.5),
        (np.float64("nan"), None),
        (np.int64(7), 7),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (np.datetime64("2026-01-31T12:00"), "2026-01-31T12:00:00.000000"),
        (np.datetime64("NaT"), None),
        (pd.NA, None),
        (pd.NaT, None),
        (Decimal("1.25"), 1.25),
        (datetime(2026, 1, 31, 12, tzinfo=UTC), "2026-01-31T12:00:00+00:00"),
        (date(2026, 1, 31), "2026-01-31"),
        (Colour.RED, "red"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (np.array(["2026-01-31", "NaT"], dtype="datetime64[D]"), ["2026-01-31T00:00:00.000000", None]),
        (np.array([1.0, math.nan]), [1.0, None]),
        (np.array([["a"]], dtype=object), [["a"]]),
    ],
)
def test_values_that_json_does_not_know(value, expected):
    assert sent({"x": value})[0] == {"x": expected}


@pytest.mark.parametrize(
    ("rows", "path", "got"),
    [
        ([{"a": 1}, {"a": math.inf}], "inputs[1].a", "inf"),
        (np.array([[1.0, -math.inf]]), "inputs[0][1]", "-inf"),
        ([1, object()], "input[1]", "object"),
        ([], "inputs", "none"),
        ("text", "input", "str"),
        (7, "input", "int"),
        ({"a": {1, 2}}, "input.a", "set"),
    ],
)
def test_what_json_cannot_carry_is_named_by_its_path(rows, path, got):
    with pytest.raises(RequestInvalid) as refused:
        encoding.body(rows)
    problem = refused.value.problems[0]
    assert (problem.path, problem.got) == (path, got)


@given(st.lists(st.dictionaries(st.text(), SCALARS), min_size=1))
def test_rows_arrive_as_they_were_but_for_nan(rows):
    def plain(value):
        return None if isinstance(value, float) and math.isnan(value) else value

    expected = [{name: plain(value) for name, value in row.items()} for row in rows]
    assert sent(rows)[0] == expected


@given(st.lists(SCALARS, min_size=1))
def test_a_flat_list_is_one_row(row):
    assert sent(row)[1] is True


def test_files_go_in_base64_or_as_they_are(tmp_path: Path):
    path = tmp_path / "picture.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n123")
    text = base64.b64encode(path.read_bytes()).decode()
    for file in (path, path.read_bytes(), bytearray(path.read_bytes())):
        assert json.loads(encoding.body(file)[0]) == {"input": text}
        assert json.loads(encoding.body([file, file])[0]) == {"inputs": [text, text]}
        assert json.loads(encoding.body({"image": file, "age": 3})[0]) == {"input": {"image": text, "age": 3}}
        call = wire.predict("pets", file)
        assert (call.body, call.media_type) == (path.read_bytes(), "image/png")
        assert call.instead is not None
        assert json.loads(call.instead().body or b"") == {"input": text}
    assert wire.predict("pets", b"something").media_type == "application/octet-stream"
    with pytest.raises(FileMissing, match=r"nowhere\.png"):
        wire.predict("pets", tmp_path / "nowhere.png")
