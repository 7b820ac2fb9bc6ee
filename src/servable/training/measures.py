"""Metrics as pure functions of truth, prediction and probabilities: plain numbers out, never NaN.

A metric that has no meaning on the rows at hand (ROC AUC of one class, MAPE with zeros) is left out.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.metrics import (
    average_precision_score,
    calinski_harabasz_score,
    davies_bouldin_score,
    silhouette_score,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Probabilities are kept this far from 0 and 1 before a logarithm.
EPSILON = 1e-15
#: Rows on which the quadratic silhouette is computed at most.
SILHOUETTE_ROWS = 2000
#: Bins of the calibration curve and of its error.
CALIBRATION_BINS = 10

#: Every metric's direction: whether higher is better.
HIGHER_IS_BETTER: dict[str, bool] = {
    "accuracy": True,
    "balanced_accuracy": True,
    "precision_macro": True,
    "recall_macro": True,
    "f1_macro": True,
    "precision_weighted": True,
    "recall_weighted": True,
    "f1_weighted": True,
    "precision": True,
    "recall": True,
    "f1": True,
    "roc_auc": True,
    "pr_auc": True,
    "log_loss": False,
    "brier": False,
    "calibration_error": False,
    "r2": True,
    "rmse": False,
    "mae": False,
    "median_ae": False,
    "mape": False,
    "silhouette": True,
    "davies_bouldin": False,
    "calinski_harabasz": True,
}


def confusion(truth: Ints, prediction: Ints, classes: int) -> Ints:
    """Counts ``[classes, classes]``: rows are the truth, columns the prediction.

    A prediction outside ``0..classes-1`` is counted in no column.
    """
    known = (prediction >= 0) & (prediction < classes)
    flat = truth[known] * classes + prediction[known]
    counts: Ints = np.bincount(flat, minlength=classes * classes).reshape(classes, classes).astype(np.int64)
    return counts


def _ratio(above: Any, below: Any) -> Floats:
    """Element by element, 0 where the divisor is 0."""
    out: Floats = np.zeros(np.shape(above), dtype=np.float64)
    np.divide(above, below, out=out, where=np.asarray(below) != 0)
    return out


def by_class(counts: Ints) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and F1 of each class from confusion matrices ``[..., classes, classes]``.

    Returns:
        Each ``[..., classes]``; 0 where undefined.
    """
    hits = np.diagonal(counts, axis1=-2, axis2=-1).astype(np.float64)
    precision = _ratio(hits, counts.sum(axis=-2))
    recall = _ratio(hits, counts.sum(axis=-1))
    return precision, recall, _ratio(2 * precision * recall, precision + recall)


def from_confusion(counts: Ints) -> dict[str, float]:
    """All metrics that the confusion matrix alone gives. For two classes also those of the second."""
    return {name: float(value) for name, value in from_confusions(counts).items()}


def from_confusions(counts: Ints) -> dict[str, Floats]:
    """The same of many confusion matrices ``[..., classes, classes]``; each metric is ``[...]``."""
    precision, recall, f1 = by_class(counts)
    support = counts.sum(axis=-1)
    there = support > 0
    rows = np.maximum(support.sum(axis=-1), 1)
    share = support / rows[..., None]
    seen = there | (counts.sum(axis=-2) > 0)
    found = {
        "accuracy": np.trace(counts, axis1=-2, axis2=-1) / rows,
        "balanced_accuracy": _mean(recall, there),
        "precision_macro": _mean(precision, seen),
        "recall_macro": _mean(recall, seen),
        "f1_macro": _mean(f1, seen),
        "precision_weighted": (precision * share).sum(axis=-1),
        "recall_weighted": (recall * share).sum(axis=-1),
        "f1_weighted": (f1 * share).sum(axis=-1),
    }
    if counts.shape[-1] == 2:
        found |= {"precision": precision[..., 1], "recall": recall[..., 1], "f1": f1[..., 1]}
    return found


def _mean(values: Floats, which: NDArray[np.bool_]) -> Floats:
    """Mean over the last axis of those that are meant; 0 where none is."""
    return _ratio(np.where(which, values, 0.0).sum(axis=-1), which.sum(axis=-1))


