"""The verbs drift and alerts, as a person uses them."""

import json
from pathlib import Path

import pandas as pd
import pytest
from sklearn.datasets import load_iris

import servable
from servable.cli import exits

pytest.importorskip("river", reason="streams are followed with river, of the extra monitoring")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("drift") / "home"
    servable.train(flowers(), target="kind", name="iris", model="logistic", time_budget_s=0.1, home=home)
    return home


def flowers() -> pd.DataFrame:
    bunch = load_iris(as_frame=True)
    frame = bunch.data.set_axis(["a", "b", "c", "d"], axis="columns")
    return frame.assign(kind=[str(bunch.target_names[place]) for place in bunch.target])


@pytest.fixture
def moved(tmp_path: Path) -> Path:
    frame = flowers().sample(600, replace=True, random_state=0)
    frame.iloc[300:, 1] += 4
    path = tmp_path / "rows.csv"
    frame.to_csv(path, index=False)
    return path


def test_the_table_names_column_row_and_windows(invoke, finished: Path, moved: Path) -> None:
    told = invoke("drift", "iris", moved, "--window", "100", "--home", finished)
    assert told.exit_code == exits.OK
    line = next(line for line in told.stdout.splitlines() if line.strip().startswith("b "))
    assert "drift" in line
    assert "row 300" in line
    assert "···###" in line
    assert "Drift in" in told.stdout


def test_json_holds_every_column(invoke, finished: Path, moved: Path) -> None:
    told = invoke("drift", "iris:1", moved, "--window", "100", "--json", "--home", finished)
    found = json.loads(told.stdout)
    states = {column["name"]: column["state"] for column in found["columns"]}
    assert states["b"] == "drift"
    assert states["a"] == "steady"
    assert found["windows"] == 6


def test_drift_fails_only_where_that_was_asked_for(
    invoke, finished: Path, moved: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    told = invoke("drift", "iris", moved, "--window=100", "--fail", "--report", page, "--home", finished)
    assert told.exit_code == exits.VERDICT
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    calm = tmp_path / "calm.csv"
    flowers().sample(600, replace=True, random_state=1).to_csv(calm, index=False)
    assert invoke("drift", "iris", calm, "--window=100", "--fail", "--home", finished).exit_code == exits.OK


def test_what_is_wrong_is_one_sentence(invoke, finished: Path, moved: Path) -> None:
    told = invoke("drift", "iris", "--home", finished)
    assert told.exit_code == exits.INPUT
    assert "No traffic of iris:1" in told.stderr
    told = invoke("drift", "iris", moved, "--window", "soon", "--home", finished)
    assert told.exit_code == exits.USAGE
    assert "--window" in told.stderr


def test_alerts_lists_rules_and_says_that_nobody_looked_yet(invoke, finished: Path, tmp_path: Path) -> None:
    told = invoke("alerts", "--home", finished)
    assert told.exit_code == exits.OK
    assert "inputs-drift" in told.stdout
    assert "servable watch" in told.stdout
    (tmp_path / "servable.toml").write_text('[[alerts]]\nname = "a"\nmeasure = "drift.share"\nfor = "2h"\n')
    found = json.loads(invoke("alerts", "--json", "--home", finished).stdout)
    assert [(rule["name"], rule["for_s"]) for rule in found["rules"]] == [("a", 7200.0)]
