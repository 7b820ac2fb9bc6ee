"""How good served answers were, by the labels that came back: figures with intervals. Pure.

Every figure has a 95 % interval. Rows count by the inverse of the share of requests that was captured when
they were asked, so that a changed share skews nothing; where shares differ, the intervals are those of the
smaller number of equal rows that says as much (Kish). Shares (accuracy, precision, recall) have Wilson's
interval; averages over classes and F1 are drawn from the posterior of the confusion matrix; ROC AUC has
DeLong's variance in Wilson's form; errors and rewards that of a mean.
"""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from servable.clock import timestamp
from servable.monitoring.intervals import Estimate, Z, wilson

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Draws from the posterior of a confusion matrix.
DRAWS = 600
#: More classes than this have no intervals of averages over them.
MOST_CLASSES = 50
#: More classes than this have no averages over them.
MOST_COUNTED = 2000
#: Labels of the recent window.
RECENT_LABELS = 1000


class Quality(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How good answers were.

    Attributes:
        labels: rows with an outcome.
        rewards: rows with a reward.
        metrics: by name, as an evaluation names them, and ``reward`` for its mean.
        since: when the first row with a label was answered, ISO 8601 in UTC; empty without labels.
        until: when the last one was.
    """

    labels: int
    rewards: int = 0
    metrics: dict[str, Estimate] = {}
    since: str = ""
    until: str = ""


class VersionQuality(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one version.

    Attributes:
        answers: captured rows that were answered.
        whole: over all that is kept.
        recent: over the newest ``RECENT_LABELS`` rows with a label.
    """

    answers: int
    whole: Quality
    recent: Quality


class Answered(msgspec.Struct, frozen=True):
    """Answered rows of one version, in the order of time; arrays of equal length.

    Attributes:
        prediction: labels or numbers as text; object.
        outcome: the same, None where there is no label; object.
        reward: NaN where there is none.
        weight: how many requests each stands for, above 0.
        probabilities: ``[rows, classes]``; None where the model gives none.
        at: when they were answered, in microseconds since 1970.
    """

    prediction: NDArray[Any]
    outcome: NDArray[Any]
    reward: Floats
    weight: Floats
    at: Ints
    probabilities: Floats | None = None

    def taken(self, rows: NDArray[Any]) -> "Answered":
        """Some of the rows."""
        chances = None if self.probabilities is None else self.probabilities[rows]
        return Answered(
            self.prediction[rows],
            self.outcome[rows],
            self.reward[rows],
            self.weight[rows],
            self.at[rows],
            chances,
        )


def version_quality(answered: Answered, task: str, classes: Sequence[str]) -> VersionQuality:
    """What the labels of one version say.

    Args:
        answered: its rows.
        task: of the model; classifications and regressions have figures, all have rewards.
        classes: a classifier's labels as texts, in the order of its probabilities.
    """
    there = np.array([outcome is not None for outcome in answered.outcome], bool) | ~np.isnan(answered.reward)
    told = answered.taken(np.flatnonzero(there))
    recent = told.taken(np.arange(len(told.at))[-RECENT_LABELS:])
    return VersionQuality(
        answers=len(answered.at), whole=quality(told, task, classes), recent=quality(recent, task, classes)
    )


def quality(told: Answered, task: str, classes: Sequence[str]) -> Quality:
    """The figures of rows with labels; the arguments are those of ``version_quality``."""
    labelled = told.taken(np.flatnonzero([outcome is not None for outcome in told.outcome]))
    metrics: dict[str, Estimate] = {}
    if task == "classification":
        metrics = classification(labelled, classes)
    elif task == "regression":
        metrics = regression(labelled)
    rewarded = ~np.isnan(told.reward)
    if rewarded.any():
        metrics["reward"] = mean(told.reward[rewarded], told.weight[rewarded])
    return Quality(
        labels=len(labelled.at),
        rewards=int(rewarded.sum()),
        metrics=metrics,
        since=_moment(told.at[0]) if len(told.at) else "",
        until=_moment(told.at[-1]) if len(told.at) else "",
    )


def classification(rows: Answered, classes: Sequence[str]) -> dict[str, Estimate]:
    """The figures of a classifier; precision, recall and F1 of the second class where there are two."""
    if not len(rows.at):
        return {}
    # A label that only another version knows can be predicted by nobody here, and counts all the same.
    known = list(dict.fromkeys([*classes, *rows.outcome.tolist(), *rows.prediction.tolist()]))
    place = {label: index for index, label in enumerate(known)}
    truth = np.array([place[label] for label in rows.outcome], np.int64)
    given = np.array([place[label] for label in rows.prediction], np.int64)
    size = effective(rows.weight)
    found = {"accuracy": share_of(float(np.average(truth == given, weights=rows.weight)), size)}
    if len(known) > MOST_COUNTED:
        return found
    flat = np.bincount(truth * len(known) + given, rows.weight, len(known) ** 2)
    counts: Floats = flat.astype(np.float64).reshape(len(known), -1)
    if len(classes) == 2 and len(known) == 2:
        scale = size / counts.sum()
        hits = counts[1, 1]
        for name, of in (("precision", counts[:, 1].sum()), ("recall", counts[1].sum())):
            found[name] = share_of(float(hits / of), float(of * scale)) if of else Estimate(0.0)
    found.update(averages(counts, size, binary=len(classes) == 2 and len(known) == 2))
    if rows.probabilities is not None and rows.probabilities.shape[1] == len(classes):
        area = mean_auc(truth, rows.probabilities, rows.weight)
        if area is not None:
            found["roc_auc"] = area
    return found


def averages(counts: Floats, size: float, *, binary: bool) -> dict[str, Estimate]:
    """The averages over classes, and for two classes the F1 of the second.

    Args:
        counts: weights by truth (rows) and prediction (columns).
        size: how many equal rows say as much.
        binary: whether F1 of the second class is asked for.
    """
    seen = np.flatnonzero(counts.sum(axis=0) + counts.sum(axis=1) > 0)
    inner = counts[np.ix_(seen, seen)]
    values = _averages(inner[None])
    if binary:
        values["f1"] = _by_class(counts[None])[2][:, 1]
    found = {name: Estimate(float(value[0])) for name, value in values.items()}
    if len(seen) > MOST_CLASSES:
        return found
    # The posterior of the shares of all cells, with one row in all for each class as the prior.
    whole = counts if binary else inner
    alpha = whole.ravel() * (size / whole.sum()) + 1.0 / len(whole)
    draws = np.random.default_rng(0).gamma(alpha, size=(DRAWS, alpha.size)).reshape(DRAWS, len(whole), -1)
    drawn = _averages(draws)
    if binary:
        drawn["f1"] = _by_class(draws)[2][:, 1]
    for name, estimate in found.items():
        low, high = np.quantile(drawn[name], [0.025, 0.975])
        found[name] = Estimate(
            estimate.value, min(float(low), estimate.value), max(float(high), estimate.value)
        )
    return found


def _averages(counts: Floats) -> dict[str, Floats]:
    """Averages over classes of several confusion matrices ``[n, classes, classes]``."""
    precision, recall, f1 = _by_class(counts)
    return {
        "precision_macro": precision.mean(axis=1),
        "recall_macro": recall.mean(axis=1),
        "f1_macro": f1.mean(axis=1),
    }


def _by_class(counts: Floats) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and F1 of each class, 0 where undefined; all ``[n, classes]``."""
    hits = np.diagonal(counts, axis1=1, axis2=2)
    precision = _ratio(hits, counts.sum(axis=1))
    recall = _ratio(hits, counts.sum(axis=2))
    return precision, recall, _ratio(2 * precision * recall, precision + recall)


def _ratio(above: Any, below: Any) -> Floats:
    out: Floats = np.zeros(np.shape(above))
    np.divide(above, below, out=out, where=np.asarray(below) > 0)
    return out


def mean_auc(truth: Ints, probabilities: Floats, weight: Floats) -> Estimate | None:
    """The area under the ROC curve: of the second of two classes, else the mean of each against the rest.

    Args:
        truth: places of the true classes; those beyond the columns count as none of them.
        probabilities: ``[rows, classes]``.
        weight: of the rows.

    Returns:
        None when only one class came true.
    """
    count = probabilities.shape[1]
    areas: list[tuple[float, float, float]] = []
    for place in [1] if count == 2 else range(count):
        positive = truth == place
        area = roc_auc(positive, probabilities[:, place], weight)
        if area is not None:
            areas.append((*area, min(effective(weight[positive]), effective(weight[~positive]))))
    if not areas:
        return None
    # The areas of the classes come from the same rows, so their errors may all point the same way.
    value, error, smallest = (float(np.mean(each)) for each in zip(*areas, strict=True))
    # DeLong's error is 0 for an area of 0 or 1, which few rows do not prove.
    size = value * (1 - value) / error**2 if error > 0 else smallest
    return share_of(value, max(size, 1.0))


def roc_auc(positive: NDArray[np.bool_], score: Floats, weight: Floats) -> tuple[float, float] | None:
    """The area and its standard error by DeLong; None when only one class is there."""
    hit, miss = np.flatnonzero(positive), np.flatnonzero(~positive)
    if not len(hit) or not len(miss):
        return None
    below = _placement(score[hit], score[miss], weight[miss])
    above = 1.0 - _placement(score[miss], score[hit], weight[hit])
    area = float(np.average(below, weights=weight[hit]))
    spread = [
        float(np.average((part - area) ** 2, weights=weights)) / max(effective(weights) - 1, 1.0)
        for part, weights in ((below, weight[hit]), (above, weight[miss]))
    ]
    return area, math.sqrt(sum(spread))


def _placement(score: Floats, others: Floats, weight: Floats) -> Floats:
    """For each score the share of the others that lie below it, those equal to it half."""
    order = np.argsort(others, kind="stable")
    ranked, total = others[order], np.concatenate([[0.0], np.cumsum(weight[order])])
    left = total[np.searchsorted(ranked, score, side="left")]
    right = total[np.searchsorted(ranked, score, side="right")]
    share: Floats = (left + right) / (2 * total[-1])
    return share


def regression(rows: Answered) -> dict[str, Estimate]:
    """The errors of a regression; rows whose number cannot be read are passed over."""
    truth, given = _numbers(rows.outcome), _numbers(rows.prediction)
    there = np.isfinite(truth) & np.isfinite(given)
    if not there.any():
        return {}
    error, weight = (given - truth)[there], rows.weight[there]
    squares = mean(error**2, weight)
    roots = [None if side is None else math.sqrt(max(side, 0.0)) for side in (squares.low, squares.high)]
    absolute = mean(np.abs(error), weight)
    low = None if absolute.low is None else max(absolute.low, 0.0)
    return {
        "rmse": Estimate(math.sqrt(squares.value), *roots),
        "mae": Estimate(absolute.value, low, absolute.high),
        "bias": mean(error, weight),
    }


def _numbers(values: NDArray[Any]) -> Floats:
    def number(value: Any) -> float:
        try:
            return float(value)
        except (TypeError, ValueError):
            return math.nan

    return np.array([number(value) for value in values], np.float64)


def mean(values: Floats, weight: Floats) -> Estimate:
    """A mean and its interval; none of a single value."""
    value = float(np.average(values, weights=weight))
    size = effective(weight)
    if size <= 1:
        return Estimate(value)
    spread = float(np.average((values - value) ** 2, weights=weight)) / (size - 1)
    half = Z * math.sqrt(spread)
    return Estimate(value, value - half, value + half)


def share_of(share: float, size: float) -> Estimate:
    """A share of so many rows with Wilson's interval."""
    return Estimate(share, *wilson(share, size)) if size > 0 else Estimate(share)


def effective(weight: Floats) -> float:
    """How many equal rows say as much as rows of these weights."""
    total = float(weight.sum())
    return total * total / float((weight * weight).sum()) if total else 0.0


def _moment(at: Any) -> str:
    return timestamp(datetime.fromtimestamp(int(at) / 1e6, UTC))
