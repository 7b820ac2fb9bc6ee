"""A rollout as a page for people: its steps, their evidence with intervals, how it grew, and the story."""

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from servable.registry.rollout_records import Event, Look
from servable.rollout.evidence import Comparison
from servable.rollout.looks import named
from servable.rollout.plan import in_unit
from servable.rollout.sequential import Interval
from servable.rollout.starting import BANDIT, CANARY
from servable.workflows.rollout_outcomes import RolloutOutcome

if TYPE_CHECKING:
    from markupsafe import Markup

STATES = {
    "running": "goes on",
    "held": "waits for a person",
    "promoted": "promoted",
    "rolled_back": "rolled back",
    "cancelled": "cancelled",
}
#: The look of a state's chip.
TONES = {"promoted": "good", "rolled_back": "bad", "running": "on", "held": "on"}
_ENDS = ("advance", "promote", "roll_back", "cancel")
_UNITS = {"accuracy": "share", "error rate": "share", "highest error rate": "share", "outputs": "share",
          "median latency": "seconds", "95 % latency": "seconds"}  # fmt: skip


class Bar(NamedTuple):
    """A value with its interval on a scale from 0 to 100; an end without bound reaches the end of the scale.

    Attributes:
        who: whose it is.
        text: the value.
        span: the interval in words; empty without one.
        left: where the interval begins.
        width: how long it is.
        at: where the value stands; None of nothing.
        new: whether it is the challenger's.
    """

    who: str
    text: str
    span: str
    left: float
    width: float
    at: float | None
    new: bool


class Measure(NamedTuple):
    """One measure of both versions: its name, what it says, and both as bars on the same scale."""

    name: str
    verdict: str
    tone: str
    bars: tuple[Bar, ...]


class Stage(NamedTuple):
    """One step of a canary: its share, how it stands, when it was, what it saw, and what was decided."""

    share: str
    state: str
    tone: str
    began: str
    lasted: str
    challenger: str
    champion: str
    reason: str
    measures: tuple[Measure, ...]


def render(found: RolloutOutcome, looks: Sequence[Look]) -> str:
    """The page of a rollout, one self-contained HTML file.

    Args:
        found: the rollout and what is known of it.
        looks: how its evidence grew.

    Raises:
        DependencyMissing: it needs the extra ``train``.
    """
    from servable.training.pages import rendered

    return rendered(
        "rollout.html.j2",
        rollout=found,
        shown=section(found),
        cards=_cards(found),
        pictures=[*_shares(found), *_grown(found, looks)],
    )


def section(found: RolloutOutcome) -> dict[str, Any]:
    """What a page says of a rollout, whichever page it is."""
    return {
        "verdict": verdict(found),
        "state": STATES.get(found.state, found.state),
        "tone": TONES.get(found.state, ""),
        "measures": measures(found.comparisons, found.champion, found.challenger),
        "stages": stages(found),
        "rewards": _rewards(found),
    }


def verdict(found: RolloutOutcome) -> str:
    """How it stands, in two or three sentences."""
    new, old = f"Version {found.challenger}", f"version {found.champion}"
    requests, failed = found.requests.get(str(found.challenger), (0, 0))
    touched = (
        f"It answered {requests:,} requests, of which {failed:,} failed."
        if requests
        else "It has answered nothing."
    )
    said = {
        "promoted": f"{new} took over from {old}.",
        "rolled_back": f"{new} was sent back, and {old} answers everything.",
        "cancelled": f"The {found.kind} of {new.lower()} was ended from outside.",
        "held": f"{new} waits for a person.",
    }.get(found.state)
    if found.kind == BANDIT and found.state == "promoted":
        # Any of its versions may be the one, and the reason names it.
        said = ""
    if said is None:
        share = found.weights.get(str(found.challenger))
        said = (
            f"{new} gets copies of what {old} answers." if share is None
            else f"{new} answers {share:g} % of the requests, {old} the others." if share < 100
            else f"{new} answers all requests, as a trial."
        )  # fmt: skip
    parts = (said, touched if found.weights or found.ended_at else "", found.reason)
    return " ".join(part for part in parts if part)


def measures(comparisons: Sequence[Comparison], champion: int, challenger: int) -> tuple[Measure, ...]:
    """Each measure with both versions as bars on one scale."""
    return tuple(_measure(each, champion, challenger) for each in comparisons)


