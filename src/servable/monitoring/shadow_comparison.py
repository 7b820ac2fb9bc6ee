"""What is known of two versions that were asked the same: sums that add up, and estimates made of them. Pure.

Every process counts for itself; ``merged`` adds, in any order and in steps. Nothing but sums is kept, so that
a comparison of a thousand million requests takes no more room than one of ten. Each estimate has a 95 %
interval. Rows of one request are no independent trials: the unit is the request (a ratio of sums over
clusters).
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from servable.monitoring.intervals import Estimate, Z, wilson
from servable.monitoring.steps import value_at

#: Shares of rows and requests whose bounds are told.
LEVELS = (0.5, 0.95, 0.99)


class Ratio(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Sums over requests of which each has rows and a total of something over them.

    Attributes:
        requests: how many.
        rows: of all of them.
        total: of all of them.
        rows_squared: sum of the squares of each request's rows.
        total_squared: sum of the squares of each request's total.
        product: sum of the products of both.
    """

    requests: int = 0
    rows: int = 0
    total: float = 0.0
    rows_squared: int = 0
    total_squared: float = 0.0
    product: float = 0.0

    def plus(self, other: "Ratio") -> "Ratio":
        """Both together."""
        return Ratio(**{name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__})

    @property
    def mean(self) -> float:
        """Of one row."""
        return self.total / self.rows

    @property
    def variance(self) -> float:
        """Of the mean of one row, the request being the unit; infinite for fewer than two requests."""
        if self.requests < 2:
            return math.inf
        mean = self.mean
        spread = self.total_squared - 2 * mean * self.product + mean * mean * self.rows_squared
        return max(spread, 0.0) * self.requests / (self.requests - 1) / self.rows**2


