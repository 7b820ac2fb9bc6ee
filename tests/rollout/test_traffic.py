"""Who answers: the same key meets the same version, shares are kept, and a rise only takes keys over."""

import math
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.registry.records import Share
from servable.rollout.traffic import Division

WEIGHTS = st.floats(1e-3, 1e6)
VERSIONS = st.dictionaries(st.integers(1, 2**31 - 1), WEIGHTS, min_size=1, max_size=6)
KEYS = st.binary(min_size=1, max_size=40)
CHANCES = st.floats(0, 1, exclude_max=True)


def division(weights: dict[int, float], model: str = "churn") -> Division:
    return Division(model, [Share(version=version, weight=weight) for version, weight in weights.items()])


@given(VERSIONS, KEYS | st.none(), CHANCES)
def test_somebody_answers_always_and_the_order_of_the_shares_does_not_matter(
    weights: dict[int, float], key: bytes | None, chance: float
) -> None:
    turned = dict(reversed(weights.items()))
    found = division(weights).version(key, chance)
    assert found in weights
    assert division(turned).version(key, chance) == found
    assert math.isclose(sum(division(weights).shares.values()), 1.0)


@given(VERSIONS, KEYS, CHANCES, CHANCES)
def test_with_a_key_chance_decides_nothing(
    weights: dict[int, float], key: bytes, one: float, other: float
) -> None:
    made = division(weights)
    assert made.version(key, one) == made.version(key, other)


@given(VERSIONS, KEYS, st.data())
def test_a_share_that_rises_only_takes_keys_over(
    weights: dict[int, float], key: bytes, data: st.DataObject
) -> None:
    rising = data.draw(st.sampled_from(sorted(weights)))
    after = weights | {rising: weights[rising] * data.draw(st.floats(1, 1e3))}
    before, later = division(weights).version(key, 0.0), division(after).version(key, 0.0)
    assert later in (before, rising)


@given(KEYS, st.floats(0.1, 99.8), st.floats(0.1, 99.8))
def test_a_canary_in_steps_moves_keys_in_one_direction(key: bytes, one: float, other: float) -> None:
    low, high = sorted((one, other))
    before = division({3: 100 - low, 4: low}).version(key, 0.0)
    after = division({3: 100 - high, 4: high}).version(key, 0.0)
    assert (before, after) != (4, 3)


@given(VERSIONS, KEYS, st.data())
def test_a_version_that_leaves_only_gives_its_own_keys_away(
    weights: dict[int, float], key: bytes, data: st.DataObject
) -> None:
    leaving = data.draw(st.sampled_from(sorted(weights)))
    rest = {version: weight for version, weight in weights.items() if version != leaving}
    before = division(weights).version(key, 0.0)
    if rest and before != leaving:
        assert division(rest).version(key, 0.0) == before


@pytest.mark.parametrize("weights", [{3: 95.0, 4: 5.0}, {1: 1.0, 2: 1.0, 7: 2.0}, {1: 0.995, 2: 0.005}])
@pytest.mark.parametrize("keyed", [True, False])
def test_shares_are_kept_within_the_error_of_sampling(weights: dict[int, float], keyed: bool) -> None:
    made, drawn, total = division(weights), 40_000, sum(weights.values())
    # Keys as they are: numbers that follow one another. Without keys, chance that is spread evenly.
    found = Counter(
        made.version(b"customer-%d" % number if keyed else None, (number + 0.5) / drawn)
        for number in range(drawn)
    )
    for version, weight in weights.items():
        share = weight / total
        assert abs(found[version] - share * drawn) <= 5 * math.sqrt(drawn * share * (1 - share)) + 1


def test_another_model_has_other_customers_first() -> None:
    keys = [b"customer-%d" % number for number in range(4000)]
    first = {key for key in keys if division({1: 90, 2: 10}).version(key, 0.0) == 2}
    other = {key for key in keys if division({1: 90, 2: 10}, "fraud").version(key, 0.0) == 2}
    # Chosen one by one they would have about a tenth in common.
    assert len(first & other) < 0.25 * len(first)


def test_another_process_finds_the_same() -> None:
    keys = [b"%d" % number for number in range(50)]
    code = (
        "from servable.registry.records import Share\n"
        "from servable.rollout.traffic import Division\n"
        "made = Division('churn', [Share(version=1, weight=1), Share(version=2, weight=2)])\n"
        "print([made.version(b'%d' % number, 0.0) for number in range(50)])\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    made = division({1: 1, 2: 2})
    assert told.stdout.strip() == str([made.version(key, 0.0) for key in keys])
