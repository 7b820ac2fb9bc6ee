"""The gate for lossy forms: what is a limit, what passes, and how sure the figure is."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servable.artifact.loss import MaxLoss
from servable.artifact.signature import Field, Signature
from servable.errors import SettingInvalid
from servable.tensors import PREDICTION, PROBABILITIES
from servable.training import measures
from servable.training.loss import FEWEST_ROWS, check, gate, measured_metrics, parse_max_loss
from thoroughness import examples

ROWS = 60


def signature(task: str = "classification", classes: int = 3, probabilities: bool = True) -> Signature:
    kind = "category" if task == "classification" else "number"
    values = tuple(range(classes)) if task == "classification" else ()
    answer = Field(name="y", kind=kind, dtype="int64", values=values)
    return Signature(
        task=task,
        inputs=(Field(name="x", kind="number", dtype="float64"),),
        outputs=(answer,),
        probabilities=probabilities and task == "classification",
    )


@st.composite
def answered(draw):
    """The truth, and two models' answers to the same rows."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    classes = draw(st.integers(2, 4))
    truth = rng.integers(0, classes, ROWS)
    both = []
    for _ in range(2):
        chances = rng.random((ROWS, classes)) + np.eye(classes)[truth] * draw(st.floats(0, 2))
        chances /= chances.sum(axis=1, keepdims=True)
        both.append({PREDICTION: chances.argmax(axis=1), PROBABILITIES: chances})
    return truth, both[0], both[1], classes


@st.composite
def valued(draw):
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    truth = rng.normal(size=ROWS)
    both = [{PREDICTION: truth + rng.normal(size=ROWS) * draw(st.floats(0.01, 3))} for _ in range(2)]
    return truth, both[0], both[1], 0


@settings(max_examples=examples(30), deadline=None)
@given(answered(), st.sampled_from(measured_metrics(signature())), st.floats(0, 0.5))
def test_a_classifier_passes_when_it_is_worse_by_at_most_the_limit(case, metric, most):
    assert_gate(case, metric, most)


@settings(max_examples=examples(30), deadline=None)
@given(valued(), st.sampled_from(measured_metrics(signature("regression"))), st.floats(0, 2))
def test_a_regressor_passes_when_it_is_worse_by_at_most_the_limit(case, metric, most):
    assert_gate(case, metric, most)


def assert_gate(case, metric, most):
    truth, trained, variant, classes = case
    if classes:
        before = measures.classification(truth, trained[PREDICTION], trained[PROBABILITIES], classes)
        after = measures.classification(truth, variant[PREDICTION], variant[PROBABILITIES], classes)
    else:
        before = measures.regression(truth, trained[PREDICTION])
        after = measures.regression(truth, variant[PREDICTION])
    found = gate(MaxLoss(metric, most), truth, trained, variant, classes=classes)
    if metric not in before or metric not in after:
        assert not found.passed
        return
    worse = before[metric] - after[metric]
    worse = worse if measures.HIGHER_IS_BETTER[metric] else -worse
    assert found.loss == pytest.approx(worse)
    assert (found.trained, found.variant) == (pytest.approx(before[metric]), pytest.approx(after[metric]))
    assert found.rows == ROWS
    if abs(worse - most) > 1e-9:
        assert found.passed == (worse < most)
    assert bool(found.reason) != found.passed
    assert found.low <= found.high
    # The other way round the loss is a gain of the same size.
    assert gate(MaxLoss(metric, most), truth, variant, trained, classes=classes).loss == pytest.approx(-worse)


@settings(max_examples=examples(20), deadline=None)
@given(answered(), st.sampled_from(measured_metrics(signature())))
def test_the_same_answers_lose_nothing_and_leave_no_doubt(case, metric):
    truth, trained, _, classes = case
    found = gate(MaxLoss(metric, 0.0), truth, trained, dict(trained), classes=classes)
    assert found.passed
    assert (found.loss, found.low, found.high) == (0.0, 0.0, 0.0)


@settings(max_examples=examples(20), deadline=None)
@given(answered(), st.floats(0, 0.3), st.floats(0, 0.3))
def test_what_passes_a_strict_limit_passes_a_lenient_one(case, one, other):
    truth, trained, variant, classes = case
    strict, lenient = sorted((one, other))
    passed = [
        gate(MaxLoss("accuracy", most), truth, trained, variant, classes=classes).passed
        for most in (strict, lenient)
    ]
    assert passed[1] >= passed[0]


