"""What the pages say of turns, from records; and the pages of real ones."""

from pathlib import Path

import msgspec
import pytest

from servable.errors import ModelNotFound, NotFoundError
from servable.registry.home import open_home
from servable.registry.turns import TurnRecord
from servable.updating.gate import GateRules
from servable.updating.options import UpdateOptions, stored
from servable.updating.reports import metric_of, quality_over_time, verdict, write_history, write_turn
from servable.updating.turn_page import bars_of, cards, gain_text, shown
from servable.updating.update import made, update
from servable.updating.window import Window
from servable.workflows.rollouts import change_rollout
from training.reading import read, words
from updating.making import rows, write_traffic
from updating.turns import gain, turn


def test_a_turn_shows_why_what_and_how_sure() -> None:
    found = shown(turn())
    assert found.verdict.startswith("Version 2 took over from version 1. Accuracy went from 50.0 % to 60.0 %")
    assert "a gain of +10.0 points (95 % interval +5.0 points to +15.0 points)" in found.verdict
    assert found.drift == (
        ("x", "input", "2026-01-01 03:00", "0.43"),
        ("error", "how wrong", "row 1,300", "12.0 points worse"),
    )
    assert ("Left out", "2 labels that are no answer of the target's type") in found.rows
    assert ("Asked until", "2026-01-01 02:18:19") in found.rows
    whole, part = found.gains
    assert (whole.name, whole.bar.tone, part.name, part.bar.tone) == ("all rows", "good", "shop=<b>", "bad")
    assert part.bar.at < whole.bar.zero < whole.bar.left
    assert found.rules.startswith("Accuracy better with 90 % confidence, and at most 3 times as long")
    assert ("Parameters", "C 1.0") in found.made
    assert sum(seconds for _, seconds in found.steps) == pytest.approx(5.2)
    assert ("Took", "5 s", "took over") in cards(found)
    assert ("Gain, points", "+10.0", "95 %: +5.0 points to +15.0 points") in cards(found)
    assert ("Gain", "+0.1", "95 %: +0.05 to +0.15") in cards(shown(turn(metric="rmse")))


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (turn("refused", register=None), "The gate refused the new version; version 1 stays."),
        (turn("rolled_back"), "Version 2 was sent back by its rollout; version 1 answers all."),
        (turn("registered", said="shops:2 is registered, left"), "shops:2 is registered, left."),
        (turn("waiting", deploy={"deploy": "canary", "seconds": 0.0}), "and its canary goes on."),
        (turn("failed", evaluate=None, gate=None, said="No space."), "nothing was changed: No space."),
        (turn("running", evaluate=None, gate=None, said=""), "The turn is not finished; it came to deploy."),
    ],
)  # fmt: skip
def test_every_end_is_said(found: TurnRecord, said: str) -> None:
    assert said in shown(found).verdict


def test_a_version_that_is_too_slow_did_not_pass() -> None:
    slow = turn("refused", gate={"passed": True, "reasons": ["better"], "seconds": 0.0}, register=None)
    found = shown(slow)
    assert found.passed is False
    assert found.reasons == ("better", "one row takes 14 us")
    assert shown(turn(gate=None)).passed is None


def test_a_turn_of_which_little_is_known_is_shown() -> None:
    bare = turn(
        **dict.fromkeys(("signs", "drifting", "collect", "train", "evaluate", "gate", "optimise", "register"))
    )
    found = shown(bare)
    assert (found.gains, found.rows, found.drift, found.version, found.steps) == (
        (),
        (),
        (),
        None,
        (("deploy", 0.1),),
    )


def test_the_rules_of_the_gate_are_said() -> None:
    rules = GateRules(margin=-0.01, slices=("shop",), slower=2.0, confidence=0.95)
    said = shown(turn(options=stored(UpdateOptions(gate=rules)))).rules
    assert "worse by no more than 0.01 with 95 % confidence, not worse on shop, and at most 2 times" in said
    more = shown(turn(options=stored(UpdateOptions(gate=GateRules(margin=0.02))))).rules
    assert "better by more than 0.02" in more
    assert more.endswith("In doubt the present version stays.")
    moving = shown(turn(options=stored(UpdateOptions(gate=GateRules(favour="drift"))))).rules
    assert moving.endswith("takes over where drift was found, else the present one stays.")


def test_gains_have_a_sign() -> None:
    said = [gain_text(value, "accuracy") for value in (0.1, -0.1, 0.0)]
    assert said == ["+10.0 points", "−10.0 points", "±0.0 points"]


def test_bars_without_any_difference_lie_at_zero() -> None:
    (bar,) = bars_of([gain(low=0.0, gain=0.0, high=0.0)])
    assert (bar.at, bar.zero, bar.width, bar.tone) == (0.0, 0.0, 0.0, "")


