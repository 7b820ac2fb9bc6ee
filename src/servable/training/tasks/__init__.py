"""What learns from which kind of data: tables in ``search``, tables with free text in ``text``.

Models that learn row by row are in ``online``.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from servable.errors import SettingInvalid
from servable.frameworks.base import Trained
from servable.progress import Progress
from servable.training import search
from servable.training.crossval import CandidateResult
from servable.training.data import Problem
from servable.training.outcome import TrainingResult
from servable.training.split import HOLDOUT
from servable.training.tasks import text
from servable.training.tasks.online import fit as fit_online
from servable.training.tasks.online import train as train_online
from servable.training.tasks.online_models import is_online


def _has_texts(problem: Problem) -> bool:
    return bool(problem.texts) and problem.task in ("classification", "regression")


def select(
    problem: Problem,
    *,
    models: str | list[str] = "auto",
    folds_wanted: int = 5,
    time_budget_s: float = 60.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[CandidateResult]:
    """Compare the candidates for a problem by cross-validation; see ``search.select``."""
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
    progress: Progress | None = None,
) -> TrainingResult:
    """Train the best model that the time allows, and measure it on unseen rows; see ``search.train``.

    With ``online`` only those compete that learn row by row, see ``online``; to name one is enough.
    """
    if online or is_online(model):
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
    return found
