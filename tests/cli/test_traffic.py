"""The verbs about traffic, as a person meets them."""

import json
import sys
from pathlib import Path

import pytest

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
    arguments = ("train", tmp_path / "data.csv", "--target", "answer", "--name", "odd", "--time-budget", "2")
    done = invoke(*arguments, "--private", "agee=drop")
    assert done.exit_code == 2
    assert "no column 'agee' to keep private; did you mean age?" in " ".join(done.stderr.split())
    said(invoke(*arguments, "--model", "logistic", "--private", "age=drop", "--private", "even=hash"))
    found = json.loads(said(invoke("describe", "odd", "--json")))
    assert {field["name"]: field.get("capture") for field in found["signature"]["inputs"]} == {
        "age": "drop", "even": "hash",
    }  # fmt: skip
    assert found["recipe"]["private"] == {"age": "drop", "even": "hash"}
