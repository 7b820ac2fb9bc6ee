"""What should be served and what a running server says about itself, as Rich tables. Pure."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.markup import escape

from servable.cli.cells import duration, plain_table
from servable.cli.quality_tables import quality_in_brief
from servable.cli.wording import alarms, percent, planned, shares

if TYPE_CHECKING:
    from servable.monitoring.intervals import Estimate
    from servable.workflows.outcomes import DeploymentRow, Status
    from servable.workflows.running_outcomes import RunningModel, RunningServer, RunningShadow

_NUMERIC = ("requests", "errors", "p50", "p99", "batch", "queued", "cached", "memory")
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def status(state: "Status") -> Iterator[RenderableType]:
    """What should be served, and what a server says that it serves."""
    divided = any(row.shares or row.shadow for row in state.deployments)
    watched = any(row.policy.get("capture") or row.quality for row in state.deployments)
    further = [*(["captured", "quality"] if watched else []), *(["traffic"] if divided else [])]
    heads = ("model", "version", "previous", "variant", "since", "", *further)
    table = plain_table("Deployments", *heads)
    for row in state.deployments:
        table.add_row(
            escape(row.model),
            str(row.version),
            "-" if row.previous is None else str(row.previous),
            escape(row.serving),
            row.since,
            "default" if row.default else "",
            *([_captured(row.policy.get("capture")), quality_in_brief(row.quality)] if watched else []),
            *([_traffic(row)] if divided else []),
        )
    if state.home:
        yield table if state.deployments else "Nothing is deployed; see servable deploy --help."
        for row in state.deployments:
            for line in (*alarms(row.drift, row.firing), *planned(row.schedule)):
                yield escape(f"{row.model}:{row.version} {line}")
        yield f"Home     {escape(state.home)}"
    if state.reachable is not None and state.server is None:
        yield f"Server   {escape(state.url)} does not answer"
    if state.server is not None:
        yield f"Server   {escape(state.url)} answers"
        yield from running(state.server)


def _traffic(row: "DeploymentRow") -> str:
    said = [shares(row.shares)] if row.shares else []
    shared = "  ".join([*said, *([f"v{row.shadow} shadow"] if row.shadow else [])])
    # A shadow says itself what it is.
    return f"{shared}  ({row.rollout})" if row.rollout and not row.shadow else shared


def _captured(share: float | None) -> str:
    return f"{share:.4g}" if share else "-"


def running(server: "RunningServer") -> Iterator[RenderableType]:
    """A line about the server, and a row for each of its models."""
    yield "         " + ", ".join(_about(server))
    if not server.models:
        return
    table = plain_table(
        "Serving (since the start)", "model", "state", "variant", "executor", *_NUMERIC, right=_NUMERIC
    )
    notes = [
        f"{each.model}:{each.version} is {each.state}: {each.reason}"
        for each in server.models
        if each.state in ("loading", "failed") and each.reason
    ]
    notes += [
        f"{each.model}:{each.version}: {each.device_reason}" for each in server.models if each.device_reason
    ]
    for each in server.models:
        style = {"failed": "red", "cold": "dim", "warm": "dim"}.get(each.state)
        table.add_row(*_cells(each), style=style)
    yield table
    yield from (escape(note) for note in (*notes, *_confined(server.models)))
    if server.shadows:
        yield shadows(server.shadows)


def _confined(models: "Sequence[RunningModel]") -> Iterator[str]:
    """What models are kept from; those of which the same is said together."""
    said: dict[str, list[str]] = {}
    for each in models:
        if each.confinement:
            said.setdefault(each.confinement, []).append(f"{each.model}:{each.version}")
    yield from (f"{', '.join(names)}: {what}" for what, names in said.items())


def shadows(compared: "Sequence[RunningShadow]") -> RenderableType:
    """What is known of versions and their shadows, with 95 % intervals."""
    heads = ("copies", "dropped", "same answer", "score", "latency", "errors")
    table = plain_table(
        "Shadows, less the version that answers (95 % intervals)", "version", *heads, right=heads
    )
    for each in compared:
        table.add_row(
            f"{escape(each.model)}:{each.shadow} of {each.version}",
            f"{each.requests:,}",
            f"{each.dropped:,}",
            _between(each.agreement, lambda value: f"{value:.2%}"),
            _between(each.score_difference, lambda value: f"{value:+.4g}"),
            _between(each.latency_difference, lambda value: f"{value * 1e3:+.3f} ms"),
            _between(each.error_difference, lambda value: f"{value:+.2%}"),
        )
    return table


def _between(estimate: "Estimate | None", said: Callable[[float], str]) -> str:
    """A value, and its interval where both ends are known."""
    if estimate is None:
        return "-"
    if estimate.low is None or estimate.high is None:
        return said(estimate.value)
    return f"{said(estimate.value)} ({said(estimate.low)} to {said(estimate.high)})"


def _about(server: "RunningServer") -> Iterator[str]:
    yield "[green]ready[/green]" if server.ready else "[red]not ready[/red]"
    yield f"{server.workers} worker" + ("" if server.workers == 1 else "s")
    if server.replacements:
        yield f"{server.replacements} replaced"
    yield f"{server.connections} connection" + ("" if server.connections == 1 else "s")
    yield f"{size(server.resident_bytes)} of memory"
    if server.rejected:
        yield f"{server.rejected:,} requests refused before they reached a model"
    if server.uptime_s is not None:
        yield f"up {uptime(server.uptime_s)}"


def _cells(each: "RunningModel") -> Iterator[str]:
    yield escape(f"{each.model}:{each.version}")
    part = f" {percent(each.share)}" if 0 < each.share < 1 else ""
    mirrored = f" shadow {percent(each.mirrored)}" if each.mirrored else ""
    yield f"{each.state}{part}{mirrored}"
    yield escape(each.variant) or "-"
    taken = f" ({size(each.accelerator_bytes)})" if each.accelerator_bytes else ""
    device = f" on {escape(each.device)}{taken}" if each.device not in ("", "cpu") else ""
    yield escape(each.executor) + (f" ×{each.processes}" if each.processes else "") + device or "-"
    yield f"{each.requests:,}"
    yield f"{each.errors:,}"
    yield duration(each.p50_s)
    yield duration(each.p99_s)
    yield "-" if each.mean_batch is None else f"{each.mean_batch:.1f}"
    yield f"{each.queued:,}"
    yield "-" if each.cache_hit_rate is None else f"{each.cache_hit_rate:.0%}"
    yield size(each.memory_bytes) if each.memory_bytes else "-"


def size(count: int) -> str:
    """Bytes in the unit that a person reads best."""
    value, unit = float(count), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.0f} {_UNITS[unit]}" if unit == 0 or value >= 10 else f"{value:.1f} {_UNITS[unit]}"


def uptime(seconds: float) -> str:
    """How long something has been up, in its two largest units."""
    whole = int(seconds)
    days, hours, minutes = whole // 86_400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"
