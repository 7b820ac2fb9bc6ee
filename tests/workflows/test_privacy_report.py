"""The privacy report of a trained version, here and over a server's address."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import servable
from servable.cli.main import app
from servable.errors import DataError, SettingInvalid
from servable.workflows.privacy_report import privacy_report

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows, rows of others, and a home with a model that learned the first by heart."""
    made = tmp_path_factory.mktemp("attacked")
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(size=(600, 4)), columns=list("abcd"))
    frame["job"] = random.choice(["cook", "nurse"], 600)
    frame["y"] = np.where(frame["a"] + random.normal(0, 2, 600) > 0, "yes", "no")
    frame.iloc[:300].to_csv(made / "members.csv", index=False)
    # Some are members, and do not count as others.
    frame.iloc[280:].to_csv(made / "others.csv", index=False)
    servable.train(
        made / "members.csv", target="y", name="heart", model="extra_trees", refit=True, time_budget_s=0.1,
        deploy=True, home=made / "home",
    )  # fmt: skip
    return made


def test_what_is_learned_by_heart_is_found_here_and_over_http(folder: Path) -> None:
    members, others, home = folder / "members.csv", folder / "others.csv", folder / "home"
    here = privacy_report(
        "heart", members=members, others=others, queries=60, home=home, report=folder / "page.html"
    )
    assert here.leaks
    assert (here.members, here.others, here.left_out) == (300, 300, 20)
    assert here.attacks[0].auc > 0.6
    assert "heart" in (folder / "page.html").read_text(encoding="utf-8")
    server = servable.serve(home=home, port=0, background=True)
    assert server is not None
    with server:
        asked = privacy_report("heart", members=members, others=others, queries=60, home=home, url=server.url)
        assert asked.asked == server.url
    by_name = {attack.name: attack.auc for attack in here.attacks}
    assert {attack.name for attack in asked.attacks} == set(by_name)
    assert all(attack.auc == pytest.approx(by_name[attack.name], abs=0.02) for attack in asked.attacks)


def test_what_says_nothing_is_refused(folder: Path) -> None:
    members, others, home = folder / "members.csv", folder / "others.csv", folder / "home"
    with pytest.raises(DataError, match="Only 0 others"):
        privacy_report("heart", members=members, others=members, home=home)
    with pytest.raises(SettingInvalid, match="queries"):
        privacy_report("heart", members=members, others=others, queries=3, home=home)


def test_at_the_command_line_it_can_be_a_gate(folder: Path) -> None:
    words = ["privacy", "report", "heart", "--members", str(folder / "members.csv"), "--others",
             str(folder / "others.csv"), "--queries", "60", "--home", str(folder / "home")]  # fmt: skip
    done = CliRunner().invoke(app, [*words, "--max-auc", "0.5"])
    assert done.exit_code == 5
    assert "An attacker who" in done.output
    assert CliRunner().invoke(app, [*words, "--json", "--max-auc", "0.99"]).exit_code == 0
