"""A linear model of texts with differential privacy: hashed words, and gradients of all rows with noise.

What a vocabulary would tell of single people, hashing does not: a word goes into a bucket that is found from
the word alone, so nothing about the features is learned from rows. Every row has norm 1, each step adds up
the gradients of all rows, none longer than a limit, and adds Gaussian noise (Bassily, Smith and Thakurta,
"Private empirical risk minimization", 2014). The other published way to linear models, noise in the objective
or in the weights (Chaudhuri, Monteleoni and Sarwate, "Differentially private empirical risk minimization",
2011), needs noise that grows with the number of buckets itself and not with its root, and noise in the
objective holds for the exact minimum only, which no solver finds; so it is not what is done here.

Nothing is compared or tuned on the rows. Noise never comes from the seed.
"""

import importlib.metadata
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from servable.artifact.signature import Field
from servable.errors import DataError, SettingInvalid
from servable.progress import Progress
from servable.training import evaluate as measuring
from servable.training.bounds import Bounds, bounded, check_classes
from servable.training.crossval import CandidateResult, answer, selection_metric
from servable.training.data import Problem, infer
from servable.training.outcome import (
    Asked,
    TrainingResult,
    held_out,
    profile_of,
    recipe_of,
    result_of,
    trained_of,
)
from servable.training.tasks.private import gaussian
from servable.training.tasks.private.budget import Budget
from servable.training.tasks.text_pipelines import ONE_LETTER_WORDS

if TYPE_CHECKING:
    from collections.abc import Mapping

LINEAR = "dp_text"
_TITLE = "linear model of hashed words with differential privacy"
#: What a file of bounds says of a column of texts, and what is counted then: words where the script puts
#: blanks between them, else signs and pairs of signs. It is told, because rows must not be looked at for it.
READINGS: "Mapping[str, dict[str, Any]]" = {
    "words": {"analyzer": "word", "token_pattern": ONE_LETTER_WORDS, "ngram_range": (1, 1)},
    "signs": {"analyzer": "char", "ngram_range": (1, 2)},
}
_FORM = '"words", or "signs" for scripts without blanks between words'
#: Chosen on public data, see docs/security.md: buckets, longest gradient of a row, how far a step goes, the
#: part of a row's norm that is the intercept's, and the share of the steps, the last ones, that are averaged.
_BUCKETS = 2**14
_CLIP = 0.5
_RATE = 64.0
_INTERCEPT = 0.1
_AVERAGED = 0.5
#: Steps for a budget of 1 and so many rows; four times of either are twice the steps, within limits.
_STEPS, _STEPS_AT, _LEAST_STEPS, _MOST_STEPS = 16, 4_000, 8, 64
_EXAMPLE = "some text"


class Known(NamedTuple):
    """What everybody may know.

    Attributes:
        column: the one with the texts.
        reading: one of ``READINGS``.
        bounds: the classes of the target.
    """

    column: str
    reading: str
    bounds: Bounds


def names_texts(held: "Mapping[str, Any]") -> bool:
    """Whether a file of bounds says of a column that it holds texts."""
    return any(isinstance(said, str) for said in held.values())


def read_known(held: "Mapping[str, Any]", target: str, path: Path) -> Known:
    """What a file says of texts and their classes.

    Args:
        held: from ``bounds.read_held``.
        target: the column to predict.
        path: the file, for messages.

    Raises:
        SettingInvalid: it does not say what is needed, or more than that.
    """
    columns = [name for name in held if name != target]
    classes = held.get(target)
    if len(columns) != 1 or held[columns[0]] not in list(READINGS):
        raise SettingInvalid(
            f"{path} must name the one column of texts and say how it is read, {_FORM}, and beside it the "
            f"classes of {target!r}; private models of texts read nothing else."
        )
    if not isinstance(classes, list) or len(set(map(str, classes))) < max(2, len(classes)):
        raise SettingInvalid(f"{path} must list the classes of {target!r}, at least two, each once.")
    kind = type(classes[0])
    if kind not in (bool, int, str) or any(type(value) is not kind for value in classes):
        raise SettingInvalid(f"{path} must list the classes of {target!r} as texts, or as whole numbers.")
    return Known(columns[0], held[columns[0]], Bounds({target: tuple(sorted(classes))}, path.name))


