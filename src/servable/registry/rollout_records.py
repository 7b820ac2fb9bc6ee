"""Rollouts as the registry keeps them: frozen, complete, safe to share. No database here."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec

from servable.errors import StorageFailed

#: States of a rollout that goes on; ``held`` waits for a person.
RUNNING, HELD = "running", "held"
#: States in which it ended.
PROMOTED, ROLLED_BACK, CANCELLED = "promoted", "rolled_back", "cancelled"
#: Most events that are kept; the first ones and the newest are.
MOST_EVENTS = 400
_FIRST_EVENTS = 100


class Counts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What servers counted for one version since a rollout began, or the difference of two such counts.

    Attributes:
        codes: requests by outcome.
        latencies: successful requests by duration, in the steps of ``monitoring.steps``.
        shadow: sums of the comparison with the answers that callers got, by the names of whoever compares.
        failure: why the version could not be loaded; empty while it is not wanted, loads or is live.
    """

    codes: dict[str, int] = {}
    latencies: dict[int, int] = {}
    shadow: dict[str, Any] = {}
    failure: str = ""

    @property
    def requests(self) -> int:
        """How many there were, with whatever outcome."""
        return sum(self.codes.values())

    def less(self, earlier: "Counts") -> "Counts":
        """What came since an earlier count of the same."""
        return Counts(
            codes=_less(self.codes, earlier.codes),
            latencies=_less(self.latencies, earlier.latencies),
            shadow=self.shadow,
            failure=self.failure,
        )


NO_COUNTS = Counts()


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One decision, for people.

    Attributes:
        at: when, ISO 8601 in UTC.
        decision: ``start``, ``advance``, ``hold``, ``resume``, ``weights``, ``promote``, ``roll_back`` or
            ``cancel``.
        step: the step in which it was taken, from 0.
        reason: one sentence.
        cause: a code word for the reason of a hold, so that the same one is told once.
        evidence: what was known, by measure.
    """

    at: str
    decision: str
    step: int
    reason: str
    cause: str = ""
    evidence: dict[str, Any] = {}


class Look(msgspec.Struct, frozen=True, array_like=True):
    """What was known at one moment, kept for the pictures of how the evidence grew.

    Attributes:
        at: when, in seconds since 1970.
        step: the step of that moment, from 0.
        measures: by measure the champion as it was seen, the ends of its interval, and the challenger with
            the ends of its own; None for what is unknown or without bound.
    """

    at: float
    step: int = 0
    measures: dict[str, tuple[float | None, ...]] = {}


class Course(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a rollout stands.

    Attributes:
        spec: what was asked for; ``rollout.plan.Spec`` reads it.
        versions: all that take part, the champion first.
        weights: share of the requests that each version gets now.
        step: the present step, from 0.
        step_since: when it began, in seconds since 1970.
        begun: what had been counted by version when it began.
        looked_at: when the weights were last made from evidence, in seconds since 1970.
        events: the story, oldest first.
        looks: how the evidence grew, oldest first; ``rollout.looks`` says how many are kept.
    """

    spec: dict[str, Any] = {}
    versions: tuple[int, ...] = ()
    weights: dict[int, float] = {}
    step: int = 0
    step_since: float = 0.0
    begun: dict[int, Counts] = {}
    looked_at: float = 0.0
    events: tuple[Event, ...] = ()
    looks: tuple[Look, ...] = ()

    def told(self, event: Event) -> "Course":
        """With one event more."""
        events = (*self.events, event)
        if len(events) > MOST_EVENTS:
            events = (*events[:_FIRST_EVENTS], *events[_FIRST_EVENTS + 1 :])
        return msgspec.structs.replace(self, events=events)


class RolloutRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout.

    Attributes:
        id: its number.
        model: the model.
        kind: ``canary``, ``shadow`` or ``bandit``.
        champion: the version that was deployed when it began.
        challenger: the version that may take its place; of several the first.
        state: ``running`` or ``held`` while it goes on, then ``promoted``, ``rolled_back`` or ``cancelled``.
        started_at: ISO 8601 in UTC.
        ended_at: empty while it goes on.
        course: where it stands.
    """

    id: int
    model: str
    kind: str
    champion: int
    challenger: int
    state: str
    started_at: str
    ended_at: str = ""
    course: Course = Course()

    @property
    def going_on(self) -> bool:
        """Whether it has not ended."""
        return not self.ended_at


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What one server counted for one version.

    Attributes:
        server: which one.
        version: which one.
        updated_at: when it was last written, ISO 8601 in UTC.
        counts: since the server learned of the rollout.
    """

    server: str
    version: int
    updated_at: str
    counts: Counts


def summed(evidence: Iterable[Evidence]) -> dict[int, Counts]:
    """What all servers counted together, by version."""
    codes: dict[int, dict[str, int]] = {}
    latencies: dict[int, dict[int, int]] = {}
    shadow: dict[int, dict[str, Any]] = {}
    for each in evidence:
        _add(codes.setdefault(each.version, {}), each.counts.codes)
        _add(latencies.setdefault(each.version, {}), each.counts.latencies)
        _add(shadow.setdefault(each.version, {}), each.counts.shadow)
    return {
        version: Counts(codes=codes[version], latencies=latencies[version], shadow=shadow[version])
        for version in sorted(codes)
    }


def read_course(stored: Any) -> Course:
    """A course as the database keeps it.

    Raises:
        StorageFailed: it holds something that nobody stored there.
    """
    with _damaged():
        return msgspec.convert(stored, Course, str_keys=True)


def read_counts(stored: Any) -> Counts:
    """Counts as the database keeps them.

    Raises:
        StorageFailed: it holds something that nobody stored there.
    """
    with _damaged():
        return msgspec.convert(stored, Counts, str_keys=True)


@contextmanager
def _damaged() -> Iterator[None]:
    try:
        yield
    except msgspec.ValidationError as error:
        raise StorageFailed(f"The registry holds a damaged record of a rollout: {error}.") from error


def stored(record: Course | Counts) -> dict[str, Any]:
    """As the database keeps it: JSON has texts as keys, and null in place of what is infinite."""
    return dict(msgspec.json.decode(msgspec.json.encode(record)))


def _less(later: Mapping[Any, int], earlier: Mapping[Any, int]) -> dict[Any, int]:
    left = {key: count - earlier.get(key, 0) for key, count in later.items()}
    return {key: count for key, count in left.items() if count > 0}


def _add(total: dict[Any, Any], more: Mapping[Any, Any]) -> None:
    """Add numbers by key, and those of dicts within; anything else is taken as it is."""
    for key, value in more.items():
        if isinstance(value, Mapping):
            inner = total.setdefault(key, {})
            _add(inner, value)
        elif isinstance(value, int | float):
            total[key] = total.get(key, 0) + value
        else:
            total[key] = value
