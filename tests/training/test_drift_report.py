"""The report about drift."""

import numpy as np
import pytest

from monitoring.columns import category, number, observed, quality, texts
from servable.monitoring.drift import judge
from servable.monitoring.drift_records import Change, DriftReport, Limits, Stream
from servable.monitoring.reference import Key
from servable.monitoring.windows import Length, cut
from servable.training.drift_report import marks, render, verdict
from training.reading import read


def report(name: str = "income", at: bool = False) -> DriftReport:
    """Three columns of which two drift from row 600 on, and answers that got worse."""
    random = np.random.default_rng(0)
    references = [
        number(name, random.normal(size=3000)),
        category("plan", {"basic": 500, "pro": 500}),
        number("age", random.normal(size=3000)),
        quality(900, 100),
    ]
    income = random.normal(size=1200)
    income[600:] += 2
    columns = {
        references[0].key: income,
        references[1].key: texts(["basic", "pro"] * 300 + ["<b>gold</b>", "pro"] * 300),
        references[2].key: random.normal(size=1200),
        Key("quality", "error"): texts(["right"] * 600 + ["wrong", "right"] * 300),
    }
    times = 1_700_000_000.0 + np.arange(1200) * 3600 if at else None
    rows = observed(columns, times)
    found = judge(references, rows, cut(1200, None, Length(rows=100), 50), Limits())
    change = Change(row=600, at=rows.when(600), before=0.0, after=0.5, detector="adwin")
    return DriftReport(
        model="churn",
        version=3,
        data="march.csv",
        rows=1200,
        windows=12,
        window="100 rows",
        columns=found,
        streams=(Stream(side="quality", name="error", changes=(change,)),),
        notes=("a note",),
        made_at="2026-03-01T00:00:00Z",
    )


@pytest.mark.parametrize("at", [False, True])
def test_the_page_is_whole_and_needs_nothing_else(at: bool) -> None:
    page = render(report(at=at))
    assert read(page).seen.count("svg") == 6
    assert "row 600" in page if not at else "2023-12-09" in page


def test_what_callers_sent_is_escaped_everywhere() -> None:
    page = render(report(name='<script>alert("x")</script>'))
    assert "<script" not in page
    assert "<b>gold" not in page
    assert "&lt;b&gt;gold" in page


def test_columns_that_changed_together_are_said_together() -> None:
    said = verdict(report())
    assert said.startswith("Answers are worse since row 600.")
    assert "income and plan changed at row 600." in said or "plan and income changed at row 600." in said
    assert "age" not in said


def test_a_calm_report_says_so() -> None:
    calm = DriftReport(model="churn", version=3, rows=10, windows=1, window="10 rows")
    assert verdict(calm) == "Nothing drifts now."
    assert "Nothing drifts now." in render(calm)


def test_many_windows_share_marks() -> None:
    column = report().columns[0]
    assert len(marks(column)) == 12
    assert len(marks(column, most=5)) == 4
    assert set(marks(column)) == {"d", "s"}
