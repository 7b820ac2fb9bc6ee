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
from servable.registry.home import open_home
from servable.registry.schedules import ScheduleRecord, keep_schedule
from training.reading import words
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


def test_a_schedule_is_waited_for_and_shown(shops: Path) -> None:
    write_traffic(shops, "shops", rows(120, seed=2), first=0)
    # A leap day, which is always to come.
    waiting = ran(shops, "shops", "--cron", "0 3 29 2 *", "--timezone", "Europe/Berlin")
    assert waiting.exit_code == 0
    assert "No turn is due for shops: waiting for 2028-02-29 03:00 Europe/Berlin." in waiting.stdout
    record = ScheduleRecord(next_at="2028-02-29T02:00:00Z", cron="0 3 29 2 *", timezone="Europe/Berlin")
    with open_home(shops) as place:
        keep_schedule(place.findings, "shops", record)
    said = "next turn from 2028-02-29 03:00 Europe/Berlin on (0 3 29 2 *)"
    for verb in (["status"], ["describe", "shops"]):
        shown = CliRunner(env={"SERVABLE_HOME": str(shops), "NO_COLOR": "1"}).invoke(app, verb)
        assert said in " ".join(shown.stdout.split()), shown.stdout


def test_a_refusal_is_a_verdict_and_has_its_page(shops: Path, tmp_path: Path) -> None:
    write_traffic(shops, "shops", rows(300, seed=3), first=0)
    page = tmp_path / "turn.html"
    done = ran(shops, "shops", "--json", "--report", str(page))
    assert done.exit_code == exits.VERDICT
    assert json.loads(done.stdout)["turn"]["state"] == "refused"
    assert "refused by the gate" in words(page.read_text(encoding="utf-8"))
    page.unlink()
    again = ran(shops, "shops", "--turn", "1", "--report", str(page))
    assert (again.exit_code, "refused: accuracy" in again.stdout, "Report" in again.stderr) == (0, True, True)
    assert "The gate refused the new version" in words(page.read_text(encoding="utf-8"))
    told = ran(shops, "shops", "--history", "--json", "--report", str(page))
    assert (len(json.loads(told.stdout)), told.stderr) == (1, "")
    assert "One turn since" in words(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("nothing",), exits.NOT_FOUND, "no model 'nothing'"),
        (("shops", "--watch"), exits.USAGE, "--watch needs to know when"),
        (("shops", "--every", "soon"), exits.USAGE, "'soon' is no span of time"),
        (("shops", "--cron", "0 3 * *"), exits.USAGE, "has 4 fields instead of 5"),
        (("shops", "--cron", "0 3 * * 1", "--timezone", "Berlin"), exits.USAGE, "'Berlin' is no time zone"),
        (("shops", "--metric", "goodness"), exits.USAGE, "'goodness' is no metric"),
        (("shops",), exits.INPUT, "0 labelled rows"),
        (("shops", "--deploy", "later"), exits.USAGE, "later"),
        (("shops", "--turn", "3"), exits.NOT_FOUND, "shops has no turn 3"),
        (("shops", "--history", "--report", "/nowhere/at/all.html"), exits.UNAVAILABLE, "writing the report"),
    ],
)
def test_what_cannot_be_done_is_said(words: tuple[str, ...], code: int, said: str, shops: Path) -> None:
    done = ran(shops, *words)
    assert done.exit_code == code, done.stderr
    assert said in done.stderr
