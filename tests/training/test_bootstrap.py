"""Metrics of many drawings are those of each drawing, and intervals hold what they are about."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servable.training import measures
from servable.training.bootstrap import Answered, differences, drawings, intervals
from thoroughness import examples


@st.composite
def classified(draw):
    """Truth, prediction and probabilities of some classes: ties, classes that are not there, other labels."""
    rows, classes = draw(st.integers(1, 30)), draw(st.integers(2, 4))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    raw = rng.random((rows, classes)).round(1) + 0.05
    prediction = raw.argmax(axis=1)
    if draw(st.booleans()):
        prediction[rng.random(rows) < 0.2] = classes
    truth = rng.integers(0, draw(st.integers(1, classes)), rows)
    return truth, prediction, raw / raw.sum(axis=1, keepdims=True), classes


@st.composite
def valued(draw):
    """Truth and answers of a regressor, at times near zero or all alike."""
    rows = draw(st.integers(1, 30))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    truth = rng.normal(draw(st.sampled_from([0.0, 5.0])), draw(st.sampled_from([0.0, 1.0])), rows).round(2)
    return truth, truth + rng.normal(size=rows), None, 0


def each_for_itself(case, names) -> None:
    truth, prediction, probabilities, classes = case
    rows = len(truth)
    places = np.random.default_rng(rows).integers(0, rows, (7, rows))
    found = Answered(truth, prediction, probabilities, classes).metrics(names, places)
    for name in names:
        for value, drawn in zip(found[name].tolist(), places, strict=True):
            chances = None if probabilities is None else probabilities[drawn]
            want = measures.single(name, truth[drawn], prediction[drawn], chances, classes)
            assert value == pytest.approx(np.nan if want is None else want, abs=1e-12, nan_ok=True), name


@settings(max_examples=examples(100), deadline=None)
@given(classified())
def test_each_drawing_of_a_classifier_has_the_metrics_that_it_has_by_itself(case) -> None:
    two = measures.OF_TWO_LABELS if case[3] == 2 else ()
    each_for_itself(case, (*measures.OF_LABELS, *two, *measures.OF_PROBABILITIES))


@settings(max_examples=examples(100), deadline=None)
@given(valued())
def test_each_drawing_of_a_regressor_has_the_metrics_that_it_has_by_itself(case) -> None:
    each_for_itself(case, measures.OF_VALUES)


def test_without_probabilities_their_metrics_have_no_meaning() -> None:
    truth = np.arange(4) % 2
    found = Answered(truth, truth, None, 2).metrics(("roc_auc", "brier", "accuracy"), np.zeros((3, 4), int))
    assert np.isnan(found["roc_auc"]).all()
    assert np.isnan(found["brier"]).all()
    assert found["accuracy"].tolist() == [1, 1, 1]


def test_a_score_that_is_no_number_has_no_area() -> None:
    truth = np.arange(4) % 2
    broken = np.full((4, 2), np.nan)
    found = Answered(truth, truth, broken, 2).metrics(("roc_auc", "log_loss"), np.arange(4)[None])
    assert np.isnan([found["roc_auc"], found["log_loss"]]).all()


@given(st.integers(1, 300), st.integers(1, 500_000))
def test_every_drawing_is_in_one_stack(count: int, cells: int) -> None:
    numbers = iter(range(count))
    stacks = list(drawings(lambda: np.array([next(numbers)]), count, cells))
    assert np.concatenate(stacks)[:, 0].tolist() == list(range(count))
    assert all(len(stack) == 1 or len(stack) * cells <= 200_000 for stack in stacks)


def test_both_are_measured_on_the_same_drawn_rows() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 50)
    right, wrong = (Answered(truth, answers, None, 2) for answers in (truth, 1 - truth))
    draw = lambda: rng.integers(0, 50, 50)  # noqa: E731 - as short as what it stands for
    assert differences("accuracy", wrong, right, draw, 20).tolist() == [1] * 20
    assert differences("accuracy", right, right, draw, 20).tolist() == [0] * 20
    assert len(differences("roc_auc", wrong, right, draw, 20)) == 0


def test_intervals_hold_the_value_and_shrink_with_rows():
    rng = np.random.default_rng(1)

    def width(rows: int) -> float:
        truth = rng.integers(0, 2, rows)
        prediction = np.where(rng.random(rows) < 0.8, truth, 1 - truth)
        found = intervals("classification", truth, prediction, None, classes=2)
        low, high = found["accuracy"]
        assert low <= (truth == prediction).mean() <= high
        return high - low

    assert width(4000) < width(100)


def test_a_task_without_headline_metrics_has_no_intervals() -> None:
    assert intervals("clustering", np.zeros(3), np.zeros(3), None) == {}
