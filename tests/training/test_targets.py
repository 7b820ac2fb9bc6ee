"""The real sets, with the default settings but less time: what must be reached, and what would be a leak."""

from pathlib import Path

import pytest

from servable.training.data import infer, read_table
from servable.training.search import train

pytestmark = pytest.mark.slow
#: Seconds for a search: few in every run, and more in the long one.
BUDGETS_S = pytest.mark.parametrize("budget_s", [4, pytest.param(20, marks=pytest.mark.soak)])


@BUDGETS_S
def test_adult_income(shared_data: Path, budget_s: float):
    problem = infer(read_table(shared_data / "adult_income" / "adult.csv"), "income")
    assert problem.signature.classes == ("<=50K", ">50K")
    result = train(problem, time_budget_s=budget_s)
    assert 0.870 <= result.evaluation.metrics["accuracy"] < 0.90
    assert result.evaluation.baselines["logistic"]["accuracy"] > 0.84


@BUDGETS_S
def test_california_housing(shared_data: Path, budget_s: float):
    problem = infer(read_table(shared_data / "california_housing" / "housing.csv"), "median_house_value")
    result = train(problem, time_budget_s=budget_s)
    assert 0.83 <= result.evaluation.metrics["r2"] < 0.90


@BUDGETS_S
def test_electricity_in_time_order_does_not_leak(shared_data: Path, budget_s: float):
    frame = read_table(shared_data / "electricity_elec2" / "elec2.csv")
    result = train(infer(frame, "class", time_order=True), time_budget_s=budget_s / 2)
    assert result.holdout_rows.min() == len(frame) - len(result.holdout_rows)
    assert 0.66 < result.evaluation.metrics["accuracy"] < 0.80
