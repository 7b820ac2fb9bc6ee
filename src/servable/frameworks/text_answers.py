"""From the scores of a linear text model to its answers, each as scikit-learn's model of that kind does it.

``scores`` are float64 ``[rows, k]``: one column for a classifier of two classes or a value, else one for
each class.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from servable.tensors import PREDICTION, PROBABILITIES

Floats = NDArray[np.float64]
Answer = dict[str, Any]


def _index(scores: Floats) -> NDArray[np.int64]:
    """The class of the largest score; of two classes the second where the one score is above 0."""
    if scores.shape[1] == 1:
        return (scores[:, 0] > 0).astype(np.int64)
    largest: NDArray[np.int64] = np.argmax(scores, axis=1)
    return largest


def _sure(scores: Floats) -> Floats:
    """The logistic function, without overflow."""
    sure: Floats = np.exp(-np.logaddexp(0.0, -scores))
    return sure


def _logistic(scores: Floats) -> Answer:
    second = _sure(scores[:, 0])
    return {PREDICTION: _index(scores), PROBABILITIES: np.stack([1.0 - second, second], axis=1)}


def _softmax(scores: Floats) -> Answer:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return {PREDICTION: _index(scores), PROBABILITIES: powers / powers.sum(axis=1, keepdims=True)}


def _one_vs_rest(scores: Floats) -> Answer:
    return {PREDICTION: _index(scores), PROBABILITIES: _shares(_sure(scores))}


def _clipped(scores: Floats) -> Answer:
    """The modified Huber loss: a score from -1 to 1 is a probability from 0 to 1."""
    sure = (np.clip(scores, -1.0, 1.0) + 1.0) / 2.0
    if sure.shape[1] == 1:
        return {PREDICTION: _index(scores), PROBABILITIES: np.concatenate([1.0 - sure, sure], axis=1)}
    return {PREDICTION: _index(scores), PROBABILITIES: _shares(sure)}


def _shares(sure: Floats) -> Floats:
    """Each row divided by its sum; a row of zeros is as sure of every class as of any other."""
    total = sure.sum(axis=1, keepdims=True)
    even = total == 0
    return np.where(even, 1.0 / sure.shape[1], sure / np.where(even, 1.0, total))


def _label(scores: Floats) -> Answer:
    return {PREDICTION: _index(scores)}


def _value(scores: Floats) -> Answer:
    return {PREDICTION: scores[:, 0].copy()}


#: By the name that a program uses.
HEADS: dict[str, Callable[[Floats], Answer]] = {
    "logistic": _logistic,
    "softmax": _softmax,
    "one_vs_rest": _one_vs_rest,
    "clipped": _clipped,
    "label": _label,
    "value": _value,
}
