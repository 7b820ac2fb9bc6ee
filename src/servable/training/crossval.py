"""Scoring candidates by cross-validation, and tuning one within a time budget."""

import inspect
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline

from servable.artifact.signature import Signature, Task
from servable.errors import DataError
from servable.progress import Progress
from servable.tensors import PREDICTION, PROBABILITIES
from servable.training import measures
from servable.training.candidates import Candidate, Params, build, suggest
from servable.training.data import Problem
from servable.training.split import Rows

#: Boosting rounds at most, and rounds without gain after which it stops.
MOST_ROUNDS = 800
PATIENCE = 40
#: Numbers of clusters that are tried.
CLUSTERS = range(2, 9)
#: Rows that a comparison of clusters fits on at most.
CLUSTER_ROWS = 4000


@dataclass(frozen=True)
class CandidateResult:
    """How a candidate did.

    Attributes:
        name: of the candidate.
        title: for people.
        score: mean over the folds of the selection metric, higher is better.
        score_std: standard deviation over the folds.
        fit_seconds: mean time to fit one fold.
        params: that it was built with, in full enough to build it again.
        note: one line, for instance that it did not converge.
        online: whether it answered each row and then learned from it, instead of being fitted to each fold;
            ``fit_seconds`` is then the time for all rows.
    """

    name: str
    title: str
    score: float
    score_std: float
    fit_seconds: float
    params: dict[str, Any]
    note: str = ""
    online: bool = False

    @classmethod
    def of_folds(
        cls,
        name: str,
        title: str,
        scores: Sequence[float],
        seconds: Sequence[float],
        params: dict[str, Any],
        note: str,
    ) -> Self:
        """From the score of each fold, and the seconds that it took to fit."""
        mean, spread = float(np.mean(scores)), float(np.std(scores))
        return cls(name, title, mean, spread, float(np.mean(seconds)), params, note)


@dataclass(frozen=True, eq=False)
class Arena:
    """What candidates compete on: training rows of a problem and their folds. Not changed by scoring.

    Attributes:
        signature: of the problem.
        frame: the rows in canonical form.
        truth: theirs, None for clustering.
        folds: pairs of positions (fit, validate) within them.
        metric: the selection metric.
        seed: of estimators.
        jobs: threads that an estimator may use.
    """

    signature: Signature
    frame: pd.DataFrame
    truth: NDArray[Any] | None
    folds: Sequence[tuple[Rows, Rows]]
    metric: str
    seed: int
    jobs: int


def selection_metric(problem: Problem) -> str:
    """What candidates are compared by; higher is better for all of them."""
    if problem.task == "classification":
        return "f1_macro" if problem.imbalanced else "accuracy"
    return "r2" if problem.task == "regression" else "silhouette"


def fit_quietly(pipeline: Any, frame: Any, truth: NDArray[Any] | None, **more: Any) -> str:
    """Fit a pipeline or an estimator in place; a failure to converge becomes a note instead of a warning.

    Args:
        pipeline: what is fitted.
        frame: the rows.
        truth: their right answers ``[rows]``; None for clustering.
        more: for its ``fit``, such as weights of the rows.

    Raises:
        DataError: the estimator cannot learn from these rows.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            pipeline.fit(frame, truth, **more)
        except ValueError as refused:
            name = type(getattr(pipeline, "named_steps", {}).get("model", pipeline)).__name__
            raise DataError(
                f"{name} cannot learn from these rows: {str(refused).splitlines()[0]}."
            ) from refused
    if any(issubclass(item.category, ConvergenceWarning) for item in caught):
        return "did not fully converge"
    return ""


def answer(pipeline: Pipeline, frame: pd.DataFrame, task: Task) -> dict[str, NDArray[Any]]:
    """A fitted pipeline's answers in packed form: ``prediction`` and, for classifiers, ``probabilities``."""
    with warnings.catch_warnings():
        # LightGBM names the columns of bare arrays by itself and scikit-learn then misses these names.
        warnings.filterwarnings("ignore", message="X does not have valid feature names", category=UserWarning)
        prediction = np.asarray(pipeline.predict(frame))
        if task != "classification":
            kept = np.float64 if task == "regression" else np.int64
            return {PREDICTION: prediction.astype(kept)}
        answers = {PREDICTION: prediction.astype(np.int64)}
        if hasattr(pipeline, "predict_proba"):
            answers[PROBABILITIES] = np.asarray(pipeline.predict_proba(frame), dtype=np.float64)
    return answers


