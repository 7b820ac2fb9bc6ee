"""The gate: metrics that a version must reach. Pure functions; who asks decides what a no means."""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from servable.errors import SettingInvalid
from servable.training.measures import HIGHER_IS_BETTER


class Verdict(NamedTuple):
    """Whether all limits were kept.

    Attributes:
        passed: true if ``failed`` is empty.
        failed: one sentence for each limit that was not kept, in the order of the limits.
        margins: by metric, how far on the good side of its limit it is; negative where it failed.
    """

    passed: bool
    failed: tuple[str, ...]
    margins: dict[str, float]


def judge(metrics: Mapping[str, float], minimums: Mapping[str, float]) -> Verdict:
    """Compare metrics with limits.

    Args:
        metrics: what was measured, by name.
        minimums: limit by name. For a metric that is better when lower (rmse, mae, log_loss, brier,
            davies_bouldin and others of ``HIGHER_IS_BETTER``) it is a maximum. Reaching it is enough.

    Raises:
        SettingInvalid: a limit for a metric that was not measured, or a limit that is not a finite number.
    """
    failed: list[str] = []
    margins: dict[str, float] = {}
    for name, limit in minimums.items():
        if not math.isfinite(limit):
            raise SettingInvalid(f"The limit of {name} must be a finite number, not {limit}.")
        if name not in metrics:
            known = ", ".join(sorted(metrics)) or "none"
            why = "is not measured for this model" if name in HIGHER_IS_BETTER else "is no metric"
            raise SettingInvalid(f"{name!r} {why}; it has {known}.")
        value = metrics[name]
        higher = HIGHER_IS_BETTER.get(name, True)
        margins[name] = value - limit if higher else limit - value
        # Not "<": a metric that is not a number passes no gate.
        if not (value >= limit if higher else value <= limit):
            side, word = ("below", "minimum") if higher else ("above", "maximum")
            failed.append(f"{name} is {value:.6g}, {side} the {word} of {limit:.6g}")
    return Verdict(not failed, tuple(failed), margins)


def parse_minimums(texts: Iterable[str]) -> dict[str, float]:
    """Read limits such as ``accuracy=0.85``.

    Raises:
        SettingInvalid: no ``=``, no known metric, not a finite number, or the same metric twice.
    """
    found: dict[str, float] = {}
    for text in texts:
        name, equals, number = text.partition("=")
        name = name.strip()
        if not equals or not name:
            raise SettingInvalid(f"{text!r} is no limit; write metric=number, for instance accuracy=0.85.")
        if name not in HIGHER_IS_BETTER:
            raise SettingInvalid(f"{name!r} is no metric; known are {', '.join(HIGHER_IS_BETTER)}.")
        try:
            limit = float(number)
        except ValueError:
            limit = math.nan
        if not math.isfinite(limit):
            raise SettingInvalid(f"{number.strip()!r} is no number; write for instance {name}=0.85.")
        if name in found:
            raise SettingInvalid(f"{name} has two limits; give one.")
        found[name] = limit
    return found
