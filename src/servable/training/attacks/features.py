"""Rows of a table as numbers for attackers' own models, and rows made up of usual values."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from servable.artifact.signature import Signature
from servable.tensors import NUMBERS, STRINGS, Arrays, row_count

Floats = NDArray[np.float64]
#: Values of a category that get a column of their own, the most frequent ones.
_MOST_VALUES = 50


def is_table(signature: Signature) -> bool:
    """Whether the model takes columns of numbers, dates and categories, and nothing else."""
    return all(not field.is_tensor and field.kind != "text" for field in signature.inputs)


class Encoding:
    """Rows as a matrix without missing values: scaled numbers, and a column for each value of a category.

    Args:
        signature: of a table.
        rows: gives means, spreads and known values.
    """

    def __init__(self, signature: Signature, rows: Arrays) -> None:
        self._numbers: list[tuple[int, float, float]] = []
        #: Place among the packed numbers, and standard deviation, of each column that can be moved a little.
        self.spreads: list[tuple[int, float]] = []
        self._values: list[tuple[str, int, tuple[Any, ...]]] = []
        for name in (NUMBERS, STRINGS):
            for place, field in enumerate(signature.packed(name)):
                column = rows[name][:, place]
                if name == NUMBERS and field.kind != "category":
                    mean, spread = _scale(column)
                    self._numbers.append((place, mean, spread))
                    if field.kind != "boolean":
                        self.spreads.append((place, spread))
                else:
                    self._values.append((name, place, _frequent(column)))

    def of(self, rows: Arrays) -> Floats:
        """The matrix of some rows, float64 ``[rows, columns]``."""
        count = row_count(rows)
        columns: list[Floats] = []
        for place, mean, spread in self._numbers:
            column = rows[NUMBERS][:, place]
            missing = np.isnan(column)
            columns += [np.where(missing, 0.0, (column - mean) / spread), missing.astype(np.float64)]
        for name, place, values in self._values:
            column = rows[name][:, place]
            columns += [(column == value).astype(np.float64) for value in values]
        return np.column_stack(columns) if columns else np.zeros((count, 0))


def made_up(rows: Arrays, count: int, chance: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Rows whose columns hold usual values that do not belong together: what anybody could ask.

    Args:
        rows: of which each column is drawn by itself.
        count: how many are made.
        chance: what is drawn with.
    """
    size = row_count(rows)
    made = {}
    for name, array in rows.items():
        drawn = np.empty((count, *array.shape[1:]), array.dtype)
        for place in range(array.shape[1]):
            drawn[:, place] = array[chance.integers(0, size, count), place]
        made[name] = drawn
    return made


def _scale(column: Floats) -> tuple[float, float]:
    there = column[~np.isnan(column)]
    if not len(there):
        return 0.0, 1.0
    return float(there.mean()), float(there.std()) or 1.0


def _frequent(column: NDArray[Any]) -> tuple[Any, ...]:
    there = column[~np.isnan(column)] if column.dtype != object else column
    values, counts = np.unique(there, return_counts=True)
    return tuple(values[np.argsort(-counts, kind="stable")][:_MOST_VALUES].tolist())
