"""A table with numbers, missing values and categories, and targets, for boosters of every library."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from servable.frameworks import lookup
from servable.frameworks.base import NO_HINTS, Hints, Trained
from servable.frameworks.frame import pack
from servable.optimization.choose import Optimised, optimise

ROWS = 300


class Table(NamedTuple):
    """Columns ``a`` (with missing values), ``b``, ``town`` (text) and ``grade`` (whole numbers); targets."""

    frame: pd.DataFrame
    two: Any
    three: Any
    value: Any

    @property
    def numbers(self) -> pd.DataFrame:
        """Without the text."""
        return self.frame.drop(columns=["town"])

    @property
    def categories(self) -> pd.DataFrame:
        """With the text and the grades as pandas categories."""
        return self.frame.astype({"town": "category", "grade": "category"})


def table(*, missing: bool = True) -> Table:
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "a": generator.normal(size=ROWS),
            "town": generator.choice(["x", "y", "z"], ROWS),
            "b": np.round(generator.normal(size=ROWS), 1),
            "grade": generator.choice([10, 20, 30, 40], ROWS),
        }
    )
    value = frame.a * 2 + frame.b**2 + (frame.town == "x") + (frame.grade == 20)
    if missing:
        frame.loc[::7, "a"] = np.nan
    two = (value > value.median()).astype(int).to_numpy()
    return Table(frame, two, pd.qcut(value, 3, labels=False).to_numpy(), value.to_numpy())


def read(path: Any, sample: pd.DataFrame | None, hints: Hints = NO_HINTS) -> Trained:
    """A model file through its adapter."""
    return lookup.adapter(lookup.framework_of(path)).read(path, sample=sample, trust=False, hints=hints)


def optimised(path: Any, sample: pd.DataFrame, folder: Any) -> Optimised:
    """All forms of a model file, proven on its sample and on nasty rows."""
    trained = read(path, sample)
    (folder / "variants").mkdir(parents=True)
    variant = lookup.adapter(lookup.framework_of(path)).write(trained, folder)
    return optimise(trained, pack(sample, trained.signature), folder, fallback=variant, batches=(1,))
