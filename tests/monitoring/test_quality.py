"""Live quality against scikit-learn, and intervals that hold what they promise."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from servable.monitoring.quality import (
    RECENT_LABELS,
    Answered,
    effective,
    mean,
    quality,
    roc_auc,
    version_quality,
)

Z = 1.959963984540054


def answered(
    truth: Any, prediction: Any, probabilities: Any = None, weight: Any = None, reward: Any = None
) -> Answered:
    rows = len(prediction)
    outcome, given = np.empty(rows, object), np.empty(rows, object)
    outcome[:], given[:] = list(truth), list(prediction)
    return Answered(
        prediction=given,
        outcome=outcome,
        reward=np.full(rows, np.nan) if reward is None else np.asarray(reward, float),
        weight=np.ones(rows) if weight is None else np.asarray(weight, float),
        at=np.arange(rows, dtype=np.int64) * 1_000_000,
        probabilities=probabilities,
    )


def drawn(rows: int, classes: int, seed: int) -> tuple[list[str], list[str], np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    chances = draw.dirichlet(np.ones(classes), rows)
    truth = np.array([draw.choice(classes, p=chance) for chance in chances])
    names = np.array([f"c{place}" for place in range(classes)], object)
    return names[truth].tolist(), names[chances.argmax(axis=1)].tolist(), chances, draw.uniform(0.5, 4, rows)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("classes", "seed"), [(2, 0), (3, 1), (5, 2)])
def test_a_classifier_has_the_figures_of_scikit_learn(classes: int, seed: int, weighted: bool) -> None:
    truth, given, chances, weight = drawn(300, classes, seed)
    weight = weight if weighted else np.ones(300)
    names = [f"c{place}" for place in range(classes)]
    found = quality(answered(truth, given, chances, weight), "classification", names).metrics
    how: dict[str, Any] = {"sample_weight": weight, "zero_division": 0}
    expected = {
        "accuracy": metrics.accuracy_score(truth, given, sample_weight=weight),
        "precision_macro": metrics.precision_score(truth, given, average="macro", **how),
        "recall_macro": metrics.recall_score(truth, given, average="macro", **how),
        "f1_macro": metrics.f1_score(truth, given, average="macro", **how),
    }
    if classes == 2:
        expected["precision"] = metrics.precision_score(truth, given, pos_label="c1", **how)
        expected["recall"] = metrics.recall_score(truth, given, pos_label="c1", **how)
        expected["f1"] = metrics.f1_score(truth, given, pos_label="c1", **how)
        hits = [each == "c1" for each in truth]
        expected["roc_auc"] = metrics.roc_auc_score(hits, chances[:, 1], sample_weight=weight)
    else:
        parts = [
            metrics.roc_auc_score([each == name for each in truth], chances[:, place], sample_weight=weight)
            for place, name in enumerate(names)
        ]
        expected["roc_auc"] = float(np.mean(parts))
    assert {name: estimate.value for name, estimate in found.items()} == pytest.approx(expected)
    for name, estimate in found.items():
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1, name  # type: ignore[operator]  # all have one
        assert estimate.high - estimate.low > 0.02, name  # type: ignore[operator]  # as above


@pytest.mark.parametrize("weighted", [False, True])
def test_a_regression_has_the_figures_of_scikit_learn(weighted: bool) -> None:
    draw = np.random.default_rng(3)
    truth, given = draw.normal(size=200), draw.normal(size=200)
    weight = draw.uniform(0.5, 4, 200) if weighted else np.ones(200)
    rows = answered([str(each) for each in truth], [str(each) for each in given], weight=weight)
    found = quality(rows, "regression", ()).metrics
    assert found["rmse"].value == pytest.approx(
        metrics.root_mean_squared_error(truth, given, sample_weight=weight)
    )
    assert found["mae"].value == pytest.approx(
        metrics.mean_absolute_error(truth, given, sample_weight=weight)
    )
    assert found["bias"].value == pytest.approx(np.average(given - truth, weights=weight))
    assert found["rmse"].low < found["rmse"].value < found["rmse"].high  # type: ignore[operator]  # it has one


@given(
    cells=st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from("ab"), st.integers(1, 4)), min_size=1, max_size=30
    )
)
def test_a_row_that_stands_for_several_counts_as_they_would(cells: list[tuple[str, str, int]]) -> None:
    truth, given, times = (list(each) for each in zip(*cells, strict=True))
    weighted = quality(answered(truth, given, weight=times), "classification", ("a", "b")).metrics
    repeated = quality(
        answered(np.repeat(truth, times).tolist(), np.repeat(given, times).tolist()),
        "classification",
        ("a", "b"),
    ).metrics
    assert weighted.keys() == repeated.keys()
    for name, estimate in weighted.items():
        assert estimate.value == pytest.approx(repeated[name].value), name


@given(score=st.lists(st.integers(0, 5), min_size=2, max_size=40), data=st.data())
def test_the_area_is_that_of_scikit_learn_with_ties(score: list[int], data: st.DataObject) -> None:
    positive = np.array(data.draw(st.lists(st.booleans(), min_size=len(score), max_size=len(score))))
    found = roc_auc(positive, np.array(score, float), np.ones(len(score)))
    if positive.all() or not positive.any():
        assert found is None
        return
    assert found is not None
    assert found[0] == pytest.approx(metrics.roc_auc_score(positive, score))


def test_a_perfect_hundred_does_not_claim_to_be_perfect() -> None:
    truth = ["a", "b"] * 50
    chances = np.array([[0.9, 0.1], [0.1, 0.9]] * 50)
    found = quality(answered(truth, truth, chances), "classification", ("a", "b")).metrics
    assert set(found) == {
        "accuracy", "precision", "recall", "precision_macro", "recall_macro", "f1_macro", "f1", "roc_auc",
    }  # fmt: skip
    for name, estimate in found.items():
        assert estimate.value == estimate.high == 1.0, name
        assert 0.85 < estimate.low < 0.999, name  # type: ignore[operator]  # all have one


@pytest.mark.parametrize("name", ["accuracy", "precision", "recall", "f1", "f1_macro", "roc_auc"])
def test_the_intervals_hold_the_truth_as_often_as_they_say(name: str) -> None:
    draw = np.random.default_rng(11)
    share, held, rounds = 0.35, 0, 150
    big = _world(draw, 200_000, share)
    truth = quality(big, "classification", ("a", "b")).metrics[name].value
    for _ in range(rounds):
        estimate = quality(_world(draw, 250, share), "classification", ("a", "b")).metrics[name]
        held += estimate.low <= truth <= estimate.high  # type: ignore[operator]  # all have one
    # 95 % of 150, less three standard deviations of a count.
    assert held >= 134


def _world(draw: np.random.Generator, rows: int, share: float) -> Answered:
    positive = draw.random(rows) < share
    score = 1 / (1 + np.exp(-(draw.normal(size=rows) + np.where(positive, 0.8, -0.8))))
    labels = np.array(["a", "b"], object)
    return answered(
        labels[positive.astype(int)], labels[(score > 0.5).astype(int)], np.column_stack([1 - score, score])
    )


def test_rows_without_labels_count_as_answers_alone() -> None:
    rows = answered(["a", None, "b", None], ["a", "a", "a", "b"], reward=[np.nan, 2.0, 4.0, np.nan])
    found = version_quality(rows, "classification", ("a", "b"))
    assert (found.answers, found.whole.labels, found.whole.rewards) == (4, 2, 2)
    assert found.whole.metrics["accuracy"].value == 0.5
    assert found.whole.metrics["reward"].value == 3.0
    assert (found.whole.since, found.whole.until) == ("1970-01-01T00:00:00Z", "1970-01-01T00:00:02Z")
    nothing = version_quality(answered([None], ["a"]), "classification", ("a", "b"))
    assert (nothing.whole.labels, nothing.whole.metrics, nothing.whole.since) == (0, {}, "")


def test_the_recent_window_sees_a_change() -> None:
    good, bad = 3000, RECENT_LABELS
    truth = ["a"] * (good + bad)
    given = ["a"] * good + ["b"] * bad
    found = version_quality(answered(truth, given), "classification", ("a", "b"))
    assert found.whole.metrics["accuracy"].value == 0.75
    assert found.recent.metrics["accuracy"].value == 0.0
    assert found.recent.labels == RECENT_LABELS


def test_labels_that_this_version_does_not_know_count_against_it() -> None:
    found = quality(answered(["a", "new"], ["a", "a"]), "classification", ("a", "b")).metrics
    assert found["accuracy"].value == 0.5
    assert "precision" not in found


def test_numbers_that_cannot_be_read_are_passed_over() -> None:
    found = quality(answered(["1", "x"], ["1", "2"]), "regression", ()).metrics
    assert found["rmse"].value == 0.0
    assert found["rmse"].low is None
    assert quality(answered(["x"], ["1"]), "regression", ()).metrics == {}
    assert quality(answered(["x"], ["1"]), "transform", ()).metrics == {}


def test_a_mean_has_the_interval_of_a_mean() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0])
    found = mean(values, np.ones(4))
    assert found.high == pytest.approx(2.5 + Z * values.std(ddof=1) / 2)
    assert effective(np.array([1.0, 1.0, 2.0])) == pytest.approx(16 / 6)
    assert mean(np.array([1.0]), np.ones(1)).low is None
