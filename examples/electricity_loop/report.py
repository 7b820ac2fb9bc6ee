"""The chart and the page of the experiment: plain SVG and HTML, and a PNG of the chart."""

import html
from pathlib import Path
from typing import Any

import numpy as np

TITLES = {
    "daily": "trained anew after every day",
    "loop": "Servable's loop",
    "never": "never updated, learned from the whole first fifth",
    "measured": "never updated, without the rows that measured it",
    "rule": "the label of half an hour ago, known a day late",
}
COLOURS = {
    "daily": "#8a8a8a",
    "loop": "#0b6e4f",
    "never": "#b3261e",
    "measured": "#dd8f8a",
    "rule": "#c08a00",
}
#: Days over which accuracy is averaged in the chart.
SMOOTH = 28


def changes(found: Any, first: int) -> list[dict[str, Any]]:
    """The columns that drift, each with the row of the whole file at which that began.

    Args:
        found: a ``DriftReport`` of the rows from ``first`` on.
        first: number of the first of these rows.
    """
    return [
        {
            "column": column.name,
            "side": column.side,
            "state": column.state,
            "since_row": first + column.since_row,
        }
        for column in found.columns
        if column.since_row is not None
    ]


def write(
    out: Path, right: dict[str, Any], facts: dict[str, Any], *, first: int, change: int, day: int
) -> None:
    """Write ``report.html``, ``accuracy.svg`` and ``accuracy.png``."""
    figure = drawn(right, first=first, change=change, day=day)
    figure.savefig(out / "accuracy.svg")
    figure.savefig(out / "accuracy.png", dpi=130)
    chart = (out / "accuracy.svg").read_text()
    (out / "report.html").write_text(page(chart[chart.index("<svg") :], facts, change))


def drawn(right: dict[str, Any], *, first: int, change: int, day: int) -> Any:
    """Accuracy over time, averaged over some days."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(10, 4.6), layout="constrained")
    for name in TITLES:
        if name not in right:
            continue
        daily = right[name].reshape(-1, day).mean(axis=1)
        window = min(SMOOTH, len(daily))
        smooth = np.convolve(daily, np.ones(window) / window, mode="valid")
        rows = first + (np.arange(len(smooth)) + window) * day
        label = f"{TITLES[name]} ({right[name].mean():.3f})"
        axes.plot(rows, smooth, color=COLOURS[name], label=label, linewidth=2.2 if name == "loop" else 1.3)
    axes.axvline(change, color="#444", linestyle=":", linewidth=1)
    axes.annotate(f"row {change:,}: Victoria joins", (change, axes.get_ylim()[0]), xytext=(4, 6),
                  textcoords="offset points", fontsize=8)  # fmt: skip
    axes.set(xlabel="row (half hours)", ylabel=f"accuracy of the last {SMOOTH} days")
    axes.legend(loc="lower center", ncols=2, fontsize=8, frameon=False, bbox_to_anchor=(0.5, 1.0))
    axes.grid(alpha=0.25)
    return figure


def page(chart: str, facts: dict[str, Any], change: int) -> str:
    """The report as one HTML page."""
    accuracy = facts["accuracy"]
    rows = "".join(
        f"<tr><td>{html.escape(TITLES[name])}</td><td>{accuracy[name]:.4f}</td>"
        f"<td>{facts['trainings'][name]}</td></tr>"
        for name in TITLES
        if name in accuracy
    )
    near = [each for each in facts["drift"] if abs(each["since_row"] - change) <= 14 * 48]
    named = ", ".join(f"{each['column']} (row {each['since_row']:,})" for each in near) or "none"
    others = [each for each in facts["drift"] if each not in near]
    also = ", ".join(f"{each['column']} (row {each['since_row']:,})" for each in others) or "none"
    turns = "".join(
        f"<tr><td>{turn['day']}</td><td>{turn['state']}</td><td>{turn['champion']:.3f}</td>"
        f"<td>{turn['challenger']:.3f}</td><td>{html.escape(turn['said'])}</td></tr>"
        for turn in facts["turns"]
    )
    return f"""<!doctype html><meta charset="utf-8"><title>The loop on an electricity market</title>
<style>body{{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}
table{{border-collapse:collapse;margin:1rem 0}}td,th{{padding:.2rem .8rem;border-bottom:1px solid #ddd;
text-align:left}}svg{{width:100%;height:auto}}</style>
<h1>The loop on an electricity market</h1>{chart}
<table><tr><th>model</th><th>accuracy</th><th>trainings</th></tr>{rows}</table>
<p>{facts["requests"]:,} requests, {facts["failed"]} failed.</p>
<p>Drift that began near row {change:,}: <b>{html.escape(named)}</b>. Other drift: {html.escape(also)}.</p>
<h2>Turns</h2><table><tr><th>day</th><th>state</th><th>before</th><th>after</th><th></th></tr>{turns}</table>
"""
