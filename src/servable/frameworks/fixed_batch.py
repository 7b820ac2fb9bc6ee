"""Any number of rows through a model that takes exactly so many at once."""

from collections.abc import Callable
from typing import Any

import numpy as np

from servable.tensors import Arrays, row_count, stack, take

Predict = Callable[[Arrays], dict[str, Any]]


def in_batches(predict: Predict, arrays: Arrays, size: int) -> dict[str, Any]:
    """All answers; the last batch is filled up with its own last row, whose answers are dropped.

    Args:
        predict: takes exactly ``size`` rows.
        arrays: any number of rows, at least one.
        size: at least 1.
    """
    rows = row_count(arrays)
    answers = []
    for start in range(0, rows, size):
        part = take(arrays, slice(start, start + size))
        lacking = size - row_count(part)
        if lacking:
            part = {
                name: np.concatenate([array, np.repeat(array[-1:], lacking, axis=0)])
                for name, array in part.items()
            }
        answers.append(take(predict(part), slice(0, size - lacking)))
    return stack(answers)
