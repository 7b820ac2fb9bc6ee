"""Estimates with 95 % intervals, as quality and comparisons make them. Pure."""

import math

import msgspec

#: Half the width of a 95 % interval, in standard errors.
Z = 1.959963984540054


class Estimate(msgspec.Struct, frozen=True):
    """A figure and its 95 % interval; an end that nothing is known of is None."""

    value: float
    low: float | None = None
    high: float | None = None


def wilson(share: float, size: float) -> tuple[float, float]:
    """Wilson's interval of a share of so many independent trials, more than 0; it holds the share itself.

    Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    square = Z * Z / size
    middle = (share + square / 2) / (1 + square)
    half = Z / (1 + square) * math.sqrt(share * (1 - share) / size + square / (4 * size))
    return max(0.0, min(middle - half, share)), min(1.0, max(middle + half, share))
