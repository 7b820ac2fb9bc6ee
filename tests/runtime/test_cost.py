"""The cost curve: found from what was seen, followed when it changes, never absurd."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.errors import SettingInvalid
from servable.runtime.cost import CostCurve


def curve_of(*observed: tuple[int, float]) -> CostCurve:
    curve = CostCurve()
    for rows, seconds in observed:
        curve.observe(rows, seconds)
    return curve


def test_before_anything_was_seen_nothing_is_claimed() -> None:
    curve = CostCurve()
    assert (curve.fixed_s, curve.row_s, curve.samples, curve.founded) == (0.0, 0.0, 0, False)
    assert curve.seconds(100) == 0.0


def test_one_size_alone_is_halved_between_the_batch_and_its_rows() -> None:
    curve = curve_of(*[(4, 0.008)] * 20)
    assert curve.seconds(4) == pytest.approx(0.008)
    assert curve.fixed_s == pytest.approx(0.004)
    assert curve.row_s == pytest.approx(0.001)
    assert curve.founded


@pytest.mark.parametrize(
    ("fixed_s", "row_s"), [(8e-6, 0.3e-6), (1e-3, 1e-6), (0.0, 1e-3), (0.05, 0.0), (100e-6, 5e-6)]
)
def test_both_parts_are_found_under_noise(fixed_s: float, row_s: float) -> None:
    chance = random.Random(7)
    curve = CostCurve()
    for _ in range(400):
        rows = chance.choice([1, 2, 5, 16, 64])
        curve.observe(rows, (fixed_s + row_s * rows) * chance.uniform(0.95, 1.05))
    for rows in (1, 16, 64):
        assert curve.seconds(rows) == pytest.approx(fixed_s + row_s * rows, rel=0.1)
    assert curve.fixed_s == pytest.approx(fixed_s, rel=0.15, abs=0.05 * row_s)


def test_what_was_found_stays_when_only_one_size_comes() -> None:
    curve = CostCurve()
    for rows in [1, 32] * 20:
        curve.observe(rows, 10e-6 + 1e-6 * rows)
    for _ in range(1000):
        curve.observe(1, 11e-6)
    assert curve.seconds(32) == pytest.approx(42e-6, rel=0.05)


def test_an_outlier_counts_for_little() -> None:
    chance = random.Random(3)
    curve = CostCurve()
    for turn in range(300):
        rows = chance.choice([1, 8, 64])
        seconds = (20e-6 + 1e-6 * rows) * chance.uniform(0.98, 1.02)
        curve.observe(rows, 0.5 if turn % 50 == 25 else seconds)
    assert curve.seconds(8) == pytest.approx(28e-6, rel=0.15)


@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_a_lasting_change_is_followed(factor: float) -> None:
    curve = CostCurve()
    sizes = [1, 4, 16]
    for turn in range(300):
        curve.observe(sizes[turn % 3], 1e-3 + 1e-4 * sizes[turn % 3])
    for turn in range(300):
        curve.observe(sizes[turn % 3], factor * (1e-3 + 1e-4 * sizes[turn % 3]))
    for rows in sizes:
        assert curve.seconds(rows) == pytest.approx(factor * (1e-3 + 1e-4 * rows), rel=0.15)


def test_a_cold_first_run_is_soon_forgotten() -> None:
    curve = curve_of((1, 3.0), *[(1, 1e-4)] * 40)
    assert curve.seconds(1) == pytest.approx(1e-4, rel=0.2)


@given(
    st.lists(
        st.tuples(st.integers(1, 100_000), st.floats(0.0, 1e4) | st.just(0.0) | st.floats(-1.0, 0.0)),
        max_size=60,
    )
)
def test_it_is_never_negative_and_never_falls_with_rows(observed: list[tuple[int, float]]) -> None:
    curve = curve_of(*observed)
    assert curve.fixed_s >= 0.0
    assert curve.row_s >= 0.0
    assert 0.0 <= curve.seconds(1) <= curve.seconds(1000) < float("inf")


def test_a_clock_that_went_wrong_is_left_out() -> None:
    curve = curve_of((1, 1e-3), (1, float("nan")), (1, -5.0))
    assert curve.samples == 1
    assert curve.seconds(1) == pytest.approx(1e-3)


def test_a_batch_has_rows() -> None:
    with pytest.raises(SettingInvalid, match="at least one row"):
        CostCurve().observe(0, 1.0)
