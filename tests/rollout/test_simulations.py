"""How often the plan errs, and how soon it sees what is wrong; ``docs/rollouts.md`` has the figures."""

import pytest

from rollout.simulated import Behaviour, middle, simulate


@pytest.mark.parametrize("count", [80, pytest.param(400, marks=pytest.mark.soak)])
def test_of_identical_versions_at_most_the_stated_share_goes_back(count: int) -> None:
    ends = [simulate(Behaviour(), seed) for seed in range(count)]
    decisions = [end.decision for end in ends]
    assert decisions.count("rolled back") <= 0.05 * count
    # A test that never says no would pass the line above; the ones below are its other half.
    assert decisions.count("promoted") >= 0.9 * count


@pytest.mark.parametrize(
    ("challenger", "most_touched", "why"),
    [
        (Behaviour(errors=0.02), 20_000, "Error rate"),
        (Behaviour(errors=0.50), 100, "Error rate"),
        (Behaviour(median_s=0.030), 500, "latency"),
        (Behaviour(accuracy=0.80), 20_000, "Accuracy"),
    ],
    ids=["twice the errors", "half of all fail", "three times the latency", "worse labels"],
)
def test_a_worse_version_goes_back_by_itself(challenger: Behaviour, most_touched: int, why: str) -> None:
    ends = [simulate(challenger, seed, rate=400) for seed in range(8)]
    assert {end.decision for end in ends} == {"rolled back"}
    assert all(why.lower() in end.reason.lower() for end in ends)
    assert middle([end.touched for end in ends]) <= most_touched


def test_a_better_version_is_promoted() -> None:
    better = Behaviour(errors=0.005, median_s=0.008, accuracy=0.93)
    assert {simulate(better, seed).decision for seed in range(8)} == {"promoted"}


def test_within_the_margins_a_version_is_not_sent_back() -> None:
    close = Behaviour(errors=0.0105, median_s=0.011, accuracy=0.895)
    assert "rolled back" not in {simulate(close, seed).decision for seed in range(8)}
