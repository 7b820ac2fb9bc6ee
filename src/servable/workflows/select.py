"""``select``: which model fits this problem, by score and by what a prediction costs as served."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from servable.artifact.manifest import TRAINED, Variant
from servable.artifact.signature import Task
from servable.errors import SettingInvalid
from servable.progress import NoProgress, Progress
from servable.tensors import take
from servable.workflows import media, reading
from servable.workflows.costs import Candidate, Terms, entry
from servable.workflows.losses import allowance
from servable.workflows.outcomes import Leaderboard, LeaderboardEntry
from servable.workflows.reading import Wish
from servable.workflows.samples import SAMPLE_ROWS

if TYPE_CHECKING:
    import pandas as pd

    from servable.artifact.loss import MaxLoss
    from servable.training.crossval import CandidateResult
    from servable.training.data import Problem

#: Rows on which a candidate's compiled form is proven and timed here; ``train`` uses all held-out rows.
PROOF_ROWS = 500
#: Share of the rows that lossy forms are measured on.
HOLDOUT = 0.2


def select(
    data: "str | Path | pd.DataFrame",
    *,
    target: str | None = None,
    task: Task | None = None,
    kinds: Mapping[str, str] | None = None,
    models: Sequence[str] | Literal["auto"] = "auto",
    online: bool = False,
    folds: int = 5,
    time_order: bool | str = False,
    time_budget_s: float | None = None,
    tolerance: float = 1e-4,
    max_loss: "MaxLoss | str | None" = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Leaderboard:
    """Compare candidates by cross-validation, then compile each and time one row as it would be served.

    Args:
        data: a CSV or Parquet file, or a DataFrame; for texts, pictures and sounds in folders see ``train``.
        target: the column to predict; None makes clusters.
        task: found from the target when None.
        kinds: overrides of column kinds.
        models: ``auto`` or names of candidates; the baselines are always compared too.
        online: whether models that learn row by row are compared too, each answering a row before it learns
            from it; rows are then in order of time, and the others are fitted to the parts before each part.
        folds: parts of the cross-validation.
        time_order: True when the rows are in order of time, or the column that gives the order.
        time_budget_s: seconds for the comparison; when None, 60 for tables and 270 for pictures and sounds.
        tolerance: largest difference at which a compiled form counts as equal.
        max_loss: the most that a lossy form may be worse, such as ``accuracy=0.005``; None tries none. It is
            measured on a fifth of the rows, which the candidate that is compiled has not learned from.
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
    wish = Wish(target, models, HOLDOUT, time_budget_s, tolerance, seed, allowance(max_loss), online)
    if media.is_media(data, target):
        if online:
            raise SettingInvalid("Pictures and sounds are not learned online; leave --online out.")
        return media.select_media(Path(data), wish, watched)
    columns = reading.Columns(target, task, kinds, time_order or online)
    problem = reading.read(data, columns, watched).problem
    wish.allowed.check(problem.signature)
    return _board(problem, wish, folds, watched)


def _board(problem: "Problem", wish: Wish, folds: int, progress: Progress) -> Leaderboard:
    """The candidates for a table, compared, compiled and timed."""
    from servable.training import tasks
    from servable.training.crossval import selection_metric
    from servable.training.measures import HIGHER_IS_BETTER
    from servable.workflows.train import column_notes

    rows = _parts(problem, wish)
    results = tasks.select(
        rows.compared,
        models="auto" if wish.models == "auto" else list(wish.models),
        online=wish.online,
        folds_wanted=folds,
        time_budget_s=reading.BUDGET_S if wish.time_budget_s is None else wish.time_budget_s,
        seed=wish.seed,
        progress=progress,
    )
    terms = Terms(selection_metric(problem), wish.tolerance, wish.allowed)
    progress.begin("Compile and time", total=len(results))
    entries = []
    for result in results:
        entries.append(_entry(rows, result, terms, wish.seed))
        progress.advance(1, result.name)
    progress.done()
    return Leaderboard(
        task=problem.task,
        target=problem.target,
        rows_total=problem.size,
        metric=terms.metric,
        higher_is_better=HIGHER_IS_BETTER[terms.metric],
        entries=tuple(entries),
        columns=column_notes((*problem.columns, *problem.dropped)),
    )


class _Parts(NamedTuple):
    """Rows by what they are for.

    Attributes:
        compared: candidates are compared on these.
        learned: of these a candidate is fitted to be compiled.
        measured: on these its forms are proven.
    """

    compared: "Problem"
    learned: "Problem"
    measured: "Problem"


def _parts(problem: "Problem", wish: Wish) -> _Parts:
    """Which rows are for what.

    What a lossy form costs is told by rows that the model has not seen. Equality may be proven on any.

    Raises:
        DataError: a class is only among the rows that are kept apart.
    """
    if problem.set_aside is None and not wish.allowed.needs_truth:
        return _Parts(problem, problem, problem)
    from servable.training.outcome import Asked, held_out

    parts = held_out(problem, Asked(wish.holdout, reading.BUDGET_S, wish.seed))
    learned = problem.part(parts.train)
    compared = problem if problem.set_aside is None else learned
    return _Parts(compared, learned, problem.part(parts.holdout))


def _entry(rows: _Parts, result: "CandidateResult", terms: Terms, seed: int) -> LeaderboardEntry:
    """A candidate's line: fitted once, compiled, proven on some rows, timed on one."""
    from servable.training import tasks

    adapter, trained = tasks.fit(rows.learned, result.name, result.params, seed=seed)
    held = Variant(name=TRAINED, format=adapter, path="")
    most = slice(0, SAMPLE_ROWS if terms.allowed.needs_truth else PROOF_ROWS)
    sample, truth = take(rows.measured.arrays, most), rows.measured.truth
    with tempfile.TemporaryDirectory(prefix="servable-") as folder:
        known = None if truth is None else truth[most]
        return entry(Candidate(result, trained, held, sample, known), Path(folder), terms)