def _measure(each: Comparison, champion: int, challenger: int) -> Measure:
    pairs = ((each.champion, each.champion_interval), (each.challenger, each.challenger_interval))
    known = [value for value, _ in pairs if value is not None]
    known += [end for _, span in pairs if span is not None for end in span if math.isfinite(end)]
    low, high = min(known, default=0.0), max(known, default=1.0)
    low, high = (low - 0.5, high + 0.5) if low == high else (low, high)
    who = ("most allowed" if each.measure == "highest error rate" else f"v{champion}", f"v{challenger}")
    bars = tuple(
        _bar(name, value, span, each.unit, (low, high), new=place == 1)
        for place, (name, (value, span)) in enumerate(zip(who, pairs, strict=True))
    )
    said, tone = (
        ("worse", "bad") if each.worse else ("in doubt", "") if each.doubtful else ("no worse", "good")
    )
    return Measure(named(each), said, tone, bars)


def _bar(
    who: str,
    value: float | None,
    span: Interval | None,
    unit: str,
    scale: tuple[float, float],
    *,
    new: bool,
) -> Bar:
    def place(number: float) -> float:
        return round(100 * min(max((number - scale[0]) / (scale[1] - scale[0]), 0.0), 1.0), 1)

    text = "–" if value is None else in_unit(value, unit)
    at = None if value is None else place(value)
    if span is None:
        return Bar(who, text, "", 0.0, 0.0, at, new)
    left, right = place(span[0]), place(span[1])
    said = f"{in_unit(span[0], unit)} to {in_unit(span[1], unit)}"
    return Bar(who, text, said, left, round(right - left, 1), at, new)


def stages(found: RolloutOutcome) -> tuple[Stage, ...]:
    """Every step of a canary that has begun, with what it saw; the present one with what is known now."""
    if found.kind != CANARY:
        return ()
    made, began = [], found.started_at
    for number in range(found.step + 1):
        end = next((e for e in found.events if e.step == number and e.decision in _ENDS), None)
        made.append(_stage(found, number, began, end))
        began = end.at if end is not None else began
    return tuple(made)


def _stage(found: RolloutOutcome, number: int, began: str, end: Event | None) -> Stage:
    share = f"{found.steps[number]:g} %"
    if end is None:
        state, tone, reason = STATES[found.state], "on", found.reason
        return Stage(share, state, tone, began, "", "", "", reason,
                     measures(found.comparisons, found.champion, found.challenger))  # fmt: skip
    state, tone = {
        "advance": ("passed", "good"),
        "promote": ("passed", "good"),
        "roll_back": ("went back", "bad"),
        "cancel": ("cancelled", ""),
    }[end.decision]
    seen = end.evidence
    lasted = span_text((moment(end.at) - moment(began)).total_seconds())
    return Stage(
        share, state, tone, began, lasted,
        _counted(seen, "challenger"), _counted(seen, "champion"), end.reason,
        measures([_compared(each) for each in seen.get("comparisons", ())], found.champion, found.challenger),
    )  # fmt: skip


def _counted(seen: dict[str, Any], who: str) -> str:
    """Requests of a step, and how many of them failed; empty where a person decided without looking."""
    if f"{who}_requests" not in seen:
        return ""
    failed = seen[f"{who}_errors"]
    return f"{seen[f'{who}_requests']:,}" + (f" ({failed:,} failed)" if failed else "")


def _compared(kept: dict[str, Any]) -> Comparison:
    """A comparison as the story keeps it, where an end without bound is null."""
    spans = {
        name: Interval(kept[name][0], math.inf if kept[name][1] is None else kept[name][1])
        for name in ("champion_interval", "challenger_interval")
        if kept.get(name) is not None
    }
    return Comparison(**{**kept, **spans})