def test_exactly_the_limit_is_enough():
    truth = np.zeros(1000, dtype=np.int64)
    trained, variant = truth.copy(), truth.copy()
    trained[:35], variant[:40] = 1, 1
    # 0.965 - 0.96 is a little more than 0.005 in floating point.
    found = gate(MaxLoss("accuracy", 0.005), truth, {PREDICTION: trained}, {PREDICTION: variant}, classes=2)
    assert found.passed
    assert found.loss > 0.005
    variant[40] = 1
    found = gate(MaxLoss("accuracy", 0.005), truth, {PREDICTION: trained}, {PREDICTION: variant}, classes=2)
    assert not found.passed
    assert "accuracy gets worse by 0.006, more than 0.005" in found.reason


def test_a_share_is_one_of_the_trained_models_value():
    truth = np.arange(100.0)
    trained, variant = {PREDICTION: truth + 2.0}, {PREDICTION: truth + 2.1}
    assert gate(MaxLoss("rmse", 0.06, relative=True), truth, trained, variant).passed
    refused = gate(MaxLoss("rmse", 0.04, relative=True), truth, trained, variant)
    assert not refused.passed
    assert refused.most == pytest.approx(0.08)


def test_the_interval_is_paired():
    # Both models are right on the same random half of the rows, so no drawing of rows tells them apart.
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 400)
    same = np.where(rng.random(400) < 0.5, truth, 1 - truth)
    paired = gate(MaxLoss("accuracy", 0.1), truth, {PREDICTION: same}, {PREDICTION: same}, classes=2)
    other = np.where(rng.random(400) < 0.5, truth, 1 - truth)
    apart = gate(MaxLoss("accuracy", 0.1), truth, {PREDICTION: same}, {PREDICTION: other}, classes=2)
    assert paired.high == 0.0
    assert apart.high - apart.low > 0.1
    assert apart.low <= apart.loss <= apart.high


def test_too_few_rows_pass_nothing():
    truth = np.zeros(FEWEST_ROWS - 1, dtype=np.int64)
    found = gate(MaxLoss("accuracy", 1.0), truth, {PREDICTION: truth}, {PREDICTION: truth}, classes=2)
    assert not found.passed
    assert found.reason == f"49 rows are too few to tell a loss, {FEWEST_ROWS} are needed"
    assert found.loss is None


def test_answers_without_a_number_pass_nothing():
    truth = np.arange(ROWS) % 2
    right = {PREDICTION: truth, PROBABILITIES: np.eye(2)[truth]}
    broken = {PREDICTION: truth, PROBABILITIES: np.full((ROWS, 2), np.nan)}
    found = gate(MaxLoss("log_loss", 10.0), truth, right, broken, classes=2)
    assert not found.passed
    assert "its answers" in found.reason


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("accuracy=0.005", MaxLoss("accuracy", 0.005)),
        (" f1_macro = 0 ", MaxLoss("f1_macro", 0.0)),
        ("rmse=1%", MaxLoss("rmse", 0.01, relative=True)),
        ("rmse=1e3", MaxLoss("rmse", 1000.0)),
    ],
)
def test_a_limit_is_read(text, limit):
    assert parse_max_loss(text) == limit


@pytest.mark.parametrize(
    "text", ["", "accuracy", "accuracy=", "=0.1", "accuracy=x", "accuracy=-1", "r2=nan", "r2=inf"]
)
def test_what_is_no_limit_is_said(text):
    with pytest.raises(SettingInvalid, match=r"largest loss"):
        parse_max_loss(text)


@given(st.text(max_size=30))
def test_any_text_is_a_limit_or_a_sentence(text):
    try:
        limit = parse_max_loss(text)
    except SettingInvalid:
        return
    assert math.isfinite(limit.most)
    assert limit.most >= 0


def test_a_metric_that_the_model_does_not_have_is_refused_early():
    check(MaxLoss("f1", 0.1), signature(classes=2))
    for limit, about in (
        (MaxLoss("f1", 0.1), signature(classes=3)),
        (MaxLoss("rmse", 0.1), signature()),
        (MaxLoss("log_loss", 0.1), signature(probabilities=False)),
        (MaxLoss("beauty", 0.1), signature()),
        (MaxLoss("accuracy", 0.1), signature("regression")),
        (MaxLoss("silhouette", 0.1), signature("clustering")),
        (MaxLoss("accuracy", math.nan), signature()),
        (MaxLoss("accuracy", -0.1), signature()),
    ):
        with pytest.raises(SettingInvalid, match=limit.metric):
            check(limit, about)


def test_every_metric_of_a_limit_has_a_direction():
    for about in (signature(classes=2), signature("regression")):
        assert set(measured_metrics(about)) <= set(measures.HIGHER_IS_BETTER)
