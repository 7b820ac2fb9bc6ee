"""The report: whole, self-contained, escaped, for every task."""

import re
from html.parser import HTMLParser
from types import SimpleNamespace

import msgspec
import numpy as np
import pandas as pd
import pytest
from sklearn import datasets

from servable.training.data import infer
from servable.training.evaluate import evaluate
from servable.training.outcome import TrainingResult
from servable.training.report import Report, changes, render, report_of, verdict
from servable.training.search import train
from servable.training.wording import (
    difference_text,
    gap_text,
    metric_text,
    number,
    percent,
    seconds_text,
    tie,
)

VOID = {"meta", "br", "rect", "path", "use", "hr", "img", "link"}


class Checked(HTMLParser):
    """Counts tags, keeps ids and text, and fails on tags that do not close each other."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.seen: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def checked(page: str) -> Checked:
    parser = Checked()
    parser.feed(page)
    assert parser.open == []
    assert len(parser.ids) == len(set(parser.ids))
    return parser


def assert_self_contained(page: str) -> None:
    assert "<script" not in page
    assert "@import" not in page
    named = re.findall(r"(?:src|href)=\"([^\"]+)\"|url\(([^)]+)\)", page)
    assert all((first or second).startswith("#") for first, second in named)


@pytest.fixture(scope="module")
def classified() -> TrainingResult:
    iris = datasets.load_iris(as_frame=True).frame
    names = {0: "$50K", 1: "<script>alert(1)</script>", 2: "_三"}
    frame = iris.assign(target=iris["target"].map(names), **{"<b>extra</b>": [f"id {n}" for n in range(150)]})
    return train(infer(frame, "target"), time_budget_s=0.1)


def test_a_classifier_report_shows_everything(classified):
    page = render(
        report_of(classified, title="flowers:2", created_at="2026-01-31T12:00:00Z", data="iris.csv")
    )
    found = checked(page)
    assert_self_contained(page)
    for expected in (
        "flowers:2", "iris.csv", "Confusion matrix", "ROC curve", "Precision and recall", "Calibration",
        "Class by class", "Candidates", "Left out", "Recipe", "petal length (cm)", "$50K", "_三",
    ):  # fmt: skip
        assert expected in found.text
    assert found.seen.count("svg") >= 4
    value = classified.evaluation.metrics["accuracy"]
    assert metric_text(value, "accuracy") in found.text


def test_labels_cannot_become_markup(classified):
    page = render(report_of(classified, title="<img src=x onerror=alert(1)>"))
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "<b>extra" not in page


def test_previous_version_and_variants_are_compared(classified):
    better = {name: value * 0.9 for name, value in classified.evaluation.metrics.items()}
    previous = msgspec.structs.replace(classified.evaluation, metrics=better)
    rows = [
        ("trained", False, None, 0.0, {"1": 4e-4, "32": 1e-3}, ""),
        ("onnx-fp64", True, True, 1e-16, {"1": 8e-6}, "50x"),
        ("onnx-fp32", False, False, 0.07, {}, "3 labels differ"),
    ]
    names = ("name", "chosen", "equal", "worst_difference", "timings", "note")
    variants = [SimpleNamespace(**dict(zip(names, row, strict=True))) for row in rows]
    found = checked(render(report_of(classified, title="m"), previous=previous, variants=variants))
    for expected in (
        "Against the previous version",
        "As served",
        "8 µs",
        "400 µs",
        "refused",
        "3 labels differ",
    ):
        assert expected in found.text
    assert "than the previous version" in found.text


def test_a_regression_report():
    frame = datasets.load_diabetes(as_frame=True).frame
    result = train(infer(frame, "target"), model="ridge", time_budget_s=0.1)
    page = render(report_of(result, title="progress"))
    found = checked(page)
    assert_self_contained(page)
    assert "Residuals" in found.text
    assert "Predicted and true" in found.text


def test_a_clustering_report():
    points, _ = datasets.make_blobs(120, centers=3, random_state=0)
    result = train(infer(pd.DataFrame(points, columns=["a", "b"]), None), time_budget_s=0.1)
    found = checked(render(report_of(result, title="groups")))
    assert "What is typical of each cluster" in found.text


def test_the_verdict_is_honest_about_ties_and_chance(classified):
    evaluation = msgspec.structs.replace(
        classified.evaluation,
        metrics={"accuracy": 0.9},
        intervals={"accuracy": (0.85, 0.95)},
        baselines={
            "dummy": {"accuracy": 0.4},
            "logistic": {"accuracy": 0.87},
            "forest": {"accuracy": 0.90004},
        },
    )
    said = verdict(Report(title="m", evaluation=evaluation, signature=classified.signature), None)
    assert "50.0 points better than always answering the most frequent class" in said
    assert "as good as forest" in said
    assert said.endswith("Logistic regression lies within the interval, so this difference may be chance.")


def test_an_equal_previous_version_is_called_the_same(classified):
    evaluation = classified.evaluation
    assert {change for _, _, _, change, _ in changes(evaluation, evaluation)} == {"same"}


def test_a_report_of_an_evaluation_alone(classified):
    truth = classified.holdout_truth
    evaluation = evaluate(classified.signature, truth, {"prediction": truth})
    report = Report(
        title="m:1", evaluation=evaluation, signature=classified.signature, data="new.csv", unseen=False
    )
    found = checked(render(report))
    assert "rows of new.csv" in found.text
    assert "never saw" not in found.text


def test_many_classes_still_make_a_report():
    truth = np.arange(400) % 40
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": truth + rng.normal(0, 0.01, 400), "y": [f"class {n}" for n in truth]})
    signature = infer(frame, "y").signature
    probabilities = np.full((400, 40), 0.01)
    probabilities[np.arange(400), truth] = 0.61
    evaluation = evaluate(signature, truth, {"prediction": truth, "probabilities": probabilities})
    assert (
        "Confusion matrix"
        not in checked(render(Report(title="m", evaluation=evaluation, signature=signature))).text
    )


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (number(None), "–"),
        (number(1234567.8), "1,234,568"),
        (number(0.00001234), "1.23e-05"),
        (number(12), "12"),
        (percent(0.8766), "87.7 %"),
        (metric_text(-1e-9, "r2"), "0.000"),
        (seconds_text(2.5e-5), "25 µs"),
        (seconds_text(0.25), "250 ms"),
        (seconds_text(3.0), "3 s"),
        (gap_text(0.0216, "accuracy"), "2.2 points"),
        (gap_text(-0.0016, "r2"), "-0.002"),
        (difference_text(0.0), "0"),
        (difference_text(2.2e-16), "2.2e-16"),
        (difference_text(0.931), "0.93"),
        (difference_text(float("inf")), "infinite"),
        (tie(0.0004, "accuracy"), True),
        (tie(-0.0006, "accuracy"), False),
        (tie(-0.0004, "r2"), True),
    ],
)
def test_numbers_are_said_as_a_person_reads_them(shown, text):
    assert shown == text
