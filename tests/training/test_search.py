"""Training on real small sets and on made ones: every task, every candidate, every column kind."""

import json
import warnings

import msgspec
import numpy as np
import pandas as pd
import pytest
from sklearn import datasets

from servable.artifact.profile import decode as decode_profile
from servable.artifact.profile import encode as encode_profile
from servable.errors import DataError, SettingInvalid
from servable.frameworks import lookup
from servable.training import evaluate, search
from servable.training.candidates import CANDIDATES, DUMMY, build
from servable.training.crossval import answer, fit_quietly
from servable.training.data import infer
from servable.training.search import fit, select, train


class Heard:
    """A Progress that remembers."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.notes: list[str] = []

    def begin(self, title: str, total: float | None = None) -> None:
        self.stages.append(title)

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        self.notes.append(note)

    def done(self, outcome: str = "") -> None:
        self.notes.append(outcome)


def mixed(rows: int = 240, seed: int = 0) -> pd.DataFrame:
    """All kinds of columns, missing values in some, and targets of each task that depend on them."""
    rng = np.random.default_rng(seed)
    size = rng.normal(100, 20, rows)
    colour = rng.choice(["red", "green", "blue"], rows, p=[0.5, 0.3, 0.2])
    flag = rng.choice([True, False], rows)
    day = pd.Timestamp("2021-01-01") + pd.to_timedelta(rng.integers(0, 700, rows), unit="D")
    value = size + 30 * (colour == "red") + 10 * flag + rng.normal(0, 5, rows)
    return pd.DataFrame(
        {
            "size": np.where(rng.random(rows) < 0.1, np.nan, size),
            "count": rng.integers(0, 9, rows),
            "colour": np.where(rng.random(rows) < 0.1, None, colour),
            "flag": flag,
            "day": day,
            "value": value,
            "high": np.where(value > np.median(value), "high", "low"),
            "grade": pd.qcut(value, 3, labels=["c", "b", "a"]).astype(str),
        }
    )


@pytest.mark.parametrize("task", ["classification", "regression", "clustering"])
def test_every_candidate_learns_from_every_kind_of_column(task):
    target = {"classification": "high", "regression": "value", "clustering": None}[task]
    frame = mixed().drop(columns=[name for name in ("value", "high", "grade") if name != target])
    problem = infer(frame, target)
    assert {info.kind for info in problem.columns} == {"number", "category", "boolean", "date"}
    rows = problem.frame()
    for known in CANDIDATES[task]:
        params = {} if task != "clustering" else {"n_components" if "mix" in known.name else "n_clusters": 3}
        pipeline = build(problem.signature, known.name, params)
        fit_quietly(pipeline, rows, problem.truth)
        found = answer(pipeline, rows, problem.task)
        assert np.isfinite(found["prediction"]).all()
        if task == "classification":
            assert np.allclose(found["probabilities"].sum(axis=1), 1)


def test_training_a_classifier_on_a_real_set():
    bunch = datasets.load_breast_cancer(as_frame=True)
    frame = bunch.frame.assign(target=bunch.target.map({0: "malignant", 1: "benign"}))
    heard = Heard()
    result = train(infer(frame, "target"), time_budget_s=1, progress=heard)
    assert result.evaluation.metrics["accuracy"] > 0.93
    assert result.evaluation.baselines[DUMMY]["accuracy"] < 0.7
    assert "logistic" in result.evaluation.baselines
    assert heard.stages[0] == "Compare candidates"
    assert heard.stages[-1] == "Evaluate on held-out rows"
    assert result.rows_train + len(result.holdout_rows) == len(frame)
    held = frame["target"].iloc[result.holdout_rows].map({"benign": 0, "malignant": 1})
    assert result.holdout_truth is not None
    assert result.holdout_truth.tolist() == held.tolist()
    json.dumps(result.recipe, allow_nan=False)
    assert evaluate.decode(evaluate.encode(result.evaluation)) == result.evaluation
    assert b"NaN" not in evaluate.encode(result.evaluation)
    assert decode_profile(encode_profile(result.profile)) == result.profile


def test_the_adapter_answers_like_the_pipeline():
    result = train(
        infer(mixed().drop(columns=["value", "grade"]), "high"), model="lightgbm", time_budget_s=0.1
    )
    found = lookup.adapter("sklearn").wrap(result.trained).predict(result.holdout)
    counted = evaluate.evaluate(result.signature, result.holdout_truth, found)
    assert counted.metrics == pytest.approx(result.evaluation.metrics)


def test_training_a_regressor_with_gaps_and_dates():
    result = train(infer(mixed(400).drop(columns=["high", "grade"]), "value"), time_budget_s=1)
    metrics = result.evaluation.metrics
    assert metrics["r2"] > 0.6
    assert metrics["rmse"] < result.evaluation.baselines[DUMMY]["rmse"]
    assert {item.name for item in result.evaluation.importance} == {
        field.name for field in result.signature.inputs
    }
    assert result.evaluation.importance[0].name == "size"


def test_training_clusters_finds_their_number():
    points, _ = datasets.make_blobs(300, centers=4, cluster_std=0.6, random_state=3)
    result = train(infer(pd.DataFrame(points, columns=["a", "b"]), None), time_budget_s=5)
    assert result.signature.answer.values == (0, 1, 2, 3)
    assert result.evaluation.metrics["silhouette"] > 0.6
    assert len(result.evaluation.clusters) == 4
    assert set(result.evaluation.clusters[0].typical) == {"a", "b"}


def test_a_named_model_is_trained_and_the_same_seed_repeats_it(monkeypatch: pytest.MonkeyPatch):
    # Some at random, and some that follow from what those gave.
    monkeypatch.setattr(search, "TUNE_TRIALS", 9)
    problem = infer(datasets.load_iris(as_frame=True).frame, "target")
    one = train(problem, model="logistic", time_budget_s=30, seed=7)
    two = train(problem, model="logistic", time_budget_s=30, seed=7)
    assert one.recipe["estimator"] == "logistic"
    assert one.recipe["params"] == two.recipe["params"]
    assert one.evaluation == two.evaluation
    assert problem.signature.classes == (0, 1, 2)


def test_select_puts_the_best_first_and_has_the_baselines():
    problem = infer(datasets.load_iris(as_frame=True).frame, "target")
    board = select(problem, models=["naive_bayes"], folds_wanted=3)
    assert {result.name for result in board} == {DUMMY, "logistic", "naive_bayes"}
    assert [result.score for result in board] == sorted((result.score for result in board), reverse=True)
    assert board[-1].name == DUMMY
    fitted = fit(problem, board[0].name, board[0].params)
    assert fitted.options == {"style": "canonical"}


def test_without_time_the_baselines_and_one_more_are_compared():
    problem = infer(datasets.load_iris(as_frame=True).frame, "target")
    board = select(problem, time_budget_s=1e-6, folds_wanted=2)
    assert {result.name for result in board} == {DUMMY, "logistic", "lightgbm"}


def test_a_rare_class_changes_the_measure_and_is_found():
    rng = np.random.default_rng(0)
    rows = 1500
    x = rng.normal(size=(rows, 3))
    rare = x[:, 0] + rng.normal(0, 0.4, rows) > 2.0
    problem = infer(pd.DataFrame(x, columns=list("abc")).assign(y=np.where(rare, "fraud", "fine")), "y")
    assert problem.imbalanced
    result = train(problem, model="logistic", time_budget_s=1)
    assert result.evaluation.metric == "f1_macro"
    assert result.evaluation.metrics["f1_macro"] > 0.7
    assert "class_weight" in result.recipe["params"] or result.recipe["trials"] >= 1


def test_nothing_of_the_future_is_used_in_time_order():
    rows = 400
    rng = np.random.default_rng(0)
    # The target is a random walk: neighbours in time are alike, and nothing else tells anything.
    walk = np.cumsum(rng.normal(size=rows))
    frame = pd.DataFrame({"t": np.arange(rows) + rng.random(rows), "noise": rng.random(rows), "y": walk})
    shuffled = train(infer(frame, "y"), model="lightgbm", time_budget_s=0.1)
    ordered = train(infer(frame, "y", time_order=True), model="lightgbm", time_budget_s=0.1)
    assert ordered.holdout_rows.min() > rows * 0.75
    assert shuffled.evaluation.metrics["r2"] > 0.8
    assert ordered.evaluation.metrics["r2"] < 0.3


def test_a_class_of_the_last_rows_alone_is_refused():
    frame = pd.DataFrame({"x": np.linspace(0, 1, 100) ** 2, "y": ["a", "b"] * 45 + ["c"] * 10})
    with pytest.raises(DataError, match="only among the last rows"):
        train(infer(frame, "y", time_order=True), time_budget_s=1)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"model": "deep_thought"}, "No classification model"),
        ({"time_budget_s": 0}, "time budget"),
        ({"holdout": 0.9}, "share"),
    ],
)
def test_impossible_settings_are_refused(options, says):
    problem = infer(datasets.load_iris(as_frame=True).frame, "target")
    with pytest.raises(SettingInvalid, match=says):
        train(problem, **options)
    with pytest.raises(SettingInvalid, match="No model was named"):
        select(problem, models=[])


def test_unseen_categories_and_missing_values_are_answered():
    frame = mixed().drop(columns=["value", "grade"])
    result = train(infer(frame, "high"), model="lightgbm", time_budget_s=0.1)
    arrays = {name: array[:3].copy() for name, array in result.holdout.items()}
    arrays["strings"][0, 0] = "purple"
    arrays["strings"][1, 0] = ""
    arrays["numbers"][2, 0] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = lookup.adapter("sklearn").wrap(result.trained).predict(arrays)
    assert set(found["prediction"].tolist()) <= {0, 1}


def test_evaluation_of_many_classes_stays_small():
    digits = datasets.load_digits(as_frame=True)
    result = train(infer(digits.frame, "target"), model="logistic", time_budget_s=0.1)
    assert result.evaluation.metrics["accuracy"] > 0.9
    assert len(result.evaluation.roc) == 8
    assert len(msgspec.json.encode(result.evaluation)) < 200_000
