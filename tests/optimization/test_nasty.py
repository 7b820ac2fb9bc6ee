import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from optimization.models import trained
from servable.optimization import nasty
from servable.optimization.ensemble import not_above


@given(arrays(np.float64, 4, elements=st.floats(-1e38, 1e38)), st.floats(-(2.0**126), 2.0**126, width=32))
def test_the_largest_float32_not_above_a_threshold_answers_like_the_threshold(thresholds, x):
    rounded = not_above(thresholds)
    assert np.array_equal(np.float32(x) <= rounded, x <= thresholds)


@given(st.floats(-1e299, 1e299))
def test_neighbours_hold_the_value_and_the_next_ones_in_both_precisions(value):
    found = nasty.neighbours(np.array([value]))
    assert value in found
    assert np.nextafter(value, np.inf) in found
    assert np.nextafter(value, -np.inf) in found
    assert np.isfinite(found).all()


def test_rows_lie_exactly_on_the_thresholds_of_the_model():
    model, given_data = trained("forest")
    thresholds = nasty.thresholds_by_column(model, given_data.arrays)
    assert set(thresholds) == {0, 1, 2, 3}
    groups = nasty.make(model, given_data.arrays)
    numbers = groups["values on thresholds"]["numbers"]
    assert np.isin(numbers[:, 0], thresholds[0]).any()


def test_rows_lack_what_may_be_missing_and_only_that():
    model, given_data = trained("hist")
    groups = nasty.make(model, given_data.arrays)
    assert np.isnan(groups["missing numbers"]["numbers"][:, 2]).any()
    assert not np.isnan(groups["missing numbers"]["numbers"][:, [0, 1, 3]]).any()
    assert (groups["missing strings"]["strings"][:, 0] == "").any()
    assert "never seen" in groups["texts of kind"]["strings"][:, 1]


def test_the_same_seed_makes_the_same_rows():
    model, given_data = trained("light")
    first, second = (nasty.make(model, given_data.arrays, seed=3) for _ in range(2))
    assert first.keys() == second.keys()
    for name, rows in first.items():
        assert np.array_equal(rows["numbers"], second[name]["numbers"], equal_nan=True)
        assert (rows["strings"] == second[name]["strings"]).all()
