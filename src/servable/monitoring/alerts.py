"""Alerts: rules over what is known of served versions, and what they say now. Pure.

A rule names a measure, a limit and for how long the limit must be passed. An alert is told when it fires,
again after a while as long as it goes on, and when it is over; in between nobody hears of it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

import msgspec

from servable.clock import timestamp

#: Compares a value with a threshold.
OPERATORS = {
    ">": lambda value, limit: value > limit,
    ">=": lambda value, limit: value >= limit,
    "<": lambda value, limit: value < limit,
    "<=": lambda value, limit: value <= limit,
}
#: Stands for every model.
ALL_MODELS = "*"
DAY = 86_400.0

Status = Literal["quiet", "pending", "firing"]
Happening = Literal["fired", "again", "resolved"]


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """When to call somebody.

    Attributes:
        name: of the alert, unique.
        measure: what is looked at, such as ``drift.inputs`` or ``drift.columns.age.psi``.
        operator: one of ``OPERATORS``.
        threshold: the limit.
        model: whose; ``*`` for all.
        for_s: seconds for which the limit must be passed without a break before the alert fires.
        again_s: seconds after which an alert that goes on is told again; 0: never.
    """

    name: str
    measure: str
    operator: str = ">"
    threshold: float = 0.0
    model: str = ALL_MODELS
    for_s: float = 0.0
    again_s: float = DAY

    def passed(self, value: float) -> bool:
        """Whether a value passes the limit."""
        return bool(OPERATORS[self.operator](value, self.threshold))

    @property
    def condition(self) -> str:
        """``drift.inputs > 0``."""
        return f"{self.measure} {self.operator} {self.threshold:g}"


#: What is watched when nobody says: drift of what is sent, of what is answered, and answers that got worse.
DEFAULT_RULES = (
    Rule(name="inputs-drift", measure="drift.inputs"),
    Rule(name="outputs-drift", measure="drift.outputs"),
    Rule(name="quality-drift", measure="drift.quality"),
)


class Subject(NamedTuple):
    """A version that is served."""

    model: str
    version: int


class AlertState(msgspec.Struct, frozen=True, kw_only=True):
    """One rule for one version.

    Attributes:
        alert: the rule's name.
        model: whose.
        version: which.
        status: ``quiet``, ``pending`` (the limit is passed, not for long enough) or ``firing``.
        value: the measure when it was last looked at; None where it was not known.
        since: when the limit was passed, seconds since 1970; 0 while it is not.
        fired_at: when the alert fired; 0 while it does not.
        told_at: when it was last told.
    """

    alert: str
    model: str
    version: int
    status: Status = "quiet"
    value: float | None = None
    since: float = 0.0
    fired_at: float = 0.0
    told_at: float = 0.0


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something to tell.

    Attributes:
        id: the same however often it is sent.
        happening: ``fired``, ``again`` or ``resolved``.
        alert: the rule's name.
        model: whose.
        version: which.
        condition: of the rule.
        value: of the measure; None where it is not known any more.
        since: when the limit was passed, ISO 8601 in UTC.
        at: when this happened.
        text: a sentence for people.
    """

    id: str
    happening: Happening
    alert: str
    model: str
    version: int
    condition: str
    value: float | None
    since: str
    at: str
    text: str


class Decision(NamedTuple):
    """What is so now, and what is to be told."""

    states: tuple[AlertState, ...]
    events: tuple[Event, ...]


def decide(
    rules: Sequence[Rule],
    measures: Mapping[Subject, Mapping[str, float]],
    states: Sequence[AlertState],
    now: datetime,
) -> Decision:
    """Hold every rule against every version that it is about.

    What fired for a version or by a rule that is no longer there is resolved: nobody would do it later. A
    measure that is not known passes no limit.

    Args:
        rules: with different names.
        measures: by version that is served.
        states: as the last decision left them.
        now: aware.
    """
    before = {(each.alert, Subject(each.model, each.version)): each for each in states}
    kept: list[AlertState] = []
    events: list[Event] = []
    for rule in rules:
        for subject, known in measures.items():
            if rule.model not in (ALL_MODELS, subject.model):
                continue
            old = before.pop((rule.name, subject), None)
            state, happening = _next(rule, subject, known.get(rule.measure), old, now.timestamp())
            kept.append(state)
            if happening is not None:
                events.append(_event(happening, rule.condition, state, old, now))
    for old in before.values():
        if old.status == "firing":
            gone = msgspec.structs.replace(old, value=None)
            events.append(_event("resolved", _condition_of(rules, old.alert), gone, old, now))
    return Decision(tuple(kept), tuple(events))


def _next(
    rule: Rule, subject: Subject, value: float | None, old: AlertState | None, now: float
) -> tuple[AlertState, Happening | None]:
    """The next state of one rule for one version, and what is to be told of it."""
    fresh = AlertState(alert=rule.name, model=subject.model, version=subject.version, value=value)
    old = old or fresh
    if value is None or not rule.passed(value):
        return fresh, "resolved" if old.status == "firing" else None
    since = old.since or now
    if old.status == "firing":
        again = rule.again_s > 0 and now - old.told_at >= rule.again_s
        told = now if again else old.told_at
        return msgspec.structs.replace(old, value=value, told_at=told), "again" if again else None
    if now - since < rule.for_s:
        return msgspec.structs.replace(fresh, status="pending", since=since), None
    return msgspec.structs.replace(fresh, status="firing", since=since, fired_at=now, told_at=now), "fired"


def _condition_of(rules: Sequence[Rule], name: str) -> str:
    return next((rule.condition for rule in rules if rule.name == name), "")


def _event(
    happening: Happening, condition: str, state: AlertState, old: AlertState | None, now: datetime
) -> Event:
    began = state.since or (old.since if old is not None else 0.0) or now.timestamp()
    since = timestamp(datetime.fromtimestamp(began, now.tzinfo))
    at = timestamp(now)
    name = f"{state.alert}\0{state.model}\0{state.version}\0{happening}\0{began!r}\0{now.timestamp()!r}"
    reference = f"{state.model}:{state.version}"
    value = "" if state.value is None else f", it is {state.value:.6g}"
    said = {
        "fired": f"{state.alert} fires for {reference}: {condition}{value} (since {since}).",
        "again": f"{state.alert} still fires for {reference}: {condition}{value} (since {since}).",
        "resolved": f"{state.alert} is over for {reference}{value} (it went on since {since}).",
    }
    return Event(
        id=hashlib.sha256(name.encode()).hexdigest()[:32],
        happening=happening,
        alert=state.alert,
        model=state.model,
        version=state.version,
        condition=condition,
        value=state.value,
        since=since,
        at=at,
        text=said[happening],
    )


def measures_of(findings: Mapping[str, Any]) -> dict[str, float]:
    """Every number in what is known of a version, by its path: ``drift.inputs``, ``drift.columns.age.psi``.

    What stands in a list goes by its ``name``; where it has none it is passed over.

    Args:
        findings: value by kind, as the registry keeps them.
    """
    found: dict[str, float] = {}
    waiting: list[tuple[str, Any]] = list(findings.items())
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, list | tuple):
            value = {each["name"]: each for each in value if isinstance(each, Mapping) and "name" in each}
        if isinstance(value, Mapping):
            waiting.extend((f"{path}.{name}", inner) for name, inner in value.items())
        elif isinstance(value, int | float):
            found[path] = float(value)
    return found
