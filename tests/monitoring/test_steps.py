"""Sizes counted in narrow steps."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.monitoring.steps import LOWEST_STEP, quantile_of, size_of, step_of, value_at


@given(st.floats(1e-15, 1e30))
def test_a_size_lies_in_its_step(size: float) -> None:
    step = step_of(size)
    assert size_of(step) <= size * (1 + 1e-9)
    assert size <= size_of(step + 1) * (1 + 1e-9)


@given(st.floats(-1.0, 1e-16))
def test_no_size_is_too_small_to_be_counted(size: float) -> None:
    assert step_of(size) == LOWEST_STEP
    assert value_at({LOWEST_STEP: 1}, 1) == 0.0


def test_no_size_is_too_large_to_be_counted() -> None:
    assert step_of(math.inf) == step_of(1e300)
    assert step_of(math.nan) == LOWEST_STEP


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=50), st.floats(0.0, 1.0))
def test_a_quantile_is_off_by_half_a_step_at_most(sizes: list[float], level: float) -> None:
    counts: dict[int, int] = {}
    for size in sizes:
        counts[step_of(size)] = counts.get(step_of(size), 0) + 1
    true = sorted(sizes)[max(math.ceil(level * len(sizes)) - 1, 0)]
    assert quantile_of(counts, level) == pytest.approx(true, rel=0.05)


def test_there_is_no_quantile_of_nothing() -> None:
    assert quantile_of({}, 0.5) is None
    assert quantile_of({3: 0}, 0.5) is None
