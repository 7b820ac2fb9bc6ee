"""The verb update: what it prints, as tables and as JSON, and its exit codes."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import servable
from servable.cli import exits
from servable.cli.main import app
from updating.making import rows, write_traffic


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shops")
    rows(300, seed=1).to_csv(folder / "shops.csv", index=False)
    servable.train(
        folder / "shops.csv", target="label", name="shops", model="logistic", time_budget_s=0.1, deploy=True,
        home=folder / "home",
    )  # fmt: skip
    return folder / "home"


@pytest.fixture
def shops(ready: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(ready, tmp_path / "home"))


def ran(home: Path, *words: str) -> Any:
    return CliRunner(env={"SERVABLE_HOME": str(home), "NO_COLOR": "1"}).invoke(app, ["update", *words])


def test_a_turn_and_its_history(shops: Path) -> None:
    assert "There was no turn yet." in ran(shops, "shops", "--history").stdout
    write_traffic(shops, "shops", rows(400, seed=2, turned=True), first=0)
    done = ran(shops, "shops", "--labels", "400", "--half-life", "100", "--no-tune", "--slice", "shop")
    assert done.exit_code == 0, done.stderr
    assert "promoted: shops:2 took over" in done.stdout
    assert "300 original rows, 400 of labelled traffic; 200 held out" in done.stdout
    shown = ran(shops, "shops", "--history")
    assert "promoted" in shown.stdout
    (turn,) = json.loads(ran(shops, "shops", "--history", "--json").stdout)
    assert turn["record"]["register"]["version"] == 2
    waiting = ran(shops, "shops", "--labels", "400")
    assert waiting.exit_code == 0
    assert "No turn is due for shops: 0 rows were labelled since the last turn" in waiting.stdout


def test_a_refusal_is_a_verdict(shops: Path) -> None:
    write_traffic(shops, "shops", rows(300, seed=3), first=0)
    done = ran(shops, "shops", "--json")
    assert done.exit_code == exits.VERDICT
    assert json.loads(done.stdout)["turn"]["state"] == "refused"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("nothing",), exits.NOT_FOUND, "no model 'nothing'"),
        (("shops", "--watch"), exits.USAGE, "--watch needs to know when"),
        (("shops", "--every", "soon"), exits.USAGE, "'soon' is no span of time"),
        (("shops", "--metric", "goodness"), exits.USAGE, "'goodness' is no metric"),
        (("shops",), exits.INPUT, "0 labelled rows"),
        (("shops", "--deploy", "later"), exits.USAGE, "later"),
    ],
)
def test_what_cannot_be_done_is_said(words: tuple[str, ...], code: int, said: str, shops: Path) -> None:
    done = ran(shops, *words)
    assert done.exit_code == code, done.stderr
    assert said in done.stderr