def roc_auc(positive: NDArray[np.bool_], score: Floats) -> float | None:
    """Area under the ROC curve by ranks; None when only one class is there."""
    hits = int(positive.sum())
    misses = len(positive) - hits
    if hits == 0 or misses == 0:
        return None
    ranks = rankdata(score)
    return float((ranks[positive].sum() - hits * (hits + 1) / 2) / (hits * misses))


def mean_auc(truth: Ints, probabilities: Floats, measure: Callable[..., float | None]) -> float | None:
    """A two-class measure as it is for two classes, else the mean over classes against the rest."""
    if probabilities.shape[1] == 2:
        return measure(truth == 1, probabilities[:, 1])
    found = [measure(truth == place, probabilities[:, place]) for place in range(probabilities.shape[1])]
    known = [value for value in found if value is not None]
    return float(np.mean(known)) if known else None


def pr_auc(positive: NDArray[np.bool_], score: Floats) -> float | None:
    """Average precision; None when no row is positive."""
    return float(average_precision_score(positive, score)) if positive.any() else None


def log_loss(truth: Ints, probabilities: Floats) -> float:
    """Mean negative logarithm of the probability that the true class was given."""
    return float(log_losses(truth, probabilities).mean())


def log_losses(truth: Ints, probabilities: Floats) -> Floats:
    """The same, row by row."""
    given = probabilities[np.arange(len(truth)), truth] / np.maximum(probabilities.sum(axis=1), EPSILON)
    return np.asarray(-np.log(np.clip(given, EPSILON, 1.0)), dtype=np.float64)


def brier(truth: Ints, probabilities: Floats) -> float:
    """Mean squared distance from what happened: of the second class for two, summed over classes for more."""
    return float(brier_losses(truth, probabilities).mean())


def brier_losses(truth: Ints, probabilities: Floats) -> Floats:
    """The same, row by row."""
    if probabilities.shape[1] == 2:
        return np.asarray((probabilities[:, 1] - (truth == 1)) ** 2, dtype=np.float64)
    happened = np.eye(probabilities.shape[1])[truth]
    return np.asarray(((probabilities - happened) ** 2).sum(axis=1), dtype=np.float64)


def calibration(truth: NDArray[np.bool_], score: Floats) -> list[tuple[float, float, int]]:
    """Mean score, share that came true and rows in each bin of equal width that has rows."""
    bins = np.clip((score * CALIBRATION_BINS).astype(np.int64), 0, CALIBRATION_BINS - 1)
    found = []
    for place in range(CALIBRATION_BINS):
        inside = bins == place
        if inside.any():
            found.append((float(score[inside].mean()), float(truth[inside].mean()), int(inside.sum())))
    return found


def calibration_error(truth: Ints, prediction: Ints, probabilities: Floats) -> float:
    """Expected calibration error of the winning class: mean gap of confidence and accuracy, by bin."""
    confidence = probabilities.max(axis=1)
    points = calibration(truth == prediction, confidence)
    return float(sum(abs(mean - share) * rows for mean, share, rows in points) / len(truth))


def classification(
    truth: Ints, prediction: Ints, probabilities: Floats | None, classes: int
) -> dict[str, float]:
    """All metrics of a classifier.

    Args:
        truth: class index ``[rows]``, at least one row.
        prediction: class index ``[rows]``.
        probabilities: ``[rows, classes]`` or None.
        classes: how many there are.
    """
    found: dict[str, float | None] = dict(from_confusion(confusion(truth, prediction, classes)))
    if probabilities is not None:
        found["roc_auc"] = mean_auc(truth, probabilities, roc_auc)
        found["pr_auc"] = mean_auc(truth, probabilities, pr_auc)
        found["log_loss"] = log_loss(truth, probabilities)
        found["brier"] = brier(truth, probabilities)
        found["calibration_error"] = calibration_error(truth, prediction, probabilities)
    return finite(found)


