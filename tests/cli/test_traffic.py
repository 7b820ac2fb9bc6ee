"""The verbs about traffic, as a person meets them."""

import json
import sys
from pathlib import Path

import msgspec
import pytest

from servable.monitoring.alerts import AlertState
from servable.registry.home import open_home
from servable.testing import FakeClock
from servable.workflows.quality import refresh_quality
from serving.making import publish_iris
from workflows.test_quality import tell, write


def said(done) -> str:
    assert done.exit_code == 0, done.stderr
    return " ".join(done.stdout.split())


@pytest.fixture
def served(home: Path) -> Path:
    publish_iris(home)
    return home


def test_capture_is_turned_on_and_off(invoke, served):
    assert "every request captured" in said(invoke("deploy", "iris", "--capture", "1.0"))
    assert "10 % of the requests captured" in said(invoke("deploy", "iris", "--capture", "0.1"))
    assert "captured quality" in said(invoke("status"))
    assert "Policy" not in said(invoke("deploy", "iris", "--capture", "off"))
    assert "captured" not in said(invoke("status"))
    for wrong in ("some", "2"):
        done = invoke("deploy", "iris", "--capture", wrong)
        assert done.exit_code == 2
        assert "Error:" in done.stderr


def test_capture_without_pyarrow_is_refused_in_one_sentence(invoke, served, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.compute", None)
    done = invoke("deploy", "iris", "--capture", "1.0")
    assert done.exit_code == 7
    assert "pip install 'servable[columns]'" in " ".join(done.stderr.split())
    with open_home(served) as opened:
        assert opened.deployments.get("iris").policy == {}


def test_nothing_was_captured_yet(invoke, served):
    for verb in ("traffic", "quality"):
        assert "Nothing is captured of iris; see servable deploy iris --capture 1.0" in said(
            invoke(verb, "iris")
        )


def test_what_was_captured_is_written_in_a_moment(invoke, served, tmp_path):
    invoke("deploy", "iris", "--capture", "1.0")
    file = tmp_path / "labels.csv"
    file.write_text("request_id,outcome\na,setosa\n")
    invoke("feedback", "iris", file)
    for verb in ("traffic", "quality"):
        text = said(invoke(verb, "iris"))
        assert "Nothing of iris is written yet; captured rows are written every 5 s." in text
        assert "1 row of feedback belongs to no captured request." in text
    write(served, [("b", 0, 1, 1, "virginica")])
    later = "1 row of feedback belongs to no captured request; captured rows are written every 5 s."
    for verb in ("traffic", "quality"):
        assert later in said(invoke(verb, "iris"))


def test_a_damaged_segment_is_named(invoke, served):
    write(served, [("a", 0, 1, 0, "setosa")])
    write(served, [("b", 0, 1, 1, "setosa")], "s-2")
    path = served / "traffic" / "iris" / "predictions" / "2026-01-31" / "s-2.parquet"
    path.write_bytes(b"no parquet")
    text = said(invoke("quality", "iris"))
    assert "1 answers captured" in text
    assert "s-2.parquet is damaged and was passed over; restore or remove it." in text.replace("- ", "-")


def test_traffic_feedback_and_quality(invoke, served, tmp_path):
    write(served, [("a", 0, 1, 0, "setosa"), ("b", 0, 1, 1, "virginica")])
    assert "no feedback yet" in said(invoke("quality", "iris"))
    file = tmp_path / "labels.csv"
    file.write_text("request_id,outcome\na,setosa\nb,setosa\nc,setosa\n")
    assert "3 rows of feedback on iris, kept by" in said(invoke("feedback", "iris", file))
    text = said(invoke("traffic", "iris", "--output", tmp_path / "out.parquet"))
    assert "b 0 2026-01-31T12:00:01Z 1 ok virginica setosa" in text
    assert "1 row of feedback belongs to no captured request." in text
    assert "Written to" in text
    assert "accuracy 0.5000 (0.0945 to 0.9055) 0.5000 (0.0945 to 0.9055)" in said(invoke("quality", "iris"))
    tell(served, [("a", 0, 99, None, 2.0)], "s-9")
    found = json.loads(said(invoke("quality", "iris", "--json")))
    assert found["versions"][0]["quality"]["whole"]["metrics"]["reward"]["value"] == 2.0
    with open_home(served) as opened:
        refresh_quality(opened, FakeClock())
    assert "accuracy 0.5000 (0.0945 to 0.9055), 2 labels" in said(invoke("status"))
    assert "Live quality, by the outcomes that came back" in said(invoke("describe", "iris"))


def test_private_columns_are_checked_before_anything_is_made(invoke, home, tmp_path):
    rows = "".join(f"{number % 9},{number % 2},{'yes' if number % 2 else 'no'}\n" for number in range(60))
    (tmp_path / "data.csv").write_text("age,even,answer\n" + rows)
    arguments = (
        "train",
        tmp_path / "data.csv",
        "--target",
        "answer",
        "--name",
        "odd",
        "--time-budget",
        "0.1",
    )
    done = invoke(*arguments, "--private", "agee=drop")
    assert done.exit_code == 2
    assert "no column 'agee' to keep private; did you mean age?" in " ".join(done.stderr.split())
    said(invoke(*arguments, "--model", "logistic", "--private", "age=drop", "--private", "even=hash"))
    found = json.loads(said(invoke("describe", "odd", "--json")))
    assert {field["name"]: field.get("capture") for field in found["signature"]["inputs"]} == {
        "age": "drop", "even": "hash",
    }  # fmt: skip
    assert found["recipe"]["private"] == {"age": "drop", "even": "hash"}


def test_drift_and_alerts_stand_in_status_and_describe(invoke, served):
    for verb in (("status",), ("describe", "iris")):
        assert "drift:" not in said(invoke(*verb))
        assert "alerts:" not in said(invoke(*verb))
    names = ("a", "b", "c", "d", "e", "f", "prediction", "steady")
    columns = [
        {
            "name": name,
            "side": "output" if name == "prediction" else "input",
            "state": "steady" if name == "steady" else "drift",
            "since": f"2026-03-0{9 - place}T00:00:00Z" if place else "",
        }
        for place, name in enumerate(names)
    ]
    firing = AlertState(alert="inputs-drift", model="iris", version=1, status="firing", since=86_400.0)
    quiet = AlertState(alert="outputs-drift", model="iris", version=1)
    with open_home(served) as opened:
        opened.findings.put("iris", "drift", {1: {"columns": columns}})
        opened.findings.put("iris", "alerts", {0: msgspec.to_builtins({"states": [firing, quiet]})})
    for verb in (("status",), ("describe", "iris")):
        shown = said(invoke(*verb)).replace("│ ", "")
        assert "drift: a, b, c, d, e and 2 more since 2026-03-03T00:00:00Z" in shown
        assert "alerts: inputs-drift for iris:1 since 1970-01-02T00:00:00Z" in shown
        assert "outputs-drift" not in shown
    found = json.loads(said(invoke("describe", "iris", "--json")))
    assert [alert["alert"] for alert in found["firing"]] == ["inputs-drift"]


def test_findings_of_a_newer_program_are_passed_over(invoke, served):
    with open_home(served) as opened:
        opened.findings.put("iris", "drift", {1: {"columns": "many"}})
        opened.findings.put("iris", "alerts", {0: {"states": [{"alert": "new"}]}})
    assert "drift:" not in said(invoke("status"))
    assert "alerts:" not in said(invoke("describe", "iris"))
