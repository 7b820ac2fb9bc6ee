"""The figures as pictures, as SVG: one bar per server, longest first; one dot per wire format and shape."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt

_OURS, _THEIRS, _FLOOR = "#1f6f5c", "#a8b3b0", "#d9c58b"
#: One for each shape of the wire formats.
_MARKS = (("o", "#1f6f5c"), ("s", "#6aa392"), ("D", "#b7862f"), ("^", "#8a4f7d"))
#: Text stays text, and the same figures give the same file.
_STYLE = {"svg.fonttype": "none", "svg.hashsalt": "servable", "font.family": "sans-serif", "font.size": 9}


def bars(path: Path, found: dict[str, Any]) -> None:
    """Requests per second of one series.

    Args:
        path: the SVG to write.
        found: what ``series.run`` gave.
    """
    rows = sorted(found["rows"].items(), key=lambda item: item[1]["rate"])
    names = [name for name, _ in rows]
    rates = [row["rate"] for _, row in rows]
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(7.2, 0.8 + 0.26 * len(rows)))
        drawn = axes.barh(names, rates, color=[_colour(name) for name in names], height=0.7)
        axes.bar_label(drawn, [f"{rate:,.0f}" for rate in rates], padding=3)
        axes.set_xlim(0, max(rates) * 1.15)
        axes.set_title(f"{found['title']}: requests per second", fontsize=9, loc="left", x=-0.35)
        _bare(axes)
        _save(figure, path)


def goodput(path: Path, found: dict[str, Any]) -> None:
    """Answers within the deadline against what was offered."""
    times = sorted(found["times"], key=float)
    good = [found["times"][each]["good"] / found["peak"] * 100 for each in times]
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(5.2, 2.2))
        drawn = axes.bar([f"{float(each):g}x" for each in times], good, color=_OURS, width=0.55)
        axes.bar_label(drawn, [f"{value:.0f} %" for value in good], padding=2)
        axes.axhline(90, color="#888888", linewidth=0.8, linestyle="--")
        axes.set_ylim(0, 118)
        axes.set_yticks([0, 50, 90, 100])
        axes.set_xlabel("offered load, times the capacity")
        axes.set_title("Answered within the deadline, % of the peak (promised: 90)", fontsize=9, loc="left")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        _save(figure, path)


def formats(path: Path, found: dict[str, Any]) -> None:
    """Reading and writing of numbers as shares of the time of plain json, on a logarithmic scale.

    Args:
        path: the SVG to write.
        found: what ``formats.run`` gave.
    """
    shapes = found["shapes"]["numbers"]
    figures = [
        each for each in found["figures"] if each["shape"] in shapes and each["format"] != each["compared"]
    ]
    names = list(dict.fromkeys(each["format"] for each in figures))[::-1]
    with plt.rc_context(_STYLE):
        figure, both = plt.subplots(1, 2, sharey=True, figsize=(9.0, 0.9 + 0.24 * len(names)))
        titles = (("read", "Reading, times plain json"), ("write", "Writing, times plain json"))
        for axes, (what, title) in zip(both, titles, strict=True):
            for shape, (marker, colour) in zip(shapes, _MARKS, strict=False):
                dots = [each for each in figures if each["shape"] == shape]
                places = [names.index(each["format"]) for each in dots]
                axes.plot([each[f"{what}_ratio"] for each in dots], places, marker, color=colour, label=shape)
            axes.set_xscale("log")
            axes.axvline(1, color="#888888", linewidth=0.8, linestyle="--")
            axes.grid(axis="y", color="#e4e8e7", linewidth=0.6)
            axes.set_axisbelow(True)
            axes.set_yticks(range(len(names)), names)
            axes.tick_params(axis="y", length=0)
            axes.set_title(title, fontsize=9, loc="left")
            for side in ("top", "right", "left"):
                axes.spines[side].set_visible(False)
        both[0].legend(loc="upper center", bbox_to_anchor=(0.9, -0.1), ncols=len(shapes), frameon=False)
        _save(figure, path)


def _colour(name: str) -> str:
    if name.startswith("Servable"):
        return _OURS
    return _FLOOR if "fixed answer" in name or "model alone" in name else _THEIRS


def _bare(axes: Any) -> None:
    axes.xaxis.set_visible(False)
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
