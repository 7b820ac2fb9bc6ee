"""Made columns, their references and rows drawn from them."""

from collections.abc import Mapping

import numpy as np

from servable.artifact.profile import ColumnProfile, of_numbers
from servable.monitoring.drift import Observed
from servable.monitoring.reference import Key, Reference, of_counts, of_profile


def number(name: str, values: np.ndarray) -> Reference:
    found = of_profile("input", of_numbers(name, np.asarray(values, np.float64)))
    assert found is not None
    return found


def category(name: str, counts: Mapping[str, int], others: int = 0, missing: float = 0.0) -> Reference:
    column = ColumnProfile(
        name=name,
        kind="category",
        missing=missing,
        distinct=len(counts),
        categories=dict(counts),
        others=others,
    )
    found = of_profile("input", column)
    assert found is not None
    return found


def quality(right: int, wrong: int) -> Reference:
    return of_counts(Key("quality", "error"), {"right": right, "wrong": wrong})


def observed(columns: Mapping[Key, np.ndarray], at: np.ndarray | None = None) -> Observed:
    return Observed(len(next(iter(columns.values()))), columns, at)


def one(reference: Reference, values: np.ndarray) -> Observed:
    return Observed(len(values), {reference.key: values})


def texts(values) -> np.ndarray:
    made = np.empty(len(values), object)
    made[:] = list(values)
    return made
