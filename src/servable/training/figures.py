"""The report's figures as inline SVG: drawn by matplotlib without its global state, coloured by the page.

Colours are drawn as fixed marks and replaced by CSS variables, so one picture suits a light and a dark
page. Text stays text.
"""

import re
import threading
import warnings
from collections.abc import Callable, Sequence
from io import StringIO
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from servable.training.evaluate import Curve, Histogram, Scatter

#: Colour as drawn, and what the page puts in its place.
INK, MUTED, LINE = "#010101", "#020202", "#030303"
SERIES = ("#100001", "#100002", "#100003", "#100004", "#100005", "#100006", "#100007", "#100008")
_VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", LINE: "var(--line)"} | {
    mark: f"var(--c{place})" for place, mark in enumerate(SERIES)
}
#: matplotlib reads its settings from a global table while it writes, so one figure is written at a time.
_WRITING = threading.Lock()
_SETTINGS = {
    "svg.fonttype": "none",
    "font.size": 10.0,
    # A class may be called "$50K": that is no formula.
    "text.parse_math": False,
}
#: Inches. The small size is as wide as a third of the page, so text comes out as large as it is drawn.
_SMALL = (3.55, 2.85)
_LARGE = (4.9, 3.6)
LEGEND: dict[str, Any] = {
    "frameon": False,
    "fontsize": 9,
    "labelcolor": INK,
    "handlelength": 1.2,
    "columnspacing": 1.2,
    "labelspacing": 0.3,
}


def curves(found: Sequence[Curve], *, kind: str, title: str, floor: float | None = None) -> str:
    """ROC (``kind`` "roc"), precision-recall ("pr") or calibration ("calibration") curves of classes.

    Args:
        found: one curve for each class.
        kind: which.
        title: what the picture shows, for those who cannot see it.
        floor: share of positive rows, drawn as what guessing gives on a precision-recall picture.
    """

    def draw(axes: Any) -> None:
        if kind == "pr":
            if floor is not None:
                axes.axhline(floor, color=MUTED, linewidth=1, linestyle=(0, (4, 4)))
        else:
            axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 4)))
        for place, curve in enumerate(found):
            # A legend leaves out labels that begin with an underscore, but not with a blank.
            label = cut(f" {curve.label}" if curve.label.startswith("_") else curve.label)
            label = label if curve.area is None else f"{label}  {curve.area:.3f}"
            colour = SERIES[place % len(SERIES)]
            if kind == "calibration":
                axes.plot(
                    curve.x, curve.y, color=colour, linewidth=1.6, marker="o", markersize=4, label=label
                )
            else:
                axes.plot(curve.x, curve.y, color=colour, linewidth=2, label=label)
            if kind == "roc" and len(found) == 1:
                axes.fill_between(curve.x, curve.y, color=colour, alpha=0.1, linewidth=0)
        names = {
            "roc": ("false positive rate", "true positive rate"),
            "pr": ("recall", "precision"),
            "calibration": ("predicted probability", "share that came true"),
        }[kind]
        axes.set_xlabel(names[0])
        axes.set_ylabel(names[1])
        axes.set_xlim(-0.01, 1.01)
        axes.set_ylim(-0.01, 1.03)
        if len(found) > 1:
            # Several curves leave no corner free, so their names stand below the axes.
            axes.figure.legend(loc="outside lower center", ncols=columns, **LEGEND)
        elif found[0].area is not None:
            axes.legend(loc="lower left" if kind == "pr" else "lower right", **LEGEND)

    columns = 2 if max(len(curve.label) for curve in found) <= 12 else 1
    rows = -(-len(found) // columns) if len(found) > 1 else 0
    width, height = _SMALL
    return svg(draw, title, size=(width, height + 0.19 * rows))


def learning(found: Sequence[Curve], *, title: str) -> str:
    """Learning curves by epoch, one line each."""

    def draw(axes: Any) -> None:
        for place, curve in enumerate(found):
            marker = "o" if len(curve.x) == 1 else None
            axes.plot(curve.x, curve.y, color=SERIES[place], linewidth=2, marker=marker, label=curve.label)
        axes.set_xlabel("epoch")
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.figure.legend(loc="outside lower center", ncols=1, **LEGEND)

    width, height = _SMALL
    return svg(draw, title, size=(width, height + 0.19 * len(found)))


def scores(found: Sequence[Histogram], *, title: str, label: str, short: bool = False) -> str:
    """Histograms over each other, for instance of the score by true class.

    Args:
        found: with equal edges.
        title: what the picture shows, for those who cannot see it.
        label: of the horizontal axis.
        short: whether its numbers may be large and are to be cut to ``20k``.
    """

    def draw(axes: Any) -> None:
        for place, item in enumerate(found):
            total = max(sum(item.counts), 1)
            heights = [count / total for count in item.counts]
            colour = SERIES[place % len(SERIES)]
            axes.stairs(heights, item.edges, fill=True, color=colour, alpha=0.35, linewidth=0)
            axes.stairs(heights, item.edges, color=colour, linewidth=1.4, label=cut(item.label))
        axes.set_xlabel(label)
        axes.set_ylabel("share of rows")
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
        if short:
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: brief(value)))
        if len(found) > 1:
            _legend_above(axes, len(found))

    return svg(draw, title)


