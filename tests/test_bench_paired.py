"""What is said of servers that were loaded in turn."""

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

# The benchmarks are no package that is installed, and the tests are found from a folder of their own.
sys.path.append(str(Path(__file__).parents[1]))

from bench.paired import Paired, in_turn, ratio_of

RATIOS = st.lists(st.floats(0.1, 10.0), min_size=1, max_size=60)


@given(RATIOS)
def test_the_median_lies_in_its_interval_and_order_does_not_count(ratios: list[float]) -> None:
    found = ratio_of(ratios)
    assert min(ratios) <= found.least <= found.median <= found.most <= max(ratios)
    assert ratio_of(ratios[::-1]) == found


@pytest.mark.parametrize(("count", "beyond"), [(1, 0), (5, 0), (9, 1), (15, 3), (30, 9)])
def test_the_interval_is_that_of_the_sign_test(count: int, beyond: int) -> None:
    # With 9 rounds the second and the eighth hold the median with 96 %, with 15 the fourth and the twelfth.
    found = ratio_of([float(each) for each in range(1, count + 1)])
    assert (found.least, found.most) == (beyond + 1.0, float(count - beyond))


def test_rounds_are_compared_with_their_own() -> None:
    told = Paired({"off": [100.0, 50.0, 200.0], "on": [90.0, 45.0, 100.0]}, {"off": 0, "on": 0})
    assert told.ratio("on", "off").median == 0.9


def test_single_calls_are_timed_in_turn_and_each_goes_first_as_often() -> None:
    asked: list[str] = []

    def note(name: str) -> None:
        if asked[-1:] != [name]:
            asked.append(name)

    found = in_turn({"one": lambda: note("one"), "other": lambda: note("other")}, 4)
    assert {name: len(taken) for name, taken in found.items()} == {"one": 4, "other": 4}
    assert all(0 < seconds < 0.01 for taken in found.values() for seconds in taken)
    # Where a turn ends with the one that begins the next, it is seen once.
    assert asked == ["one", "other", "one", "other", "one"]
