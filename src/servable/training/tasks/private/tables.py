"""Private models of tables: a linear one or a forest, measured on rows that they never saw.

Everything that a model needs beside its noise (how columns are scaled, which values they have, where they may
be split) comes from public bounds, and nothing is compared or tuned on the rows, which would spend the budget
again.
"""

import time
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from servable.errors import SettingInvalid
from servable.progress import NoProgress, Progress
from servable.training import evaluate as measuring
from servable.training.bounds import Bounds, Range, public_frame
from servable.training.candidates import prepare
from servable.training.crossval import CandidateResult, answer, predict, selection_metric
from servable.training.data import Problem
from servable.training.outcome import (
    Asked,
    TrainingResult,
    held_out,
    profile_of,
    recipe_of,
    result_of,
    trained_of,
)
from servable.training.split import HOLDOUT
from servable.training.tasks.private import forest, linear
from servable.training.tasks.private.budget import Budget, need_opacus

FOREST = "dp_forest"
#: The candidates of each task by name, the one that ``auto`` takes first.
TITLES = {
    "classification": {
        "dp_logistic": "logistic regression with differential privacy",
        FOREST: "random forest with differential privacy",
    },
    "regression": {"dp_linear": "linear regression with differential privacy"},
}


def named(task: str, model: str) -> str:
    """The candidate that is meant.

    Raises:
        SettingInvalid: the task has no such candidate, or is none that is learned privately.
    """
    if task not in TITLES:
        raise SettingInvalid("Only classification and regression are trained with differential privacy.")
    known = list(TITLES[task])
    if model == FOREST and FOREST not in known:
        raise SettingInvalid(f"{FOREST} tells classes and predicts no numbers; {known[0]} does.")
    if model not in ("auto", *known):
        raise SettingInvalid(
            f"{model!r} is not trained with differential privacy here; {' or '.join(known)} is."
        )
    return known[0] if model == "auto" else model


def train(
    problem: Problem,
    bounds: Bounds,
    budget: Budget,
    *,
    model: str = "auto",
    holdout: float = HOLDOUT,
    seed: int = 0,
    progress: Progress | None = None,
) -> TrainingResult:
    """Train a model within a budget, and measure it on rows that it never saw.

    The guarantee covers the rows that it learns from. The held-out rows are in the evaluation and in the
    profile, as in every package, but no weight depends on them.

    Args:
        problem: the rows, within the bounds; see ``bounds.bounded``.
        bounds: of all its columns.
        budget: what may be spent.
        model: ``auto`` for the linear one, or the name of a candidate of the task.
        holdout: share of rows held out.
        seed: of the split, and of the splits of a forest; never of the noise.
        progress: told of every stage.

    Raises:
        SettingInvalid: another task or model, or a budget that cannot be kept to.
        DependencyMissing: the extra ``dp``, which linear models need, is not installed.
        DataError: the rows cannot be learned from.
    """
    budget.check()
    name = named(problem.task, model)
    title = TITLES[problem.task][name]
    if name != FOREST:
        need_opacus()
    watched, started = progress or NoProgress(), time.monotonic()
    asked = Asked(holdout, 1.0, seed)
    parts = held_out(problem, asked)
    watched.begin(f"Fit {title}")
    pipeline, spent = _fitted(name, problem, parts.train, bounds, budget, seed)
    watched.done(f"epsilon {spent['epsilon']:.3g}, delta {spent['delta']:.1e}, on {len(parts.train)} rows")
    evaluation = _evaluated(problem, parts.holdout, pipeline, seed, watched)
    pick = CandidateResult(name, title, 0.0, 0.0, 0.0, {})
    recipe = {**recipe_of(problem, parts, pick, asked, 0), "validation": "held-out rows alone", "folds": 0}
    recipe["privacy"] = spent
    found = result_of(problem, parts, trained_of(pipeline, problem.signature), evaluation, (), recipe)
    return replace(
        found,
        # Of the rows that it learned from nothing is kept, not even counts.
        profile=profile_of(problem, parts.holdout),
        sample=found.holdout,
        notes=(*found.notes, _note(spent)),
        seconds=time.monotonic() - started,
    )


def _note(spent: dict[str, Any]) -> str:
    return (
        f"trained with differential privacy (epsilon {spent['epsilon']:.3g}, delta {spent['delta']:.1e}): "
        "columns were scaled by the bounds that were told, and statistics are those of held-out rows"
    )


def _fitted(
    name: str, problem: Problem, rows: NDArray[Any], bounds: Bounds, budget: Budget, seed: int
) -> tuple[Pipeline, dict[str, Any]]:
    """A candidate behind its preparation, fitted to rows, and what was spent on it."""
    preparation = prepare(problem.signature, dense=name != FOREST, imputes=True)
    preparation.fit(public_frame(problem.signature, bounds))
    seen = preparation.transform(problem.frame(rows))
    truth = np.asarray(problem.truth_at(rows))
    if name == FOREST:
        domain, classes = _domain(problem, bounds, preparation), len(problem.signature.classes)
        made, spent = forest.fit(seen, truth, classes, domain, budget, seed=seed)
    else:
        made, spent = _linear(problem, bounds, seen, truth, budget)
    return Pipeline([("prepare", preparation), ("model", made)]), spent


def _linear(
    problem: Problem, bounds: Bounds, seen: NDArray[Any], truth: NDArray[Any], budget: Budget
) -> tuple[Any, dict[str, Any]]:
    """A fitted linear model, and what was spent on it."""
    if problem.task == "classification":
        return linear.logistic(seen, truth, len(problem.signature.classes), budget)
    known = bounds.of(problem.signature.answer.name)
    if not isinstance(known, Range):
        raise SettingInvalid(f"{bounds.place} must give the range of the numbers that are predicted.")
    return linear.ridge(seen, truth, known, budget)


def _domain(problem: Problem, bounds: Bounds, preparation: Any) -> forest.Domain:
    """What the bounds say of the prepared columns; values that nobody knows are the code -1."""
    shown = preparation.transform(public_frame(problem.signature, bounds))
    kinds = {field.name: field.kind for field in problem.signature.inputs}
    codes = np.asarray([kinds[str(name)] == "category" for name in preparation.get_feature_names_out()])
    return forest.Domain(np.where(codes, -1.0, shown.min(axis=0)), shown.max(axis=0), codes)


def _evaluated(
    problem: Problem, rows: NDArray[Any], pipeline: Pipeline, seed: int, progress: Progress
) -> measuring.Evaluation:
    """The model on the held-out rows. There are no baselines: they would have to spend a budget, too."""
    progress.begin("Evaluate on held-out rows")
    frame, truth = problem.frame(rows), np.asarray(problem.truth_at(rows))
    found = measuring.evaluate(problem.signature, truth, answer(pipeline, frame, problem.task), seed=seed)
    columns = measuring.importance(
        lambda asked: predict(pipeline, asked, problem.task),
        frame,
        truth,
        task=problem.task,
        classes=len(problem.signature.classes),
        seed=seed,
    )
    found = msgspec.structs.replace(found, metric=selection_metric(problem), importance=columns)
    progress.done()
    return found
