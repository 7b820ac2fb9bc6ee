from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.artifact.signature import Field, Signature
from servable.errors import DataError
from servable.frameworks.frame import pack, to_frame


def signature(*fields: Field) -> Signature:
    return Signature(task="transform", inputs=fields, outputs=())


MIXED = signature(
    Field(name="n", kind="number", dtype="float64", missing=True),
    Field(name="s", kind="category", dtype="str", missing=True),
    Field(name="i", kind="number", dtype="int64", missing=True),
    Field(name="b", kind="boolean", dtype="bool", missing=True),
    Field(name="d", kind="date", dtype="datetime", missing=True),
)
numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)
# Built from whole numbers: the library's own dates and texts take long to draw, and to begin with, when the
# machine is busy. Every date to the microsecond and every character but surrogates may come, as before.
dates = st.none() | st.integers(0, 500 * 365 * 86_400 * 10**6).map(
    lambda passed: datetime(1700, 1, 1) + timedelta(microseconds=passed)
)
characters = st.integers(0, 0x10F7FF).map(lambda number: chr(number if number < 0xD800 else number + 0x800))
texts = st.lists(characters, min_size=1, max_size=6).map("".join)
rows = st.lists(
    st.tuples(
        numbers,
        st.none() | texts,
        st.none() | st.integers(-(2**53), 2**53),
        st.none() | st.booleans(),
        dates,
    ),
    min_size=1,
    max_size=8,
)


@given(rows, st.sampled_from(["canonical", "pandas"]))
def test_packing_a_frame_and_back_keeps_every_value(table, style):
    frame = pd.DataFrame(table, columns=["n", "s", "i", "b", "d"], dtype=object)
    packed = pack(frame, MIXED)
    again = to_frame(packed, MIXED, style)
    assert list(again.columns) == ["n", "s", "i", "b", "d"]
    twice = pack(again, MIXED)
    assert np.array_equal(packed["numbers"], twice["numbers"], equal_nan=True)
    assert (packed["strings"] == twice["strings"]).all()
    for index, (number, text, whole, truth, moment) in enumerate(table):
        expected = [number, whole, truth]
        assert [None if np.isnan(v) else v for v in packed["numbers"][index, :3].tolist()] == expected
        assert packed["strings"][index, 0] == (text or "")
        seconds = packed["numbers"][index, 3]
        assert (
            np.isnan(seconds)
            if moment is None
            else seconds == pytest.approx(pd.Timestamp(moment).timestamp(), abs=1e-5)
        )


def test_the_pandas_style_restores_what_was_recorded():
    packed = pack(pd.DataFrame({"n": [1.5], "s": ["x"], "i": [3], "b": [True], "d": ["2026-01-31"]}), MIXED)
    frame = to_frame(packed, MIXED, "pandas")
    assert [str(dtype) for dtype in frame.dtypes] == ["float64", "str", "int64", "bool", "datetime64[us]"]
    assert frame["d"].iloc[0] == pd.Timestamp("2026-01-31")


def test_values_as_people_write_them_are_read():
    packed = pack(
        pd.DataFrame(
            {"n": [" 2.5 "], "s": [7.0], "i": ["3"], "b": ["Yes"], "d": ["2026-01-31T02:00:00+02:00"]}
        ),
        MIXED,
    )
    assert packed["numbers"][0].tolist() == [2.5, 3.0, 1.0, pd.Timestamp("2026-01-31", tz="UTC").timestamp()]
    assert packed["strings"][0, 0] == "7"


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("n", [1, "x"], "Column 'n', row 2: expected a number, got 'x'"),
        ("n", [1, float("inf")], "Column 'n', row 2: expected a number, got inf"),
        ("b", [True, "perhaps"], "Column 'b', row 2: expected true or false, got 'perhaps'"),
        ("b", [1, 2], "Column 'b', row 2"),
        ("d", ["2026-01-31", "soon"], "Column 'd', row 2: expected a date"),
        ("n", pd.to_datetime(["2026-01-31"]), "Column 'n', row 1: expected a number"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_its_row(column, values, message):
    with pytest.raises(DataError) as caught:
        pack(pd.DataFrame({column: values}), signature(MIXED.input(column)))
    assert message in caught.value.message


def test_missing_and_unknown_values_are_refused_where_the_signature_says_so():
    number = Field(name="n", kind="number", dtype="float64")
    with pytest.raises(DataError, match=r"row 2.*got nothing"):
        pack(pd.DataFrame({"n": [1, None]}), signature(number))
    town = Field(name="s", kind="category", dtype="str", values=("a", "b"), unknown="refuse")
    with pytest.raises(DataError, match=r"row 2.*one of 'a', 'b', got 'c'"):
        pack(pd.DataFrame({"s": ["a", "c"]}), signature(town))
    with pytest.raises(DataError, match=r"row 1.*got nothing"):
        pack(pd.DataFrame({"s": [None, "a"]}), signature(town))
    grade = Field(name="g", kind="category", dtype="int64", values=(1, 2), unknown="refuse")
    with pytest.raises(DataError, match=r"row 3.*one of 1, 2, got 5"):
        pack(pd.DataFrame({"g": [1, 2, 5]}), signature(grade))


def test_columns_that_are_absent_or_twice_there_are_named():
    with pytest.raises(DataError, match="no column 'n'"):
        pack(pd.DataFrame({"other": [1]}), signature(MIXED.input("n")))
    with pytest.raises(DataError, match="2 columns named 'n'"):
        pack(pd.DataFrame([[1, 2]], columns=["n", "n"]), signature(MIXED.input("n")))


def test_a_single_tensor_takes_the_columns_of_a_frame():
    tensor = signature(Field(name="x", kind="tensor", dtype="float32", shape=(2,)))
    packed = pack(pd.DataFrame({"a": [1, 2], "b": [3, 4]}), tensor)
    assert packed["x"].dtype == np.float32
    assert packed["x"].tolist() == [[1, 3], [2, 4]]
    with pytest.raises(DataError, match="takes 2 numbers a row, the data has 1 columns"):
        pack(pd.DataFrame({"a": [1]}), tensor)
    with pytest.raises(DataError, match="no form as a table"):
        to_frame(packed, tensor)
    picture = signature(Field(name="x", kind="tensor", dtype="float32", shape=(2, 2)))
    with pytest.raises(DataError, match="whole tensors"):
        pack(pd.DataFrame({"a": [1]}), picture)


def test_an_all_number_table_is_not_copied():
    packed = {"numbers": np.array([[1.0], [2.0]])}
    frame = to_frame(packed, signature(MIXED.input("n")))
    assert np.shares_memory(frame["n"].to_numpy(), packed["numbers"])
