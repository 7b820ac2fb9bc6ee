"""The figures of the report about drift, drawn as those of the training report are."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from matplotlib.ticker import FuncFormatter, MaxNLocator

from servable.monitoring.drift_records import ColumnDrift, Picture, Point
from servable.training.figures import LEGEND, LINE, MUTED, SERIES, brief, cut, dated_axis, svg

_LONGEST_LABEL = 16


def compared(column: ColumnDrift, shown: Picture) -> str:
    """Shares of the rows by value, before and now."""

    def numbers(axes: Any) -> None:
        for place, (shares, label) in enumerate(((shown.before, "reference"), (shown.now, "now"))):
            axes.stairs(shares, shown.edges, fill=True, color=SERIES[place], alpha=0.3, linewidth=0)
            axes.stairs(shares, shown.edges, color=SERIES[place], linewidth=1.4, label=label)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: brief(value)))
        axes.set_xlabel(cut(column.name))

    def bars(axes: Any) -> None:
        height = 0.38
        places = range(len(shown.labels))
        for place, (shares, label) in enumerate(((shown.before, "reference"), (shown.now, "now"))):
            at = [row + (place - 0.5) * height for row in places]
            axes.barh(at, shares, height=height, color=SERIES[place], alpha=0.75, label=label)
        axes.set_yticks(list(places), [_short(label) for label in shown.labels])
        axes.invert_yaxis()
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))

    def draw(axes: Any) -> None:
        (bars if shown.labels else numbers)(axes)
        if not shown.labels:
            axes.set_ylabel("share of rows")
            axes.set_ylim(bottom=0)
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, borderaxespad=0.2, **LEGEND)

    taller = max(2.85, 0.42 * len(shown.labels) + 0.9)
    return svg(draw, f"Values of {column.title} before and now", size=(3.55, taller))


def timeline(column: ColumnDrift, limit: float) -> str:
    """The effect window by window, those in drift marked, with the limit and the beginning."""
    dated = all(point.at for point in column.points)

    def draw(axes: Any) -> None:
        x = _moments(column.points) if dated else [point.row for point in column.points]
        effects = [effect_of(column, point) for point in column.points]
        axes.axhline(limit, color=MUTED, linewidth=1, linestyle=(0, (4, 4)))
        axes.plot(x, effects, color=SERIES[0], linewidth=1.4)
        marked = [
            (at, value) for at, value, point in zip(x, effects, column.points, strict=True) if point.drift
        ]
        if marked:
            axes.scatter(*zip(*marked, strict=True), s=16, color=SERIES[1], linewidths=0, zorder=3)
        begin = _begin(column, dated)
        if begin is not None:
            axes.axvline(begin, color=SERIES[1], linewidth=1)
        axes.set_ylim(bottom=0)
        axes.set_ylabel(effect_name(column))
        _along(axes, dated)

    return svg(draw, f"Drift of {column.title} over time")


def effect_of(column: ColumnDrift, point: Point) -> float:
    """The number by which a column's drift is drawn and listed."""
    if column.side == "quality":
        return max(point.worse, 0.0)
    return point.statistic if column.kind == "array" else point.psi


def effect_name(column: ColumnDrift) -> str:
    """What that number is."""
    if column.side == "quality":
        return "worse by"
    return "told apart" if column.kind == "array" else "stability index"


def _begin(column: ColumnDrift, dated: bool) -> Any:
    if column.since_row is None:
        return None
    return datetime.fromisoformat(column.since) if dated and column.since else column.since_row


def _moments(points: Sequence[Point]) -> list[datetime]:
    return [datetime.fromisoformat(point.at) for point in points]


def _along(axes: Any, dated: bool) -> None:
    if not dated:
        axes.set_xlabel("row")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: brief(value)))
        return
    dated_axis(axes)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.grid(color=LINE, linewidth=0.7)


def _short(label: str) -> str:
    return label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}…"
