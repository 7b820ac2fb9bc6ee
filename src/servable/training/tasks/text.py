"""Learning from free text: bags of words and characters with linear models, and a recurrent network."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from servable.frameworks.base import Trained
from servable.frameworks.frame import pack
from servable.progress import NoProgress, Progress
from servable.tensors import PREDICTION, take
from servable.training import evaluate
from servable.training.candidates import DUMMY
from servable.training.crossval import CandidateResult, selection_metric
from servable.training.data import Problem
from servable.training.evaluate import Evaluation
from servable.training.outcome import (
    COMPARE_FOLDS,
    Asked,
    TrainingResult,
    held_out,
    metrics_of,
    recipe_of,
    result_of,
)
from servable.training.split import HOLDOUT, Rows
from servable.training.tasks import text_pipelines
from servable.training.tasks.text_compare import compare, make_ring, tuned
from servable.training.tasks.text_counts import spaced
from servable.training.tasks.text_fit import Fitted, Subject, answers, fit_candidate, has_torch
from servable.training.tasks.text_pipelines import PLAIN, RECURRENT

#: Shares of the time after which the comparison and the tuning end. Families differ more than settings do.
_COMPARE_SHARE = 0.6
_TUNE_SHARE = 0.85
_NO_TORCH = "the recurrent network was left out, as PyTorch is not installed (the extra torch)"


def select(
    problem: Problem,
    *,
    models: str | list[str] = "auto",
    folds_wanted: int = 5,
    time_budget_s: float = 60.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[CandidateResult]:
    """Compare the candidates by cross-validation over all rows, best first; see ``search.select``.

    The recurrent network is fitted on as many folds as the time allows, one at least.
    """
    rows = np.arange(problem.size, dtype=np.int64)
    ring = make_ring(problem, rows, folds_wanted, seed)
    return compare(ring, models, time_budget_s, progress or NoProgress())


def fit(problem: Problem, name: str, params: Mapping[str, Any], *, seed: int = 0) -> tuple[str, Trained]:
    """Fit one candidate on all rows: the adapter's name and the model."""
    rows = np.arange(problem.size, dtype=np.int64)
    blanks = spaced(problem, rows)
    known = text_pipelines.candidate(problem.signature, name, spaced=blanks)
    until = time.monotonic() + float(params.get("seconds", 60.0))
    fitted = fit_candidate(Subject(problem, blanks, seed), rows, known, params, until, NoProgress())
    fitted.predictor.close()
    return fitted.adapter, fitted.trained


def train(
    problem: Problem,
    *,
    model: str = "auto",
    holdout: float = HOLDOUT,
    time_budget_s: float = 60.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> TrainingResult:
    """Train the best model over texts that the time allows, and measure it on rows that it never saw.

    Rows with the same texts are on one side of every split. See ``search.train``.
    """
    watched = progress or NoProgress()
    started, asked = time.monotonic(), Asked(holdout, time_budget_s, seed)
    parts = held_out(problem, asked)
    ring = make_ring(problem, parts.train, COMPARE_FOLDS, seed)
    board = compare(ring, model, time_budget_s * _COMPARE_SHARE, watched)
    pick = next(each for each in board if (each.name == model if model != "auto" else each.name != DUMMY))
    known = text_pipelines.candidate(problem.signature, pick.name, spaced=ring.spaced)
    pick, trials = tuned(ring, known, pick, started + time_budget_s * _TUNE_SHARE, watched)
    board = sorted([pick, *(each for each in board if each.name != pick.name)], key=lambda each: -each.score)
    deadline = started + time_budget_s
    chosen, baselines = _final(ring.subject, parts.train, pick, deadline, watched)
    evaluation = _evaluated(problem, parts.holdout, chosen, baselines, seed, watched)
    chosen.predictor.close()
    recipe = recipe_of(problem, parts, pick, asked, trials)
    recipe["libraries"] = recipe["libraries"] | dict(chosen.trained.libraries)
    return replace(
        result_of(problem, parts, chosen.trained, evaluation, board, recipe),
        notes=_notes(problem),
        seconds=time.monotonic() - started,
        adapter=chosen.adapter,
        baseline=PLAIN,
    )


def _notes(problem: Problem) -> tuple[str, ...]:
    """Sentences about the rows, and about what was left out."""
    notes = list(problem.notes)
    if problem.task == "classification" and not has_torch():
        notes.append(_NO_TORCH)
    groups = problem.groups()
    repeated = 0 if groups is None else problem.size - len(np.unique(groups))
    if repeated:
        notes.append(
            f"{repeated} rows repeat the texts of others; such rows were kept on one side of the split"
        )
    return tuple(notes)


def _final(
    subject: Subject, rows: Rows, pick: CandidateResult, deadline: float, progress: Progress
) -> tuple[Fitted, dict[str, Fitted]]:
    """The chosen model and the baselines, each fitted on all rows that may be learned from."""
    wanted: dict[str, Mapping[str, Any]] = {DUMMY: {}, PLAIN: {}, pick.name: pick.params}
    network = pick.name == RECURRENT
    progress.begin("Fit the final model", total=None if network else len(wanted))
    fitted = {}
    for name, params in wanted.items():
        known = text_pipelines.candidate(subject.problem.signature, name, spaced=subject.spaced)
        until = max(deadline, time.monotonic() + float(params.get("seconds", 0.0)))
        fitted[name] = fit_candidate(subject, rows, known, params, until, progress)
        progress.advance(1, name)
    progress.done(f"{pick.name} on {len(rows)} rows")
    baselines = {name: fitted[name] for name in (DUMMY, PLAIN)}
    return fitted[pick.name], baselines


def _evaluated(
    problem: Problem,
    rows: Rows,
    chosen: Fitted,
    baselines: Mapping[str, Fitted],
    seed: int,
    progress: Progress,
) -> Evaluation:
    """The chosen model on the held-out rows, with the baselines and what there is to show of it."""
    progress.begin("Evaluate on held-out rows")
    arrays, truth = take(problem.arrays, rows), np.asarray(problem.truth_at(rows))
    found = evaluate.evaluate(problem.signature, truth, answers(chosen, arrays), seed=seed)
    metrics = {
        name: metrics_of(problem.signature, truth, answers(fitted, arrays))
        for name, fitted in baselines.items()
    }
    columns = evaluate.importance(
        lambda frame: np.asarray(answers(chosen, pack(frame, problem.signature))[PREDICTION]),
        problem.frame(rows),
        truth,
        task=problem.task,
        classes=len(problem.signature.classes),
        seed=seed,
    )
    found = msgspec.structs.replace(
        found,
        metric=selection_metric(problem),
        baselines=metrics,
        importance=columns,
        telling=chosen.telling,
        learning=chosen.learning,
    )
    headline = found.metrics.get(found.metric)
    progress.done(f"{found.metric} {headline:.4f}" if headline is not None else "")
    return found
