"""``evaluate``: a version, in the form that serves, on labelled rows; and a gate to hold it against."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servable.artifact.files import storage_errors
from servable.artifact.package import Package
from servable.artifact.signature import Signature
from servable.clock import SystemClock, timestamp
from servable.errors import DataError
from servable.frameworks import lookup
from servable.progress import NoProgress, Progress
from servable.workflows.answering import answers
from servable.workflows.homes import opened
from servable.workflows.labelled import Labelled, labelled
from servable.workflows.outcomes import EvaluateOutcome

if TYPE_CHECKING:
    import pandas as pd

    from servable.training.evaluate import Evaluation


def evaluate(
    reference: str,
    data: "str | Path | pd.DataFrame",
    *,
    target: str | None = None,
    minimums: Mapping[str, float] | None = None,
    report: str | Path | None = None,
    home: str | Path | None = None,
    progress: Progress | None = None,
) -> EvaluateOutcome:
    """Measure a version on rows whose right answers are known.

    Args:
        reference: ``name`` (the newest version), ``name:3`` or ``name@alias``.
        data: a CSV or Parquet file, or a DataFrame, with the target column (none for clustering); for a
            model of pictures or sounds a folder of class folders, a CSV of paths, IDX files or an npz; for
            one of texts a folder of class folders, too. What such data set aside for tests is measured on.
        target: the column with the right answers, if it is not named as when the model was made.
        minimums: the gate: limit by metric; for a metric that is better when lower it is a maximum.
        report: where to write the HTML report; None writes none.
        home: the folder of the registry; looked up when None.
        progress: told of every stage.

    Returns:
        The metrics, and one sentence for each that misses its limit. A missed gate raises nothing.

    Raises:
        ModelNotFound: there is no such model.
        VersionNotFound: it has no such version or alias.
        DataError: the rows do not fit the signature or lack the target, or a class is none of the model's.
        SettingInvalid: a limit for a metric that is not measured for this model.
    """
    watched = progress or NoProgress()
    with opened(home) as place:
        record = place.models.resolve(reference)
        package = place.package(record)
    rows = _read(data, record.reference, package.signature, target, watched)
    found = _measured(package, rows, watched)
    from servable.training import gate

    verdict = gate.judge(found.metrics, minimums or {})
    return EvaluateOutcome(
        model=record.model,
        version=record.version,
        rows=rows.size,
        metrics=dict(found.metrics),
        intervals={name: (low, high) for name, (low, high) in found.intervals.items()},
        classes=tuple(found.classes),
        confusion=tuple(map(tuple, found.confusion)),
        failed=verdict.failed,
        passed=verdict.passed,
        report=_written(report, record.reference, package, found, rows.source),
    )


def _read(
    data: "str | Path | pd.DataFrame",
    reference: str,
    signature: Signature,
    target: str | None,
    progress: Progress,
) -> Labelled:
    """The rows, at least one.

    Raises:
        DataError: there are none, or there is nothing to hold the answers against.
    """
    if signature.task == "transform":
        raise DataError(f"{reference} does not say what its answers mean, so there is nothing to evaluate.")
    progress.begin("Read the data")
    rows = labelled(data, reference, signature, target)
    if not rows.size:
        raise DataError(f"{rows.source['data']} has no rows to evaluate on.")
    progress.done(f"{rows.size} rows")
    return rows


def _measured(package: Package, rows: Labelled, progress: Progress) -> "Evaluation":
    """All rows answered, and the answers held against the truth."""
    from servable.frameworks.frame import to_frame
    from servable.training import evaluate as measuring

    progress.begin("Answer all rows", total=rows.size)
    given = answers(package, rows.part, rows.size, rows.chunk_rows, progress)
    points = None
    if package.signature.task == "clustering":
        # Clusters are measured in the space that the model prepared, which only its trained form knows.
        trained = package.manifest.variant("trained")
        adapter = lookup.adapter(trained.format)
        model = adapter.restore(
            package.folder, trained, package.signature, trust=package.manifest.trusted
        ).model
        style = str(trained.options.get("style", "canonical"))
        frame = to_frame(
            rows.part(slice(None)), package.signature, "pandas" if style == "pandas" else "canonical"
        )
        steps = getattr(model, "named_steps", {})
        points = steps["prepare"].transform(frame) if "prepare" in steps else frame.to_numpy(dtype="float64")
    found = measuring.evaluate(package.signature, rows.truth, given, points=points)
    progress.done(f"{found.metric} {found.metrics.get(found.metric, float('nan')):.4f}")
    return found


def _written(
    path: str | Path | None, reference: str, package: Package, found: "Evaluation", source: dict[str, Any]
) -> str:
    """The path of the report, written; empty where nobody wants one."""
    if path is None:
        return ""
    from servable.training import report
    from servable.workflows.look import variant_rows

    shown = report.Report(
        title=reference,
        evaluation=found,
        signature=package.signature,
        created_at=timestamp(SystemClock().now()),
        data=str(source["data"]),
        recipe=package.manifest.recipe,
        # Nobody here knows whether the model was trained on these rows.
        unseen=False,
    )
    page = report.render(shown, variants=variant_rows(package.manifest))
    with storage_errors(f"writing the report {path}"):
        Path(path).write_text(page, encoding="utf-8")
    return str(path)
