"""Models that learn on are compared with those fitted anew, on the same rows."""

import numpy as np
import pandas as pd
import pytest

import servable
from servable.errors import SettingInvalid
from servable.training import tasks
from servable.training.data import Problem, infer
from servable.training.tasks.prequential import PARTIAL

ROWS = 1200


def turning() -> pd.DataFrame:
    """What is right turns into its opposite every two hundred rows."""
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(2, ROWS))
    side = np.where(np.arange(ROWS) // 200 % 2 == 0, x, -x)
    return pd.DataFrame({"x": x, "y": y, "label": np.where(side > 0, "yes", "no")})


def problem(frame: pd.DataFrame) -> Problem:
    return infer(frame, "label", time_order=True)


def test_those_that_learn_on_follow_what_turns() -> None:
    found = tasks.select(
        problem(turning()), models=["logistic", "hoeffding_tree", "sgd"], online=True, time_budget_s=60
    )
    board = {result.name: result for result in found}
    assert set(board) == {"dummy", "logistic", "online_linear", "hoeffding_tree", "sgd"}
    online = {name for name, result in board.items() if result.online}
    assert online == {"online_linear", "hoeffding_tree", "sgd"}
    assert max(board[name].score for name in online) > board["logistic"].score + 0.05
    assert [result.score for result in found] == sorted((each.score for each in found), reverse=True)
    assert "µs a row" in board["sgd"].note


def test_both_kinds_are_measured_on_the_same_rows() -> None:
    # Only the first rows are told apart by x; whoever were measured on those would score.
    frame = turning()
    half = frame[:600].assign(label=np.where(frame["x"][:600] > 0, "yes", "no"))
    rest = frame[600:].assign(label="yes")
    found = tasks.select(
        problem(pd.concat([half, rest])), models=["sgd", "dummy"], folds_wanted=5, online=True
    )
    board = {result.name: result.score for result in found}
    # Of five parts of 200 rows the first two are half and half, the last three hold one class.
    assert board["dummy"] == pytest.approx(np.mean([0.5, 0.5, 1, 1, 1]), abs=0.35)
    assert board["sgd"] > 0.9


def test_a_class_that_comes_later_is_no_reason_to_stop() -> None:
    frame = turning()
    frame.loc[frame.index[800:], "label"] = np.where(frame["y"][800:] > 0, "new", "yes")
    found = tasks.select(problem(frame), online=True, folds_wanted=2, time_budget_s=0.2)
    assert {result.name for result in found}.isdisjoint(PARTIAL)
    assert "online_linear" in {result.name for result in found}
    with pytest.raises(servable.ServableError, match="not among the first rows"):
        tasks.select(problem(frame), models=["sgd"], online=True, folds_wanted=2)


def test_what_cannot_be_compared_online_is_said() -> None:
    frame = turning()
    with pytest.raises(SettingInvalid, match="name a --target"):
        tasks.select(infer(frame[["x", "y"]], None), online=True)
    with pytest.raises(SettingInvalid, match="nonsense"):
        tasks.select(problem(frame), models=["nonsense"], online=True)


def test_the_board_shows_what_an_answer_costs() -> None:
    board = servable.select(turning(), target="label", online=True, models=["logistic", "sgd"], folds=3)
    entries = {entry.name: entry for entry in board.entries}
    assert {name for name, entry in entries.items() if entry.online} == {"online_linear", "sgd"}
    for entry in entries.values():
        assert entry.served_us_per_row is not None
    assert entries["sgd"].served_variant != "trained"
    assert entries["online_linear"].served_variant == "trained"
    assert "learns on" in entries["online_linear"].note
