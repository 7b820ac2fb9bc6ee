"""The verbs rollout and watch, and the options of deploy that begin a rollout."""

import json
from pathlib import Path

import pytest

from registry.adding import add
from servable.registry.home import open_home
from servable.registry.rollout_records import Counts
from servable.rollout.controller import follow
from servable.testing import FakeClock
from training.reading import words


@pytest.fixture
def filled(home: Path) -> Path:
    with open_home(home) as opened:
        for number in range(3):
            add(opened, content=bytes([number]))
        opened.deployments.deploy("churn", 1)
    return home


def test_a_canary_begins_is_shown_and_is_decided_about(invoke, filled: Path) -> None:
    begun = invoke("deploy", "churn:2", "--canary", "5,50", "--every", "1h", "--min-requests", 10)
    assert begun.exit_code == 0, begun.stderr
    assert "The canary of churn:2 has begun" in begun.stdout
    assert "servable rollout churn --follow" in begun.stdout
    shown = invoke("rollout", "churn").stdout
    assert "→ 5 %" in shown
    assert "Version 2 gets 5 % of the requests." in shown
    held = json.loads(invoke("rollout", "churn", "--hold", "--json").stdout)
    assert (held["state"], held["every_s"], held["steps"]) == ("held", 3600.0, [5.0, 50.0])
    assert json.loads(invoke("rollout", "churn", "--resume", "--json").stdout)["state"] == "running"
    assert "✓ 5 %" in invoke("rollout", "churn", "--advance").stdout
    assert "rolled back" in invoke("rollout", "churn", "--abort").stdout
    again = invoke("rollout", "churn", "--abort")
    assert (again.exit_code, "No rollout of churn goes on" in again.stderr) == (3, True)


def test_the_evidence_is_shown_with_its_intervals_and_the_end_has_an_exit_code(invoke, filled: Path) -> None:
    invoke("deploy", "churn:2", "--canary", "5,50")
    with open_home(filled) as opened:
        (record,) = opened.rollouts.going_on()
        counts = {
            1: Counts(codes={"ok": 900, "model_failed": 9}, latencies={-50: 900}),
            2: Counts(codes={"ok": 50, "model_failed": 50}, latencies={-50: 50}),
        }
        opened.rollouts.count(record.id, "a", counts)
        shown = invoke("rollout", "churn").stdout
        assert "error rate" in shown
        assert "50 %" in shown
        assert "worse" in shown
        follow(opened, FakeClock())
    for more in ((), ("--json",)):
        ended = invoke("rollout", "churn", "--follow", *more)
        assert ended.exit_code == 5
    assert json.loads(ended.stdout)["state"] == "rolled_back"
    assert "Error rate 50 %" in invoke("rollout", "churn").stdout


def test_a_rollout_is_written_as_a_page(invoke, filled: Path, tmp_path: Path) -> None:
    invoke("deploy", "churn:2", "--canary", "5,50")
    page = tmp_path / "rollout.html"
    shown = invoke("rollout", "churn", "--report", page)
    assert (shown.exit_code, "→ 5 %" in shown.stdout, str(page.name) in shown.stderr) == (0, True, True)
    assert "churn: version 2 against 1" in words(page.read_text(encoding="utf-8"))
    ended = invoke("rollout", "churn", "--abort", "--follow", "--report", page, "--json")
    assert ended.exit_code == 5
    assert "A person ended it." in words(page.read_text(encoding="utf-8"))


