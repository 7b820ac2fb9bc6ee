"""A rollout as Rich tables. Pure: a record in, something to print out."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.markup import escape

from servable.cli.cells import plain_table
from servable.rollout.plan import in_unit
from servable.rollout.starting import BANDIT, CANARY

if TYPE_CHECKING:
    from servable.rollout.evidence import Comparison
    from servable.rollout.sequential import Interval
    from servable.workflows.rollout_outcomes import RolloutOutcome, WatchOutcome

_STATES = {
    "running": "[cyan]running[/cyan]",
    "held": "[yellow]held[/yellow]",
    "promoted": "[green]promoted[/green]",
    "rolled_back": "[red]rolled back[/red]",
    "cancelled": "[dim]cancelled[/dim]",
}
#: The newest events that are shown.
_EVENTS = 12


def rollout(found: "RolloutOutcome") -> Iterator[RenderableType]:
    """Where it stands, what is known, and the story."""
    yield (
        f"[bold]{escape(found.model)}[/bold]  {found.kind} of version {found.challenger} "
        f"against {found.champion}: {_STATES.get(found.state, found.state)}"
    )
    if found.steps:
        yield "Steps    " + "  ".join(_step(found, number) for number in range(len(found.steps)))
    if found.weights:
        shares = ((version, round(weight, 1)) for version, weight in found.weights.items())
        yield "Shares   " + "  ".join(f"v{version} {share:g} %" for version, share in shares)
    yield "Requests " + "  ".join(
        f"v{version} {count:,} ({errors:,} failed)" for version, (count, errors) in found.requests.items()
    )
    if found.reason:
        yield f"Why      {escape(found.reason)}"
    if found.comparisons:
        yield _comparisons(found)
    yield _story(found)


def begun(found: "RolloutOutcome") -> Iterator[RenderableType]:
    """What was begun by deploy."""
    name = escape(found.model)
    yield f"[bold green]The {found.kind} of {name}:{found.challenger}[/bold green] has begun."
    yield escape(found.events[0].reason)
    yield f"Look     servable rollout {name} --follow"
    if found.kind == CANARY:
        yield f"Next     it goes on by itself while it is no worse; back at once: servable rollback {name}"
    else:
        then = "the best of them" if found.kind == BANDIT else "it"
        yield f"Next     it goes on until you end it: servable rollout {name} --advance deploys {then},"
        yield f"         servable rollout {name} --abort leaves version {found.champion}"
    yield "Running servers of this home take it up by themselves; without one: servable serve"


def watched(outcome: "WatchOutcome") -> Iterator[RenderableType]:
    """What a single look did."""
    if not outcome.acted:
        yield f"Another one watches this home: {escape(outcome.holder)}"
    else:
        yield f"Looked at {outcome.rollouts} rollout" + ("" if outcome.rollouts == 1 else "s")


def _step(found: "RolloutOutcome", number: int) -> str:
    share = f"{found.steps[number]:g} %"
    if found.state == "promoted" or number < found.step:
        return f"[green]✓ {share}[/green]"
    if number > found.step:
        return f"[dim]{share}[/dim]"
    if found.state == "cancelled":
        return f"[dim]✗ {share}[/dim]"
    return f"[red]✗ {share}[/red]" if found.state == "rolled_back" else f"[bold]→ {share}[/bold]"


def _comparisons(found: "RolloutOutcome") -> RenderableType:
    numeric = (f"v{found.champion}", f"v{found.challenger}")
    table = plain_table(
        "Evidence (with intervals that hold at every look)", "measure", *numeric, "", right=numeric
    )
    for each in found.comparisons:
        verdict = (
            "[red]worse[/red]" if each.worse else "[yellow]in doubt[/yellow]" if each.doubtful else "no worse"
        )
        name = each.measure + (f" {each.of!r}" if each.of else "")
        table.add_row(escape(name), *_cells(each), verdict)
    return table


def _cells(each: "Comparison") -> tuple[str, str]:
    return (
        _cell(each.champion, each.champion_interval, each.unit),
        _cell(each.challenger, each.challenger_interval, each.unit),
    )


def _cell(value: float | None, interval: "Interval | None", unit: str) -> str:
    shown = "-" if value is None else in_unit(value, unit)
    return (
        shown
        if interval is None
        else f"{shown} ({in_unit(interval[0], unit)} to {in_unit(interval[1], unit)})"
    )


def _story(found: "RolloutOutcome") -> RenderableType:
    table = plain_table("Story", "when", "step", "decision", "reason")
    events = found.events[-_EVENTS:]
    if len(found.events) > _EVENTS:
        table.add_row("", "", "", f"... {len(found.events) - _EVENTS} earlier")
    for event in events:
        step = f"{found.steps[event.step]:g} %" if event.step < len(found.steps) else ""
        table.add_row(event.at, step, event.decision.replace("_", " "), escape(event.reason))
    return table
