"""The experiment runs through on made rows: a server, labels a day late, a turn, and the report."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

for library in ("matplotlib", "river"):
    pytest.importorskip(library, reason="the report of the experiment draws a chart and looks for drift")

RUN = Path(__file__).resolve().parents[2] / "examples" / "electricity_loop" / "run.py"
#: Rows of the first fifth, and those of the twelve days that follow, in which one turn is due.
FIRST, STREAM = 7_248, 12 * 48


def made() -> pd.DataFrame:
    """Half hours in the columns of the market; from the held-out rows on the label follows another column."""
    rng = np.random.default_rng(0)
    rows = FIRST + STREAM
    number = np.arange(rows)
    later = number >= FIRST - 1_000
    frame = pd.DataFrame({
        "date": number / rows, "day": number // 48 % 7 + 1, "period": number % 48 / 47,
        "nswprice": rng.random(rows), "nswdemand": rng.random(rows), "vicprice": 0.003,
        "vicdemand": np.where(later, 0.9, 0.4), "transfer": 0.41,
    })  # fmt: skip
    says = np.where(later, frame["nswdemand"], frame["nswprice"])
    return frame.assign(**{"class": np.where(says + rng.normal(0, 0.1, rows) > 0.5, "UP", "DOWN")})


@pytest.mark.slow
def test_the_experiment_runs_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made().to_csv(tmp_path / "made.csv", index=False)
    out = tmp_path / "out"
    # In this process, which has imported already most of what it would import anew.
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.syspath_prepend(RUN.parent)
    monkeypatch.setattr(sys, "argv", [str(RUN), str(tmp_path / "made.csv"), "--out", str(out)])
    runpy.run_path(str(RUN), run_name="__main__")
    facts = json.loads((out / "facts.json").read_text())
    assert facts["failed"] == 0
    assert facts["requests"] >= 12
    (turn,) = facts["turns"]
    assert (turn["day"], turn["state"]) == (11, "promoted")
    assert facts["trainings"] == {"never": 2, "measured": 1, "loop": 3, "rule": 0}
    right = facts["accuracy"]
    # The newest rows, which only one of the two learned from, follow another rule.
    assert right["never"] > right["measured"] + 0.05
    assert right["loop"] >= right["never"]
    page = (out / "report.html").read_text()
    assert "<svg" in page
    assert "never updated, without the rows that measured it" in page
    assert "electricity:2 took over" in page
