"""Choosing and training: compare the candidates, tune the best, fit it, and measure it on unseen rows."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter

from servable.artifact.signature import Signature
from servable.errors import SettingInvalid
from servable.frameworks.base import Trained
from servable.progress import NoProgress, Progress
from servable.tensors import PREDICTION
from servable.training.candidates import DUMMY, LINEAR, build, candidate, chosen, threads, tidy
from servable.training.crossval import (
    Arena,
    CandidateResult,
    answer,
    fit_quietly,
    predict,
    score_candidate,
    selection_metric,
    tune,
)
from servable.training.data import Problem
from servable.training.evaluate import Evaluation, evaluate, importance, profiled
from servable.training.outcome import (
    COMPARE_FOLDS,
    Asked,
    TrainingResult,
    held_out,
    metrics_of,
    recipe_of,
    result_of,
    trained_of,
)
from servable.training.split import HOLDOUT, Rows, Split, folds, thinned

#: Rows on which candidates are first compared, and on which the best one is tuned, at most.
COMPARE_ROWS = 12_000
TUNE_ROWS = 50_000
TUNE_TRIALS = 25
#: Shares of the time budget after which the comparison and the tuning end; the rest is the final fit.
COMPARE_SHARE = 0.4
TUNE_SHARE = 0.8


def select(
    problem: Problem,
    *,
    models: str | list[str] = "auto",
    folds_wanted: int = 5,
    time_budget_s: float = 60.0,
    seed: int = 0,
    progress: Progress | None = None,
    most_rows: int | None = None,
) -> list[CandidateResult]:
    """Compare candidates by cross-validation over all rows of a problem.

    Args:
        problem: the rows.
        models: ``auto`` or names; the baselines are always compared too.
        folds_wanted: number of folds; fewer where a class is too rare.
        time_budget_s: after this no further candidate is begun, but the baselines and one more always are.
        seed: of folds and estimators.
        progress: told of every candidate.
        most_rows: compare on at most this many rows.

    Returns:
        Best first. Candidates for which there was no time are not among them.

    Raises:
        SettingInvalid: a model that does not exist, or too few folds.
        DataError: the rows cannot be learned from.
    """
    rows = np.arange(problem.size, dtype=np.int64)
    until = time.monotonic() + time_budget_s
    return _compare(problem, rows, models, folds_wanted, until, seed, progress or NoProgress(), most_rows)


def _compare(
    problem: Problem,
    rows: Rows,
    models: str | list[str],
    count: int,
    until: float,
    seed: int,
    progress: Progress,
    most_rows: int | None,
) -> list[CandidateResult]:
    arena = make_arena(problem, rows, count, most_rows or len(rows), seed)
    competing = chosen(problem.task, models, problem.size)
    progress.begin("Compare candidates", total=len(competing))
    results: list[CandidateResult] = []
    # The baselines and the first real candidate are compared in any case, and all that were asked for.
    sure = 3 if models == "auto" else len(competing)
    for place, known in enumerate(competing):
        if place >= sure and time.monotonic() > until:
            progress.advance(1, f"{known.name}: no time left")
            continue
        result = score_candidate(arena, known, {})
        results.append(result)
        progress.advance(1, f"{known.name} {result.score:.4f}")
    results.sort(key=lambda result: -result.score)
    progress.done(f"best {results[0].name}, {arena.metric} {results[0].score:.4f}")
    return results


def make_arena(problem: Problem, rows: Rows, count: int, most_rows: int, seed: int) -> Arena:
    """The rows (thinned to ``most_rows``) and folds on which candidates compete."""
    kept = thinned(rows, problem.truth, problem.task, most_rows, time_order=problem.time_order, seed=seed)
    truth = problem.truth_at(kept)
    cut = folds(truth, len(kept), problem.task, count=count, time_order=problem.time_order, seed=seed)
    return Arena(
        problem.signature,
        problem.frame(kept),
        truth,
        cut,
        selection_metric(problem),
        seed,
        threads(len(kept)),
    )


def fit(
    problem: Problem,
    name: str,
    params: Mapping[str, Any],
    *,
    rows: Rows | None = None,
    weights: NDArray[np.float64] | None = None,
    seed: int = 0,
) -> Trained:
    """Fit one candidate on the given rows of a problem, all by default.

    Args:
        problem: the rows.
        name: of the candidate.
        params: of the candidate.
        rows: places of those to learn from.
        weights: what each of these rows counts; None for all alike.
        seed: of the estimator.

    Raises:
        SettingInvalid: no such candidate, or one that takes no weights.
        DataError: it cannot learn from these rows.
    """
    frame = problem.frame(rows)
    pipeline = build(problem.signature, name, params, seed=seed, jobs=threads(len(frame)))
    truth = problem.truth if rows is None else problem.truth_at(rows)
    more = {}
    if weights is not None:
        if not has_fit_parameter(pipeline.named_steps["model"], "sample_weight"):
            raise SettingInvalid(f"{name} cannot give newer rows more weight; use a window instead.")
        more = {"model__sample_weight": weights}
    fit_quietly(pipeline, frame, truth, **more)
    return trained_of(tidy(pipeline), problem.signature)


def train(
    problem: Problem,
    *,
    model: str = "auto",
    holdout: float = HOLDOUT,
    time_budget_s: float = 60.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> TrainingResult:
    """Train the best model that the time allows, and measure it on rows that it never saw.

    Args:
        problem: the rows; see ``data.infer``.
        model: ``auto``, or the name of a candidate, which is then tuned.
        holdout: share of rows held out.
        time_budget_s: seconds for all of it; the baselines, one candidate and the final fit are made even
            if they take longer.
        seed: of split, folds, estimators and search.
        progress: told of every stage.

    Raises:
        SettingInvalid: no such model, a share out of range, or no time.
        DataError: the rows cannot be learned from.
    """
    progress = progress or NoProgress()
    started, asked = time.monotonic(), Asked(holdout, time_budget_s, seed)
    parts = held_out(problem, asked)
    until = started + time_budget_s * COMPARE_SHARE
    leaderboard = _compare(problem, parts.train, model, COMPARE_FOLDS, until, seed, progress, COMPARE_ROWS)
    pick = _picked(leaderboard, model)
    trials = 0
    if problem.task != "clustering" and pick.name != DUMMY:
        pick, trials = _tuned(
            problem, parts.train, pick, started + time_budget_s * TUNE_SHARE, seed, progress
        )
        leaderboard = _with(leaderboard, pick)
    pipelines = _final(problem, parts, pick, seed, progress)
    evaluation = _evaluated(problem, parts, pipelines, pick.name, seed, progress)
    signature = problem.signature
    if problem.task == "clustering":
        signature = _with_clusters(signature, pick.params)
    trained = trained_of(pipelines[pick.name], signature)
    recipe = recipe_of(problem, parts, pick, asked, trials)
    result = result_of(problem, parts, trained, evaluation, leaderboard, recipe)
    return replace(result, seconds=time.monotonic() - started, baseline=LINEAR.get(problem.task, ""))


def _picked(leaderboard: Sequence[CandidateResult], model: str) -> CandidateResult:
    """The one to go on with: the one asked for, else the best that is no dummy."""
    if model != "auto":
        return next(result for result in leaderboard if result.name == model)
    real = [result for result in leaderboard if result.name != DUMMY]
    return real[0]


def _tuned(
    problem: Problem, rows: Rows, pick: CandidateResult, until: float, seed: int, progress: Progress
) -> tuple[CandidateResult, int]:
    arena = make_arena(problem, rows, COMPARE_FOLDS, TUNE_ROWS, seed)
    progress.begin(f"Tune {pick.title}", total=TUNE_TRIALS)
    known = candidate(problem.task, pick.name)
    best, trials = tune(
        arena, known, trials=TUNE_TRIALS, until=until, weighted=problem.imbalanced, progress=progress
    )
    progress.done(f"{arena.metric} {best.score:.4f} after {trials} trials")
    return best, trials


def _with(leaderboard: list[CandidateResult], pick: CandidateResult) -> list[CandidateResult]:
    """The leaderboard with the tuned candidate in place of its first form; best first."""
    rest = [result for result in leaderboard if result.name != pick.name]
    return sorted([*rest, pick], key=lambda result: -result.score)


def _final(
    problem: Problem, parts: Split, pick: CandidateResult, seed: int, progress: Progress
) -> dict[str, Pipeline]:
    """The chosen model and the baselines, each fitted on all rows that may be learned from."""
    wanted: dict[str, Mapping[str, Any]] = {pick.name: pick.params}
    if problem.task in LINEAR:
        wanted = {DUMMY: {}, LINEAR[problem.task]: {}, **wanted}
    progress.begin("Fit the final model", total=len(wanted))
    frame, truth = problem.frame(parts.train), problem.truth_at(parts.train)
    fitted = {}
    for name, params in wanted.items():
        pipeline = build(problem.signature, name, params, seed=seed, jobs=threads(len(frame)))
        fit_quietly(pipeline, frame, truth)
        fitted[name] = tidy(pipeline)
        progress.advance(1, name)
    progress.done(f"{pick.name} on {len(parts.train)} rows")
    return fitted


def _evaluated(
    problem: Problem,
    parts: Split,
    pipelines: Mapping[str, Pipeline],
    name: str,
    seed: int,
    progress: Progress,
) -> Evaluation:
    """The chosen model on the held-out rows, with the baselines and the importance of the columns."""
    progress.begin("Evaluate on held-out rows")
    frame, truth = problem.frame(parts.holdout), problem.truth_at(parts.holdout)
    pipeline = pipelines[name]
    answers = answer(pipeline, frame, problem.task)
    if problem.task == "clustering" or truth is None:
        points = pipeline.named_steps["prepare"].transform(frame)
        found = evaluate(problem.signature, None, answers, points=points, seed=seed)
        found = profiled(found, frame, answers[PREDICTION])
    else:
        classes = len(problem.signature.classes)
        found = evaluate(problem.signature, truth, answers, seed=seed)
        baselines = {}
        for other, fitted in pipelines.items():
            if other in (DUMMY, LINEAR[problem.task]):
                given = answer(fitted, frame, problem.task)
                baselines[other] = metrics_of(problem.signature, truth, given)
        columns = importance(
            lambda rows: predict(pipeline, rows, problem.task),
            frame,
            truth,
            task=problem.task,
            classes=classes,
            seed=seed,
        )
        found = msgspec.structs.replace(
            found, metric=selection_metric(problem), baselines=baselines, importance=columns
        )
    headline = found.metrics.get(found.metric)
    progress.done(f"{found.metric} {headline:.4f}" if headline is not None else "")
    return found


def _with_clusters(signature: Signature, params: Mapping[str, Any]) -> Signature:
    """The signature of a clustering with its clusters as the values of the output."""
    count = int(params.get("n_clusters", params.get("n_components", 0)))
    output = msgspec.structs.replace(signature.answer, values=tuple(range(count)))
    return msgspec.structs.replace(signature, outputs=(output,))
