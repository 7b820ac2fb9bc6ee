"""What a training is asked for and gives: rows held out, the model with its recipe, bare metrics."""

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from servable.artifact.anonymity import least_rows
from servable.artifact.profile import Profile, constant, profile
from servable.artifact.signature import Signature
from servable.errors import DataError, SettingInvalid
from servable.frameworks.base import Trained
from servable.tensors import PREDICTION, PROBABILITIES, take
from servable.training import measures
from servable.training.columns import ColumnInfo
from servable.training.crossval import CandidateResult, selection_metric
from servable.training.data import Problem
from servable.training.evaluate import Evaluation
from servable.training.split import Split, hold_out, set_apart

#: Folds of the comparison before the tuning.
COMPARE_FOLDS = 3
#: The order of a split that the data itself makes, as a recipe names it.
SET_ASIDE = "set aside"
#: Libraries whose versions are kept with a trained model.
LIBRARIES = ("scikit-learn", "lightgbm", "numpy", "scipy", "pandas", "servable")


class Asked(NamedTuple):
    """What a caller asks of ``train``.

    Attributes:
        holdout: share of rows held out.
        time_budget_s: seconds for all of it.
        seed: of whatever is random.
    """

    holdout: float
    time_budget_s: float
    seed: int


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


def trained_of(pipeline: Pipeline, signature: Signature) -> Trained:
    """A fitted pipeline in the form that the adapter named ``sklearn`` takes."""
    return Trained(model=pipeline, signature=signature, options={"style": "canonical"}, libraries=libraries())


def libraries() -> dict[str, str]:
    """Versions of the libraries that matter for loading a model again."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def metrics_of(
    signature: Signature, truth: NDArray[Any], answers: Mapping[str, NDArray[Any]]
) -> dict[str, float]:
    """Only the metrics of answers, without curves or intervals."""
    if signature.task == "regression":
        return measures.regression(truth, answers[PREDICTION])
    return measures.classification(
        truth, answers[PREDICTION], answers.get(PROBABILITIES), len(signature.classes)
    )


def held_out(problem: Problem, asked: Asked) -> Split:
    """The rows that are learned from and those that are kept for the evaluation.

    Rows that the data sets aside are held out; rows with the same texts are on one side.

    Raises:
        SettingInvalid: no time, or a share out of range.
        DataError: a class is not among the rows learned from.
    """
    if asked.time_budget_s <= 0:
        raise SettingInvalid(f"The time budget must be more than 0 seconds, not {asked.time_budget_s}.")
    if problem.set_aside is not None:
        parts = set_apart(problem.size, problem.set_aside, problem.groups())
        _check_classes(problem, parts)
        return parts
    parts = hold_out(
        problem.size,
        problem.truth,
        problem.task,
        share=asked.holdout,
        time_order=problem.time_order,
        seed=asked.seed,
        groups=problem.groups(),
    )
    _check_classes(problem, parts)
    return parts


def result_of(
    problem: Problem,
    parts: Split,
    trained: Trained,
    evaluation: Evaluation,
    leaderboard: Sequence[CandidateResult],
    recipe: dict[str, Any],
) -> TrainingResult:
    """A trained model with what follows from the rows that it was trained and measured on."""
    learned = parts.train[measures.sample(len(parts.train), 2000, int(recipe["seed"]))]
    return TrainingResult(
        trained=trained,
        evaluation=evaluation,
        holdout=take(problem.arrays, parts.holdout),
        holdout_truth=problem.truth_at(parts.holdout),
        holdout_rows=problem.rows[parts.holdout],
        sample=take(problem.arrays, learned),
        leaderboard=tuple(leaderboard),
        profile=profile_of(problem, parts.train),
        recipe=recipe,
        columns=problem.columns,
        dropped=problem.dropped,
        notes=problem.notes,
        seconds=0.0,
    )


def profile_of(problem: Problem, learned: NDArray[np.int64]) -> Profile:
    """What the rows looked like that were learned from, with the columns that never varied.

    Args:
        problem: all rows.
        learned: the numbers of those rows, at least one.
    """
    rows, least = take(problem.arrays, learned), least_rows()
    found = profile(problem.signature, rows, problem.truth_at(learned), least=least)
    never = [
        constant(info.name, info.constant, len(learned))
        for info in problem.dropped
        if info.constant is not None
    ]
    return msgspec.structs.replace(found, constant=never)


def recipe_of(
    problem: Problem, parts: Split, pick: CandidateResult, asked: Asked, trials: int
) -> dict[str, Any]:
    """How the model was made, in words that a report and a second run understand."""
    order = "time" if problem.time_order else "random"
    if problem.set_aside is not None:
        order = SET_ASIDE
    return {
        "estimator": pick.name,
        "title": pick.title,
        "params": pick.params,
        "seed": asked.seed,
        "metric": selection_metric(problem),
        "task": problem.task,
        "target": problem.target,
        "folds": COMPARE_FOLDS,
        "rows_train": len(parts.train),
        "rows_holdout": len(parts.holdout),
        "libraries": libraries(),
        "split": {"share": asked.holdout, "order": order, "seed": asked.seed},
        "trials": trials,
        "time_budget_s": asked.time_budget_s,
    }


def _check_classes(problem: Problem, parts: Split) -> None:
    """Every class must occur among the rows learned from, which time order does not see to by itself."""
    if problem.task != "classification" or problem.truth is None:
        return
    absent = np.flatnonzero(
        np.bincount(problem.truth[parts.train], minlength=len(problem.signature.classes)) == 0
    )
    if not len(absent):
        return
    label = problem.signature.classes[int(absent[0])]
    if problem.set_aside is not None:
        raise DataError(
            f"Class {label!r} occurs only among the rows that the data sets aside for measuring, and nothing "
            "can be learned of it from the others."
        )
    raise DataError(
        f"Class {label!r} occurs only among the last rows, which are held out; "
        "use more rows or hold out fewer."
    )