def problem_of(frame: pd.DataFrame, known: Known, target: str, set_aside: Any, time_order: bool) -> Problem:
    """Texts and classes, ready to be learned from; nothing of the signature is taken from the rows.

    Raises:
        DataError: a column is not there, a class is not told or in no row, or there are too few rows.
    """
    names = [str(name) for name in frame.columns]
    frame = frame.set_axis(names, axis="columns")
    for name in (known.column, target):
        if name not in names:
            raise DataError(f"{known.bounds.place} names a column {name!r}, which the data does not have.")
    frame = frame[frame[target].notna()].reset_index(drop=True)
    labels, _ = bounded(frame[[target]], known.bounds, target)
    table = pd.DataFrame({known.column: frame[known.column].fillna("").astype("str"), target: labels[target]})
    found = infer(
        table,
        target,
        task="classification",
        kinds={known.column: "text", target: "category"},
        time_order=time_order,
    )
    check_classes(found.signature, known.bounds)
    field = Field(name=known.column, kind="text", dtype="str", example=_EXAMPLE)
    signature = msgspec.structs.replace(found.signature, inputs=(field,), example={field.name: field.example})
    return replace(found, signature=signature, set_aside=set_aside)


def train(
    problem: Problem, known: Known, budget: Budget, *, holdout: float, seed: int, progress: Progress
) -> TrainingResult:
    """Train a model within a budget, and measure it on texts that it never saw.

    Args:
        problem: from ``problem_of``.
        known: how the texts are read.
        budget: what may be spent.
        holdout: share of rows held out, where the data sets none aside.
        seed: of the split; never of the noise.
        progress: told of every stage.

    Raises:
        SettingInvalid: a budget that cannot be kept to.
        DataError: the rows cannot be learned from.
    """
    budget.check()
    started, asked = time.monotonic(), Asked(holdout, 1.0, seed)
    parts = held_out(problem, asked)
    progress.begin(f"Fit {_TITLE}")
    hashing = HashingVectorizer(**READINGS[known.reading], n_features=_BUCKETS, binary=True, norm="l2")
    prepare = ColumnTransformer([(known.reading, hashing, known.column)], sparse_threshold=1.0)
    prepare.fit(pd.DataFrame({known.column: [_EXAMPLE]}))
    truth = np.asarray(problem.truth_at(parts.train))
    seen = prepare.transform(problem.frame(parts.train))
    made, spent = fit(seen, truth, len(problem.signature.classes), budget)
    pipeline = Pipeline([("prepare", prepare), ("model", made)])
    progress.done(f"epsilon {spent['epsilon']:.3g}, delta {spent['delta']:.1e}, on {len(truth)} rows")
    progress.begin("Evaluate on held-out rows")
    frame = problem.frame(parts.holdout)
    found = measuring.evaluate(
        problem.signature,
        np.asarray(problem.truth_at(parts.holdout)),
        answer(pipeline, frame, problem.task),
        seed=seed,
    )
    found = msgspec.structs.replace(found, metric=selection_metric(problem))
    progress.done(f"{found.metric} {found.metrics[found.metric]:.4f}")
    pick = CandidateResult(LINEAR, _TITLE, 0.0, 0.0, 0.0, {})
    recipe = {**recipe_of(problem, parts, pick, asked, 0), "validation": "held-out rows alone", "folds": 0}
    recipe["privacy"] = spent
    result = result_of(problem, parts, trained_of(pipeline, problem.signature), found, (), recipe)
    return replace(
        result,
        # Of the rows that it learned from nothing is kept, not even counts.
        profile=profile_of(problem, parts.holdout),
        sample=result.holdout,
        notes=(*result.notes, _note(spent)),
        seconds=time.monotonic() - started,
    )


