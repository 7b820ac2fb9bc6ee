"""How long one call of a predictor takes, at several batch sizes, on a machine that does other things too."""

import math
import os
from collections.abc import Sequence

import numpy as np

from servable.artifact.manifest import Timing, Variant
from servable.clock import Clock, SystemClock
from servable.errors import ModelFailed
from servable.frameworks.base import MIXES, Predictor
from servable.frameworks.onnx_session import processor
from servable.tensors import Arrays, row_count, take

BATCHES = (1, 8, 32, 256)
#: Seconds spent on each batch size, about.
BUDGET = 0.3
_WARM_UP_SHARE = 0.1
#: Rows of the largest batch that is usual while serving.
_USUAL_ROWS = 32
_FEWEST, _MOST = 5, 3000
#: Seconds of one call from which on larger batches are not timed: models that write texts take minutes.
SLOW_S = 2.0
#: Different batches that are asked in turn, and the most bytes of them.
_PARTS = 8
_MOST_BYTES = 32 * 1024 * 1024


def time_predictor(
    predictor: Predictor,
    arrays: Arrays,
    batches: Sequence[int] = BATCHES,
    *,
    budget: float | None = None,
    clock: Clock | None = None,
) -> tuple[Timing, ...]:
    """Median seconds of one call with each number of rows.

    Left out, beyond the first: numbers of rows that the model refuses (many graphs have a fixed number) those
    whose arrays are too large to be held several times, and those that would take very long.

    Args:
        predictor: whose calls are timed, one after the other in this thread.
        arrays: real rows; repeated when there are fewer than a batch needs.
        batches: numbers of rows.
        budget: seconds for each batch size, ``BUDGET`` unless another is given; at least five calls are made
            even if that takes longer.
        clock: reads the time.

    Raises:
        ModelFailed: the model raised at the first number of rows.
    """
    reader = clock or SystemClock()
    timings: list[Timing] = []
    budget = BUDGET if budget is None else budget
    have = row_count(arrays)
    row_bytes = max(sum(array.nbytes for array in arrays.values()) // max(have, 1), 1)
    for rows in batches:
        if timings and rows * row_bytes > _MOST_BYTES:
            break
        if timings and timings[-1].seconds / timings[-1].rows * rows > SLOW_S:
            break
        several = max(1, min(_PARTS, _MOST_BYTES // (rows * row_bytes)))
        # Contiguous copies, as a decoder would hand in; several, so that no single row decides.
        parts = [
            {name: np.ascontiguousarray(part) for name, part in take(arrays, chosen).items()}
            for chosen in (np.arange(start * rows, (start + 1) * rows) % have for start in range(several))
        ]
        try:
            timings.append(Timing(rows, _median(predictor, parts, budget, reader)))
        except ModelFailed:
            if not timings:
                raise
            break
    return tuple(timings)


def _median(predictor: Predictor, parts: Sequence[Arrays], budget: float, clock: Clock) -> float:
    """The median duration of a call over the parts in turn."""
    start = clock.monotonic()
    calls = 0
    while calls < 2 or (clock.monotonic() - start < budget * _WARM_UP_SHARE and calls < _MOST):
        predictor.predict(parts[calls % len(parts)])
        calls += 1
    durations: list[float] = []
    start = clock.monotonic()
    while len(durations) < _FEWEST or (
        clock.monotonic() - start < budget * (1 - _WARM_UP_SHARE) and len(durations) < _MOST
    ):
        part = parts[len(durations) % len(parts)]
        before = clock.monotonic()
        predictor.predict(part)
        durations.append(clock.monotonic() - before)
    return float(np.median(durations))


def typical(variant: Variant) -> float:
    """Seconds that stand for all: the geometric mean of one row and of the largest batch up to 32.

    A form whose rows influence each other is never run with the rows of several callers together, so a batch
    of it counts as that many runs. Infinite where nothing was timed.
    """
    small = [timing for timing in variant.timings if timing.rows <= _USUAL_ROWS]
    if not small:
        return math.inf
    first, last = small[0], small[-1]
    alone = first.seconds * last.rows / first.rows
    return math.sqrt(first.seconds * (alone if variant.options.get(MIXES) else last.seconds))


def machine() -> str:
    """Processor and core count, as kept beside timings."""
    return f"{processor()}, {os.cpu_count()} cores"
