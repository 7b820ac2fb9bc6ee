"""Drift and alerts as Rich tables. Pure."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.markup import escape

from servable.cli.cells import plain_table

if TYPE_CHECKING:
    from servable.monitoring.drift_records import ColumnDrift, DriftReport, Point
    from servable.workflows.alerting import AlertsOutcome

_NUMERIC = ("effect", "at most", "moved", "missing", "p")
_STYLES = {"drift": "bold red", "over": "yellow", "unknown": "dim"}
_STATES = {"unknown": "no values"}
#: Marks of windows in one line; several windows share one where there are more.
_MARKS = 30


def report(found: "DriftReport") -> Iterator[RenderableType]:
    """Which columns drift, since when, and how much."""
    span = f", {found.since} to {found.until}" if found.since else ""
    table = plain_table(
        f"{found.model}:{found.version}, {escape(found.data)}: {found.rows:,} rows{span}, "
        f"{found.windows} windows of {found.window}",
        "column",
        "",
        "state",
        "since",
        *_NUMERIC,
        "windows",
        right=_NUMERIC,
    )
    for column in found.columns:
        table.add_row(*_cells(column), style=_STYLES.get(column.state))
    yield table
    for stream in found.streams:
        for change in stream.changes:
            where = change.at or f"row {change.row:,}"
            yield (
                f"{stream.name} ({stream.side}) changed at {where}: "
                f"{change.before:.4g} to {change.after:.4g} ({change.detector})"
            )
    drifting = [column.title for column in found.drifting]
    yield (
        f"[bold red]Drift in {escape(', '.join(drifting))}.[/bold red]"
        if drifting
        else "[green]No column drifts.[/green]"
    )
    yield from (escape(f"{note[:1].upper()}{note[1:]}.") for note in found.notes)


def _cells(column: "ColumnDrift") -> Iterator[str]:
    newest = column.newest
    yield escape(column.name)
    yield "" if column.side == "input" else column.side
    yield _STATES.get(column.state, column.state)
    yield _moment(column.since) or ("-" if column.since_row is None else f"row {column.since_row:,}")
    yield _effect(column, newest)
    yield _effect(column, column.strongest)
    yield "-" if newest is None or newest.wasserstein is None else f"{newest.wasserstein:.2f} sd"
    yield "-" if newest is None or not newest.missing else f"{newest.missing:.1%}"
    yield "-" if newest is None else f"{newest.p_value:.2g}"
    yield _marks(column)


def _moment(text: str) -> str:
    return text.replace("T", " ").removesuffix(":00Z").removesuffix("Z")


def _effect(column: "ColumnDrift", point: "Point | None") -> str:
    if point is None or not point.test:
        return "-"
    if column.side == "quality":
        return f"{point.worse * 100:+.1f} pt" if column.kind == "category" else f"{point.worse:+.0%}"
    return f"{point.statistic:.0%}" if column.kind == "array" else f"{point.psi:.2f}"


def _marks(column: "ColumnDrift") -> str:
    points = column.points
    step = -(-len(points) // _MARKS) or 1
    return "".join(
        "#" if any(point.drift for point in points[start : start + step]) else "·"
        for start in range(0, len(points), step)
    )


def alerts(outcome: "AlertsOutcome") -> Iterator[RenderableType]:
    """The rules, and what they say now."""
    rules = plain_table("Rules", "alert", "model", "condition", "for", "again")
    for rule in outcome.rules:
        rules.add_row(
            escape(rule.name),
            escape(rule.model),
            escape(rule.condition),
            _time(rule.for_s) if rule.for_s else "at once",
            _time(rule.again_s) if rule.again_s else "never",
        )
    yield rules
    if not outcome.states:
        yield "Nothing was looked at yet; servable watch does."
        return
    table = plain_table("State", "alert", "version", "state", "value", "since", right=("value",))
    for state in outcome.states:
        table.add_row(
            escape(state.alert),
            escape(f"{state.model}:{state.version}"),
            state.status,
            "-" if state.value is None else f"{state.value:.6g}",
            state.since or "-",
            style={"firing": "bold red", "pending": "yellow"}.get(state.status),
        )
    yield table
    if outcome.owed:
        yield f"{outcome.owed} notices could not be delivered yet and are tried again."


def _time(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"
