"""Intervals that hold at every moment at once. Pure.

An ordinary interval errs with its stated rate when it is looked at once. A rollout is looked at every second,
and whoever looks often enough at an ordinary interval is misled for certain. The intervals here are
confidence sequences: with the stated probability the truth lies in *all* of them, however often and whenever
somebody looks, so acting on the first one that says no errs no more often than stated.

They need sums alone, nothing of the order in which things came: what several servers counted is added.

* Shares: the martingale of a beta mixture. H. Robbins, "Statistical methods related to the law of the
  iterated logarithm", Annals of Mathematical Statistics 41, 1970; S. Howard, A. Ramdas, J. McAuliffe,
  J. Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of Statistics 49,
  2021. Exact.
* Quantiles: S. Howard, A. Ramdas, "Sequential estimation of quantiles with applications to A/B testing and
  best-arm identification", Bernoulli 28, 2022: how many values do not pass the true quantile is a count with
  a known share, so the bound above carries over. Exact, whatever the distribution.
* Means: I. Waudby-Smith, D. Arbour, R. Sinha, E. Kennedy, A. Ramdas, "Time-uniform central limit theory and
  asymptotic confidence sequences", Annals of Statistics 52, 2024. Its rate holds for large counts, as that of
  a normal interval does; ``LEAST_COUNT`` keeps small ones out.

``ONE_LOOK`` in place of a rate gives the narrower ordinary interval of a single look: good enough to wait for
more evidence, not to act on.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from itertools import accumulate
from typing import NamedTuple

import msgspec

from servable.monitoring.steps import size_of

#: Fewer values than these say nothing about a mean.
LEAST_COUNT = 50
#: In place of a rate: the interval of a single look, of which each bound errs once in twenty times.
ONE_LOOK = 0.0
_ONE_LOOK_Z = 1.645
#: The count at which the interval of a mean is narrowest.
_TUNED_COUNT = 1000
#: How firmly the mixture for a known share, that of a quantile, lies around it; that for others is Jeffreys'.
_KNOWN_PRIOR = 200.0
_HALVINGS = 40


class Interval(NamedTuple):
    """Where the truth lies.

    Attributes:
        low: lower bound.
        high: upper bound.
    """

    low: float
    high: float


class Moments(msgspec.Struct, frozen=True):
    """What is left of some numbers.

    Attributes:
        count: how many.
        total: their sum.
        squares: the sum of their squares.
    """

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    @property
    def mean(self) -> float:
        """Their mean; 0 of none."""
        return self.total / self.count if self.count else 0.0

    @property
    def variance(self) -> float:
        """Their variance; 0 of fewer than two."""
        if self.count < 2:
            return 0.0
        return max(self.squares - self.count * self.mean**2, 0.0) / (self.count - 1)


def share_interval(hits: int, count: int, alpha: float) -> Interval:
    """Where a share lies.

    Args:
        hits: how often it happened.
        count: of how many.
        alpha: with what probability any of the intervals ever given for it misses it, above 0 and below 1;
            or ``ONE_LOOK``.
    """
    if count <= 0:
        return Interval(0.0, 1.0)
    hits = min(max(hits, 0), count)
    least = _least(hits, count, alpha, 0.5, 0.5)
    low = 0.0 if not hits else _edge(hits, count, least, 0.0)
    high = 1.0 if hits == count else _edge(hits, count, least, 1.0)
    return Interval(low, high)


def quantile_interval(counts: Mapping[int, int], level: float, alpha: float) -> Interval:
    """Where a quantile of durations lies, in seconds.

    Args:
        counts: durations by step, see ``monitoring.steps``.
        level: of the quantile, such as 0.95.
        alpha: as in ``share_interval``.
    """
    total = sum(counts.values())
    prior = (_KNOWN_PRIOR * level, _KNOWN_PRIOR * (1.0 - level))

    steps = sorted(counts)
    # So many values lie below the beginning of each step, and below the end of the last one.
    below = list(accumulate((counts[step] for step in steps), initial=0))
    bounds = [*(size_of(step) for step in steps), size_of(steps[-1] + 1)] if steps else [0.0]

    def refuted(place: int) -> bool:
        upto = below[place]
        return _log_likelihood(upto, total, level) <= _least(upto, total, alpha, *prior)

    # The quantile lies above every bound below which there are far too few values, and under every one below
    # which there are far too many.
    few, many = bisect_left(below, level * total), bisect_right(below, level * total)
    above = bisect_left(range(few), True, key=lambda place: not refuted(place))
    under = bisect_left(range(many, len(below)), True, key=refuted) + many
    return Interval(bounds[above - 1] if above else 0.0, bounds[under] if under < len(bounds) else math.inf)


def mean_interval(moments: Moments, alpha: float) -> Interval:
    """Where the mean of numbers lies; everywhere while they are fewer than ``LEAST_COUNT``.

    Args:
        moments: of the numbers.
        alpha: as in ``share_interval``.
    """
    count = moments.count
    if count < LEAST_COUNT:
        return Interval(-math.inf, math.inf)
    if alpha == ONE_LOOK:
        half = _ONE_LOOK_Z / math.sqrt(count)
    else:
        twice = -2.0 * math.log(alpha)
        rho = (twice + math.log(twice) + 1.0) / _TUNED_COUNT if twice > 1.0 else 1.0 / _TUNED_COUNT
        scaled = count * rho + 1.0
        half = math.sqrt(2.0 * scaled / (count * count * rho) * math.log(math.sqrt(scaled) / alpha))
    half *= math.sqrt(moments.variance)
    return Interval(moments.mean - half, moments.mean + half)


def _least(hits: int, count: int, alpha: float, a: float, b: float) -> float:
    """The logarithm of the likelihood down to which a share counts as refuted.

    For all moments at once it is compared with that of a beta mixture, for a single look with that of the
    share that was seen.
    """
    if alpha == ONE_LOOK:
        return _log_likelihood(hits, count, hits / count) - _ONE_LOOK_Z**2 / 2.0
    return _log_beta(a + hits, b + count - hits) - _log_beta(a, b) - math.log(1.0 / alpha)


def _log_likelihood(hits: int, count: int, share: float) -> float:
    if (share <= 0.0 and hits) or (share >= 1.0 and hits < count):
        return -math.inf
    happened = hits * math.log(share) if hits else 0.0
    return happened + ((count - hits) * math.log1p(-share) if hits < count else 0.0)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _edge(hits: int, count: int, least: float, outside: float) -> float:
    """Where between the share seen and an outer one the likelihood falls to the least; the outer side."""
    inside = hits / count
    for _ in range(_HALVINGS):
        middle = (outside + inside) / 2.0
        if _log_likelihood(hits, count, middle) <= least:
            outside = middle
        else:
            inside = middle
    return outside