def regression(truth: Floats, prediction: Floats) -> dict[str, float]:
    """All metrics of a regressor; MAPE only where no true value is near zero."""
    with np.errstate(over="ignore", invalid="ignore"):
        error = prediction - truth
        spread = float(((truth - truth.mean()) ** 2).sum())
        found: dict[str, float | None] = {
            "rmse": float(np.sqrt((error**2).mean())),
            "mae": float(np.abs(error).mean()),
            "median_ae": float(np.median(np.abs(error))),
            "r2": 1.0 - float((error**2).sum()) / spread if spread > 0 else None,
        }
        size = np.abs(truth)
        if size.min() > 1e-3 * size.mean() > 0:
            found["mape"] = float((np.abs(error) / size).mean())
    return finite(found)


def clustering(points: Floats, labels: Ints, seed: int = 0) -> dict[str, float]:
    """Silhouette, Davies-Bouldin and Calinski-Harabasz of clusters of prepared points ``[rows, k]``.

    Empty when the labels make fewer than two clusters, or as many as there are points.
    """
    clusters = len(np.unique(labels))
    if clusters < 2 or clusters >= len(labels):
        return {}
    some = sample(len(labels), SILHOUETTE_ROWS, seed)
    found: dict[str, float | None] = {
        "davies_bouldin": float(davies_bouldin_score(points, labels)),
        "calinski_harabasz": float(calinski_harabasz_score(points, labels)),
    }
    if 2 <= len(np.unique(labels[some])) < len(some):
        found["silhouette"] = float(silhouette_score(points[some], labels[some]))
    return finite(found)


def sample(size: int, most: int, seed: int) -> Ints:
    """At most ``most`` of ``size`` places, sorted; the same for the same seed."""
    if size <= most:
        return np.arange(size, dtype=np.int64)
    return np.sort(np.random.default_rng(seed).choice(size, most, replace=False)).astype(np.int64)


def finite(found: dict[str, float | None]) -> dict[str, float]:
    """Without what is unknown, infinite or not a number, which JSON cannot carry."""
    return {name: float(value) for name, value in found.items() if value is not None and np.isfinite(value)}


def score(metric: str, truth: Any, prediction: Any, classes: int = 0) -> float:
    """One metric that needs no probabilities, oriented as it is; ``-inf`` or ``inf`` is never returned.

    Raises:
        KeyError: the metric is none of those of ``from_confusion`` or ``regression``.
    """
    if metric in ("r2", "rmse", "mae", "median_ae", "mape"):
        return regression(truth, prediction)[metric]
    return from_confusion(confusion(truth, prediction, classes))[metric]


#: Metrics of regressors, of classifiers by their labels alone, of those with two classes, by probabilities.
OF_VALUES = ("rmse", "mae", "median_ae", "r2", "mape")
OF_LABELS = (
    "accuracy",
    "balanced_accuracy",
    "precision_macro",
    "recall_macro",
    "f1_macro",
    "precision_weighted",
    "recall_weighted",
    "f1_weighted",
)
OF_TWO_LABELS = ("precision", "recall", "f1")
OF_PROBABILITIES = ("roc_auc", "pr_auc", "log_loss", "brier", "calibration_error")


def single(
    metric: str, truth: Any, prediction: Any, probabilities: Floats | None, classes: int
) -> float | None:
    """One metric of answers, and only that one; None where it has no meaning on these rows.

    Args:
        metric: one of ``OF_VALUES``, ``OF_LABELS``, ``OF_TWO_LABELS`` or ``OF_PROBABILITIES``.
        truth: class index or value ``[rows]``, at least one row.
        prediction: the same of the answers.
        probabilities: ``[rows, classes]`` or None.
        classes: how many there are; 0 for a regressor.

    Raises:
        KeyError: the metric is none of these.
    """
    if metric in OF_VALUES:
        return regression(truth, prediction).get(metric)
    if metric not in OF_PROBABILITIES:
        return from_confusion(confusion(truth, prediction, classes))[metric]
    if probabilities is None:
        return None
    if metric == "calibration_error":
        return finite({metric: calibration_error(truth, prediction, probabilities)}).get(metric)
    if metric in ("roc_auc", "pr_auc"):
        area = mean_auc(truth, probabilities, roc_auc if metric == "roc_auc" else pr_auc)
        return finite({metric: area}).get(metric)
    of_chances = {"log_loss": log_loss, "brier": brier}[metric]
    return finite({metric: of_chances(truth, probabilities)}).get(metric)
