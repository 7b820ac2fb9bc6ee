"""Learning online: models of River are compared by answering every row before they learn from it.

This is how such a model will live, so its score here is what is to be expected; and whoever went through all
rows has learned from them, so nothing is fitted twice. Rows are taken in the order in which they lie.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from servable.errors import SettingInvalid
from servable.frameworks import lookup
from servable.frameworks.base import Trained
from servable.frameworks.frame import pack
from servable.frameworks.river_rows import Missing, rows_of
from servable.progress import NoProgress, Progress
from servable.tensors import PREDICTION, take
from servable.training import evaluate, measures
from servable.training.candidates import DUMMY
from servable.training.crossval import CandidateResult, selection_metric
from servable.training.data import Problem
from servable.training.evaluate import Evaluation
from servable.training.outcome import (
    Asked,
    TrainingResult,
    held_out,
    libraries,
    metrics_of,
    recipe_of,
    result_of,
)
from servable.training.split import HOLDOUT, Rows
from servable.training.tasks.online_models import LINEAR, OnlineCandidate, candidate, chosen

#: How rows were compared, as a recipe names it.
PROGRESSIVE = "progressive"
#: Share of the rows that count for nothing: nobody knows anything at the first ones.
_BEGINNING = 0.1
#: Consecutive parts whose scores tell how much they vary.
_PARTS = 3
#: How a missing value is said to the pipelines made here.
_MISSING: Missing = "none"


class Learned(NamedTuple):
    """A candidate that went through all rows, and how it did."""

    trained: Trained
    result: CandidateResult


def fit(problem: Problem, name: str, params: Mapping[str, Any], *, seed: int = 0) -> tuple[str, Trained]:
    """Let one candidate learn all rows of a problem, in their order: the adapter's name and the model."""
    check(problem)
    learned = _learned(problem, np.arange(problem.size, dtype=np.int64), candidate(name), seed, scored=False)
    return "river", learned.trained


