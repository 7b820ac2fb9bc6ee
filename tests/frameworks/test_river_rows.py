"""Packed arrays as the dictionaries of River, and the steps of our own that take them apart."""

from datetime import datetime
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from servable.artifact.signature import Field, Signature
from servable.frameworks.river_rows import rows_of, without
from servable.frameworks.river_steps import PARTS, Columns, DateParts, names_of_parts
from servable.tensors import NUMBERS, STRINGS

SIGNATURE = Signature(
    task="regression",
    inputs=(
        Field(name="town", kind="category", dtype="str"),
        Field(name="size", kind="number", dtype="float64"),
        Field(name="count", kind="number", dtype="int64"),
        Field(name="note", kind="text", dtype="str"),
        Field(name="paid", kind="boolean", dtype="bool"),
        Field(name="sold", kind="date", dtype="datetime"),
    ),
    outputs=(Field(name="price", kind="number", dtype="float64"),),
)
ARRAYS = {
    NUMBERS: np.array([[1.5, 3.0, 1.0, 86_400.5], [np.nan, np.nan, np.nan, np.nan], [0.0, 2.5, 0.0, 1e300]]),
    STRINGS: np.array([["u", "text"], ["", ""], ["v", "x"]], dtype=object),
}


def test_values_are_of_the_types_of_the_signature() -> None:
    first, second, third = rows_of(ARRAYS, SIGNATURE, "none")
    assert first == {
        "town": "u", "size": 1.5, "count": 3, "note": "text", "paid": True,
        "sold": datetime(1970, 1, 2, 0, 0, 0, 500_000),
    }  # fmt: skip
    assert [type(first[name]) for name in ("size", "count", "paid")] == [float, int, bool]
    assert second == {"town": None, "size": None, "count": None, "note": "", "paid": None, "sold": None}
    # What is no whole number, and no moment, stays what it is.
    assert (third["count"], third["sold"]) == (2.5, 1e300)
    assert rows_of(ARRAYS, SIGNATURE, "absent")[1] == {"note": ""}


def test_a_column_is_taken_out_of_a_copy() -> None:
    assert rows_of(without(ARRAYS, SIGNATURE, "paid"), SIGNATURE, "none")[0]["paid"] is None
    assert rows_of(without(ARRAYS, SIGNATURE, "town"), SIGNATURE, "absent")[0].keys() == {
        "size", "count", "note", "paid", "sold",
    }  # fmt: skip
    assert rows_of(ARRAYS, SIGNATURE, "none")[0]["paid"] is True


@given(st.lists(st.floats(allow_nan=True), min_size=1, max_size=5))
def test_no_row_ever_holds_nan(values: list[float]) -> None:
    field = Field(name="x", kind="number", dtype="int64", missing=True)
    signature = Signature(task="regression", inputs=(field,), outputs=SIGNATURE.outputs)
    arrays = {NUMBERS: np.array([values]).T}
    for row, value in zip(rows_of(arrays, signature, "none"), values, strict=True):
        assert row["x"] == value or (row["x"] is None and value != value)


def test_columns_keep_their_order_whatever_their_names() -> None:
    names = [f"column {number}" for number in range(50)]
    row: dict[str, Any] = dict.fromkeys(sorted(names, reverse=True), 1.0)
    assert list(Columns(*names).transform_one(row)) == names
    assert Columns("a", "b").transform_one({"b": 1}) == {"a": None, "b": 1}


def test_dates_are_taken_apart() -> None:
    found = DateParts().transform_one({"sold": datetime(2026, 2, 28, 23, 59), "paid": None})
    assert list(found) == list(names_of_parts(("sold", "paid")))
    assert [found[f"sold_{part}"] for part in PARTS] == [20_512.0, 2026, 2, 28, 5, 23]
    assert {found[f"paid_{part}"] for part in PARTS} == {None}
