"""Comparing the candidates over texts by cross-validation, and tuning the best one."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from servable.errors import DependencyMissing, SettingInvalid
from servable.progress import NoProgress, Progress
from servable.tensors import PREDICTION, take
from servable.training import candidates, measures
from servable.training.candidates import DUMMY
from servable.training.crossval import (
    Arena,
    CandidateResult,
    fit_quietly,
    score_candidate,
    selection_metric,
)
from servable.training.data import Problem
from servable.training.split import Rows, folds
from servable.training.tasks import text_pipelines
from servable.training.tasks.text_counts import Counts, spaced
from servable.training.tasks.text_fit import Subject, fit_network, has_torch
from servable.training.tasks.text_pipelines import PLAIN, RECURRENT, TABLE, TextCandidate

#: Share of the time for the comparison that the linear models leave to the network.
_LINEAR_SHARE = 0.5
#: Candidates that are compared however long it takes: the baselines, and the first beside them.
_SURE = 3


@dataclass(frozen=True, eq=False)
class Ring:
    """What candidates compete on; see ``crossval.Arena``. Rows are numbers within the problem."""

    problem: Problem
    rows: Rows
    folds: Sequence[tuple[Rows, Rows]]
    counts: Counts
    spaced: bool
    seed: int

    @property
    def subject(self) -> Subject:
        """What is learned, whatever the rows."""
        return Subject(self.problem, self.spaced, self.seed)

    @property
    def metric(self) -> str:
        """The selection metric."""
        return selection_metric(self.problem)

    def score(self, check: Rows, given: NDArray[Any]) -> float:
        """The metric of the answers to the rows at some positions."""
        truth = self.problem.truth_at(self.rows[check])
        return measures.score(self.metric, truth, given, len(self.problem.signature.classes))


def make_ring(problem: Problem, rows: Rows, count: int, seed: int) -> Ring:
    """The rows and so many folds of them, rows with the same texts on one side of each."""
    groups = problem.groups()
    cut = folds(
        problem.truth_at(rows),
        len(rows),
        problem.task,
        count=count,
        time_order=problem.time_order,
        seed=seed,
        groups=None if groups is None else groups[rows],
    )
    blanks = spaced(problem, rows)
    return Ring(problem, rows, cut, Counts(problem, rows, blanks=blanks), blanks, seed)


def _competing(ring: Ring, models: str | list[str]) -> list[TextCandidate]:
    """The candidates to compare: all for ``auto``, else those named and the baselines.

    Raises:
        SettingInvalid: no such candidate.
        DependencyMissing: the recurrent network was named, and PyTorch is not installed.
    """
    signature = ring.problem.signature
    known = text_pipelines.listed(signature, spaced=ring.spaced)
    if models == "auto":
        return [each for each in known if each.name != RECURRENT or has_torch()]
    names = [models] if isinstance(models, str) else list(models)
    if not names:
        raise SettingInvalid("No model was named; say auto or give names.")
    named = [text_pipelines.candidate(signature, name, spaced=ring.spaced) for name in dict.fromkeys(names)]
    if any(each.name == RECURRENT for each in named) and not has_torch():
        raise DependencyMissing(
            "The recurrent network needs PyTorch, which is not installed; run: pip install 'servable[torch]'"
        )
    return [each for each in known if each.name in (DUMMY, PLAIN) and each not in named] + named


def compare(
    ring: Ring, models: str | list[str], budget_s: float, progress: Progress
) -> list[CandidateResult]:
    """The candidates' scores, best first; baselines and those named in any case, others as time allows."""
    started = time.monotonic()
    competing = _competing(ring, models)
    progress.begin("Compare candidates", total=len(competing))
    results = []
    for place, known in enumerate(competing):
        sure = models != "auto" or place < _SURE
        network = known.name == RECURRENT
        late = time.monotonic() - started > budget_s * (1 if network else _LINEAR_SHARE)
        if late and not sure and not network:
            progress.advance(1, f"{known.name}: no time left")
            continue
        until = max(started + budget_s, time.monotonic() + budget_s * (1 - _LINEAR_SHARE))
        if network:
            result = _network_score(ring, known, until)
        else:
            result = _table_score(ring, known) if known.name == TABLE else _score(ring, known, {})
        results.append(result)
        progress.advance(1, f"{known.name} {result.score:.4f}")
    results.sort(key=lambda result: -result.score)
    progress.done(f"best {results[0].name}, {ring.metric} {results[0].score:.4f}")
    return results


