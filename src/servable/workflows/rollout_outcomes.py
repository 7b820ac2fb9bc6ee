"""What the verbs about rollouts return: frozen records that print as tables and travel as JSON."""

import msgspec

from servable.registry.rollout_records import Event
from servable.rollout.evidence import Comparison


class RolloutOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout and what is known of it.

    Attributes:
        id: its number.
        model: the model.
        kind: ``canary``, ``shadow`` or ``bandit``.
        champion: the version that was deployed when it began.
        challenger: the one that may take its place; of several the first.
        state: ``running``, ``held``, ``promoted``, ``rolled_back`` or ``cancelled``.
        started_at: ISO 8601 in UTC.
        ended_at: empty while it goes on.
        steps: shares of the challenger in percent.
        step: the present one, from 0.
        every_s: seconds that a step lasts at least.
        weights: share of each version now, in percent.
        requests: of champion and challenger since it began: how many, and how many of them failed.
        reason: why it waits or how it ended.
        comparisons: the measures of both with intervals that hold at every look.
        events: the story, oldest first.
    """

    id: int
    model: str
    kind: str
    champion: int
    challenger: int
    state: str
    started_at: str
    ended_at: str
    steps: tuple[float, ...] = ()
    step: int = 0
    every_s: float = 0.0
    weights: dict[str, float] = {}
    requests: dict[str, tuple[int, int]] = {}
    reason: str = ""
    comparisons: tuple[Comparison, ...] = ()
    events: tuple[Event, ...] = ()


class WatchOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of ``watch``.

    Attributes:
        acted: whether it had the lease, at the last look.
        holder: who has it.
        rollouts: how many were looked at, with ``once``.
    """

    acted: bool
    holder: str = ""
    rollouts: int = 0
