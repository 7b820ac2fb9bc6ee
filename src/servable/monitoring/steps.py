"""Durations and other sizes counted in narrow steps: quantiles can be compared, counts added. Pure.

The histogram of ``/metrics`` is for people and has few, wide buckets; two versions of which one is half as
fast may share a bucket there. Here eight steps make a doubling, and only steps that occur take any room.
"""

import math
from collections.abc import Mapping

#: Steps for every doubling; each is 9 % larger than the one before.
STEPS = 8
#: The step of everything too small to matter.
LOWEST_STEP = -400
_HIGHEST_STEP = 800
_SMALLEST, _LARGEST = math.exp2(LOWEST_STEP / STEPS), math.exp2(_HIGHEST_STEP / STEPS)
_log2 = math.log2
_floor = math.floor


def step_of(size: float) -> int:
    """The step that a size belongs to; negative below 1. Whatever is not above 0 is in the lowest."""
    if _SMALLEST < size < _LARGEST:
        return _floor(_log2(size) * STEPS)
    return _HIGHEST_STEP if size >= _LARGEST else LOWEST_STEP


def size_of(step: float) -> float:
    """The lower bound of a step."""
    return math.exp2(step / STEPS)


def value_at(counts: Mapping[int, int], rank: float) -> float:
    """The middle of the step that holds the value of a rank, from 1; 0 for the lowest.

    Args:
        counts: values by step.
        rank: of the value among all of them, from the smallest; one too large means the largest.
    """
    below, last = 0, LOWEST_STEP
    for step, count in sorted(counts.items()):
        last = step
        below += count
        if count and below >= rank:
            break
    return 0.0 if last <= LOWEST_STEP else size_of(last + 0.5)


def quantile_of(counts: Mapping[int, int], level: float) -> float | None:
    """A quantile of the values as they were seen; None of none.

    Args:
        counts: values by step.
        level: between 0 and 1.
    """
    total = sum(counts.values())
    return value_at(counts, level * total) if total else None
