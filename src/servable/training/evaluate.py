"""The evaluation of a model on rows that it never saw: every number of the report, as one record.

``Evaluation`` is what ``evaluation.json`` holds. Its names are stable: a gate, a dashboard or a later
version may rely on them. Lists of points are bounded, and no number in it is NaN or infinite.
"""

import time
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve, silhouette_samples

from servable.artifact.anonymity import RARE, least_rows
from servable.artifact.signature import Signature, Task
from servable.errors import DataError
from servable.tensors import PREDICTION, PROBABILITIES, Arrays
from servable.training import bootstrap, measures

#: Points of a curve or scatter that are kept at most.
MOST_POINTS = 200
MOST_SCATTER = 600
#: Classes with a curve of their own; the most frequent ones.
MOST_CURVES = 8
HISTOGRAM_BINS = 30
#: The metric that stands for the whole, by task.
HEADLINE: dict[str, str] = {"classification": "accuracy", "regression": "r2", "clustering": "silhouette"}


class ClassRow(msgspec.Struct, frozen=True, kw_only=True):
    """One class: its label as text, quality, and how many rows have it."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int
    roc_auc: float | None = None


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """Points of a curve, with its ``area`` where it has one.

    ROC: false against true positive rate. PR: recall against precision. Calibration: mean score against
    the share that came true, with the rows of each bin in ``weight``.
    """

    label: str
    x: list[float]
    y: list[float]
    area: float | None = None
    weight: list[int] = []


class Histogram(msgspec.Struct, frozen=True, kw_only=True):
    """``edges`` has one more entry than ``counts``."""

    label: str
    edges: list[float]
    counts: list[int]


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """One cluster: number, rows, mean silhouette, and what is typical of it by column."""

    label: str
    size: int
    silhouette: float | None = None
    typical: dict[str, float | str] = {}


class Importance(msgspec.Struct, frozen=True, kw_only=True):
    """How much worse the headline metric gets when the column's values are shuffled among the rows."""

    name: str
    mean: float
    std: float


class Scatter(msgspec.Struct, frozen=True, kw_only=True):
    """Points: truth against prediction (regression), or first two principal components with ``group``."""

    x: list[float]
    y: list[float]
    group: list[int] = []