def test_what_a_decision_puts_an_end_to_is_said(invoke, filled: Path) -> None:
    def first(*words: object) -> str:
        done = invoke(*words)
        assert done.exit_code == 0, done.stderr
        return " ".join(done.stdout.split())

    canary = ("deploy", "churn:2", "--canary", "5,50")
    said = first(*canary)
    assert "it goes on by itself while it is no worse; back at once: servable rollback churn" in said
    assert "v1 95 % v2 5 % (canary, step 1 of 2)" in " ".join(invoke("status").stdout.split())
    said = first("rollback", "churn")
    assert said.startswith(
        "The canary of churn:2 was ended. churn:1 answers all requests, the default model."
    )
    shown = " ".join(invoke("rollout", "churn").stdout.split())
    assert "cancelled" in shown
    assert "✗ 5 %" in shown
    assert "Shares" not in shown
    first(*canary)
    said = first("deploy", "churn", "--split", "1=1,2=1")
    assert said.startswith(
        "The canary of churn:2 was ended. churn:1 is deployed, the default model. Traffic v1"
    )
    assert "Its requests were divided by hand." in invoke("rollout", "churn").stdout
    # Another division ends nothing.
    assert first("deploy", "churn", "--split", "1=2,2=1").startswith("churn:1 is deployed")
    said = first("rollback", "churn")
    assert said.startswith(
        "The division of the requests among versions 1 and 2 was ended. churn:1 answers all"
    )
    first("deploy", "churn:3", "--shadow")
    said = first("deploy", "churn:2")
    assert said.startswith("The shadow of churn:3 was ended. churn:2 is deployed in place of version 1")
    first("deploy", "churn", "--bandit", "3")
    taken = invoke("deploy", "churn:3", "--canary", "5")
    assert "A bandit of churn:3 against version 2 goes on already" in " ".join(taken.stderr.split())
    assert first("undeploy", "churn") == "The bandit of churn:3 was ended. churn is no longer deployed."
    first("deploy", "churn:1")
    assert first("deploy", "churn:2").startswith("churn:2 is deployed in place of version 1")
    assert first("rollback", "churn").startswith("churn:1 is deployed in place of version 2")


def test_a_shadow_and_a_bandit_begin(invoke, filled: Path) -> None:
    assert "copies of 50 % of the requests" in invoke("deploy", "churn:2", "--shadow", "--mirror", 0.5).stdout
    invoke("rollout", "churn", "--abort")
    bandit = json.loads(invoke("deploy", "churn", "--bandit", "2,3", "--json").stdout)
    assert set(bandit["rollout"]["weights"]) == {"1", "2", "3"}
    assert "v3 33.3 %" in invoke("rollout", "churn").stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("churn:2", "--canary", "50,5"), "rising shares"),
        (("churn:2", "--canary", "5", "--shadow"), "name one of them"),
        (("churn:2", "--every", "5m"), "belong to a rollout"),
        (("churn:2", "--canary", "5", "--mirror", 0.5), "add --shadow"),
        (("churn:2", "--canary", "5", "--every", "soon"), "30s, 10m"),
        (("churn:2", "--canary", "5", "--executor", "inline"), "cannot be changed by a rollout"),
        (("churn:2", "--shadow", "--mirror", 2), "at most 1"),
        (("churn", "--bandit", "two"), "versions such as 3,4"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(invoke, filled: Path, words, said: str) -> None:
    done = invoke("deploy", *words)
    assert done.exit_code == 2, done.stderr
    assert said in " ".join(done.stderr.split())
    with open_home(filled) as opened:
        assert opened.rollouts.of("churn") == ()


def test_looking_at_nothing_says_how_to_begin(invoke, filled: Path) -> None:
    done = invoke("rollout", "churn")
    assert done.exit_code == 4
    assert "--canary 1,5,25,100" in done.stderr
    assert invoke("rollout", "unknown").exit_code == 4
    assert invoke("rollout", "churn", "--hold", "--abort").exit_code == 2


def test_watching_once(invoke, filled: Path) -> None:
    invoke("deploy", "churn:2", "--canary", "5,50")
    assert "Looked at 1 rollout" in invoke("watch", "--once").stdout
    with open_home(filled) as opened:
        assert opened.leases.take("watcher", "somebody", 60)
    assert "Another one watches this home: somebody" in invoke("watch", "--once").stdout
    assert json.loads(invoke("watch", "--once", "--json").stdout)["acted"] is False
