"""Pages for people about turns of the loop: one for each turn, and one of all turns of a model."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from servable.clock import SystemClock, timestamp
from servable.registry.home import Home
from servable.registry.records import VersionRecord
from servable.registry.turns import TurnRecord, Turns
from servable.training import change_figures
from servable.training.change_figures import BEFORE, NEW, Line, Mark
from servable.training.measures import HIGHER_IS_BETTER
from servable.training.pages import drawn, rendered, write
from servable.training.wording import TITLES, metric_text, moment_text
from servable.updating import turn_page
from servable.workflows.homes import opened
from servable.workflows.rollout_outcomes import RolloutOutcome
from servable.workflows.rollout_page import moment
from servable.workflows.rollouts import outcome
from servable.workflows.sources import need_extra

#: Turns that the page of all turns knows of, and those that it tells whole; the newest ones.
MOST_TURNS, MOST_TOLD = 1000, 50
#: Upright lines of versions that have a name in the picture.
_MOST_NAMES = 16


class VersionRow(NamedTuple):
    """A version in the page of all turns.

    Attributes:
        version: its number.
        created: when it was registered.
        turn: the turn that made it; None where a person did.
        measured: its headline metric when it was made.
        live: the same from labels that came back; empty where none did.
        span: the 95 % interval of that.
        labels: how many labels are behind it.
        deployed: whether it is the deployed version now.
    """

    version: int
    created: str
    turn: int | None
    measured: str
    live: str
    span: str
    labels: int
    deployed: bool


def write_turn(name: str, number: int, path: str | Path, *, home: str | Path | None = None) -> None:
    """Write the page of a turn.

    Args:
        name: the model.
        number: of the turn.
        path: where to write it.
        home: the folder of the registry; looked up when None.

    Raises:
        ModelNotFound: there is no such model.
        NotFoundError: it has no such turn.
        DependencyMissing: the page needs the extra ``train``.
        StorageFull: no space left for the page.
        StorageFailed: the page cannot be written, or the registry does not answer.
    """
    need_extra()
    with opened(home) as place:
        place.models.get(name)
        turn = Turns(place.state, SystemClock()).get(name, number)
        found = turn_page.shown(turn, _rollouts(place, [turn]).get(turn.id))
    write(path, rendered("turn.html.j2", shown=found, cards=turn_page.cards(found)))


def write_history(name: str, path: str | Path, *, home: str | Path | None = None) -> None:
    """Write the page of all turns of a model: quality over time, versions, and each turn.

    Args:
        name: the model.
        path: where to write it.
        home: the folder of the registry; looked up when None.

    Raises:
        ModelNotFound: there is no such model.
        DependencyMissing: the page needs the extra ``train``.
        StorageFull: no space left for the page.
        StorageFailed: the page cannot be written, or the registry does not answer.
    """
    need_extra()
    with opened(home) as place:
        place.models.get(name)
        turns = Turns(place.state, SystemClock()).newest(name, MOST_TURNS)
        told = turns[:MOST_TOLD]
        rollouts = _rollouts(place, told)
        rows = tuple(turn_page.shown(turn, rollouts.get(turn.id)) for turn in told)
        versions = version_rows(place, name)
    metric = metric_of(turns)
    page = rendered(
        "turns.html.j2",
        model=name,
        made_at=timestamp(SystemClock().now()),
        verdict=verdict(turns, versions),
        cards=_cards(turns),
        rows=rows,
        bars=dict(zip([row.turn.id for row in rows], _bars(told), strict=True)),
        total=len(turns),
        versions=versions,
        metric=TITLES.get(metric, ""),
        better=turn_page.better(metric) if metric else "",
        picture=drawn(quality_over_time(turns, metric)) if metric else "",
    )
    write(path, page)


def _rollouts(home: Home, turns: Sequence[TurnRecord]) -> dict[int, RolloutOutcome]:
    """The rollouts that turns began and that are still kept, by turn."""
    wanted = {turn.record.get("deploy", {}).get("rollout"): turn.id for turn in turns}
    known = home.rollouts.of(turns[0].model) if turns and set(wanted) != {None} else ()
    return {wanted[record.id]: outcome(home, record) for record in known if record.id in wanted}


def verdict(turns: Sequence[TurnRecord], versions: Sequence[VersionRow]) -> str:
    """What all turns came to, in two sentences."""
    if not turns:
        return "There was no turn yet."
    states = Counter(turn.state for turn in turns)
    parts = [
        f"{states[state]:,} {'in a rollout' if state == 'waiting' else words}"
        for state, (words, _) in turn_page.STATES.items()
        if states[state]
    ]
    since = turns[-1].started_at[:10]
    deployed = next((row.version for row in versions if row.deployed), None)
    now = f"Version {deployed} is deployed." if deployed is not None else "No version is deployed."
    turned = "One turn" if len(turns) == 1 else f"{len(turns):,} turns"
    return f"{turned} since {since}: {', '.join(parts)}. {now}"


def metric_of(turns: Sequence[TurnRecord]) -> str:
    """The metric that the newest turns were compared by; empty where none was compared."""
    return next((found.metric for turn in turns if (found := turn_page.comparison_of(turn)) is not None), "")


def quality_over_time(turns: Sequence[TurnRecord], metric: str) -> str:
    """A picture of both versions on the newest rows of every turn, with the moments of change.

    Args:
        turns: the newest first.
        metric: turns that were compared by another one are left out.
    """
    known = [
        (moment(turn.started_at), turn, found.whole)
        for turn in reversed(turns)
        if (found := turn_page.comparison_of(turn)) is not None and found.metric == metric
    ]
    at = [when for when, _, _ in known]
    sign = 1.0 if HIGHER_IS_BETTER[metric] else -1.0
    ends = [sorted((gain.champion + sign * gain.low, gain.champion + sign * gain.high)) for *_, gain in known]
    took = [turn.state == "promoted" for _, turn, _ in known]
    lines = [
        Line("version before", BEFORE, at, [gain.champion for *_, gain in known]),
        Line("new version (with a dot: it took over)", NEW, at, [gain.challenger for *_, gain in known],
             [low for low, _ in ends], [high for _, high in ends], took),
    ]  # fmt: skip
    changed = [(when, turn) for (when, turn, _), yes in zip(known, took, strict=True) if yes]
    step = -(-len(changed) // _MOST_NAMES) or 1
    marks = [Mark(when, f"v{turn.record['register']['version']}") for when, turn in changed[::step]]
    return change_figures.over_time(
        lines,
        title=f"{TITLES[metric]} over time",
        unit=lambda value: metric_text(value, metric),
        marks=marks,
        size=change_figures.WHOLE,
    )


def version_rows(home: Home, name: str) -> tuple[VersionRow, ...]:
    """Every version, the newest first, with what is known of it by now."""
    deployment = home.deployments.get(name)
    live = {each.version: each.value for each in home.findings.of("quality", name)}
    deployed = None if deployment is None else deployment.version
    return tuple(
        _version(record, live.get(record.version, {}), record.version == deployed)
        for record in sorted(home.models.versions(name), key=lambda record: -record.version)
    )


def _version(record: VersionRecord, live: Mapping[str, Any], deployed: bool) -> VersionRow:
    recent = live.get("recent", {})
    known = recent.get("metrics", {})
    metric = next((name for name in ("accuracy", "rmse") if name in record.metrics or name in known), "")
    seen, made = known.get(metric), record.metrics.get(metric)
    span = ""
    if seen is not None and seen.get("low") is not None and seen.get("high") is not None:
        span = f"{metric_text(seen['low'], metric)} to {metric_text(seen['high'], metric)}"
    title = TITLES.get(metric, "").lower() if metric == "accuracy" else TITLES.get(metric, "")
    return VersionRow(
        version=record.version,
        created=record.created_at,
        turn=_turn_of(record),
        measured=f"{title} {metric_text(made, metric)}" if made is not None else "–",
        live="" if seen is None else metric_text(seen["value"], metric),
        span=span,
        labels=int(recent.get("labels", 0)),
        deployed=deployed,
    )


def _turn_of(record: VersionRecord) -> int | None:
    """The turn that registered a version, which its note names."""
    word, _, rest = record.note.partition(" ")
    number = rest.partition(":")[0]
    return int(number) if word == "Turn" and number.isdigit() else None


def _bars(turns: Sequence[TurnRecord]) -> list[turn_page.Bar | None]:
    """The gains of turns as bars on one scale; None for a turn without one."""
    found = [turn_page.comparison_of(turn) for turn in turns]
    bars = iter(turn_page.bars_of([each.whole for each in found if each is not None]))
    return [None if each is None else next(bars) for each in found]


def _cards(turns: Sequence[TurnRecord]) -> list[tuple[str, str, str]]:
    states = Counter(turn.state for turn in turns)
    last = moment_text(turns[0].started_at) if turns else "–"
    bad = states["failed"] + states["rolled_back"]
    return [
        ("Took over", f"{states['promoted']:,}", f"of {len(turns):,} turns"),
        ("Refused by the gate", f"{states['refused']:,}", "the version before stayed"),
        (
            "Failed or sent back",
            f"{bad:,}",
            f"{states['failed']:,} failed, {states['rolled_back']:,} sent back",
        ),
        ("Last turn", last[:10], f"{last[11:]} UTC" if turns else ""),
    ]