def predicted(points: Scatter, *, title: str, name: str) -> str:
    """Prediction over truth of a regressor, with the line of perfect answers."""

    def draw(axes: Any) -> None:
        both = [*points.x, *points.y]
        low, high = min(both), max(both)
        axes.plot([low, high], [low, high], color=MUTED, linewidth=1, linestyle=(0, (4, 4)))
        axes.scatter(points.x, points.y, s=9, color=SERIES[0], alpha=0.45, linewidths=0)
        axes.set_xlabel(f"true {name}")
        axes.set_ylabel(f"predicted {name}")

    return svg(draw, title, short=True)


def residuals(points: Scatter, *, title: str, name: str) -> str:
    """What is left over (truth minus prediction) over the prediction."""

    def draw(axes: Any) -> None:
        left = np.asarray(points.x) - np.asarray(points.y)
        axes.axhline(0, color=MUTED, linewidth=1, linestyle=(0, (4, 4)))
        axes.scatter(points.y, left, s=9, color=SERIES[1], alpha=0.45, linewidths=0)
        axes.set_xlabel(f"predicted {name}")
        axes.set_ylabel("truth minus prediction")

    return svg(draw, title, short=True)


def clusters(points: Scatter, *, title: str) -> str:
    """Clusters in the plane of the first two principal components."""

    def draw(axes: Any) -> None:
        groups = np.asarray(points.group)
        x, y = np.asarray(points.x), np.asarray(points.y)
        for place, group in enumerate(np.unique(groups)):
            inside = groups == group
            colour = SERIES[place % len(SERIES)]
            axes.scatter(
                x[inside], y[inside], s=12, color=colour, alpha=0.6, linewidths=0, label=f"cluster {group}"
            )
        axes.set_xlabel("first principal component")
        axes.set_ylabel("second principal component")
        _legend_above(axes, 4)

    return svg(draw, title, short=True, size=_LARGE)


def _legend_above(axes: Any, columns: int) -> None:
    """A legend that can hide nothing."""
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns, borderaxespad=0.2, **LEGEND)


def dated_axis(axes: Any) -> None:
    """A horizontal axis of moments, in UTC."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    # With more marks at least, there are spans for which it finds no interval, and it warns.
    locator = AutoDateLocator(minticks=2, maxticks=5)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.xaxis.get_offset_text().set_color(MUTED)


def cut(label: str) -> str:
    """A class's name as it fits a legend."""
    return label if len(label) <= 30 else f"{label[:29]}…"


def svg(
    draw: Callable[[Any], None], title: str, *, short: bool = False, size: tuple[float, float] = _SMALL
) -> str:
    """Draw on styled axes and give back an SVG element that scales with the page."""
    with _WRITING, matplotlib.rc_context(_SETTINGS | {"svg.hashsalt": title}):
        figure = Figure(figsize=size, layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            axes.spines[side].set_color(LINE)
        axes.grid(color=LINE, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.tick_params(colors=MUTED, length=0, labelsize=9)
        axes.xaxis.label.set_color(MUTED)
        axes.yaxis.label.set_color(MUTED)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        if short:
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter(FuncFormatter(lambda value, _: brief(value)))
        draw(axes)
        out = StringIO()
        with warnings.catch_warnings():
            # The page's fonts draw the text, so it does not matter which signs matplotlib's own font lacks.
            warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
            FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None})
    return _for_page(out.getvalue(), title)


def _for_page(text: str, title: str) -> str:
    """The bare svg element, with the page's colours and font and ids that no other figure has."""
    text = text[text.index("<svg") :]
    prefix = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    text = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', text)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"font: (?:[a-z]+ )?([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    for mark, variable in _VARIABLES.items():
        text = text.replace(mark, variable)
    safe = title.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return re.sub(
        r'<svg ([^>]*?)width="[^"]*"([^>]*?)height="[^"]*"([^>]*)>|<svg ([^>]*)>',
        lambda found: _opened(found.group(0), safe),
        text,
        count=1,
    )


def _opened(tag: str, title: str) -> str:
    """The opening tag without fixed size, named for screen readers."""
    tag = re.sub(r'\s(?:width|height)="[^"]*"', "", tag)
    return tag.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)


def brief(value: float) -> str:
    """A number in few characters: 1.2k, 3.4M."""
    size = abs(value)
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"
