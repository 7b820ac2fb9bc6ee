"""A model with two versions under simulated traffic: the pure plan decides, a number stands for the clock."""

import math
from typing import NamedTuple

import numpy as np

from servable.monitoring.steps import STEPS
from servable.rollout.evidence import Evidence, Pair, Seen
from servable.rollout.plan import Advance, Hold, Promote, RollBack, Step, plan
from servable.rollout.spec import ALL, Spec, made_spec

#: Seconds between two looks.
LOOK_S = 20


class Behaviour(NamedTuple):
    """How a version fares.

    Attributes:
        errors: share of its requests that fail.
        median_s: of the durations, which are log-normal.
        accuracy: share of right answers.
        spread: of the logarithm of the durations.
    """

    errors: float = 0.01
    median_s: float = 0.010
    accuracy: float = 0.90
    spread: float = 0.5


class End(NamedTuple):
    """How a rollout ended.

    Attributes:
        decision: ``promoted``, ``rolled back`` or ``held``.
        touched: requests that the challenger got.
        failed: how many of them failed.
        seconds: how long it took.
        reason: the last one.
    """

    decision: str
    touched: int
    failed: int
    seconds: int
    reason: str


class _Version:
    def __init__(self, behaviour: Behaviour, labelled: float, chance: np.random.Generator) -> None:
        self.behaviour, self.labelled, self.chance = behaviour, labelled, chance
        self.ok = self.failed = self.labels = self.right = 0
        self.latencies: dict[int, int] = {}

    def answer(self, requests: int) -> None:
        behaviour, chance = self.behaviour, self.chance
        failed = int(chance.binomial(requests, behaviour.errors))
        good = requests - failed
        self.failed += failed
        self.ok += good
        seconds = behaviour.median_s * np.exp(chance.normal(0, behaviour.spread, good))
        steps = np.floor(np.log2(seconds) * STEPS).astype(int)
        first = int(steps.min(initial=0))
        for step, count in enumerate(np.bincount(steps - first).tolist(), start=first):
            if count:
                self.latencies[step] = self.latencies.get(step, 0) + count
        labels = int(chance.binomial(good, self.labelled))
        self.labels += labels
        self.right += int(chance.binomial(labels, behaviour.accuracy))

    def seen(self) -> Seen:
        return Seen(
            codes={"ok": self.ok, "model_failed": self.failed},
            latencies=dict(self.latencies),
            labels=self.labels,
            right=self.right,
        )


def _less(later: Seen, earlier: Seen) -> Seen:
    return Seen(
        codes={code: count - earlier.codes.get(code, 0) for code, count in later.codes.items()},
        latencies={step: count - earlier.latencies.get(step, 0) for step, count in later.latencies.items()},
    )


def simulate(
    challenger: Behaviour,
    seed: int,
    *,
    champion: Behaviour = Behaviour(),  # noqa: B008 - a frozen record
    rate: float = 100.0,
    labelled: float = 0.2,
    spec: Spec | None = None,
) -> End:
    """A rollout from its start to its end, or until it waits for a person.

    Args:
        challenger: how the new version fares.
        seed: of all chance.
        champion: how the version before fares.
        rate: requests a second.
        labelled: share of the answers of which the truth becomes known at once.
        spec: of the rollout; four steps of five minutes when None.
    """
    spec = spec or made_spec((1, 5, 25, 100), every_s=300, min_requests=500)
    chance = np.random.default_rng(seed)
    versions = [_Version(each, labelled, chance) for each in (champion, challenger)]
    begun = Pair()
    number, since, now = 0, 0, 0
    while True:
        now += LOOK_S
        share = spec.steps[number] / ALL
        requests = int(chance.poisson(rate * LOOK_S))
        theirs = int(chance.binomial(requests, share))
        versions[0].answer(requests - theirs)
        versions[1].answer(theirs)
        whole = Pair(*(version.seen() for version in versions))
        step = Pair(*(_less(later, earlier) for later, earlier in zip(whole, begun, strict=True)))
        if share >= 1:
            step = Pair(whole.champion, step.challenger)
        decision = plan(spec, Step(number, since), Evidence(step, whole, {}, 1), now)
        if isinstance(decision, Advance):
            number, since, begun = number + 1, now, whole
            continue
        if isinstance(decision, Hold) and decision.cause != "patience":
            continue
        name = {Promote: "promoted", RollBack: "rolled back", Hold: "held"}[type(decision)]
        bad = versions[1]
        return End(name, bad.ok + bad.failed, bad.failed, now, decision.reason)


def middle(values: list[int]) -> int:
    """The median."""
    return sorted(values)[math.ceil(len(values) / 2) - 1]
