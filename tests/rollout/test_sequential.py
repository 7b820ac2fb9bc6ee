import math
import random

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from servable.monitoring.steps import quantile_of, step_of
from servable.rollout.sequential import (
    LEAST_COUNT,
    ONE_LOOK,
    Moments,
    mean_interval,
    quantile_interval,
    share_interval,
)

ALPHA = 0.05
counts = st.integers(1, 10**6)
alphas = st.floats(1e-6, 0.5)


@given(counts, st.floats(0, 1), alphas)
def test_a_share_lies_in_its_interval_and_a_single_look_is_narrower(
    count: int, part: float, alpha: float
) -> None:
    hits = round(count * part)
    wide, narrow = share_interval(hits, count, alpha), share_interval(hits, count, ONE_LOOK)
    assert 0 <= wide.low <= hits / count <= wide.high <= 1
    if alpha <= ALPHA and count > 10:
        assert wide.low <= narrow.low
        assert narrow.high <= wide.high


@given(counts, st.floats(0, 1), alphas)
def test_failures_are_the_mirror_of_successes(count: int, part: float, alpha: float) -> None:
    hits = round(count * part)
    ours, mirrored = share_interval(hits, count, alpha), share_interval(count - hits, count, alpha)
    assert ours.low == pytest.approx(1 - mirrored.high, abs=1e-7)
    assert ours.high == pytest.approx(1 - mirrored.low, abs=1e-7)


@given(st.integers(1, 10**5), st.floats(0, 1))
def test_a_smaller_rate_of_errors_makes_an_interval_wider(count: int, part: float) -> None:
    hits = round(count * part)
    loose, strict = share_interval(hits, count, 0.1), share_interval(hits, count, 0.001)
    assert strict.low <= loose.low
    assert loose.high <= strict.high


def test_nothing_seen_says_nothing() -> None:
    assert share_interval(0, 0, ALPHA) == (0, 1)
    assert quantile_interval({}, 0.5, ALPHA) == (0, math.inf)
    assert mean_interval(Moments(), ALPHA) == (-math.inf, math.inf)
    assert mean_interval(Moments(LEAST_COUNT - 1, 1, 1), ALPHA) == (-math.inf, math.inf)


def looked_at_always(truth: float, runs: int, length: int, seed: int) -> tuple[int, int]:
    """How many of some runs miss the truth at any of their looks: by intervals for all looks, and for one."""
    chance = np.random.default_rng(seed)
    always = once = 0
    for _ in range(runs):
        hits = np.cumsum(chance.random(length) < truth)
        looks = [(int(hits[n - 1]), n) for n in range(1, length + 1, max(length // 50, 1))]
        missed = [interval for interval in looks if not _holds(truth, *interval, ALPHA)]
        always += bool(missed)
        once += any(not _holds(truth, *look, ONE_LOOK) for look in looks)
    return always, once


def _holds(truth: float, hits: int, count: int, alpha: float) -> bool:
    low, high = share_interval(hits, count, alpha)
    return low <= truth <= high


@pytest.mark.parametrize("truth", [0.02, 0.5, 0.95])
def test_whoever_always_looks_is_misled_no_more_often_than_stated(truth: float) -> None:
    always, once = looked_at_always(truth, runs=100, length=2000, seed=7)
    assert always <= 100 * ALPHA
    # The ordinary interval is why: it would mislead far more often than it says.
    assert once > 100 * 0.10


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_a_quantile_is_missed_no_more_often_than_stated_however_often_it_is_looked_at(level: float) -> None:
    chance = random.Random(3)
    truth = math.exp(0.7 * {0.5: 0.0, 0.95: 1.6449}[level]) * 0.01
    missed = 0
    for _ in range(60):
        seen: dict[int, int] = {}
        for number in range(1, 1201):
            step = step_of(0.01 * math.exp(chance.gauss(0, 0.7)))
            seen[step] = seen.get(step, 0) + 1
            if number % 60 == 0:
                low, high = quantile_interval(seen, level, ALPHA)
                if not low <= truth <= high:
                    missed += 1
                    break
    assert missed <= 60 * ALPHA


@given(st.dictionaries(st.integers(-120, 20), st.integers(1, 5000), min_size=1), st.sampled_from([0.5, 0.95]))
def test_a_quantile_lies_in_its_interval(seen: dict[int, int], level: float) -> None:
    low, high = quantile_interval(seen, level, ALPHA)
    found = quantile_of(seen, level)
    assert found is not None
    assert low <= found <= high


def test_the_mean_of_numbers_is_missed_no_more_often_than_stated() -> None:
    chance = np.random.default_rng(5)
    missed = 0
    for _ in range(200):
        values = chance.exponential(2.0, 3000)
        sums, squares = np.cumsum(values), np.cumsum(values**2)
        for count in range(200, 3001, 100):
            low, high = mean_interval(
                Moments(count, float(sums[count - 1]), float(squares[count - 1])), ALPHA
            )
            if not low <= 2.0 <= high:
                missed += 1
                break
    assert missed <= 200 * ALPHA


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50))
def test_moments_are_those_of_the_numbers(values: list[float]) -> None:
    assume(len(values) > 1)
    moments = Moments(len(values), math.fsum(values), math.fsum(value * value for value in values))
    assert moments.mean == pytest.approx(float(np.mean(values)), abs=1e-6)
    assert moments.variance == pytest.approx(float(np.var(values, ddof=1)), rel=1e-3, abs=1e-1)
