"""Models that learn online beside those that are fitted anew, on the same rows in their order.

All are asked about the same rows, the later parts of the data in order of time. Who learns online has learned
from every row before the one that it answers (``partial_fit``: from every hundred); who is fitted anew has
learned from the parts before. So the scores say what either way of keeping up would have come to.
"""

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from servable.errors import DataError, SettingInvalid, converted
from servable.progress import Progress
from servable.training import measures, search
from servable.training.candidates import DUMMY, build, candidate
from servable.training.crossval import Arena, CandidateResult, fit_quietly, predict
from servable.training.data import Problem
from servable.training.tasks.online import answered, check
from servable.training.tasks.online_models import LINEAR, chosen, is_online

#: Candidates of batch training that go on learning by ``partial_fit``.
PARTIAL = ("sgd", "naive_bayes")
#: Rows that ``partial_fit`` is given at once, each answered before.
_AT_ONCE = 100
#: Share of the time that those who are fitted anew may take.
_ANEW = 0.5


def select(
    problem: Problem,
    *,
    models: str | list[str] = "auto",
    folds_wanted: int = 5,
    time_budget_s: float = 60.0,
    seed: int = 0,
    progress: Progress,
) -> list[CandidateResult]:
    """Compare models that learn online, and models that are fitted anew; see ``search.select``.

    Args:
        problem: the rows, in order of time.
        models: ``auto`` or names; the baselines of both kinds are always compared too.
        folds_wanted: parts in which rows are answered; those before the first are learned from alone.
        time_budget_s: after this no further candidate is begun that nobody named.
        seed: of estimators.
        progress: told of every candidate.

    Raises:
        SettingInvalid: a model that does not exist, a task or columns that none of them learns.
        DependencyMissing: River is not installed.
        DataError: the rows cannot be learned from.
    """
    check(problem)
    until = time.monotonic() + time_budget_s
    anew: str | list[str] = "auto"
    online = [each.name for each in chosen("auto", problem.size) if each.name != DUMMY] + list(PARTIAL)
    if models != "auto":
        named = [models] if isinstance(models, str) else list(models)
        anew = [name for name in named if not _learns_on(name)] or [DUMMY]
        online = [LINEAR, *(name for name in named if _learns_on(name) and name != LINEAR)]
    found = search.select(
        problem,
        models=anew,
        folds_wanted=folds_wanted,
        time_budget_s=time_budget_s * _ANEW,
        seed=seed,
        progress=progress,
    )
    rows = np.arange(problem.size, dtype=np.int64)
    arena = search.make_arena(problem, rows, folds_wanted, len(rows), seed)
    progress.begin("Compare models that learn online", total=len(online))
    for name in online:
        if models == "auto" and name != LINEAR and time.monotonic() > until:
            progress.advance(1, f"{name}: no time left")
            continue
        try:
            result = _scored(problem, arena, name)
        except DataError as refused:
            if models != "auto":
                raise
            progress.advance(1, f"{name}: {refused.message}")
            continue
        found.append(result)
        progress.advance(1, f"{name} {result.score:.4f}")
    progress.done()
    return sorted(found, key=lambda result: -result.score)


def _learns_on(name: str) -> bool:
    return is_online(name) or name in PARTIAL


def _scored(problem: Problem, arena: Arena, name: str) -> CandidateResult:
    """A candidate that goes through all rows, answering those of the folds before it learns from them."""
    started = time.monotonic()
    if name in PARTIAL:
        title, answers = _by_parts(arena, name)
    else:
        title, answers = answered(problem, name, arena.seed)
    seconds = time.monotonic() - started
    truth, classes = _truth(arena), len(arena.signature.classes)
    scores = [measures.score(arena.metric, truth[part], answers[part], classes) for _, part in arena.folds]
    return CandidateResult(
        name,
        title,
        float(np.mean(scores)),
        float(np.std(scores)),
        seconds,
        {},
        f"learns on, {seconds / max(len(truth), 1) * 1e6:,.0f} µs a row",
        online=True,
    )


def _by_parts(arena: Arena, name: str) -> tuple[str, NDArray[Any]]:
    """The title and the answers ``[rows]`` of a model that is fitted to the first rows, and then learns on.

    Raises:
        DataError: a class is not among the first rows, and such a model learns no new one.
    """
    known, truth, first = candidate(arena.signature.task, name), _truth(arena), arena.folds[0][0]
    if arena.signature.task == "classification" and len(np.unique(truth[first])) < len(np.unique(truth)):
        raise DataError("a class is not among the first rows, and by partial_fit no new one is learned")
    pipeline = build(arena.signature, name, {}, seed=arena.seed, jobs=arena.jobs)
    fit_quietly(pipeline, arena.frame.iloc[first], truth[first])
    prepare, model = pipeline.named_steps["prepare"], pipeline.named_steps["model"]
    answers = np.zeros(len(truth), truth.dtype)
    for start in range(len(first), len(truth), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        frame = arena.frame.iloc[part]
        answers[part] = predict(pipeline, frame, arena.signature.task)
        with converted({ValueError: SettingInvalid}, "The model cannot learn on: {}."):
            model.partial_fit(prepare.transform(frame), truth[part])
    return known.title, answers


def _truth(arena: Arena) -> NDArray[Any]:
    if arena.truth is None:
        raise DataError("There is no target to compare candidates by.")
    return arena.truth
