"""Figures of how versions fared over time, drawn as those of the training report are."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from matplotlib.ticker import FuncFormatter

from servable.training.figures import LEGEND, MUTED, SERIES, dated_axis, svg

#: Places among the colours of the page: the version that is new, and the one before it.
NEW, BEFORE = 0, 7
#: Inches; as wide as half a page, and as a whole one.
HALF, WHOLE = (4.9, 3.0), (10.2, 3.4)


class Line(NamedTuple):
    """What one version showed.

    Attributes:
        label: who it is.
        place: of its colour among those of the page.
        at: moments, rising.
        values: what was seen at each; None is a gap.
        low: lower ends of the intervals; None where there is none.
        high: upper ends.
        dots: which moments have a dot: those that are to be told from the rest.
    """

    label: str
    place: int
    at: Sequence[datetime]
    values: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()
    dots: Sequence[bool] = ()


class Mark(NamedTuple):
    """An upright line at a moment, and what stands at its head."""

    at: datetime
    label: str


def over_time(
    lines: Sequence[Line],
    *,
    title: str,
    unit: Callable[[float], str],
    marks: Sequence[Mark] = (),
    span: tuple[datetime, datetime] | None = None,
    size: tuple[float, float] = HALF,
) -> str:
    """Lines with their intervals as bands.

    Args:
        lines: one for each version.
        title: what the picture shows, for those who cannot see it.
        unit: how a number of the vertical axis is said.
        marks: moments at which something happened; those outside of ``span`` are left out.
        span: the first and the last moment of the axis; those of the lines when None.
        size: in inches.
    """

    def draw(axes: Any) -> None:
        for line in lines:
            _band(axes, line)
            values = [float("nan") if value is None else value for value in line.values]
            colour = SERIES[line.place]
            alone = "o" if len(values) == 1 else None
            axes.plot(line.at, values, color=colour, linewidth=1.7, marker=alone, markersize=4,
                      label=line.label)  # fmt: skip
            dotted = [(at, value) for at, value, dot in zip(line.at, values, line.dots, strict=False) if dot]
            if dotted:
                axes.scatter(*zip(*dotted, strict=True), s=22, color=colour, linewidths=0, zorder=3)
        for mark in marks:
            if span is not None and not span[0] <= mark.at <= span[1]:
                continue
            axes.axvline(mark.at, color=MUTED, linewidth=0.8, linestyle=(0, (3, 3)))
            axes.annotate(
                mark.label, (mark.at, 1), xycoords=("data", "axes fraction"), xytext=(3, -2), fontsize=8,
                textcoords="offset points", color=MUTED, va="top", annotation_clip=False,
            )  # fmt: skip
        dated_axis(axes)
        if span is not None and span[0] < span[1]:
            margin = (span[1] - span[0]) / 40
            axes.set_xlim(span[0] - margin, span[1] + margin)
        limits = _limits(lines)
        if limits is not None:
            axes.set_ylim(*limits)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: unit(value)))
        axes.figure.legend(loc="outside lower center", ncols=len(lines), **LEGEND)

    return svg(draw, title, size=size)


def _limits(lines: Sequence[Line]) -> tuple[float, float] | None:
    """The vertical axis: all values and the intervals, but for the first quarter, when little was known."""
    found: list[float] = []
    for line in lines:
        found += [value for value in line.values if value is not None]
        for ends in (line.low, line.high):
            found += [end for end in ends[len(ends) // 4 :] if end is not None]
    if not found or min(found) == max(found):
        return None
    margin = (max(found) - min(found)) * 0.06
    return min(found) - margin, max(found) + margin


def _band(axes: Any, line: Line) -> None:
    """The intervals of a line, where both ends are known."""
    known = [
        (at, low, high)
        for at, low, high in zip(line.at, line.low, line.high, strict=False)
        if low is not None and high is not None
    ]
    if len(known) == 1:
        at, low, high = known[0]
        axes.vlines(at, low, high, color=SERIES[line.place], alpha=0.35, linewidth=3)
    elif known:
        axes.fill_between(*zip(*known, strict=True), color=SERIES[line.place], alpha=0.16, linewidth=0)
