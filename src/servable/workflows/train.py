"""``train``: from rows to a registered, evaluated, compiled and proven version."""

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from servable.artifact.package import read_evaluation
from servable.artifact.signature import Task
from servable.clock import SystemClock, timestamp
from servable.errors import ArtifactError, ModelNotFound
from servable.progress import NoProgress, Progress
from servable.registry.home import Home
from servable.registry.references import checked_name
from servable.workflows.homes import opened
from servable.workflows.outcomes import ColumnNote, TrainOutcome, VariantRow
from servable.workflows.packaging import Contents, Published, publish_model
from servable.workflows.sources import table_of

if TYPE_CHECKING:
    import pandas as pd

    from servable.training.evaluate import Evaluation
    from servable.training.search import TrainingResult


def train(
    data: "str | Path | pd.DataFrame",
    *,
    name: str,
    target: str | None = None,
    model: str = "auto",
    task: Task | None = None,
    kinds: Mapping[str, str] | None = None,
    time_budget_s: float = 60.0,
    time_order: bool | str = False,
    holdout: float = 0.2,
    unknown: Literal["accept", "refuse"] = "accept",
    tolerance: float = 1e-4,
    seed: int = 0,
    deploy: bool = False,
    home: str | Path | None = None,
    progress: Progress | None = None,
) -> TrainOutcome:
    """Compare candidates, tune and fit the best, measure it on unseen rows, compile, prove and register it.

    Args:
        data: a CSV or Parquet file, or a DataFrame.
        name: the model under which the version is registered.
        target: the column to predict; None makes clusters.
        model: ``auto`` or the name of a candidate.
        task: ``classification regression clustering``; found from the target when None.
        kinds: overrides of column kinds: ``number category boolean date text drop``.
        time_budget_s: seconds for comparing, tuning and fitting.
        time_order: True when the rows are in order of time, or the column that gives the order; the last
            rows are then held out and nothing is shuffled.
        holdout: share of rows kept for the evaluation.
        unknown: what happens to category values that training did not see.
        tolerance: largest difference of a probability or value at which a compiled form counts as equal.
        seed: makes the run repeatable.
        deploy: whether the version is deployed at once.
        home: the folder of the registry; looked up, and made, when it does not exist.
        progress: told of every stage.

    Returns:
        The registered version with its metrics, variants and the place of its report.

    Raises:
        InputError: the name, an option or the data cannot be used; the sentence says why.
        FileMissing: there is no such data file.
        DependencyMissing: the extra ``train`` is not installed.
        StorageFull: no space left; the home is as it was before.
    """
    started = time.monotonic()
    watched = progress or NoProgress()
    checked_name(name)
    watched.begin("Read the data")
    frame, source = table_of(data)
    from servable.training import data as rows
    from servable.training import tasks

    problem = rows.infer(frame, target, task=task, kinds=kinds, time_order=time_order, unknown=unknown)
    watched.done(f"{problem.size} rows, {len(problem.columns)} columns, {problem.task}")
    with opened(home, create=True) as place:
        result = tasks.train(
            problem, model=model, holdout=holdout, time_budget_s=time_budget_s, seed=seed, progress=watched
        )
        contents = _contents(place, name, result, source)
        published = publish_model(place, contents, tolerance=tolerance, progress=watched)
        if deploy:
            place.deployments.deploy(name, published.record.version)
    return _outcome(published, result, time.monotonic() - started, deploy)


def previous_evaluation(home: Home, name: str) -> "Evaluation | None":
    """The evaluation of a model's newest version, to compare with; None where there is none to be read."""
    from servable.training import evaluate

    try:
        package = home.package(home.models.resolve(name))
        found = read_evaluation(package.folder)
    except (ModelNotFound, ArtifactError):
        # A damaged former version must not keep anybody from training the next one.
        return None
    return None if found is None else msgspec.convert(found, type=evaluate.Evaluation)


def column_notes(columns: Any) -> tuple[ColumnNote, ...]:
    """What was made of columns, as outcome records."""
    return tuple(ColumnNote(column.name, column.kind, column.note) for column in columns)


def _contents(home: Home, name: str, result: "TrainingResult", source: dict[str, Any]) -> Contents:
    from servable.training import report

    shown = report.report_of(
        result,
        title=name,
        created_at=timestamp(SystemClock().now()),
        data=str(source["data"]),
    )
    previous = previous_evaluation(home, name)
    if previous is not None and previous.task != result.evaluation.task:
        previous = None
    return Contents(
        model=name,
        adapter=result.adapter,
        trained=result.trained,
        sample=result.holdout,
        recipe=result.recipe,
        metrics=dict(result.evaluation.metrics),
        source=source,
        evaluation=result.evaluation,
        profile=result.profile,
        report=partial(_rendered, shown, previous),
    )


def _rendered(shown: Any, previous: "Evaluation | None", variants: tuple[VariantRow, ...]) -> str:
    from servable.training import report

    return report.render(shown, previous=previous, variants=variants)


def _outcome(published: Published, result: "TrainingResult", seconds: float, deployed: bool) -> TrainOutcome:
    from servable.artifact.manifest import REPORT_FILE
    from servable.workflows.look import variant_rows

    evaluation = result.evaluation
    return TrainOutcome(
        model=published.record.model,
        version=published.record.version,
        task=result.signature.task,
        estimator=str(result.recipe["estimator"]),
        metric=evaluation.metric,
        metrics=dict(evaluation.metrics),
        baseline_metrics=dict(evaluation.baselines.get(result.baseline, {})),
        intervals={name: (low, high) for name, (low, high) in evaluation.intervals.items()},
        columns=column_notes(result.columns),
        dropped=column_notes(result.dropped),
        rows_train=int(result.recipe["rows_train"]),
        rows_holdout=int(result.recipe["rows_holdout"]),
        serving=published.manifest.serving,
        variants=variant_rows(published.manifest),
        report=str(published.folder / REPORT_FILE),
        package=str(published.folder),
        seconds=seconds,
        deployed=deployed,
    )
