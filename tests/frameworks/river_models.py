"""Small River models with what they learned from, and packed rows for them."""

import random
from typing import Any, NamedTuple

import pandas as pd
from river import compose, ensemble, forest, linear_model, multiclass, naive_bayes, preprocessing, stats, tree


class Taught(NamedTuple):
    """A model that learned, the rows that it learned from, and the answers to them."""

    model: Any
    rows: list[dict[str, Any]]
    answers: list[Any]

    @property
    def frame(self) -> pd.DataFrame:
        return pd.DataFrame(self.rows)


def rows(count: int = 400, seed: int = 0) -> list[dict[str, Any]]:
    """A number, a whole number and a text."""
    draw = random.Random(seed)
    return [
        {"size": draw.gauss(0, 1), "count": draw.randrange(5), "town": draw.choice("uvw")}
        for _ in range(count)
    ]


def above(row: dict[str, Any]) -> bool:
    return bool(row["size"] + (row["town"] == "u") > 0.3)


def third(row: dict[str, Any]) -> str:
    return "low" if row["size"] < -0.5 else "high" if row["size"] > 0.5 else "mid"


def value(row: dict[str, Any]) -> float:
    return 2.0 * float(row["size"]) + (row["town"] == "v")


def prepared() -> Any:
    # One column at a time: River keeps several as a set, whose order, and with it the last digit of a sum,
    # differs between a model and its copy.
    size, count = (compose.Select(name) | preprocessing.StandardScaler() for name in ("size", "count"))
    return size + count + (compose.Select("town") | preprocessing.OneHotEncoder())


def taught(model: Any, answer: Any, seen: list[dict[str, Any]] | None = None) -> Taught:
    given = rows() if seen is None else seen
    answers = [answer(row) for row in given]
    for row, right in zip(given, answers, strict=True):
        model.learn_one(row, right)
    return Taught(model, given, answers)


#: What makes a model of each kind, and what it is taught.
MODELS = {
    "logistic": (lambda: prepared() | linear_model.LogisticRegression(), above),
    "softmax": (lambda: prepared() | linear_model.SoftmaxRegression(), third),
    "one against the rest": (
        lambda: prepared() | multiclass.OneVsRestClassifier(linear_model.LogisticRegression()),
        third,
    ),
    "naive bayes": (lambda: prepared() | naive_bayes.GaussianNB(), third),
    "tree": (lambda: tree.HoeffdingTreeClassifier(grace_period=50), third),
    "forest": (lambda: forest.ARFClassifier(n_models=3, seed=1), third),
    "boosting": (
        lambda: ensemble.AdaBoostClassifier(tree.HoeffdingTreeClassifier(), n_models=3, seed=1),
        above,
    ),
    "linear": (
        lambda: prepared() | preprocessing.TargetStandardScaler(linear_model.LinearRegression()),
        value,
    ),
    "forest of numbers": (lambda: prepared() | forest.ARFRegressor(n_models=3, seed=1), value),
    "imputed": (
        lambda: (
            preprocessing.StatImputer(("size", stats.Mean())) | prepared() | linear_model.LogisticRegression()
        ),
        above,
    ),
}


def made(name: str) -> Taught:
    """A model of ``MODELS`` after it learned."""
    make, answer = MODELS[name]
    return taught(make(), answer)
