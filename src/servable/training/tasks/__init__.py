"""What learns from which kind of data: tables in ``search``, tables with free text in ``text``.

Models that learn row by row are in ``online``.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from servable.errors import SettingInvalid
from servable.frameworks.base import Trained
from servable.progress import NoProgress, Progress
from servable.training import search
from servable.training.crossval import CandidateResult
from servable.training.data import Problem
from servable.training.outcome import TrainingResult, profile_of
from servable.training.split import HOLDOUT
from servable.training.tasks import prequential, text
from servable.training.tasks.online import fit as fit_online
from servable.training.tasks.online import train as train_online
from servable.training.tasks.online_models import is_online


def _has_texts(problem: Problem) -> bool:
    return bool(problem.texts) and problem.task in ("classification", "regression")


def select(
    problem: Problem,
    *,
    models: str | list[str] = "auto",
    online: bool = False,
    folds_wanted: int = 5,
    time_budget_s: float = 60.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[CandidateResult]:
    """Compare the candidates for a problem by cross-validation; see ``search.select``.

    With ``online`` those that learn on are compared too, all in order of time; see ``prequential``.
    """
    if online:
        return prequential.select(
            problem,
            models=models,
            folds_wanted=folds_wanted,
            time_budget_s=time_budget_s,
            seed=seed,
            progress=progress or NoProgress(),
        )
    course = text.select if _has_texts(problem) else search.select
    return course(
        problem,
        models=models,
        folds_wanted=folds_wanted,
        time_budget_s=time_budget_s,
        seed=seed,
        progress=progress,
    )


def fit(
    problem: Problem,
    name: str,
    params: Mapping[str, Any],
    *,
    weights: NDArray[np.float64] | None = None,
    seed: int = 0,
) -> tuple[str, Trained]:
    """Fit one candidate on all rows of a problem: the adapter's name and the model.

    Args:
        problem: the rows.
        name: of the candidate.
        params: of the candidate.
        weights: what each row counts; None for all alike.
        seed: of the estimator.

    Raises:
        SettingInvalid: no such candidate, or one that takes no weights.
        DataError: it cannot learn from these rows.
    """
    if is_online(name):
        if weights is not None:
            raise SettingInvalid(f"{name} cannot give newer rows more weight; use a window instead.")
        return fit_online(problem, name, params, seed=seed)
    if not _has_texts(problem):
        return "sklearn", search.fit(problem, name, params, weights=weights, seed=seed)
    if weights is not None:
        raise SettingInvalid("A model of texts cannot give newer rows more weight; use a window instead.")
    return text.fit(problem, name, params, seed=seed)


def train(
    problem: Problem,
    *,
    model: str = "auto",
    online: bool = False,
    holdout: float = HOLDOUT,
    time_budget_s: float = 60.0,
    seed: int = 0,
    refit: bool = False,
    progress: Progress | None = None,
) -> TrainingResult:
    """Train the best model that the time allows, and measure it on unseen rows; see ``search.train``.

    With ``online`` only those compete that learn row by row, see ``online``; to name one is enough.

    Args:
        problem: the rows.
        model: ``auto``, or the name of a candidate.
        holdout: share of rows held out.
        time_budget_s: seconds for all of it but the last fit.
        seed: of whatever is random.
        refit: whether the model is fitted once more, with the rows that it was measured on too.
        online: whether the model learns row by row.
        progress: told of every stage.

    Raises:
        SettingInvalid: an option cannot be used.
        DataError: the rows cannot be learned from.
    """
    if refit and problem.task == "clustering":
        raise SettingInvalid(
            "Clusters that are found anew in all rows are not those that were measured; leave --refit out."
        )
    learns_on = online or is_online(model)
    if learns_on:
        course: Any = train_online
    else:
        course = text.train if _has_texts(problem) else search.train
    found: TrainingResult = course(
        problem,
        model=model,
        holdout=holdout,
        time_budget_s=time_budget_s,
        seed=seed,
        progress=progress,
    )
    # Who learns row by row has learned the rows that it was measured on, each after its answer.
    return refitted(problem, found, progress) if refit and not learns_on else found


def refitted(problem: Problem, result: TrainingResult, progress: Progress | None = None) -> TrainingResult:
    """A training whose model was fitted once more, on all rows; its figures stay those of the one before.

    Args:
        problem: the rows.
        result: what they came to.
        progress: told of it.

    Raises:
        DataError: it cannot learn from all of the rows.
    """
    watched, recipe = progress or NoProgress(), result.recipe
    rows = np.arange(problem.size, dtype=np.int64)
    started = time.monotonic()
    watched.begin("Fit with the held-out rows too")
    adapter, trained = fit(problem, recipe["estimator"], recipe["params"], seed=int(recipe["seed"]))
    watched.done(f"on {len(rows)} rows")
    note = (
        f"after it was measured, the model was fitted once more with the held-out rows too; the figures are "
        f"those of the model before, which learned from {recipe['rows_train']:,} rows"
    )
    return replace(
        result,
        trained=trained._replace(libraries=result.trained.libraries),
        adapter=adapter,
        profile=profile_of(problem, rows),
        recipe={**recipe, "rows_train": len(rows), "split": {**recipe["split"], "refitted": True}},
        notes=(*result.notes, note),
        seconds=result.seconds + time.monotonic() - started,
    )
