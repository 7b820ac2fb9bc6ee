"""Durations counted in narrow steps: their quantiles can be compared, their counts added. Pure.

The histogram of ``/metrics`` is for people and has few, wide buckets; two versions of which one is half as
fast may share a bucket there. Here eight steps make a doubling, and only steps that occur take any room.
"""

import math
from collections.abc import Mapping

#: Steps for every doubling; each is 9 % longer than the one before.
STEPS = 8
_SHORTEST_S = 1e-7
_log2 = math.log2
_floor = math.floor


def step_of(seconds: float) -> int:
    """The step that a duration belongs to; negative below a second."""
    return _floor(_log2(seconds if seconds > _SHORTEST_S else _SHORTEST_S) * STEPS)


def seconds_of(step: float) -> float:
    """The lower bound of a step."""
    return math.exp2(step / STEPS)


def quantile_of(counts: Mapping[int, int], level: float) -> float | None:
    """A quantile of durations as they were seen, in seconds; None of none.

    Args:
        counts: durations by step.
        level: between 0 and 1.
    """
    wanted, below = level * sum(counts.values()), 0
    for step, count in sorted(counts.items()):
        below += count
        if count and below >= wanted:
            return seconds_of(step + 0.5)
    return None