def fit(
    seen: Any, truth: NDArray[Any], classes: int, budget: Budget, draw: gaussian.Draw | None = None
) -> tuple[LogisticRegression, dict[str, Any]]:
    """A fitted logistic regression, and what was spent on it.

    Args:
        seen: sparse ``[rows, columns]``; rows have a norm of at most 1, or are brought to it.
        truth: class indexes ``[rows]``.
        classes: how many.
        budget: what may be spent.
        draw: the randomness of the noise; the system's unless a test gives another.
    """
    rows, columns = seen.shape
    delta, steps = budget.delta_of(rows), _steps(rows, budget.epsilon)
    multiplier = gaussian.multiplier(budget.epsilon, delta, steps)
    share = np.sqrt(1 - _INTERCEPT**2)
    # The intercept is one more column, so that all of a row keeps the norm of 1.
    whole = sp.hstack([_shortened(seen) * share, np.full((rows, 1), _INTERCEPT)], format="csr")
    turned, right = sp.csr_matrix(whole.T), np.eye(classes)[truth]
    weights = np.zeros((columns + 1, classes))
    total, averaged = np.zeros_like(weights), max(1, round(steps * _AVERAGED))
    for step in range(steps):
        # What a row adds is its distance from the truth times the row itself, so its length is the product.
        gap = right - _chances(whole @ weights)
        gap *= np.minimum(1.0, _CLIP / np.maximum(np.linalg.norm(gap, axis=1, keepdims=True), 1e-12))
        gradient = turned @ gap
        gradient += gaussian.noise(weights.shape, multiplier * _CLIP, *([draw] if draw else []))
        weights = weights + gradient * (_RATE / (rows * _CLIP))
        if step >= steps - averaged:
            total += weights / averaged
    spent = {
        "epsilon": budget.epsilon,
        "delta": delta,
        "asked_epsilon": budget.epsilon,
        "mechanism": "gradient descent over all rows with Gaussian noise, Gaussian differential privacy",
        "neighbours": "one row added or removed",
        "noise_multiplier": multiplier,
        "max_grad_norm": _CLIP,
        "steps": steps,
        "library": "servable",
        "library_version": importlib.metadata.version("servable"),
    }
    return _logistic(total[:-1].T * share, total[-1] * _INTERCEPT, steps), spent


def _steps(rows: int, epsilon: float) -> int:
    """Steps for so many rows and such a budget: both are known to everybody."""
    wanted = _STEPS * np.sqrt(rows * epsilon / _STEPS_AT)
    return int(np.clip(round(float(wanted)), _LEAST_STEPS, _MOST_STEPS))


def _shortened(seen: Any) -> Any:
    """Rows with a norm of at most 1."""
    rows = sp.csr_matrix(seen, dtype=np.float64)
    norms = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
    return sp.diags(1 / np.maximum(norms, 1.0)) @ rows


def _chances(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _logistic(weights: NDArray[Any], intercepts: NDArray[Any], steps: int) -> LogisticRegression:
    """Weights ``[classes, columns]`` as scikit-learn keeps them."""
    classes = len(weights)
    if classes == 2:
        weights, intercepts = weights[1:] - weights[:1], intercepts[1:] - intercepts[:1]
    made: Any = LogisticRegression()
    made.classes_ = np.arange(classes)
    made.n_iter_ = np.asarray([steps], np.int32)
    made.coef_, made.intercept_ = np.ascontiguousarray(weights), intercepts
    made.n_features_in_ = weights.shape[1]
    return made


def _note(spent: "Mapping[str, Any]") -> str:
    return (
        f"trained with differential privacy (epsilon {spent['epsilon']:.3g}, delta {spent['delta']:.1e}): "
        "words were hashed and not learned, classes were told, and statistics are those of held-out rows"
    )
