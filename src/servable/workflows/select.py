"""``select``: which model fits this problem, by score and by what a prediction costs as served."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from servable.artifact.manifest import TRAINED, Variant
from servable.artifact.signature import Task
from servable.errors import SettingInvalid
from servable.progress import NoProgress, Progress
from servable.tensors import Arrays, take
from servable.workflows import media
from servable.workflows.outcomes import Leaderboard, LeaderboardEntry
from servable.workflows.sources import table_of

if TYPE_CHECKING:
    import pandas as pd

    from servable.training.crossval import CandidateResult
    from servable.training.data import Problem

#: Rows on which a candidate's compiled form is proven and timed here; ``train`` uses all held-out rows.
PROOF_ROWS = 500
#: Seconds for tables when nobody says.
BUDGET_S = 60.0
#: One row at a time is what a caller of the API waits for.
BATCHES = (1,)


def select(
    data: "str | Path | pd.DataFrame",
    *,
    target: str | None = None,
    task: Task | None = None,
    kinds: Mapping[str, str] | None = None,
    models: Sequence[str] | Literal["auto"] = "auto",
    folds: int = 5,
    time_order: bool | str = False,
    time_budget_s: float | None = None,
    tolerance: float = 1e-4,
    seed: int = 0,
    progress: Progress | None = None,
) -> Leaderboard:
    """Compare candidates by cross-validation, then compile each and time one row as it would be served.

    Args:
        data: a CSV or Parquet file, or a DataFrame; for pictures and sounds see ``train``.
        target: the column to predict; None makes clusters.
        task: found from the target when None.
        kinds: overrides of column kinds.
        models: ``auto`` or names of candidates; the baselines are always compared too.
        folds: parts of the cross-validation.
        time_order: True when the rows are in order of time, or the column that gives the order.
        time_budget_s: seconds for the comparison; when None, 60 for tables and 240 for pictures and sounds.
        tolerance: largest difference at which a compiled form counts as equal.
        seed: makes the run repeatable.
        progress: told of every candidate.

    Raises:
        InputError: an option or the data cannot be used.
        FileMissing: there is no such data file.
        DependencyMissing: the extra ``train`` is not installed.
    """
    watched = progress or NoProgress()
    if models != "auto" and not models:
        raise SettingInvalid("No candidate was named; name some or use auto.")
    if media.is_media(data, target):
        wish = media.Wish(target, models, 0.2, time_budget_s or media.BUDGET_S, tolerance, seed)
        return media.select_media(Path(data), wish, watched)
    watched.begin("Read the data")
    frame, _ = table_of(data)
    from servable.training import data as rows
    from servable.training import tasks

    problem = rows.infer(frame, target, task=task, kinds=kinds, time_order=time_order)
    watched.done(f"{problem.size} rows, {len(problem.columns)} columns, {problem.task}")
    results = tasks.select(
        problem,
        models="auto" if models == "auto" else list(models),
        folds_wanted=folds,
        time_budget_s=BUDGET_S if time_budget_s is None else time_budget_s,
        seed=seed,
        progress=watched,
    )
    return _leaderboard(problem, _entries(problem, results, tolerance, seed, watched))


def _entries(
    problem: "Problem", results: "Sequence[CandidateResult]", tolerance: float, seed: int, progress: Progress
) -> list[LeaderboardEntry]:
    """A line for each candidate, in their order."""
    progress.begin("Compile and time", total=len(results))
    entries = []
    for result in results:
        entries.append(_entry(problem, result, tolerance, seed))
        progress.advance(1, result.name)
    progress.done()
    return entries


def _leaderboard(problem: "Problem", entries: Sequence[LeaderboardEntry]) -> Leaderboard:
    from servable.training.crossval import selection_metric
    from servable.training.measures import HIGHER_IS_BETTER
    from servable.workflows.train import column_notes

    metric = selection_metric(problem)
    return Leaderboard(
        task=problem.task,
        target=problem.target,
        rows_total=problem.size,
        metric=metric,
        higher_is_better=HIGHER_IS_BETTER[metric],
        entries=tuple(entries),
        columns=column_notes((*problem.columns, *problem.dropped)),
    )


def _entry(problem: "Problem", result: "CandidateResult", tolerance: float, seed: int) -> LeaderboardEntry:
    """A candidate's line: fitted once on all rows, compiled, proven on some, timed on one."""
    from servable.optimization.choose import optimise
    from servable.training import tasks

    adapter, trained = tasks.fit(problem, result.name, result.params, seed=seed)
    held = Variant(name=TRAINED, format=adapter, path="")
    rows: Arrays = take(problem.arrays, slice(0, PROOF_ROWS))
    with tempfile.TemporaryDirectory(prefix="servable-") as folder:
        found = optimise(trained, rows, Path(folder), fallback=held, tolerance=tolerance, batches=BATCHES)
    seconds = {
        variant.name: timing.seconds
        for variant in found.variants
        for timing in variant.timings
        if timing.rows == 1
    }
    refused = next((each.note for each in found.variants if each.proof and not each.proof.equal), "")
    served, trained_s = seconds.get(found.serving), seconds.get(TRAINED)
    return LeaderboardEntry(
        name=result.name,
        score=result.score,
        score_std=result.score_std,
        fit_seconds=result.fit_seconds,
        trained_us_per_row=None if trained_s is None else trained_s * 1e6,
        served_us_per_row=None if served is None else served * 1e6,
        served_variant=found.serving,
        note=result.note or (refused if found.serving == TRAINED else ""),
    )
