"""Choosing and training: compare the candidates, tune the best, fit it, and measure it on unseen rows."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from servable.artifact.signature import Signature
from servable.errors import DataError, SettingInvalid
from servable.frameworks.base import Trained
from servable.progress import NoProgress, Progress
from servable.tensors import PREDICTION, take
from servable.training import measures
from servable.training.candidates import DUMMY, LINEAR, build, candidate, chosen, threads, tidy
from servable.training.columns import ColumnInfo
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
from servable.training.outcome import libraries, metrics_of, trained_of
from servable.training.profile import Profile, profile
from servable.training.split import HOLDOUT, Rows, Split, folds, hold_out, thinned

#: Rows on which candidates are first compared, and on which the best one is tuned, at most.
COMPARE_ROWS = 12_000
TUNE_ROWS = 50_000
#: Folds of the first comparison and of the tuning.
COMPARE_FOLDS = 3
TUNE_TRIALS = 25
#: Shares of the time budget after which the comparison and the tuning end; the rest is the final fit.
COMPARE_SHARE = 0.4
TUNE_SHARE = 0.8


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """A trained model and all that is known about how it came to be.

    Attributes:
        trained: for the adapter that is named.
        evaluation: on the held-out rows, baselines among it.
        holdout: the held-out rows, packed.
        holdout_truth: their class index or value; None for clustering.
        holdout_rows: their numbers in the table that was read, from 0.
        sample: some of the training rows, packed, for proofs that want more rows.
        leaderboard: the candidates, best first.
        profile: of the training rows, for later drift.
        recipe: estimator, parameters, seed, split, budget, library versions; JSON-able.
        columns: those used, with reasons.
        dropped: those left out, with reasons.
        notes: sentences about rows and task.
        seconds: how long it took.
        adapter: name of the adapter that writes and loads the model.
        baseline: name of the simple model that it is compared with, empty where there is none.
    """

    trained: Trained
    evaluation: Evaluation
    holdout: dict[str, NDArray[Any]]
    holdout_truth: NDArray[Any] | None
    holdout_rows: NDArray[np.int64]
    sample: dict[str, NDArray[Any]]
    leaderboard: tuple[CandidateResult, ...]
    profile: Profile
    recipe: dict[str, Any]
    columns: tuple[ColumnInfo, ...]
    dropped: tuple[ColumnInfo, ...]
    notes: tuple[str, ...]
    seconds: float
    adapter: str = "sklearn"
    baseline: str = ""

    @property
    def signature(self) -> Signature:
        """What the model takes and gives."""
        return self.trained.signature

    @property
    def rows_train(self) -> int:
        """How many rows it learned from."""
        return int(self.recipe["rows_train"])


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
    problem: Problem, name: str, params: Mapping[str, Any], *, rows: Rows | None = None, seed: int = 0
) -> Trained:
    """Fit one candidate on the given rows of a problem, all by default.

    Raises:
        SettingInvalid: no such candidate.
        DataError: it cannot learn from these rows.
    """
    frame = problem.frame(rows)
    pipeline = build(problem.signature, name, params, seed=seed, jobs=threads(len(frame)))
    truth = problem.truth if rows is None else problem.truth_at(rows)
    fit_quietly(pipeline, frame, truth)
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
    if time_budget_s <= 0:
        raise SettingInvalid(f"The time budget must be more than 0 seconds, not {time_budget_s}.")
    progress = progress or NoProgress()
    started = time.monotonic()
    parts = hold_out(
        problem.size, problem.truth, problem.task, share=holdout, time_order=problem.time_order, seed=seed
    )
    check_classes(problem, parts)
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
    split = {"share": holdout, "order": "time" if problem.time_order else "random", "seed": seed}
    asked = {"split": split, "trials": trials, "time_budget_s": time_budget_s}
    return TrainingResult(
        trained=trained_of(pipelines[pick.name], problem.signature)
        if problem.task != "clustering"
        else trained_of(pipelines[pick.name], _with_clusters(problem.signature, pick.params)),
        evaluation=evaluation,
        holdout=take(problem.arrays, parts.holdout),
        holdout_truth=problem.truth_at(parts.holdout),
        holdout_rows=problem.rows[parts.holdout],
        sample=take(problem.arrays, parts.train[measures.sample(len(parts.train), 2000, seed)]),
        leaderboard=tuple(leaderboard),
        profile=profile(problem.signature, take(problem.arrays, parts.train), problem.truth_at(parts.train)),
        recipe=recipe_of(problem, parts, pick, seed) | asked,
        columns=problem.columns,
        dropped=problem.dropped,
        notes=problem.notes,
        seconds=time.monotonic() - started,
        baseline=LINEAR.get(problem.task, ""),
    )


def recipe_of(problem: Problem, parts: Split, pick: CandidateResult, seed: int) -> dict[str, Any]:
    """How the model was made, in words that a report and a second run understand."""
    return {
        "estimator": pick.name,
        "title": pick.title,
        "params": pick.params,
        "seed": seed,
        "metric": selection_metric(problem),
        "task": problem.task,
        "target": problem.target,
        "folds": COMPARE_FOLDS,
        "rows_train": len(parts.train),
        "rows_holdout": len(parts.holdout),
        "libraries": libraries(),
    }


def check_classes(problem: Problem, parts: Split) -> None:
    """Every class must occur among the rows learned from, which time order does not see to by itself."""
    if problem.task != "classification" or problem.truth is None:
        return
    absent = np.flatnonzero(
        np.bincount(problem.truth[parts.train], minlength=len(problem.signature.classes)) == 0
    )
    if len(absent):
        label = problem.signature.classes[int(absent[0])]
        raise DataError(
            f"Class {label!r} occurs only among the last rows, which are held out; "
            "use more rows or hold out fewer."
        )


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
