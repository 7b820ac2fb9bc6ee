"""Which moments of a rollout are kept for the pictures of how its evidence grew. Pure.

The watcher looks every second; a person wants some dozens of moments. So a look is kept when a twentieth of a
step, and a sixtieth of the whole time so far, have passed since the one before; every decision keeps one.
"""

import math
from collections.abc import Sequence

import msgspec

from servable.registry.rollout_records import Course, Look
from servable.rollout.evidence import Comparison

#: Looks that are kept at most; of more than these every second one goes.
MOST_LOOKS = 120
_PARTS_OF_A_STEP = 20
_PARTS_OF_ALL = 60
_LEAST_S = 1.0
_DIGITS = 5


def due(course: Course, every_s: float, now: float) -> bool:
    """Whether the evidence of now is worth keeping.

    Args:
        course: where the rollout stands.
        every_s: seconds that a step lasts at least.
        now: seconds since 1970.
    """
    if not course.looks:
        return True
    whole = now - course.looks[0].at
    apart = max(every_s / _PARTS_OF_A_STEP, whole / _PARTS_OF_ALL, _LEAST_S)
    return now - course.looks[-1].at >= apart


def with_look(course: Course, comparisons: Sequence[Comparison], now: float) -> Course:
    """With the evidence of now; the course itself where nothing is known yet.

    Args:
        course: where the rollout stands.
        comparisons: the measures of both versions.
        now: seconds since 1970.
    """
    if not comparisons:
        return course
    look = Look(now, course.step, {named(each): _six(each) for each in comparisons})
    looks = (*course.looks, look)
    return msgspec.structs.replace(course, looks=looks[::2] if len(looks) > MOST_LOOKS else looks)


def named(each: Comparison) -> str:
    """The name of a measure, with the answer whose share it is."""
    return each.measure + (f" of {each.of!r}" if each.of else "")


def _six(each: Comparison) -> tuple[float | None, ...]:
    ours, theirs = each.champion_interval, each.challenger_interval
    found = (each.champion, *(ours or (None, None)), each.challenger, *(theirs or (None, None)))
    # A picture shows no more digits than these, and the record is read at every look.
    return tuple(
        None if value is None or math.isinf(value) else float(f"{value:.{_DIGITS}g}") for value in found
    )
