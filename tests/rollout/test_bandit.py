import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.rollout.bandit import LEAST_WEIGHT, weights
from servable.rollout.sequential import Moments


@given(
    st.dictionaries(
        st.integers(1, 9),
        st.integers(0, 500).flatmap(
            lambda count: st.integers(0, count).map(lambda good: Moments(count, float(good), float(good)))
        ),
        min_size=1,
        max_size=4,
    ),
    st.integers(0, 2**32),
)
def test_weights_are_shares_of_which_everybody_has_some(rewards: dict[int, Moments], seed: int) -> None:
    found = weights(rewards, seed, draws=200)
    assert found == weights(rewards, seed, draws=200)
    assert sum(found.values()) == pytest.approx(1.0)
    assert min(found.values()) >= LEAST_WEIGHT - 1e-12


def test_nothing_known_gives_equal_shares() -> None:
    found = weights({1: Moments(), 2: Moments()}, 1)
    assert found[1] == pytest.approx(0.5, abs=0.05)


def paid(kind: str, version: int, chance: random.Random) -> float:
    if kind == "clicks":
        return float(chance.random() < {1: 0.05, 2: 0.08, 3: 0.06}[version])
    return chance.gauss({1: 10.0, 2: 12.0, 3: 11.0}[version], 8.0)


@pytest.mark.parametrize("kind", ["clicks", "money"])
def test_the_best_version_comes_to_answer_nearly_everything(kind: str) -> None:
    chance = random.Random(11)
    sums = {version: [0, 0.0, 0.0] for version in (1, 2, 3)}
    shares = dict.fromkeys(sums, 1 / 3)
    asked = dict.fromkeys(sums, 0)
    for turn in range(60):
        for version in chance.choices(list(shares), list(shares.values()), k=200):
            reward = paid(kind, version, chance)
            asked[version] += 1
            sums[version][0] += 1
            sums[version][1] += reward
            sums[version][2] += reward**2
        shares = weights(
            {version: Moments(int(each[0]), each[1], each[2]) for version, each in sums.items()},
            turn,
            draws=500,
        )
    assert shares[2] > 0.9
    # It learns while it earns: most requests went to the best one although nobody knew it at first.
    assert asked[2] > 0.5 * sum(asked.values())
