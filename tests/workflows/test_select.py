"""Candidates beside what a prediction costs as served, lossy forms among them."""

import io
import warnings

import msgspec
import pandas as pd
import pytest
from rich.console import Console
from sklearn.datasets import load_digits

import servable
from servable.artifact.loss import Loss
from servable.cli import tables
from servable.errors import SettingInvalid
from servable.workflows.outcomes import Leaderboard, LeaderboardEntry


@pytest.fixture
def any_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lossy forms serve however fast they are, as which is faster depends on the machine."""
    monkeypatch.setattr("servable.optimization.lossy.WORTH_LOSS", 0.0)
    monkeypatch.setattr("servable.optimization.choose.WORTH_LOSS", 0.0)


@pytest.fixture(scope="module")
def digits() -> pd.DataFrame:
    """Half of the pixels of digits, and which digit it is."""
    pixels, truth = load_digits(return_X_y=True)
    frame = pd.DataFrame(pixels, columns=[f"p{place}" for place in range(64)]).assign(digit=truth)
    return frame[:900]


def compared(frame: pd.DataFrame, **more: object) -> dict[str, LeaderboardEntry]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        board = servable.select(frame, target="digit", folds=2, time_budget_s=20, **more)
    return {entry.name: entry for entry in board.entries}


def test_a_lossy_form_is_measured_on_rows_apart_and_shown_with_its_score(
    digits: pd.DataFrame, any_speed: None
) -> None:
    found = compared(digits, models=["mlp"], max_loss="log_loss=50%")
    network, dummy = found["mlp"], found["dummy"]
    assert network.loss is not None
    assert network.loss.passed
    assert (network.loss.metric, network.loss.rows) == ("log_loss", 180 - 36)
    assert network.served_variant in ("onnx-int8-dynamic", "onnx-int8-static", "onnx-fp16", "openvino-bf16")
    # The score is an accuracy, whichever metric the loss is allowed in, and moves by whole rows.
    rows = (network.score - network.served_score) * network.loss.rows
    assert rows == pytest.approx(round(rows), abs=1e-6)
    assert abs(network.served_score - network.score) < 0.1
    assert dummy.loss is None
    assert dummy.served_score == dummy.score
    assert "0 weights" in dummy.note


def test_without_a_largest_loss_only_equal_forms_are_compared(digits: pd.DataFrame, any_speed: None) -> None:
    for entry in compared(digits, models=["mlp"]).values():
        assert entry.loss is None
        assert entry.served_score == entry.score
        assert entry.served_variant in ("onnx-fp32", "onnx-fp64")


def test_few_rows_are_told(digits: pd.DataFrame) -> None:
    entry = compared(digits[:200], models=["logistic"], max_loss="accuracy=0.05")["logistic"]
    assert entry.loss is None
    assert "too few to tell a loss" in entry.note


def test_what_has_no_truth_is_refused_before_anything_is_compared(digits: pd.DataFrame) -> None:
    with pytest.raises(SettingInvalid, match="clustering"):
        servable.select(digits.drop(columns="digit"), max_loss="accuracy=0.05")
    with pytest.raises(SettingInvalid, match="is no metric"):
        compared(digits, max_loss="beauty=0.05")
    with pytest.raises(SettingInvalid, match="no largest loss"):
        compared(digits, max_loss="accuracy")


def test_the_table_shows_the_score_as_served_where_it_is_another() -> None:
    equal = LeaderboardEntry(name="net", score=0.91, score_std=0.01, served_score=0.91, fit_seconds=1.0)
    lossy = msgspec.structs.replace(
        equal, served_score=0.9052, loss=Loss(metric="accuracy", rows=100, passed=True, loss=0.0048)
    )
    board = Leaderboard(
        task="classification",
        target="y",
        rows_total=10,
        metric="accuracy",
        higher_is_better=True,
        entries=(equal,),
        columns=(),
    )
    assert "as served" not in printed(board)
    told = printed(msgspec.structs.replace(board, entries=(lossy,)))
    assert "as served" in told
    assert "0.9052" in told


def printed(board: Leaderboard) -> str:
    console = Console(width=200, file=io.StringIO())
    for part in tables.leaderboard(board):
        console.print(part)
    return console.file.getvalue()
