"""What was seen of two versions, and by which measures one is worse than the other. Pure.

Each measure spends a fixed part of the rate of false roll-backs (``SPENDING``). What is measured afresh in
every step spends its part in equal shares over the steps; what comes late, such as labels, is measured over
the whole rollout and spends it once. Half of each goes to the champion's interval and half to the
challenger's. So by the union bound all intervals that are ever given hold together with probability
``1 - alpha``, and then no challenger within the margins is rolled back.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from servable.monitoring.steps import quantile_of
from servable.rollout.sequential import (
    ONE_LOOK,
    Interval,
    Moments,
    mean_interval,
    quantile_interval,
    share_interval,
)
from servable.rollout.spec import Margins, Spec

#: Outcomes that are neither success nor failure: the caller left.
NEITHER = frozenset({"client_gone"})
OK = "ok"
#: How the rate of false roll-backs is divided among the measures; the sum is 1.
SPENDING: Mapping[str, float] = {
    "error rate": 0.25,
    "highest error rate": 0.10,
    "median latency": 0.15,
    "95 % latency": 0.15,
    "accuracy": 0.15,
    "reward": 0.10,
    "loss": 0.05,
    "outputs": 0.05,
}
#: Different answers of which shares are compared.
_MOST_OUTPUTS = 100


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of one version.

    Attributes:
        codes: requests by outcome.
        latencies: successful requests by duration, in the steps of ``monitoring.steps``.
        labels: answers whose truth is known.
        right: those of them that were right.
        losses: how far numbers were from the truth.
        rewards: what callers said that answers were worth.
        outputs: answers by what was answered.
    """

    codes: Mapping[str, int] = {}
    latencies: Mapping[int, int] = {}
    labels: int = 0
    right: int = 0
    losses: Moments = Moments()
    rewards: Moments = Moments()
    outputs: Mapping[str, int] = {}

    @property
    def requests(self) -> int:
        """Those that were answered, well or not."""
        return sum(count for code, count in self.codes.items() if code not in NEITHER)

    @property
    def errors(self) -> int:
        """Those that failed, for whatever reason."""
        return self.requests - self.codes.get(OK, 0)


NOTHING_SEEN = Seen()


class Pair(NamedTuple):
    """Both versions over the same time.

    Attributes:
        champion: the version that is deployed.
        challenger: the one that may take its place.
    """

    champion: Seen = NOTHING_SEEN
    challenger: Seen = NOTHING_SEEN


class Evidence(NamedTuple):
    """All that is known when something is to be decided.

    Attributes:
        step: both versions in this step; in one in which the challenger answers everything, the champion
            before it.
        whole: both versions since the rollout began.
        failures: why the challenger could not be loaded, by server.
        loaded: servers that have it.
    """

    step: Pair = Pair()
    whole: Pair = Pair()
    failures: Mapping[str, str] = {}
    loaded: int = 0


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """One measure of both versions.

    Attributes:
        measure: its name, a key of ``SPENDING``.
        unit: ``share``, ``seconds`` or empty.
        champion: as it was seen; None of nothing.
        champion_interval: in which the truth lies at every look, see ``sequential``.
        challenger: as above.
        challenger_interval: as above.
        worse: whether the challenger is worse by more than the margin, for certain at the stated rate.
        doubtful: whether it looks so by the ordinary intervals of one look.
        of: the answer whose share is compared, for ``outputs``.
    """

    measure: str
    unit: str = ""
    champion: float | None = None
    champion_interval: Interval | None = None
    challenger: float | None = None
    challenger_interval: Interval | None = None
    worse: bool = False
    doubtful: bool = False
    of: str = ""


class _Measure(NamedTuple):
    """How one measure is taken and judged."""

    name: str
    unit: str
    stepwise: bool
    value: Callable[[Seen], float | None]
    interval: Callable[[Seen, float], Interval]
    worse: Callable[[Margins, Interval, Interval], bool]


