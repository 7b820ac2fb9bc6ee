"""How good served answers were, as Rich cells. Pure."""

from typing import TYPE_CHECKING

from rich.console import RenderableType

from servable.cli import cells

if TYPE_CHECKING:
    from servable.monitoring.intervals import Estimate
    from servable.monitoring.quality import Quality, VersionQuality


def live_quality(known: "VersionQuality", title: str) -> RenderableType:
    """How good served answers were, over all and over the newest labels."""
    whole, recent = known.whole, known.recent
    numeric = (f"all: {_labels(whole)}", f"newest: {_labels(recent)}")
    table = cells.plain_table(title, "metric", *numeric, right=numeric)
    for metric, estimate in whole.metrics.items():
        table.add_row(metric, _estimate(estimate), _estimate(recent.metrics.get(metric)))
    return table


def quality_in_brief(known: "VersionQuality | None") -> str:
    """The first figure of a version's newest labels; a dash where there is none."""
    if known is None or not known.recent.metrics:
        return "-"
    metric, estimate = next(iter(known.recent.metrics.items()))
    return f"{metric} {_estimate(estimate)}, {_labels(known.recent)}"


def _labels(found: "Quality") -> str:
    """How many labels stand behind figures."""
    said = [f"{found.labels:,} labels"] if found.labels else []
    said += [f"{found.rewards:,} rewards"] if found.rewards else []
    return ", ".join(said)


def _estimate(estimate: "Estimate | None") -> str:
    """A figure with its interval."""
    if estimate is None:
        return "-"
    if estimate.low is None or estimate.high is None:
        return cells.number(estimate.value)
    return f"{cells.number(estimate.value)} ({cells.number(estimate.low)} to {cells.number(estimate.high)})"
