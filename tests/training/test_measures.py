"""Metrics against scikit-learn's own, over generated answers."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as theirs

from servable.training import measures


@st.composite
def classified(draw):
    rows = draw(st.integers(5, 60))
    classes = draw(st.integers(2, 4))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    truth = np.concatenate([np.arange(classes), rng.integers(0, classes, rows)])
    raw = rng.random((len(truth), classes)).round(1) + 0.05
    probabilities = raw / raw.sum(axis=1, keepdims=True)
    return truth, probabilities.argmax(axis=1), probabilities


@settings(deadline=None)
@given(classified())
def test_classification_agrees_with_scikit_learn(case):
    truth, prediction, probabilities = case
    classes = probabilities.shape[1]
    found = measures.classification(truth, prediction, probabilities, classes)
    assert found["accuracy"] == pytest.approx(theirs.accuracy_score(truth, prediction))
    assert found["balanced_accuracy"] == pytest.approx(theirs.balanced_accuracy_score(truth, prediction))
    for mean in ("macro", "weighted"):
        for name, score in (
            ("f1", theirs.f1_score),
            ("precision", theirs.precision_score),
            ("recall", theirs.recall_score),
        ):
            want = score(truth, prediction, average=mean, zero_division=0)
            assert found[f"{name}_{mean}"] == pytest.approx(want)
    assert found["log_loss"] == pytest.approx(theirs.log_loss(truth, probabilities))
    if classes == 2:
        assert found["roc_auc"] == pytest.approx(theirs.roc_auc_score(truth, probabilities[:, 1]))
        assert found["brier"] == pytest.approx(theirs.brier_score_loss(truth, probabilities[:, 1]))
    else:
        want = theirs.roc_auc_score(truth, probabilities, multi_class="ovr")
        assert found["roc_auc"] == pytest.approx(want)
    assert set(found) <= set(measures.HIGHER_IS_BETTER)


@given(
    st.lists(
        st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)),
        min_size=2,
        max_size=40,
    )
)
def test_regression_is_always_finite(pairs):
    truth, prediction = np.array(pairs).T
    found = measures.regression(truth, prediction)
    assert all(math.isfinite(value) for value in found.values())
    json.dumps(found, allow_nan=False)
    assert found["mae"] == pytest.approx(theirs.mean_absolute_error(truth, prediction))


def test_regression_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    truth = rng.normal(10, 1, 200)
    prediction = truth + rng.normal(0, 0.3, 200)
    found = measures.regression(truth, prediction)
    assert found["r2"] == pytest.approx(theirs.r2_score(truth, prediction))
    assert found["rmse"] == pytest.approx(theirs.root_mean_squared_error(truth, prediction))
    assert found["median_ae"] == pytest.approx(theirs.median_absolute_error(truth, prediction))
    assert found["mape"] == pytest.approx(theirs.mean_absolute_percentage_error(truth, prediction))
    assert "mape" not in measures.regression(np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 2.0]))


def test_what_has_no_meaning_is_left_out():
    one = np.zeros(5, dtype=np.int64)
    found = measures.classification(one, one, np.tile([0.9, 0.1], (5, 1)), 2)
    assert "roc_auc" not in found
    assert found["accuracy"] == 1
    assert "r2" not in measures.regression(np.ones(3), np.ones(3))
    assert measures.clustering(np.zeros((4, 1)), np.zeros(4, dtype=np.int64)) == {}


def test_calibration_of_honest_scores_is_near_the_diagonal():
    rng = np.random.default_rng(2)
    score = rng.random(20_000)
    for mean, share, rows in measures.calibration(rng.random(20_000) < score, score):
        assert abs(mean - share) < 0.05
        assert rows > 1000
