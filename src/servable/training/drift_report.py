"""The report about drift: one HTML file that holds everything it shows, for people."""

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from servable.monitoring.drift_records import ColumnDrift, DriftReport, Point
from servable.training import drift_figures
from servable.training.pages import drawn, rendered
from servable.training.wording import capital, moment_text, number, percent

#: Drifted columns that have pictures; the rest stand in the table alone.
MOST_PICTURES = 24
#: States of a column in words.
STATES = {"drift": "drift", "over": "over", "steady": "steady", "unknown": "no values"}
#: What a column is about, in words.
SIDES = {
    "quality": "how wrong",
    "output": "answer",
    "input": "input",
    "unused": "not used by the model",
}


class Pictured(NamedTuple):
    """A drifted column with its two figures and what they say."""

    column: ColumnDrift
    said: str
    compared: Markup
    timeline: Markup


def render(report: DriftReport) -> str:
    """The report as one self-contained HTML page."""
    return rendered(
        "drift.html.j2",
        report=report,
        states=STATES,
        sides=SIDES,
        verdict=verdict(report),
        cards=cards(report),
        pictured=pictured(report),
        marks=marks,
        since=since_text,
        effect=effect_text,
        capital=capital,
        tests={"ks": "Kolmogorov-Smirnov", "chi2": "chi-square", "mmd": "mean discrepancy", "": "–"},
    )


def cards(report: DriftReport) -> list[tuple[str, str, str]]:
    """Title, value and a line below for each headline number."""
    inputs = [column for column in report.columns if column.side == "input" and column.state != "unknown"]
    drifting = sum(column.state == "drift" for column in inputs)
    quality = next((column for column in report.columns if column.side == "quality"), None)
    outputs = [column for column in report.columns if column.side == "output"]
    moved = sum(column.state == "drift" for column in outputs)
    found = [
        ("Inputs in drift", f"{drifting} of {len(inputs)}", "in the newest windows"),
        ("Answers", "drift" if moved else "steady" if outputs else "–", "against held-out rows"),
        ("Quality", *_quality(quality)),
        ("Rows", number(report.rows), f"{report.windows} windows of {report.window}"),
    ]
    return [(title, value, below) for title, value, below in found]


def _quality(column: ColumnDrift | None) -> tuple[str, str]:
    if column is None or column.newest is None or column.state == "unknown":
        return "–", "no right answers came back"
    worse = column.newest.worse
    if column.kind == "category":
        return f"{-worse * 100:+.1f} points".replace("-", "−"), "right answers, newest window"
    return f"{worse * 100:+.0f} %".replace("-", "−"), "mean error, newest window"


def verdict(report: DriftReport) -> str:
    """What was found, in a few sentences: who changed, since when."""
    drifting = [column for column in report.drifting if column.side != "quality"]
    worse = [column for column in report.drifting if column.side == "quality"]
    said = []
    if worse:
        said.append(f"Answers are worse since {since_text(worse[0])}.")
    for when, columns in _together(drifting, report.rows // (10 * max(report.windows, 1))):
        said.append(f"{_listed([column.title for column in columns])} changed at {when}.")
    if not said:
        over = sum(column.state == "over" for column in report.columns)
        said.append(
            "Nothing drifts now" + (f"; {over} column{'s' if over > 1 else ''} did before." if over else ".")
        )
    return " ".join(said[:6])


def _together(columns: Sequence[ColumnDrift], apart: int) -> list[tuple[str, list[ColumnDrift]]]:
    """Columns that changed at the same row or no more than so many rows later, the most columns first."""
    found: list[list[ColumnDrift]] = []
    for column in sorted(columns, key=lambda column: column.since_row or 0):
        if found and (column.since_row or 0) - (found[-1][0].since_row or 0) <= apart:
            found[-1].append(column)
        else:
            found.append([column])
    found.sort(key=lambda group: (-len(group), group[0].since_row or 0))
    return [(since_text(group[0]), group) for group in found]


def _listed(names: Sequence[str]) -> str:
    shown = list(names[:8]) + ([f"{len(names) - 8} more"] if len(names) > 8 else [])
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def since_text(column: ColumnDrift) -> str:
    """When a column's drift began: a moment where that is known, else a row."""
    if column.since:
        return moment_text(column.since)
    return "–" if column.since_row is None else f"row {column.since_row:,}"


def effect_text(column: ColumnDrift, point: Point | None) -> str:
    """The effect of a window as a person reads it."""
    if point is None or not point.test:
        return "–"
    value = drift_figures.effect_of(column, point)
    if column.side == "quality":
        return f"{value * 100:.1f} points" if column.kind == "category" else f"+{value:.0%}"
    return f"{value:.0%}" if column.kind == "array" else f"{value:.2f}"


def marks(column: ColumnDrift, most: int = 60) -> list[str]:
    """One class for each window, or for each few of them: ``d`` in drift, ``s`` steady."""
    points = column.points
    step = -(-len(points) // most) or 1
    return [
        "d" if any(point.drift for point in points[start : start + step]) else "s"
        for start in range(0, len(points), step)
    ]


def pictured(report: DriftReport) -> list[Pictured]:
    """Every column that drifts or drifted, with its figures."""
    found: list[Pictured] = []
    limits = report.limits
    for column in report.columns:
        if column.since_row is None or len(found) == MOST_PICTURES:
            continue
        limit = limits.effect
        if column.side == "quality":
            limit = limits.wrong if column.kind == "category" else limits.error
        shown = drift_figures.compared(column, column.picture) if column.picture is not None else ""
        line = drift_figures.timeline(column, limit)
        found.append(Pictured(column, said_of(column), drawn(shown), drawn(line)))
    return found


def said_of(column: ColumnDrift) -> str:
    """What became of a drifted column, in one line."""
    strongest = column.strongest
    over = f", over at {moment_text(column.until)}" if column.until else ""
    parts = [f"since {since_text(column)}{over}"]
    if strongest is not None:
        if strongest.wasserstein is not None and column.side != "quality":
            parts.append(f"moved by {number(strongest.wasserstein)} standard deviations at most")
        if strongest.unseen >= 0.01:
            beyond = "new values" if column.kind == "category" else "beyond the range of training"
            parts.append(f"{percent(strongest.unseen, 0)} {beyond}")
        if "missing" in strongest.reasons:
            before = percent(column.missing_before)
            parts.append(f"{percent(strongest.missing)} missing where it was {before}")
    if column.new_values:
        parts.append(f"new: {', '.join(column.new_values)}")
    if column.season:
        parts.append(f"comes back every {column.season} windows")
    return capital("; ".join(parts)) + "."