class Compared(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was seen of a version that answers and of its shadow, on the same requests.

    All fields but the first three are sums, which ``merged`` adds. ``sums`` gives them as a plain dict, in
    which rollouts keep them as evidence. Differences are always shadow less real.

    Attributes:
        model: its name.
        version: which answers.
        shadow: which is compared with it.
        dropped: copies that were not made or not answered because the shadow had too much to do.
        both_ok: copies that both answered.
        shadow_failed: copies that the shadow alone did not answer.
        real_failed: copies that the shadow alone answered.
        both_failed: copies that neither answered.
        codes: copies by what the shadow made of them, ``ok`` or the error's code.
        agreement: rows with the same prediction; the rows are those of requests that both answered.
        scores: differences of the score; see ``agreement.Differences``.
        score_steps: rows by the size of that difference, in the steps of ``monitoring.steps``.
        differences_s: differences of the time from the queue to the answer, one row for each request.
        latencies: copies that both answered by the shadow's time in seconds, in the same steps.
        real_latencies: the same by the other's.
    """

    model: str
    version: int
    shadow: int
    dropped: int = 0
    both_ok: int = 0
    shadow_failed: int = 0
    real_failed: int = 0
    both_failed: int = 0
    codes: dict[str, int] = {}
    agreement: Ratio = Ratio()
    scores: Ratio = Ratio()
    score_steps: dict[int, int] = {}
    differences_s: Ratio = Ratio()
    latencies: dict[int, int] = {}
    real_latencies: dict[int, int] = {}

    @property
    def requests(self) -> int:
        """Copies whose end is known."""
        return self.both_ok + self.shadow_failed + self.real_failed + self.both_failed

    def sums(self) -> dict[str, Any]:
        """The sums by the names of the fields, in dicts of dicts of numbers whose keys are texts.

        Dicts of several servers are added key by key. ``compared_from`` makes a record of one again.
        """
        plain: dict[str, Any] = msgspec.to_builtins(self, str_keys=True)
        return {name: value for name, value in plain.items() if name not in _NAMES}


_NAMES = frozenset({"model", "version", "shadow"})
_COUNTS = ("dropped", "both_ok", "shadow_failed", "real_failed", "both_failed")
_RATIOS = ("agreement", "scores", "differences_s")
_TABLES = ("codes", "score_steps", "latencies", "real_latencies")


def compared_from(model: str, version: int, shadow: int, sums: Mapping[str, Any]) -> Compared:
    """The record of sums that ``Compared.sums`` gave, or that several of them add up to.

    Raises:
        msgspec.ValidationError: they are no such sums.
    """
    names = {"model": model, "version": version, "shadow": shadow}
    return msgspec.convert({**sums, **names}, Compared, strict=False)


def merged(group: Iterable[Compared]) -> Compared:
    """Several processes' or servers' records of one pair of versions together; at least one."""
    first, *others = group
    total = {name: getattr(first, name) for name in (*_COUNTS, *_RATIOS, *_TABLES)}
    for other in others:
        for name in _COUNTS:
            total[name] += getattr(other, name)
        for name in _RATIOS:
            total[name] = total[name].plus(getattr(other, name))
        for name in _TABLES:
            total[name] = _added(total[name], getattr(other, name))
    return Compared(model=first.model, version=first.version, shadow=first.shadow, **total)


def all_merged(groups: Iterable[Iterable[Compared]]) -> tuple[Compared, ...]:
    """The records of several processes, those of equal versions together; by model and versions."""
    found: dict[tuple[str, int, int], list[Compared]] = {}
    for group in groups:
        for each in group:
            found.setdefault((each.model, each.version, each.shadow), []).append(each)
    return tuple(merged(found[key]) for key in sorted(found))


def findings(compared: Compared) -> dict[str, Estimate]:
    """Every estimate that the sums allow, by name.

    ``agreement``: share of rows with the same prediction. ``score_difference``: mean of one row.
    ``score_difference_p50``, ``_p95``, ``_p99``: what so many rows' differences, without their signs, do not
    pass. ``latency_difference``: mean seconds. ``latency_p50`` ... and ``real_latency_p50`` ...: seconds.
    ``error_difference``: share of requests.
    """
    found = {
        "agreement": share_of(compared.agreement),
        "score_difference": mean_of(compared.scores),
        "latency_difference": mean_of(compared.differences_s),
        "error_difference": error_difference(compared),
    }
    for level in LEVELS:
        name = f"p{level * 100:.0f}"
        found[f"score_difference_{name}"] = quantile_with_bounds(compared.score_steps, level)
        found[f"latency_{name}"] = quantile_with_bounds(compared.latencies, level)
        found[f"real_latency_{name}"] = quantile_with_bounds(compared.real_latencies, level)
    return {name: estimate for name, estimate in found.items() if estimate is not None}


def share_of(ratio: Ratio) -> Estimate | None:
    """A share of rows; None without rows.

    Wilson's interval, with as many trials as the requests are worth.
    """
    if not ratio.rows:
        return None
    share = min(max(ratio.mean, 0.0), 1.0)
    trials = float(ratio.requests)
    variance = ratio.variance
    if 0.0 < share < 1.0 and 0.0 < variance < math.inf:
        trials = min(max(share * (1 - share) / variance, 1.0), float(ratio.rows))
    return Estimate(share, *wilson(share, trials))


def mean_of(ratio: Ratio) -> Estimate | None:
    """The mean of one row; None without rows, without bounds for one request."""
    if not ratio.rows:
        return None
    half = Z * math.sqrt(ratio.variance)
    return Estimate(ratio.mean, ratio.mean - half, ratio.mean + half)


def error_difference(compared: Compared) -> Estimate | None:
    """By how much more of its requests the shadow failed; paired, after Agresti and Min; None without any."""
    count = compared.requests
    if not count:
        return None
    more, less = compared.shadow_failed, compared.real_failed
    total, shifted = count + 2.0, (more - less) / (count + 2.0)
    half = Z * math.sqrt(max((more + less + 1.0) / total - shifted * shifted, 0.0) / total)
    value = (more - less) / count
    return Estimate(value, min(max(shifted - half, -1.0), value), max(min(shifted + half, 1.0), value))


def quantile_with_bounds(steps: Mapping[int, int], level: float) -> Estimate | None:
    """What a share of the values does not pass; the bounds are order statistics; None without values.

    Args:
        steps: values by step.
        level: the share, between 0 and 1.
    """
    count = sum(steps.values())
    if not count:
        return None
    half = Z * math.sqrt(count * level * (1 - level))
    ranks = (level * count, level * count - half, level * count + half)
    return Estimate(*(value_at(steps, rank) for rank in ranks))


def _added(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    total = dict(one)
    for name, count in other.items():
        total[name] = total.get(name, 0) + count
    return dict(sorted(total.items()))
