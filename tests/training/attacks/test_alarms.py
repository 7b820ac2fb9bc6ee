"""How often a privacy report raises an alarm where there is nothing to be found."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from servable.training.attacks import telling

# The benchmarks are no package that is installed, and the tests are found from a folder of their own.
sys.path.append(str(Path(__file__).parents[3]))

from bench.alarms import rate, simulated

REPORTS = 200
#: With alarms as often as is stated, more than this many would come once in ten thousand runs of the test.
MOST = int(binom.ppf(1 - 1e-4, REPORTS, telling.CHANCE))


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("numbers", [False, True])
def test_alarms_by_chance_are_as_rare_as_is_stated(numbers: bool) -> None:
    rates = simulated(REPORTS, numbers=numbers)
    assert rates["membership"].count <= MOST, rates
    assert rates["files"].count <= MOST, rates
    assert rates["found"].count <= MOST, rates


def test_rates_have_the_usual_intervals() -> None:
    assert rate(0, 200) == pytest.approx((0, 200, 0.0, 0.01827), abs=1e-4)
    assert rate(5, 200) == pytest.approx((5, 200, 0.00817, 0.05739), abs=1e-4)
    assert rate(10, 10)[2:] == pytest.approx((0.69150, 1.0), abs=1e-4)


def test_a_report_of_a_few_rows_is_simulated_whole() -> None:
    rates = simulated(2, numbers=True, shown=60)
    assert {each.reports for each in rates.values()} == {2}


def test_six_attacks_together_are_hardly_ever_sure_by_chance() -> None:
    chance = np.random.default_rng(0)
    sure = sum(
        any(
            telling.attack(
                "x", "x", "x", telling.Scores(chance.normal(size=100), chance.normal(size=100)), tried=6
            ).sure
            for _ in range(6)
        )
        for _ in range(100)
    )
    assert sure <= int(binom.ppf(1 - 1e-4, 100, telling.CHANCE))
    # What is there is found all the same.
    found = telling.attack(
        "x", "x", "x", telling.Scores(chance.normal(0.6, size=100), chance.normal(size=100)), tried=6
    )
    assert found.sure
    assert 0.5 < found.auc_sure < found.auc_low < found.auc
