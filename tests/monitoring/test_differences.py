"""Effects and tests of one window."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from monitoring.columns import category, number, texts
from servable.monitoring.change import change_row
from servable.monitoring.differences import compare, dependence

NUMBERS = st.lists(st.floats(-1e6, 1e6), min_size=30, max_size=200)


@given(before=NUMBERS, now=NUMBERS)
def test_numbers_are_compared_within_bounds(before, now) -> None:
    reference = number("n", before)
    values = np.asarray(now)
    found = compare(reference, reference.codes(values), values)
    assert found.counts.sum() == len(now)
    assert 0 <= found.p_value <= 1
    assert 0 <= found.statistic <= 1
    assert found.psi >= 0
    assert 0 <= found.jensen_shannon <= 1 + 1e-12
    assert 0 <= found.unseen <= 1
    assert found.wasserstein is None or found.wasserstein >= 0


@given(NUMBERS)
def test_the_reference_itself_does_not_differ(values) -> None:
    reference = number("n", values)
    held = np.asarray(values)
    found = compare(reference, reference.codes(held), held)
    assert found.statistic == pytest.approx(0, abs=1e-12)
    assert found.p_value == pytest.approx(1)
    assert found.psi == 0
    assert found.jensen_shannon == pytest.approx(0, abs=1e-7)
    assert found.unseen == pytest.approx(0, abs=1e-12)


def test_the_statistic_is_that_of_the_whole_samples_at_the_bounds_of_bins() -> None:
    random = np.random.default_rng(0)
    before, now = random.normal(size=4000), random.normal(0.7, size=3000)
    reference = number("n", before)
    found = compare(reference, reference.codes(now), now)
    whole = stats.ks_2samp(before, now)
    assert found.statistic == pytest.approx(whole.statistic, abs=0.03)
    assert found.statistic <= whole.statistic + 1e-12
    moved = stats.wasserstein_distance(before, now) / before.std()
    assert found.wasserstein == pytest.approx(moved, rel=0.1)


@given(
    before=st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 500), min_size=1),
    now=st.lists(st.sampled_from("abcdefgh"), min_size=20, max_size=200),
)
def test_categories_are_compared_within_bounds(before, now) -> None:
    reference = category("c", before)
    found = compare(reference, reference.codes(texts(now)))
    assert found.counts.sum() == len(now)
    assert found.unseen == pytest.approx(np.mean([value not in before for value in now]))
    assert 0 <= found.p_value <= 1
    assert found.wasserstein is None


def test_missing_values_are_counted_apart() -> None:
    reference = category("c", {"a": 50, "b": 50}, missing=0.1)
    found = compare(reference, reference.codes(texts(["a", "b", "", ""] * 50)))
    assert found.missing == 0.5
    assert found.counts.tolist() == [50, 50, 0]
    assert found.p_missing < 1e-6


def test_only_missing_values_are_no_difference_of_values() -> None:
    reference = number("n", np.arange(100.0))
    found = compare(reference, reference.codes(np.full(60, np.nan)), np.full(60, np.nan))
    assert (found.test, found.p_value, found.missing) == ("", 1.0, 1.0)
    assert found.p_missing < 1e-6


def test_dependence_counts_how_many_rows_say_the_same() -> None:
    random = np.random.default_rng(1)
    alone = random.integers(0, 20, 4000)
    assert dependence(alone, ordered=True) == pytest.approx(1, abs=0.1)
    assert dependence(alone, ordered=False) == pytest.approx(1, abs=0.1)
    thrice = np.repeat(alone, 3)
    # The autocorrelations are 2/3 and 1/3 on both sides.
    assert dependence(thrice, ordered=True) == pytest.approx(3, rel=0.1)
    assert dependence(thrice, ordered=False) == pytest.approx(3, rel=0.1)
    assert dependence(np.zeros(100, np.int64), ordered=True) == 1
    assert dependence(alone[:3], ordered=True) == 1


@given(change=st.integers(5, 95), seed=st.integers(0, 50))
def test_a_sudden_change_is_dated_to_its_row(change: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    reference = category("c", {"a": 500, "b": 500})
    values = texts(random.choice(["a", "b"], size=100).tolist())
    values[change:] = "new"
    assert change_row(reference, reference.codes(values), 100) == change
