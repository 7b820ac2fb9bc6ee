"""The last step of a text pipeline as weights, a bias, and what becomes of the scores."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from servable.frameworks.text_program import Head
from servable.optimization.graph import Unconvertible

Floats = NDArray[np.float64]


class Linear(NamedTuple):
    """A model whose scores are linear.

    Attributes:
        weights: ``[scores, width]``; None where the answer does not depend on the row.
        bias: ``[scores]``.
        head: what becomes of the scores.
        binarize: whether every value above 0 counts as 1.
    """

    weights: Floats | None
    bias: Floats
    head: Head
    binarize: bool = False


def linear(model: Any) -> Linear:
    """A fitted model as a linear one.

    Raises:
        Unconvertible: it is none, or not known.
    """
    kind = type(model).__name__
    make = _KNOWN.get(kind)
    if make is None:
        raise Unconvertible(
            f"{kind} over texts is not compiled: only linear models and naive Bayes are, whose cost does not "
            "grow with the vocabulary"
        )
    return make(model)


def _scores(model: Any) -> tuple[Floats, Floats]:
    weights = model.coef_.toarray() if hasattr(model.coef_, "toarray") else model.coef_
    weights = np.atleast_2d(np.asarray(weights, dtype=np.float64))
    bias = np.broadcast_to(np.asarray(model.intercept_, dtype=np.float64), (len(weights),))
    return weights, np.array(bias)


def _labels(model: Any) -> Linear:
    return Linear(*_scores(model), "label")


def _logistic(model: Any) -> Linear:
    return Linear(*_scores(model), "logistic" if len(model.classes_) == 2 else "softmax")


def _descent(model: Any) -> Linear:
    """SGDClassifier, whose loss decides whether there are probabilities."""
    if model.loss == "log_loss":
        return Linear(*_scores(model), "logistic" if len(model.classes_) == 2 else "one_vs_rest")
    return Linear(*_scores(model), "clipped" if model.loss == "modified_huber" else "label")


def _values(model: Any) -> Linear:
    weights, bias = _scores(model)
    if len(weights) != 1:
        raise Unconvertible("the model predicts several targets at once")
    return Linear(weights, bias, "value")


def _multinomial(model: Any) -> Linear:
    return Linear(np.array(model.feature_log_prob_), np.array(model.class_log_prior_), "softmax")


def _complement(model: Any) -> Linear:
    bias = model.class_log_prior_ if len(model.classes_) == 1 else np.zeros(len(model.classes_))
    return Linear(np.array(model.feature_log_prob_), np.array(bias), "softmax")


def _bernoulli(model: Any) -> Linear:
    if model.binarize != 0.0:
        raise Unconvertible(f"BernoulliNB counts values above {model.binarize}")
    absent = np.log(1 - np.exp(model.feature_log_prob_))
    bias = model.class_log_prior_ + absent.sum(axis=1)
    return Linear(model.feature_log_prob_ - absent, np.array(bias), "softmax", binarize=True)


def _dummy_classifier(model: Any) -> Linear:
    if model.strategy != "prior":
        raise Unconvertible(f"DummyClassifier answers by {model.strategy}")
    return Linear(None, np.log(np.asarray(model.class_prior_, dtype=np.float64)), "softmax")


def _dummy_regressor(model: Any) -> Linear:
    return Linear(None, np.ravel(np.asarray(model.constant_, dtype=np.float64))[:1], "value")


_LABELS = (
    "LinearSVC",
    "PassiveAggressiveClassifier",
    "Perceptron",
    "RidgeClassifier",
    "RidgeClassifierCV",
)
_VALUES = (
    "ElasticNet",
    "ElasticNetCV",
    "HuberRegressor",
    "Lasso",
    "LassoCV",
    "LinearRegression",
    "LinearSVR",
    "Ridge",
    "RidgeCV",
    "SGDRegressor",
)
_KNOWN: dict[str, Callable[[Any], Linear]] = {
    **dict.fromkeys(_LABELS, _labels),
    **dict.fromkeys(("LogisticRegression", "LogisticRegressionCV"), _logistic),
    "SGDClassifier": _descent,
    **dict.fromkeys(_VALUES, _values),
    "MultinomialNB": _multinomial,
    "ComplementNB": _complement,
    "BernoulliNB": _bernoulli,
    "DummyClassifier": _dummy_classifier,
    "DummyRegressor": _dummy_regressor,
}