def compare(spec: Spec, evidence: Evidence) -> tuple[Comparison, ...]:
    """Every measure of which both versions show something."""
    steps = max(len(spec.steps), 1)
    found = []
    for measure in _MEASURES:
        pair = evidence.step if measure.stepwise else evidence.whole
        champion, challenger = measure.value(pair.champion), measure.value(pair.challenger)
        if champion is None or challenger is None:
            continue
        alpha = spec.alpha * SPENDING[measure.name] / 2 / (steps if measure.stepwise else 1)
        ours, theirs = measure.interval(pair.champion, alpha), measure.interval(pair.challenger, alpha)
        loose = [measure.interval(seen, ONE_LOOK) for seen in pair]
        found.append(
            Comparison(
                measure=measure.name,
                unit=measure.unit,
                champion=champion,
                champion_interval=ours,
                challenger=challenger,
                challenger_interval=theirs,
                worse=measure.worse(spec.margins, ours, theirs),
                doubtful=measure.worse(spec.margins, loose[0], loose[1]),
            )
        )
    return (*found, *_highest(spec, evidence.step.challenger, steps), *_outputs(spec, evidence.whole))


def _highest(spec: Spec, challenger: Seen, steps: int) -> tuple[Comparison, ...]:
    """The challenger's errors against the most that was allowed, where something was."""
    limit, rate = spec.max_error_rate, _error_rate(challenger)
    if limit is None or rate is None:
        return ()
    alpha = spec.alpha * SPENDING["highest error rate"] / steps
    interval = _errors(challenger, alpha)
    return (
        Comparison(
            measure="highest error rate",
            unit="share",
            champion=limit,
            challenger=rate,
            challenger_interval=interval,
            worse=interval.low > limit,
            doubtful=_errors(challenger, ONE_LOOK).low > limit,
        ),
    )


def _outputs(spec: Spec, pair: Pair) -> tuple[Comparison, ...]:
    """The answer whose share differs most."""
    totals = [sum(seen.outputs.values()) for seen in pair]
    names = sorted({*pair.champion.outputs, *pair.challenger.outputs})
    if not all(totals) or not 1 < len(names) <= _MOST_OUTPUTS:
        return ()
    alpha = spec.alpha * SPENDING["outputs"] / 2 / len(names)

    def gap(name: str, rate: float) -> tuple[float, Interval, Interval]:
        ours, theirs = (
            share_interval(seen.outputs.get(name, 0), total, rate)
            for seen, total in zip(pair, totals, strict=True)
        )
        return max(theirs.low - ours.high, ours.low - theirs.high), ours, theirs

    widest = max(names, key=lambda name: gap(name, alpha)[0])
    distance, ours, theirs = gap(widest, alpha)
    doubt = max(gap(name, ONE_LOOK)[0] for name in names)
    return (
        Comparison(
            measure="outputs",
            unit="share",
            champion=pair.champion.outputs.get(widest, 0) / totals[0],
            champion_interval=ours,
            challenger=pair.challenger.outputs.get(widest, 0) / totals[1],
            challenger_interval=theirs,
            worse=distance > spec.margins.outputs,
            doubtful=doubt > spec.margins.outputs,
            of=widest,
        ),
    )


def _error_rate(seen: Seen) -> float | None:
    return seen.errors / seen.requests if seen.requests else None


def _errors(seen: Seen, alpha: float) -> Interval:
    return share_interval(seen.errors, seen.requests, alpha)


def _latency(level: float, name: str) -> _Measure:
    return _Measure(
        name,
        "seconds",
        True,
        lambda seen: quantile_of(seen.latencies, level),
        lambda seen, alpha: quantile_interval(seen.latencies, level, alpha),
        lambda margins, ours, theirs: theirs.low > ours.high * margins.latency,
    )


_MEASURES = (
    _Measure(
        "error rate",
        "share",
        True,
        _error_rate,
        _errors,
        lambda margins, ours, theirs: theirs.low > ours.high + margins.error_rate,
    ),
    _latency(0.5, "median latency"),
    _latency(0.95, "95 % latency"),
    _Measure(
        "accuracy",
        "share",
        False,
        lambda seen: seen.right / seen.labels if seen.labels else None,
        lambda seen, alpha: share_interval(seen.right, seen.labels, alpha),
        lambda margins, ours, theirs: theirs.high < ours.low - margins.accuracy,
    ),
    _Measure(
        "loss",
        "",
        False,
        lambda seen: seen.losses.mean if seen.losses.count else None,
        lambda seen, alpha: mean_interval(seen.losses, alpha),
        lambda margins, ours, theirs: theirs.low > ours.high * margins.loss,
    ),
    _Measure(
        "reward",
        "",
        False,
        lambda seen: seen.rewards.mean if seen.rewards.count else None,
        lambda seen, alpha: mean_interval(seen.rewards, alpha),
        lambda margins, ours, theirs: theirs.high < ours.low - margins.reward * abs(ours.low),
    ),
)