def train(
    problem: Problem,
    *,
    model: str = "auto",
    holdout: float = HOLDOUT,
    time_budget_s: float = 60.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> TrainingResult:
    """Compare the candidates, and measure the best on rows that it never saw; see ``search.train``.

    Raises:
        SettingInvalid: no such model, a task or columns that none of them learns, or no time.
        DependencyMissing: River is not installed.
        DataError: the rows cannot be learned from.
    """
    check(problem)
    watched = progress or NoProgress()
    started, asked = time.monotonic(), Asked(holdout, time_budget_s, seed)
    parts = held_out(problem, asked)
    competing = chosen(model, problem.size)
    watched.begin("Compare models that learn online", total=len(competing))
    learned: dict[str, Learned] = {}
    # The baselines and the first real candidate are compared in any case, and one that was asked for.
    sure = 3 if model == "auto" else len(competing)
    for place, known in enumerate(competing):
        if place >= sure and time.monotonic() - started > time_budget_s:
            watched.advance(1, f"{known.name}: no time left")
            continue
        learned[known.name] = _learned(problem, parts.train, known, seed)
        watched.advance(1, f"{known.name} {learned[known.name].result.score:.4f}")
    board = sorted((each.result for each in learned.values()), key=lambda result: -result.score)
    watched.done(f"best {board[0].name}, {selection_metric(problem)} {board[0].score:.4f}")
    pick = next(each for each in board if (each.name == model if model != "auto" else each.name != DUMMY))
    trained = learned[pick.name].trained
    evaluation = _evaluated(problem, parts.holdout, learned, pick.name, seed, watched)
    recipe = {**recipe_of(problem, parts, pick, asked, 0), "validation": PROGRESSIVE}
    recipe["libraries"] = {**recipe["libraries"], **trained.libraries}
    found = result_of(problem, parts, trained, evaluation, board, recipe)
    seconds = time.monotonic() - started
    return replace(found, seconds=seconds, adapter="river", baseline=LINEAR)


def answered(problem: Problem, name: str, seed: int) -> tuple[str, NDArray[Any]]:
    """What a candidate answers to each row of a problem just before it learns from it.

    Returns:
        Its title, and int64 places among the classes or float64 values ``[rows]``.

    Raises:
        DataError: it cannot learn from a row.
    """
    from servable.frameworks import river  # There with the extra river alone.

    known, rows = candidate(name), np.arange(problem.size, dtype=np.int64)
    trained, given, asked = _fresh(problem, rows, known, seed)
    return known.title, river.answered_first(trained, asked, given)


def check(problem: Problem) -> None:
    """Whether such models can learn this at all.

    Raises:
        SettingInvalid: they cannot.
        DependencyMissing: River is not installed.
    """
    if problem.task not in ("classification", "regression"):
        raise SettingInvalid("Only classifiers and regressors learn online; name a --target.")
    if problem.texts:
        raise SettingInvalid(
            f"Column {problem.texts[0].name!r} is free text, which the models that learn online do not read; "
            f"leave it out with --kind {problem.texts[0].name}=drop."
        )
    lookup.adapter("river")


def _learned(
    problem: Problem, rows: Rows, known: OnlineCandidate, seed: int, *, scored: bool = True
) -> Learned:
    """Let a candidate answer each of the rows, and then learn from it."""
    from servable.frameworks import river  # There with the extra river alone.

    started = time.monotonic()
    trained, given, asked = _fresh(problem, rows, known, seed)
    if not scored:
        river.learn(trained.model, asked, given)
        return Learned(trained, CandidateResult(known.name, known.title, 0.0, 0.0, 0.0, {}))
    answers = river.answered_first(trained, asked, given)
    scores = _scores(problem, np.asarray(problem.truth_at(rows)), answers)
    seconds = time.monotonic() - started
    result = CandidateResult(
        known.name, known.title, float(np.mean(scores)), float(np.std(scores)), seconds, {}
    )
    return Learned(trained, result)


def _fresh(
    problem: Problem, rows: Rows, known: OnlineCandidate, seed: int
) -> tuple[Trained, list[Any], list[dict[str, Any]]]:
    """A candidate that has learned nothing, and the right answers and rows as it takes them."""
    # There with the extra river alone.
    from servable.frameworks import river
    from servable.frameworks.river_signature import LABELS, MISSING, own_labels

    signature = problem.signature
    model = known.make(signature, seed)
    options: dict[str, Any] = {MISSING: _MISSING}
    if signature.classes:
        options[LABELS] = list(own_labels(model, signature.classes))
    trained = river.trained_of(model, signature, options)
    trained = trained._replace(libraries={**libraries(), **trained.libraries})
    given = river.answers(trained, np.asarray(problem.truth_at(rows)))
    return trained, given, rows_of(take(problem.arrays, rows), signature, _MISSING)


def _scores(problem: Problem, truth: NDArray[Any], answers: NDArray[Any]) -> list[float]:
    """The metric over consecutive parts of the rows, the beginning left out."""
    places = np.arange(int(len(truth) * _BEGINNING), len(truth))
    metric, classes = selection_metric(problem), len(problem.signature.classes)
    return [
        measures.score(metric, truth[part], answers[part], classes) for part in np.array_split(places, _PARTS)
    ]


def _evaluated(
    problem: Problem, rows: Rows, learned: Mapping[str, Learned], name: str, seed: int, progress: Progress
) -> Evaluation:
    """The chosen model on the held-out rows, with the baselines and the importance of the columns."""
    progress.begin("Evaluate on held-out rows")
    wrap, signature = lookup.adapter("river").wrap, problem.signature
    arrays, truth = take(problem.arrays, rows), np.asarray(problem.truth_at(rows))
    predictor = wrap(learned[name].trained)
    found = evaluate.evaluate(signature, truth, predictor.predict(arrays), seed=seed)
    baselines = {
        other: metrics_of(signature, truth, wrap(learned[other].trained).predict(arrays))
        for other in (DUMMY, LINEAR)
    }
    columns = evaluate.importance(
        lambda frame: np.asarray(predictor.predict(pack(frame, signature))[PREDICTION]),
        problem.frame(rows),
        truth,
        task=problem.task,
        classes=len(signature.classes),
        most_rows=500,
        seed=seed,
    )
    found = msgspec.structs.replace(
        found, metric=selection_metric(problem), baselines=baselines, importance=columns
    )
    headline = found.metrics.get(found.metric)
    progress.done(f"{found.metric} {headline:.4f}" if headline is not None else "")
    return found