def _cards(found: RolloutOutcome) -> list[tuple[str, str, str]]:
    """Title, value and a line below for each headline number."""
    cards = []
    for version in (found.challenger, found.champion):
        requests, failed = found.requests.get(str(version), (0, 0))
        rate = f", {failed / requests:.2%}" if requests else ""
        cards.append((f"Requests of version {version}", f"{requests:,}", f"{failed:,} failed{rate}"))
    if found.steps:
        done = found.step + (found.state == "promoted")
        shares = ", ".join(f"{share:g}" for share in found.steps)
        cards.append(("Steps passed", f"{done} of {len(found.steps)}", f"{shares} % of the requests"))
    until = moment(found.ended_at) if found.ended_at else datetime.now(UTC)
    lasted = (until - moment(found.started_at)).total_seconds()
    cards.append(("Lasted" if found.ended_at else "Goes on for", span_text(lasted), _worse(found)))
    return cards


def _worse(found: RolloutOutcome) -> str:
    worse = sum(each.worse for each in found.comparisons)
    return f"worse in {worse} of {len(found.comparisons)} measures" if found.comparisons else ""


def _grown(found: RolloutOutcome, looks: Sequence[Look]) -> Iterator[tuple[str, "Markup"]]:
    """How each measure grew, with the intervals that held at every moment."""
    from servable.training.change_figures import BEFORE, NEW, Line, Mark, over_time
    from servable.training.pages import drawn

    begun = [event for event in found.events if event.decision in ("start", "advance")]
    marks = [
        Mark(moment(event.at), f"{found.steps[step]:g} %") for step, event in enumerate(begun)
        if step < len(found.steps)
    ]  # fmt: skip
    span = (moment(found.started_at), datetime.fromtimestamp(looks[-1].at, UTC)) if looks else None
    for name in _drawn_measures(looks):
        seen = [(datetime.fromtimestamp(look.at, UTC), look.measures[name]) for look in looks
                if name in look.measures]  # fmt: skip
        at = [when for when, _ in seen]
        columns = list(zip(*(values for _, values in seen), strict=True))
        measure = name.partition(" of ")[0]
        champion = "most allowed" if measure == "highest error rate" else f"version {found.champion}"
        lines = [
            Line(champion, BEFORE, at, *columns[:3]),
            Line(f"version {found.challenger}", NEW, at, *columns[3:]),
        ]
        said = partial(in_unit, unit=_UNITS.get(measure, ""))
        yield name, drawn(over_time(lines, title=f"{name} over time", unit=said, marks=marks, span=span))


def _drawn_measures(looks: Sequence[Look]) -> list[str]:
    """Every measure once; of shares of answers the one that differed most at the last look."""
    names = list(dict.fromkeys(name for look in looks for name in look.measures))
    last = looks[-1].measures if looks else {}
    return [name for name in names if not name.startswith("outputs") or name in last]


def _shares(found: RolloutOutcome) -> Iterator[tuple[str, "Markup"]]:
    """What share of the requests each version of a bandit had."""
    told = [event for event in found.events if event.evidence.get("shares")]
    if found.kind != BANDIT or not told:
        return
    from servable.training.change_figures import Line, over_time
    from servable.training.pages import drawn

    names = sorted({name for event in told for name in event.evidence["shares"]}, key=int)
    at = [moment(found.started_at), *(moment(event.at) for event in told)]
    lines = [
        Line(f"version {name}", place % 8, at,
             [100 / len(names), *(event.evidence["shares"].get(name, 0.0) for event in told)])
        for place, name in enumerate(names)
    ]  # fmt: skip
    svg = over_time(lines, title="Share of the requests over time", unit=lambda value: f"{value:g} %")
    yield "share of the requests", drawn(svg)


def _rewards(found: RolloutOutcome) -> list[tuple[str, int, float]]:
    """Of a bandit: version, rewards and their mean, as they were when its shares changed last."""
    for event in reversed(found.events):
        if "rewards" in event.evidence:
            kept = event.evidence["rewards"].items()
            return [
                (name, count, mean) for name, (count, mean) in sorted(kept, key=lambda item: int(item[0]))
            ]
    return []


def moment(text: str) -> datetime:
    """A moment as a record keeps it."""
    return datetime.fromisoformat(text)


def span_text(seconds: float) -> str:
    """A span of time as a person reads it: ``40 s``, ``12 min``, ``3 h 20 min``, ``2 d 4 h``."""
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    days, hours, minutes = whole // 86_400, whole % 86_400 // 3600, whole % 3600 // 60
    parts = [f"{count} {unit}" for count, unit in ((days, "d"), (hours, "h"), (minutes, "min")) if count]
    return " ".join(parts[:2])