class Telling(msgspec.Struct, frozen=True, kw_only=True):
    """The tokens that speak most for a class, with how much they add to its score on an average row."""

    label: str
    tokens: list[str]
    weights: list[float]


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was measured on one set of rows.

    Attributes:
        task: of the model.
        metric: name of the headline metric.
        rows: how many rows were answered.
        metrics: by name; see ``measures.HIGHER_IS_BETTER``.
        intervals: 95 % intervals of the headline metrics.
        classes: labels as text, in the model's order.
        per_class: a classifier's quality class by class.
        confusion: counts, truth down, prediction across.
        roc, pr, calibration: a classifier's curves: of the second of two classes, else against the rest.
        histograms: scores by true class, or residuals.
        scatter: see ``Scatter``.
        clusters: sizes and profiles.
        importance: columns, most important first.
        baselines: metrics of the simple models on the same rows, by name of the candidate.
        telling: of a linear model over texts, class by class.
        learning: of a network, by epoch: loss on the rows learned from and on others, and accuracy there.
    """

    task: str
    metric: str
    rows: int
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]] = {}
    classes: list[str] = []
    per_class: list[ClassRow] = []
    confusion: list[list[int]] = []
    roc: list[Curve] = []
    pr: list[Curve] = []
    calibration: list[Curve] = []
    histograms: list[Histogram] = []
    scatter: Scatter | None = None
    clusters: list[Cluster] = []
    importance: list[Importance] = []
    baselines: dict[str, dict[str, float]] = {}
    telling: list[Telling] = []
    learning: list[Curve] = []


def encode(evaluation: Evaluation) -> bytes:
    """The evaluation as indented JSON, the content of ``evaluation.json``."""
    return msgspec.json.format(msgspec.json.encode(evaluation), indent=1) + b"\n"


def decode(data: bytes) -> Evaluation:
    """The evaluation kept in a package.

    Raises:
        msgspec.MsgspecError: the bytes are no evaluation; the package reader converts it.
    """
    return msgspec.json.decode(data, type=Evaluation)


def evaluate(
    signature: Signature, truth: NDArray[Any] | None, answers: Arrays, *, points: Any = None, seed: int = 0
) -> Evaluation:
    """Measure answers against the truth.

    Args:
        signature: of the model that answered.
        truth: class index or value ``[rows]``; None for clustering.
        answers: ``prediction`` and, where the model gives them, ``probabilities``.
        points: the prepared rows ``[rows, k]`` that clusters are measured in.
        seed: of the bootstrap and of samples.

    Raises:
        DataError: there are no rows, or the task has no metrics (``transform``).
    """
    prediction = np.asarray(answers[PREDICTION])
    if not len(prediction):
        raise DataError("There are no rows to evaluate on.")
    if signature.task == "classification" and truth is not None:
        probabilities = answers.get(PROBABILITIES)
        given = None if probabilities is None else np.asarray(probabilities, dtype=np.float64)
        return _classifier(signature, truth, prediction.astype(np.int64), given, seed)
    if signature.task == "regression" and truth is not None:
        return _regressor(truth, np.asarray(prediction, dtype=np.float64).reshape(len(truth)), seed)
    if signature.task == "clustering":
        return _clusters(prediction.astype(np.int64), points, seed)
    raise DataError(f"A model whose task is {signature.task} has no right answers to be measured against.")


def _classifier(
    signature: Signature, truth: NDArray[Any], prediction: measures.Ints, probabilities: Any, seed: int
) -> Evaluation:
    classes = [str(label) for label in signature.classes]
    counts = measures.confusion(truth, prediction, len(classes))
    precision, recall, f1 = measures.by_class(counts)
    support = counts.sum(axis=1)
    areas: list[float | None] = [None] * len(classes)
    curves: tuple[list[Curve], list[Curve], list[Curve]] = ([], [], [])
    histograms: list[Histogram] = []
    if probabilities is not None:
        areas = [measures.roc_auc(truth == place, probabilities[:, place]) for place in range(len(classes))]
        common = np.argsort(-support, kind="stable")[:MOST_CURVES].tolist()
        curves = _class_curves(classes, [1] if len(classes) == 2 else sorted(common), truth, probabilities)
        histograms = _chances(classes, truth, prediction, probabilities)
    return Evaluation(
        task="classification",
        metric=HEADLINE["classification"],
        rows=len(truth),
        metrics=measures.classification(truth, prediction, probabilities, len(classes)),
        intervals=bootstrap.intervals(
            "classification", truth, prediction, probabilities, classes=len(classes), seed=seed
        ),
        classes=classes,
        per_class=[
            ClassRow(
                label=label,
                precision=float(precision[place]),
                recall=float(recall[place]),
                f1=float(f1[place]),
                support=int(support[place]),
                roc_auc=areas[place],
            )
            for place, label in enumerate(classes)
        ],
        confusion=counts.tolist(),
        roc=curves[0],
        pr=curves[1],
        calibration=curves[2],
        histograms=histograms,
    )


def _class_curves(
    classes: list[str], shown: list[int], truth: NDArray[Any], probabilities: NDArray[Any]
) -> tuple[list[Curve], list[Curve], list[Curve]]:
    """ROC, precision and calibration of some classes against the rest, where both are there."""
    roc: list[Curve] = []
    pr: list[Curve] = []
    calibrated: list[Curve] = []
    for place in shown:
        positive = truth == place
        if not positive.any() or positive.all():
            continue
        one_roc, one_pr = _curves(positive, probabilities[:, place], classes[place])
        roc.append(one_roc)
        pr.append(one_pr)
        mean, share, rows = zip(*measures.calibration(positive, probabilities[:, place]), strict=True)
        calibrated.append(Curve(label=classes[place], x=list(mean), y=list(share), weight=list(rows)))
    return roc, pr, calibrated


def _chances(
    classes: list[str], truth: NDArray[Any], prediction: measures.Ints, probabilities: NDArray[Any]
) -> list[Histogram]:
    """How sure the answers were, by the class of the row when there are two, else right and wrong ones."""
    if len(classes) == 2:
        return [histogram(probabilities[truth == place, 1], classes[place], (0.0, 1.0)) for place in (0, 1)]
    right = prediction == truth
    top = probabilities.max(axis=1)
    return [histogram(top[right], "right", (0.0, 1.0)), histogram(top[~right], "wrong", (0.0, 1.0))]


def _curves(positive: NDArray[np.bool_], score: measures.Floats, label: str) -> tuple[Curve, Curve]:
    """ROC and precision-recall of one class, thinned."""
    false_rate, true_rate, _ = roc_curve(positive, score)
    precision, recall, _ = precision_recall_curve(positive, score)
    keep, also = _thinned(len(false_rate)), _thinned(len(recall))
    return (
        Curve(
            label=label,
            x=false_rate[keep].tolist(),
            y=true_rate[keep].tolist(),
            area=measures.roc_auc(positive, score),
        ),
        Curve(
            label=label,
            x=recall[::-1][also].tolist(),
            y=precision[::-1][also].tolist(),
            area=measures.pr_auc(positive, score),
        ),
    )


def _thinned(size: int) -> NDArray[np.int64]:
    """Places of at most ``MOST_POINTS`` of ``size`` points, first and last among them."""
    return np.unique(np.linspace(0, size - 1, min(size, MOST_POINTS)).astype(np.int64))


def histogram(values: Any, label: str, span: tuple[float, float] | None = None) -> Histogram:
    """Counts of values in bins of equal width over ``span``, or over what they cover."""
    counts, edges = np.histogram(values, bins=HISTOGRAM_BINS, range=span)
    return Histogram(label=label, edges=edges.tolist(), counts=counts.tolist())


def _regressor(truth: NDArray[Any], prediction: measures.Floats, seed: int) -> Evaluation:
    some = measures.sample(len(truth), MOST_SCATTER, seed)
    residuals = truth - prediction
    low, high = np.quantile(residuals, [0.005, 0.995])
    inside = residuals[(residuals >= low) & (residuals <= high)]
    return Evaluation(
        task="regression",
        metric=HEADLINE["regression"],
        rows=len(truth),
        metrics=measures.regression(truth, prediction),
        intervals=bootstrap.intervals("regression", truth, prediction, None, seed=seed),
        scatter=Scatter(x=truth[some].tolist(), y=prediction[some].tolist()),
        histograms=[histogram(inside, "residuals")],
    )


def _clusters(labels: measures.Ints, points: Any, seed: int) -> Evaluation:
    if points is None:
        raise DataError("Clusters are measured in the prepared rows, and none were given.")
    points = np.asarray(points, dtype=np.float64)
    metrics = measures.clustering(points, labels, seed)
    some = measures.sample(len(labels), MOST_SCATTER, seed)
    centred = points[some] - points[some].mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    flat = centred @ axes.T
    second = flat[:, 1] if flat.shape[1] > 1 else np.zeros(len(flat))
    around: dict[int, float] = {}
    if "silhouette" in metrics and 2 <= len(np.unique(labels[some])) < len(some):
        each = silhouette_samples(points[some], labels[some])
        around = {int(label): float(each[labels[some] == label].mean()) for label in np.unique(labels[some])}
    return Evaluation(
        task="clustering",
        metric=HEADLINE["clustering"],
        rows=len(labels),
        metrics=metrics,
        scatter=Scatter(x=flat[:, 0].tolist(), y=second.tolist(), group=labels[some].tolist()),
        clusters=[
            Cluster(label=str(label), size=int((labels == label).sum()), silhouette=around.get(int(label)))
            for label in np.unique(labels)
        ],
    )


def profiled(evaluation: Evaluation, frame: pd.DataFrame, labels: NDArray[Any]) -> Evaluation:
    """The evaluation of clusters with what is typical of each: means of numbers, most common texts."""
    rows = []
    for cluster in evaluation.clusters:
        members = frame[np.asarray(labels) == int(cluster.label)]
        typical: dict[str, float | str] = {}
        for name in frame.columns:
            held = members[name]
            if held.dtype.kind == "f":
                mean = float(held.mean()) if held.notna().any() else None
                if mean is not None:
                    typical[str(name)] = mean
            else:
                counts = held.value_counts()
                named = len(counts) and int(counts.iloc[0]) >= least_rows()
                typical[str(name)] = str(held.mode().iloc[0]) if named else RARE
        rows.append(msgspec.structs.replace(cluster, typical=typical))
    return msgspec.structs.replace(evaluation, clusters=rows)


def importance(
    predict: Callable[[pd.DataFrame], NDArray[Any]],
    frame: pd.DataFrame,
    truth: NDArray[Any],
    *,
    task: Task,
    classes: int = 0,
    most_rows: int = 2000,
    repeats: int = 3,
    seconds: float = 5.0,
    seed: int = 0,
) -> list[Importance]:
    """Permutation importance of every column on held-out rows, most important first.

    Args:
        predict: answers a frame: class index or value ``[rows]``.
        frame: rows in the form that ``predict`` takes.
        truth: their truth.
        task: classification or regression.
        classes: how many there are.
        most_rows: rows drawn from the frame at most.
        repeats: shufflings of each column; fewer when the time runs out, but one each.
        seconds: about how long it may take.
        seed: of the draw and the shuffling.
    """
    metric = HEADLINE[task]
    some = measures.sample(len(truth), most_rows, seed)
    frame, truth = frame.iloc[some].reset_index(drop=True), truth[some]
    base = measures.score(metric, truth, predict(frame), classes)
    rng = np.random.default_rng(seed)
    until = time.monotonic() + seconds
    drops: dict[str, list[float]] = {str(name): [] for name in frame.columns}
    for turn in range(repeats):
        for name in frame.columns:
            if turn and time.monotonic() > until:
                break
            shuffled = frame.copy()
            shuffled[name] = frame[name].to_numpy()[rng.permutation(len(frame))]
            drops[str(name)].append(base - measures.score(metric, truth, predict(shuffled), classes))
    found = [
        Importance(name=name, mean=float(np.mean(values)), std=float(np.std(values)))
        for name, values in drops.items()
        if np.isfinite(values).all()
    ]
    return sorted(found, key=lambda item: -item.mean)
