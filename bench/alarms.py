"""How often a privacy report raises an alarm by chance, about models that remember nothing.

``python -m bench.alarms --reports 200`` makes so many linear models of many more rows than they have weights,
attacks each with rows that it learned from and rows that it did not, and counts what the reports say.
"""

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta
from sklearn.linear_model import LinearRegression, LogisticRegression
from threadpoolctl import threadpool_limits

from servable.artifact.signature import Field, Signature
from servable.tensors import NUMBERS, PREDICTION, PROBABILITIES
from servable.training.attacks import membership, telling
from servable.training.attacks.membership import Side

#: Rows that a model learns from, rows of each side that it is attacked with, and columns.
LEARNED, SHOWN, COLUMNS = 20_000, 300, 5
#: What of a report is an alarm: an attack beyond chance, files that differ, and a share of members found at
#: 1 % false alarms whose interval lies above what guessing finds.
KINDS = ("membership", "files", "found")


class Rate(NamedTuple):
    """How often something happened.

    Attributes:
        count: of the reports in which it did.
        reports: in all.
        low: lower end of the 95 % interval of the rate (Clopper and Pearson).
        high: upper end.
    """

    count: int
    reports: int
    low: float
    high: float


def rate(count: int, reports: int) -> Rate:
    """A rate and its interval."""
    low = float(beta.ppf(0.025, count, reports - count + 1)) if count else 0.0
    high = float(beta.ppf(0.975, count + 1, reports - count)) if count < reports else 1.0
    return Rate(count, reports, low, high)


def simulated(
    reports: int,
    *,
    numbers: bool,
    seed: int = 0,
    shown: int = SHOWN,
    told: Callable[[int], object] = lambda made: None,
) -> dict[str, Rate]:
    """The rate of every kind of alarm.

    Args:
        reports: how many models are made and attacked.
        numbers: whether they are regressions; else classifiers of two classes.
        seed: of the first one.
        shown: rows of each side.
        told: hears after each report how many were made.
    """
    alarms = dict.fromkeys(KINDS, 0)
    for number in range(reports):
        # Some hundred rows are too few for two threads: where something else runs, they wait for each other.
        with threadpool_limits(1):
            found = _attacked(np.random.default_rng([seed, number]), numbers, shown, number)
        alarms["membership"] += any(attack.sure for attack in found.attacks)
        alarms["files"] += found.blind is not None and found.blind.sure
        alarms["found"] += any(attack.tpr_low > telling.ALARMS for attack in found.attacks)
        told(number + 1)
    return {kind: rate(count, reports) for kind, count in alarms.items()}


def signature(columns: int, *, numbers: bool = False) -> Signature:
    """Of a model of number columns ``x0``, ``x1`` ...: of the classes 0 and 1, or a regression."""
    answer = (
        Field(name="y", kind="number", dtype="float64")
        if numbers
        else Field(name="y", kind="category", dtype="int64", values=(0, 1))
    )
    return Signature(
        task="regression" if numbers else "classification",
        inputs=tuple(Field(name=f"x{at}", kind="number", dtype="float64") for at in range(columns)),
        outputs=(answer,),
        probabilities=not numbers,
    )


def _attacked(chance: np.random.Generator, numbers: bool, shown: int, seed: int) -> membership.Found:
    x = chance.normal(size=(LEARNED + shown, COLUMNS))
    straight = x @ chance.normal(size=COLUMNS)
    if numbers:
        y: NDArray[Any] = straight + chance.normal(size=len(x))
        model: Any = LinearRegression()
    else:
        y = (chance.random(len(x)) < 1 / (1 + np.exp(-straight))).astype(np.int64)
        model = LogisticRegression()
    model.fit(x[:LEARNED], y[:LEARNED])

    def ask(arrays: Any) -> dict[str, Any]:
        rows = arrays[NUMBERS]
        if numbers:
            return {PREDICTION: model.predict(rows)}
        chances = model.predict_proba(rows)
        return {PREDICTION: chances.argmax(axis=1), PROBABILITIES: chances}

    # The rows have no order, so the last that it learned from are as good as any.
    sides = [
        Side({NUMBERS: x[part]}, y[part], ask({NUMBERS: x[part]}))
        for part in (slice(LEARNED - shown, LEARNED), slice(LEARNED, None))
    ]
    return membership.attacked(signature(COLUMNS, numbers=numbers), *sides, ask, seed=seed)


def main() -> None:
    """Print the rates as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.alarms", description=__doc__)
    parser.add_argument("--reports", type=int, default=200)
    parser.add_argument("--rows", type=int, default=SHOWN, help="of each side")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for numbers in (False, True):
        task = "regression" if numbers else "classification"

        def told(made: int, task: str = task) -> None:
            print(f"\r{task}: {made} of {given.reports} reports", end="", file=sys.stderr, flush=True)

        rates = simulated(given.reports, numbers=numbers, seed=given.seed, shown=given.rows, told=told)
        print(file=sys.stderr)
        print(json.dumps({"task": task, **{kind: each._asdict() for kind, each in rates.items()}}))


if __name__ == "__main__":
    main()
