"""``train`` on pictures and sounds: from prepared rows to a measured, exported model."""

import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from servable.artifact.profile import profile
from servable.errors import SettingInvalid
from servable.frameworks import lookup
from servable.frameworks.base import Hints, Trained
from servable.progress import Progress
from servable.training.candidates import DUMMY
from servable.training.evaluate import Curve
from servable.training.outcome import TrainingResult, libraries
from servable.training.tasks.export import export_program
from servable.training.tasks.tensors import (
    SAMPLE_BYTES,
    Fitted,
    TensorProblem,
    compete,
    evaluation_of,
    refitted,
)

#: Share of the time after which a network stops learning; the rest is export, proof and report.
_LEARN_SHARE = 0.8
ADAPTER = "torch"


class Course(NamedTuple):
    """How to go about it: family or ``auto``, seconds for all of it, seed, a folder for files meanwhile."""

    model: str
    time_budget_s: float
    seed: int
    folder: Path


def train(
    problem: TensorProblem, course: Course, recipe: dict[str, Any], progress: Progress
) -> TrainingResult:
    """Choose a family, fit it, measure it on rows that it never saw, and export it.

    Args:
        problem: the rows.
        course: how; the trained model's file lies in its folder and must stay until the package is written.
        recipe: what is known of how the rows came to be.
        progress: told of every stage.

    Raises:
        SettingInvalid: no such family, or no time.
        ModelFailed: PyTorch cannot export what was learnt.
    """
    if course.time_budget_s <= 0:
        raise SettingInvalid(f"The time budget must be more than 0 seconds, not {course.time_budget_s}.")
    began = time.monotonic()
    until = began + course.time_budget_s * _LEARN_SHARE
    fitted = compete(problem, models=course.model, until=until, seed=course.seed, progress=progress)
    wanted = [each for each in fitted if each.result.name in (course.model, *_auto(course.model))]
    progress.begin("Measure on unseen rows")
    best = refitted(problem, wanted[0], course.seed)
    found = evaluation_of(problem, best, fitted, course.seed)
    progress.done(f"accuracy {found.metrics['accuracy']:.4f} on {len(problem.holdout)} files")
    found.learning.extend(_curves(best))
    name = problem.field.name
    sample = problem.holdout[: max(1, SAMPLE_BYTES // max(problem.rows[0].nbytes, 1))]
    whole = {
        **recipe,
        "estimator": best.result.name,
        "title": best.result.title,
        "params": best.result.params,
        "metric": "accuracy",
        "task": "classification",
        "target": problem.signature.answer.name,
        "seed": course.seed,
        "time_budget_s": course.time_budget_s,
        "rows_train": len(problem.train),
        "rows_holdout": len(problem.holdout),
        "libraries": libraries(),
    }
    return TrainingResult(
        trained=exported(problem, best, course.folder),
        evaluation=found,
        holdout={name: problem.rows[sample]},
        holdout_truth=problem.truth[sample],
        holdout_rows=sample.astype(np.int64),
        sample={name: problem.rows[problem.train[:100]]},
        leaderboard=tuple(each.result for each in fitted),
        profile=profile(problem.signature, {}, problem.truth[problem.train]),
        recipe=whole,
        columns=(),
        dropped=(),
        notes=problem.notes,
        seconds=time.monotonic() - began,
        adapter=ADAPTER,
        baseline="" if best.result.name == "linear" else "linear",
    )


def _auto(model: str) -> tuple[str, ...]:
    """The families among which ``auto`` picks."""
    return ("linear", "kernel", "network", "blend") if model == "auto" else (DUMMY,) if model == DUMMY else ()


def _curves(fitted: Fitted) -> list[Curve]:
    """The course of a network by epoch."""
    if not fitted.course:
        return []
    turns = [float(turn + 1) for turn in range(len(fitted.course))]
    lines = {
        "loss on the rows learned from": [each.loss for each in fitted.course],
        "loss on other rows": [each.validation_loss for each in fitted.course],
        "accuracy on other rows": [each.accuracy for each in fitted.course],
    }
    return [Curve(label=label, x=turns, y=values) for label, values in lines.items()]


def exported(problem: TensorProblem, fitted: Fitted, folder: Path) -> Trained:
    """What was learnt in the form that the adapter of PyTorch reads and keeps."""
    path = folder / f"{fitted.result.name}.pt2"
    export_program(fitted.module, problem.field, path)
    signature = problem.signature
    hints = Hints(task="classification", inputs=signature.inputs, labels=signature.classes)
    trained = lookup.adapter(ADAPTER).read(path, sample=None, trust=False, hints=hints)
    return trained._replace(signature=signature)
