"""The privacy report as one HTML file that holds everything it shows, for people."""

from typing import Any

from markupsafe import Markup

from servable.training.attacks.extraction import best
from servable.training.attacks.records import PrivacyReport
from servable.training.figures import LEGEND, MUTED, SERIES, svg
from servable.training.pages import drawn, rendered
from servable.training.wording import number, percent

_SIZE = (4.9, 3.9)


def render(report: PrivacyReport) -> str:
    """The report as one self-contained HTML page."""
    return rendered(
        "privacy.html.j2",
        report=report,
        cards=cards(report),
        roc=_roc(report),
        copies=_copies(report),
        numbers=report.task == "regression",
    )


def cards(report: PrivacyReport) -> list[tuple[str, str, str]]:
    """Title, value and a line below for each headline number."""
    found = []
    if report.attacks:
        strongest, sharpest = report.attacks[0], max(report.attacks, key=lambda one: one.tpr)
        found += [
            (
                "Members told from others",
                percent(strongest.auc),
                f"{percent(strongest.auc_low)} to {percent(strongest.auc_high)}; guessing gives 50 %",
            ),
            (
                "Found at 1 % false alarms",
                percent(sharpest.tpr),
                f"{percent(sharpest.tpr_low)} to {percent(sharpest.tpr_high)}; guessing finds 1 %",
            ),
        ]
    copy = best(report.extractions)
    if copy is not None:
        found.append(("Best copy", percent(copy[1].fidelity), f"after {copy[1].queries:,} queries"))
    epsilon = report.privacy.get("epsilon")
    value = f"ε = {number(epsilon)}" if isinstance(epsilon, int | float) else "none"
    found.append(("Differential privacy", value, "as the package records"))
    return found


def _roc(report: PrivacyReport) -> Markup | str:
    if not report.attacks:
        return ""

    def draw(axes: Any) -> None:
        axes.plot([1e-3, 1], [1e-3, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 4)), label="guessing")
        for place, attack in enumerate(report.attacks):
            x = [max(value, 1e-3) for value in attack.roc_x]
            y = [max(value, 1e-3) for value in attack.roc_y]
            axes.plot(x, y, color=SERIES[place % len(SERIES)], linewidth=1.6, label=attack.name)
        axes.axvline(0.01, color=MUTED, linewidth=0.8)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("others accused wrongly")
        axes.set_ylabel("members found")
        axes.figure.legend(loc="outside lower center", ncols=3, **LEGEND)

    return drawn(svg(draw, "Members found by others accused wrongly", size=_SIZE))


def _copies(report: PrivacyReport) -> Markup | str:
    if not report.extractions:
        return ""

    def draw(axes: Any) -> None:
        for place, extraction in enumerate(report.extractions):
            colour, points = SERIES[place % len(SERIES)], extraction.points
            x = [point.queries for point in points]
            axes.fill_between(
                x,
                [point.low for point in points],
                [point.high for point in points],
                color=colour,
                alpha=0.15,
                linewidth=0,
            )
            axes.plot(
                x, [point.fidelity for point in points], color=colour, marker="o", label=extraction.name
            )
        axes.axhline(report.usual, color=MUTED, linewidth=1, linestyle=(0, (4, 4)), label="no question")
        axes.set_xscale("log")
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("questions asked")
        axes.set_ylabel("fidelity of the copy")
        axes.figure.legend(loc="outside lower center", ncols=3, **LEGEND)

    return drawn(svg(draw, "Fidelity of copies by questions asked", size=_SIZE))
