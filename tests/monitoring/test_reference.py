"""References from the records that a package keeps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.artifact.profile import ColumnProfile, Profile, constant, of_numbers
from servable.artifact.signature import Field, Signature
from servable.monitoring.reference import Key, of_profile, references

VALUES = st.lists(st.one_of(st.floats(-1e9, 1e9), st.integers(0, 3).map(float)), min_size=1, max_size=100)
BINARY = Signature(
    task="classification",
    inputs=(Field(name="n", kind="number", dtype="float64"),),
    outputs=(Field(name="y", kind="category", dtype="str", values=("no", "yes")),),
    probabilities=True,
)
EVALUATION = {
    "classes": ["no", "yes"],
    "confusion": [[60, 10], [5, 25]],
    "histograms": [{"edges": [0.0, 0.5, 1.0], "counts": counts} for counts in ([50, 20], [5, 25])],
}


@given(VALUES)
def test_the_rows_of_a_profile_fall_into_the_bins_that_it_counted(values: list[float]) -> None:
    reference = of_profile("input", of_numbers("n", np.asarray(values)))
    assert reference is not None
    codes = reference.codes(np.asarray(values))
    assert np.bincount(codes, minlength=len(reference.counts)).tolist() == reference.counts.tolist()
    beyond = np.asarray([min(values) - max(1, abs(min(values))), max(values) + max(1, abs(max(values)))])
    assert reference.codes(beyond).tolist() == [0, len(reference.counts) - 1]
    assert reference.codes(np.asarray([np.nan])).tolist() == [-1]


def test_answers_and_errors_come_from_the_evaluation() -> None:
    found = {each.key: each for each in references(BINARY, None, EVALUATION)}
    prediction = found[Key("output", "prediction")]
    assert dict(zip(prediction.values, prediction.counts.tolist(), strict=False)) == {"no": 65.0, "yes": 35.0}
    error = found[Key("quality", "error")]
    assert dict(zip(error.values, error.counts.tolist(), strict=False)) == {"right": 85.0, "wrong": 15.0}
    surety = found[Key("output", "probability")]
    assert surety.counts.tolist() == [0, 55, 45, 0]
    # Histograms count a value at an edge to the right of it, and the last edge to the last bin.
    assert surety.codes(np.asarray([0.0, 0.49, 0.5, 1.0])).tolist() == [1, 1, 2, 2]


def test_a_regressor_is_compared_with_the_points_that_its_evaluation_kept() -> None:
    signature = Signature(
        task="regression",
        inputs=BINARY.inputs,
        outputs=(Field(name="y", kind="number", dtype="float64"),),
    )
    points = {"scatter": {"x": [1.0, 2.0, 3.0], "y": [1.5, 2.0, 2.0]}}
    found = {each.key: each for each in references(signature, None, points)}
    assert found[Key("output", "prediction")].rows == 3
    assert found[Key("quality", "error")].bounds[-1] == 1.0


def test_columns_that_never_varied_are_kept_and_dates_are_not_compared() -> None:
    profile = Profile(
        rows=100,
        columns=[of_numbers("n", np.arange(100.0)), of_numbers("day", np.arange(100.0), kind="date")],
        constant=[constant("unit", "kg", 100), constant("zone", 7.0, 100)],
    )
    found = references(BINARY, profile, None)
    assert [each.key for each in found] == [Key("input", "n"), Key("unused", "unit"), Key("unused", "zone")]
    assert found[2].spread == 0


def test_what_a_foreign_evaluation_holds_does_no_harm() -> None:
    assert references(BINARY, None, {"confusion": "none", "anything": 1}) == ()
    assert references(BINARY, None, None) == ()
    assert of_profile("input", ColumnProfile(name="x", kind="number", missing=1.0, distinct=0)) is None


@pytest.mark.parametrize(("value", "code"), [("a", 0), ("b", 1), ("c", 2), ("", -1)])
def test_values_of_categories_have_their_bins(value: str, code: int) -> None:
    column = ColumnProfile(name="c", kind="category", missing=0, distinct=2, categories={"a": 2, "b": 1})
    reference = of_profile("input", column)
    assert reference is not None
    assert reference.codes(np.asarray([value], object)).tolist() == [code]