def predict(pipeline: Pipeline, frame: pd.DataFrame, task: Task) -> NDArray[Any]:
    """Only the prediction of ``answer``."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="X does not have valid feature names", category=UserWarning)
        return np.asarray(pipeline.predict(frame)).astype(np.float64 if task == "regression" else np.int64)


def score_candidate(arena: Arena, known: Candidate, params: Params) -> CandidateResult:
    """Cross-validate one candidate with given parameters.

    Boosting with LightGBM stops early on each fold's validation rows; the rounds that it took, a tenth
    more for the larger final fit, are put into the result's parameters.

    Raises:
        DataError: it cannot learn from these rows.
    """
    if arena.signature.task == "clustering":
        return _score_clusters(arena, known, params)
    stops_early = known.name == "lightgbm" and "n_estimators" not in params
    scores: list[float] = []
    seconds: list[float] = []
    rounds: list[int] = []
    note = ""
    truth = arena.truth
    if truth is None:
        raise DataError("There is no target to compare candidates by.")
    for fit, check in arena.folds:
        started = time.monotonic()
        upper = {"n_estimators": MOST_ROUNDS} if stops_early else {}
        pipeline = build(arena.signature, known.name, {**params, **upper}, seed=arena.seed, jobs=arena.jobs)
        frame, inspected = arena.frame.iloc[fit], arena.frame.iloc[check]
        if stops_early and set(np.unique(truth[check])) <= set(np.unique(truth[fit])) | _any_of(arena, truth):
            rounds.append(_fit_stopping(pipeline, (frame, truth[fit]), (inspected, truth[check])))
        else:
            note = fit_quietly(pipeline, frame, truth[fit]) or note
        seconds.append(time.monotonic() - started)
        found = predict(pipeline, inspected, arena.signature.task)
        scores.append(measures.score(arena.metric, truth[check], found, len(arena.signature.classes)))
    used = dict(params)
    if rounds:
        used["n_estimators"] = max(int(np.median(rounds) * 1.1), 10)
    elif stops_early:
        used["n_estimators"] = 200
    return CandidateResult.of_folds(known.name, known.title, scores, seconds, used, note)


def _any_of(arena: Arena, truth: NDArray[Any]) -> set[Any]:
    """The values that a validation fold may hold without having been fitted: all, for a regression."""
    return set(np.unique(truth)) if arena.signature.task == "regression" else set()


def _fit_stopping(
    pipeline: Pipeline, fit: tuple[pd.DataFrame, NDArray[Any]], check: tuple[pd.DataFrame, NDArray[Any]]
) -> int:
    """Fit a LightGBM pipeline until the validation rows gain no more; the number of rounds that was best."""
    # Heavy and needed by this candidate alone.
    import lightgbm

    preparation, model = pipeline.named_steps["prepare"], pipeline.named_steps["model"]
    prepared = preparation.fit_transform(fit[0], fit[1])
    inspected = preparation.transform(check[0])
    # LightGBM 4.7 split eval_set in two and warns about the old form; 4.6 knows only the old one.
    split_form = "eval_X" in inspect.signature(model.fit).parameters
    rows = {"eval_X": inspected, "eval_y": check[1]} if split_form else {"eval_set": [(inspected, check[1])]}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="X does not have valid feature names", category=UserWarning)
        model.fit(prepared, fit[1], **rows, callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)])
    return int(model.best_iteration_ or model.n_estimators)


def _score_clusters(arena: Arena, known: Candidate, params: Params) -> CandidateResult:
    """Choose the number of clusters by silhouette: fitted on one part of the rows, measured on another."""
    fit, check = arena.folds[0]
    fit, check = fit[:CLUSTER_ROWS], check[: measures.SILHOUETTE_ROWS]
    word = "n_components" if known.name == "gaussian_mixture" else "n_clusters"
    best: CandidateResult | None = None
    counts = [params[word]] if word in params else [count for count in CLUSTERS if count < len(fit) // 3]
    for count in counts:
        tried = {**params, word: int(count)}
        started = time.monotonic()
        pipeline = build(arena.signature, known.name, tried, seed=arena.seed, jobs=arena.jobs)
        note = fit_quietly(pipeline, arena.frame.iloc[fit], None)
        seconds = time.monotonic() - started
        inspected = arena.frame.iloc[check]
        points = pipeline.named_steps["prepare"].transform(inspected)
        found = measures.clustering(points, predict(pipeline, inspected, "clustering"), arena.seed)
        score = found.get("silhouette", -1.0)
        if best is None or score > best.score:
            note = "; ".join(filter(None, (f"{count} clusters", note)))
            best = CandidateResult(known.name, known.title, score, 0.0, seconds, tried, note)
    if best is None:
        raise DataError("There are too few rows to make clusters of.")
    return best


def tune(
    arena: Arena, known: Candidate, *, trials: int, until: float, weighted: bool, progress: Progress
) -> tuple[CandidateResult, int]:
    """Search a candidate's parameters with Optuna's seeded TPE; the defaults are the first trial.

    Args:
        arena: rows and folds.
        known: the candidate.
        trials: how many at most. As many are run as the time allows, so the outcome is the same from run
            to run where it allows them all.
        until: the ``time.monotonic`` moment at which no further trial may be running, as far as can be told.
        weighted: whether balanced class weights are compared too.
        progress: told of every trial.

    Returns:
        The best, and how many trials were run.
    """
    # Heavy and needed here alone.
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=arena.seed, n_startup_trials=6, multivariate=False)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    started = time.monotonic()
    best = score_candidate(arena, known, {})
    longest = time.monotonic() - started
    progress.advance(1, f"{known.name} {best.score:.4f}")
    done = 1
    while done < trials and time.monotonic() + longest < until:
        started = time.monotonic()
        trial = study.ask()
        params = suggest(trial, known.name, rows=len(arena.frame), weighted=weighted and known.weights)
        if not params:
            break
        result = score_candidate(arena, known, params)
        study.tell(trial, result.score)
        done += 1
        if result.score > best.score:
            best = result
        longest = max(longest, time.monotonic() - started)
        progress.advance(1, f"best {best.score:.4f}")
    return best, done