def test_all_turns_are_counted_and_drawn() -> None:
    found = [turn(number=3), turn("refused", number=2, register=None), turn("waiting", number=1)]
    counted = "1 in a rollout, 1 took over, 1 refused by the gate"
    assert verdict(found, ()) == f"3 turns since 2026-01-01: {counted}. No version is deployed."
    assert verdict(found[:1], ()).startswith("One turn since 2026-01-03: 1 took over.")
    assert metric_of(found) == "accuracy"
    assert metric_of([turn(evaluate=None, gate=None)]) == ""
    svg = quality_over_time([*found, turn(number=9, metric="rmse")], "accuracy")
    # One version took over; the turn that was compared by another metric is no part of it.
    assert "v2" in svg
    assert 'aria-label="Accuracy over time"' in svg


def test_a_smaller_error_is_a_gain() -> None:
    svg = quality_over_time([turn(metric="rmse")], "rmse")
    assert 'aria-label="RMSE over time"' in svg
    assert "RMSE went from 0.5 to 0.6" in shown(turn(metric="rmse")).verdict


@pytest.fixture
def turned(shops: Path) -> Path:
    """A home with a refused turn, one that took over while columns drifted, and one in a canary."""
    quick = UpdateOptions(tune=False, window=Window(half_life=100), gate=GateRules(slices=("shop",)))
    write_traffic(shops, "shops", rows(300, seed=3), first=0)
    update("shops", quick, home=shops)
    with open_home(shops) as place:
        drifting = {
            "name": "x",
            "side": "input",
            "state": "drift",
            "since": "",
            "since_row": 12,
            "effect": 0.4,
        }
        steady = {**drifting, "name": "y", "state": "steady"}
        place.findings.put("shops", "drift", {1: {"columns": [drifting, steady]}})
        live = {"labels": 500, "metrics": {"accuracy": {"value": 0.55, "low": 0.51, "high": 0.6}}}
        place.findings.put("shops", "quality", {1: {"answers": 900, "whole": live, "recent": live}})
    write_traffic(shops, "shops", rows(400, seed=2, turned=True), first=4000)
    update("shops", quick, home=shops)
    write_traffic(shops, "shops", rows(500, seed=7), first=9000)
    canary = msgspec.structs.replace(quick, deploy="canary", steps="50,100", every="1h")
    update("shops", canary, home=shops)
    return shops


def test_real_turns_have_pages(turned: Path, tmp_path: Path) -> None:
    assert [made("shops", number, home=turned).state for number in (1, 2, 3)] == [
        "refused",
        "promoted",
        "waiting",
    ]
    page = tmp_path / "turn.html"
    write_turn("shops", 2, page, home=turned)
    read(page.read_text(encoding="utf-8"))
    said = words(page.read_text(encoding="utf-8"))
    assert "shops: version 2 against 1" in said
    assert "What drifted when it began: Column Since (UTC) Effect x row 12 0.40" in said
    assert "Live answers had got worse: accuracy 0.55" in said
    assert "shop=a" in said
    write_turn("shops", 1, page, home=turned)
    assert "The gate not passed" in words(page.read_text(encoding="utf-8"))
    change_rollout("shops", "advance", home=turned)
    write_turn("shops", 3, page, home=turned)
    said = words(page.read_text(encoding="utf-8"))
    assert "The rollout that followed Version 3 answers all requests, as a trial." in said
    assert "Step 1: 50 % passed A person lets the next step begin." in said

    write_history("shops", page, home=turned)
    text = page.read_text(encoding="utf-8")
    assert read(text).seen.count("svg") == 1
    said = words(text)
    assert "3 turns since" in said
    assert "2 deployed" in said
    assert "55.0 % 51.0 % to 60.0 % 500" in said
    assert text.count('href="#turn-') == text.count('id="turn-') == 3


def test_a_model_without_turns_has_a_page(shops: Path, tmp_path: Path) -> None:
    write_history("shops", tmp_path / "turns.html", home=shops)
    text = (tmp_path / "turns.html").read_text(encoding="utf-8")
    read(text)
    assert "There was no turn yet." in words(text)


def test_what_there_is_not_is_said(shops: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="shops has no turn 4; servable update shops --history"):
        write_turn("shops", 4, tmp_path / "turn.html", home=shops)
    with pytest.raises(NotFoundError, match="no turn 4"):
        made("shops", 4, home=shops)
    for ask in (
        lambda: write_history("nobody", tmp_path / "x", home=shops),
        lambda: made("nobody", 1, home=shops),
    ):
        with pytest.raises(ModelNotFound):
            ask()
    assert not list(tmp_path.glob("*.html"))
