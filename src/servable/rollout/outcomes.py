"""What became of the captured requests of a rollout: labels, rewards and answers by version.

They come from the captured traffic of the home and so from every server that shares it. Without capture there
are none, and a rollout goes by errors and durations alone.
"""

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from servable.monitoring.joined import joined
from servable.monitoring.segments import TrafficStore
from servable.registry.home import Home
from servable.registry.policy import read_policy
from servable.registry.records import DeploymentRecord
from servable.rollout.sequential import Moments

_PREDICTION = "out.prediction"
#: Different answers beyond which they are numbers rather than classes.
_MOST_CLASSES = 100


class Outcomes(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one version's answers.

    Attributes:
        labels: answers whose truth is known.
        right: those of them that were right.
        losses: squared distance from the truth, for numbers.
        rewards: what callers said that answers were worth.
        outputs: answers by what was answered, for classes.
    """

    labels: int = 0
    right: int = 0
    losses: Moments = Moments()
    rewards: Moments = Moments()
    outputs: Mapping[str, int] = {}


#: Of a home, for a deployment, since a moment: by version.
Finding = Callable[[Home, DeploymentRecord, datetime], Mapping[int, Outcomes]]


def nothing(home: Home, deployment: DeploymentRecord, since: datetime) -> Mapping[int, Outcomes]:
    """Knows of no outcomes."""
    return {}


def captured(home: Home, deployment: DeploymentRecord, since: datetime) -> Mapping[int, Outcomes]:
    """The outcomes that were captured; none where the deployment captures nothing.

    Raises:
        StorageFailed: what was captured cannot be read.
        DependencyMissing: pyarrow is not installed.
    """
    if not read_policy(deployment.policy).capture:
        return {}
    store = TrafficStore(home.path, keys=home.subjects)
    if not store.segments(deployment.model, "predictions", since):
        return {}
    table = joined(store, deployment.model, since, columns=(_PREDICTION,))
    return by_version(table, numbers=_numbers(home, deployment))


def _numbers(home: Home, deployment: DeploymentRecord) -> bool:
    return home.models.resolve(f"{deployment.model}:{deployment.version}").task == "regression"


def by_version(table: Any, *, numbers: bool) -> dict[int, Outcomes]:
    """The outcomes of a joined table. Pure.

    Args:
        table: a ``pyarrow.Table`` with ``version``, ``out.prediction``, ``outcome`` and ``reward``.
        numbers: whether answers are numbers rather than classes.
    """
    names = set(table.column_names)
    columns = [
        table.column(name).to_pylist() if name in names else [None] * table.num_rows
        for name in ("version", _PREDICTION, "outcome", "reward")
    ]
    gathered: dict[int, _Gathered] = {}
    for version, answer, outcome, reward in zip(*columns, strict=True):
        gathered.setdefault(int(version), _Gathered(numbers)).take(answer, outcome, reward)
    return {version: each.outcomes() for version, each in sorted(gathered.items())}


class _Gathered:
    """Sums over the rows of one version."""

    def __init__(self, numbers: bool) -> None:
        self._numbers = numbers
        self._labels = self._right = 0
        self._losses: list[float] = []
        self._rewards: list[float] = []
        self._outputs: dict[str, int] = {}

    def take(self, answer: Any, outcome: Any, reward: Any) -> None:
        """One row; what is not known is None."""
        if reward is not None and math.isfinite(reward):
            self._rewards.append(float(reward))
        if answer is None:
            return
        if not self._numbers and not isinstance(answer, float | list) and len(self._outputs) <= _MOST_CLASSES:
            self._outputs[str(answer)] = self._outputs.get(str(answer), 0) + 1
        if outcome is None:
            return
        if self._numbers:
            loss = _squared(answer, outcome)
            if loss is not None:
                self._losses.append(loss)
            return
        self._labels += 1
        self._right += str(answer) == str(outcome)

    def outcomes(self) -> Outcomes:
        """All of them together."""
        return Outcomes(
            labels=self._labels,
            right=self._right,
            losses=moments_of(self._losses),
            rewards=moments_of(self._rewards),
            outputs=self._outputs,
        )


def _squared(answer: Any, outcome: Any) -> float | None:
    try:
        loss = (float(answer) - float(outcome)) ** 2
    except (TypeError, ValueError, OverflowError):
        return None
    return loss if math.isfinite(loss) else None


def moments_of(values: list[float]) -> Moments:
    """What is left of some numbers."""
    return Moments(len(values), math.fsum(values), math.fsum(value * value for value in values))