def _score(ring: Ring, known: TextCandidate, params: Mapping[str, Any]) -> CandidateResult:
    """Cross-validate a bag-of-words model on the counts that all share."""
    problem = ring.problem
    scores, seconds = [], []
    note = ""
    for fit_at, check in ring.folds:
        started = time.monotonic()
        model = text_pipelines.estimator(problem.signature, known, params, ring.seed)
        if known.name == DUMMY:
            seen, asked = np.zeros((len(fit_at), 1)), np.zeros((len(check), 1))
        else:
            seen, asked = ring.counts.matrices(known, fit_at, check)
        note = fit_quietly(model, seen, problem.truth_at(ring.rows[fit_at])) or note
        seconds.append(time.monotonic() - started)
        scores.append(ring.score(check, np.asarray(model.predict(asked))))
    used = {known.parameter: known.strengths[0], **params} if known.strengths else dict(params)
    return CandidateResult.of_folds(known.name, known.title, scores, seconds, used, note)


def _table_score(ring: Ring, known: TextCandidate) -> CandidateResult:
    """Cross-validate boosted trees on the columns that are no text."""
    problem, rows = ring.problem, ring.rows
    arena = Arena(
        problem.signature,
        problem.frame(rows),
        problem.truth_at(rows),
        ring.folds,
        ring.metric,
        ring.seed,
        candidates.threads(len(rows)),
    )
    found = score_candidate(arena, candidates.candidate(problem.task, TABLE), {})
    return replace(found, title=known.title)


def _network_score(ring: Ring, known: TextCandidate, until: float) -> CandidateResult:
    """Fit the network on as many folds as there is time for, and at least one."""
    scores: list[float] = []
    seconds: list[float] = []
    note = ""
    for fit_at, check in ring.folds:
        if scores and time.monotonic() + max(seconds) > until:
            break
        started = time.monotonic()
        fitted = fit_network(ring.subject, ring.rows[fit_at], until, NoProgress())
        seconds.append(time.monotonic() - started)
        given = fitted.predictor.predict(take(ring.problem.arrays, ring.rows[check]))
        fitted.predictor.close()
        scores.append(ring.score(check, given[PREDICTION]))
        note = f"{len(scores)} of {len(ring.folds)} folds" if len(scores) < len(ring.folds) else ""
    params = {"seconds": round(max(seconds) * 1.5, 1)}
    return CandidateResult.of_folds(known.name, known.title, scores, seconds, params, note)


def tuned(
    ring: Ring, known: TextCandidate, pick: CandidateResult, until: float, progress: Progress
) -> tuple[CandidateResult, int]:
    """The best of a candidate's strengths, as far as the time allows, and how many were tried."""
    tries: list[dict[str, Any]] = [{known.parameter: value} for value in known.strengths[1:]]
    if ring.problem.imbalanced and known.parameter == "C":
        tries.insert(0, {known.parameter: known.strengths[0], "class_weight": "balanced"})
    if not tries:
        return pick, 0
    progress.begin(f"Tune {pick.title}", total=len(tries) + 1)
    progress.advance(1, f"{known.name} {pick.score:.4f}")
    best, done, longest = pick, 1, 0.0
    for params in tries:
        if time.monotonic() + longest > until:
            break
        started = time.monotonic()
        result = _score(ring, known, params)
        longest = max(longest, time.monotonic() - started)
        best = result if result.score > best.score else best
        done += 1
        progress.advance(1, f"best {best.score:.4f}")
    progress.done(f"{ring.metric} {best.score:.4f} after {done} trials")
    return best, done
