"""``train``: from rows to a registered, evaluated, compiled and proven version."""

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from servable.artifact.package import read_evaluation
from servable.artifact.personal import with_personal
from servable.artifact.recipe import Recipe
from servable.artifact.signature import Task, with_captures
from servable.clock import SystemClock, timestamp
from servable.errors import ArtifactError, ModelNotFound, SettingInvalid
from servable.progress import NoProgress, Progress
from servable.registry.home import Home
from servable.registry.references import checked_name
from servable.workflows import media, private_training, reading
from servable.workflows.homes import Destination, opened
from servable.workflows.losses import allowance
from servable.workflows.outcomes import ColumnNote, TrainOutcome, VariantRow
from servable.workflows.packaging import Contents, Proving, Published, publish_model
from servable.workflows.personal import choices, sentences, suspects
from servable.workflows.private_training import PRIVACY, wanted
from servable.workflows.reading import Columns, Wish
from servable.workflows.samples import Sample
from servable.workflows.signers import check_new, signer_of

if TYPE_CHECKING:
    import pandas as pd

    from servable.artifact.loss import MaxLoss
    from servable.training.evaluate import Evaluation
    from servable.training.outcome import TrainingResult


def train(
    data: "str | Path | pd.DataFrame",
    *,
    name: str,
    target: str | None = None,
    model: str = "auto",
    online: bool = False,
    task: Task | None = None,
    kinds: Mapping[str, str] | None = None,
    time_budget_s: float | None = None,
    time_order: bool | str = False,
    holdout: float = 0.2,
    unknown: Literal["accept", "refuse"] = "accept",
    tolerance: float = 1e-4,
    max_loss: "MaxLoss | str | None" = None,
    refit: bool | None = None,
    seed: int = 0,
    private: Mapping[str, str] | None = None,
    personal: Sequence[str] | Mapping[str, str] | None = None,
    privacy_epsilon: float | None = None,
    privacy_delta: float | None = None,
    bounds: str | Path | None = None,
    deploy: bool = False,
    sign_key: str | Path | None = None,
    home: str | Path | None = None,
    progress: Progress | None = None,
) -> TrainOutcome:
    """Compare candidates, tune and fit the best, measure it on unseen rows, compile, prove and register it.

    Args:
        data: a CSV or Parquet file, or a DataFrame; for texts, pictures and sounds a folder of class folders;
            for the latter also a CSV of paths, IDX files or an npz.
        name: the model under which the version is registered.
        target: the column to predict; None makes clusters.
        model: ``auto`` or the name of a candidate.
        online: whether only models compete that learn row by row, and on from labels that come later.
        task: ``classification regression clustering``; found from the target when None.
        kinds: overrides of column kinds: ``number category boolean date text drop``.
        time_budget_s: seconds for comparing, tuning and fitting; when None, 60 for tables and 270 for
            pictures and sounds.
        time_order: True when the rows are in order of time, or the column that gives the order; the last
            rows are then held out and nothing is shuffled.
        holdout: share of rows kept for the evaluation.
        unknown: what happens to category values that training did not see.
        tolerance: largest difference of a probability or value at which a compiled form counts as equal.
        max_loss: the most that a lossy form may be worse on the held-out rows, such as ``accuracy=0.005``;
            None tries none.
        refit: whether the model, once it is measured, is fitted again with the held-out rows too; None does
            it where rows are in order of time, since the held-out ones are the newest. The figures stay those
            of the model that never saw them.
        seed: of everything that is left to chance; a run over a table is repeatable with it.
        private: what becomes of columns where traffic is captured: ``keep``, ``hash``, ``encrypt`` or
            ``drop`` by name.
        personal: columns that say who somebody is: no value of theirs is kept in the package or shown in a
            report, and captured traffic has them dropped, or as said by name: ``hash`` or ``encrypt``.
        privacy_epsilon: train with differential privacy within this budget; None trains without.
        privacy_delta: the chance that it does not hold; None for one in ten times the rows. A private forest
            (``dp_forest``) has none and takes none.
        bounds: file with the public ranges and values of the columns, or how texts are read and their
            classes, which such a training needs.
        deploy: whether the version is deployed at once.
        sign_key: a file with the private key that the version is signed with; None for that of ``sign_key``.
        home: the folder of the registry; looked up, and made, when it does not exist.
        progress: told of every stage.

    Returns:
        The registered version with its metrics, variants and the place of its report.

    Raises:
        InputError: the name, an option or the data cannot be used; the sentence says why.
        FileMissing: there is no such data file.
        DependencyMissing: the extra ``train`` is not installed.
        SignatureRefused: what is deployed must be signed here, and there is no key, or one not trusted.
        StorageFull: no space left; the home is as it was before.
    """
    allowed = allowance(max_loss)
    wish = Wish(target, model, holdout, time_budget_s, tolerance, seed, allowed, online, refit)
    columns = Columns(target, task, kinds, time_order, unknown, private, choices(personal))
    wish = wish._replace(privacy=wanted(privacy_epsilon, bounds, privacy_delta))
    told = msgspec.structs.replace(_told(data, columns, wish), model=model, max_loss=max_loss)
    destination = Destination(checked_name(name), deploy, home, signer_of(sign_key, home, deploy=deploy))
    return _trained(data, columns, wish, destination, told, progress or NoProgress())


def _told(data: "str | Path | pd.DataFrame", columns: Columns, wish: Wish) -> Recipe:
    """What training is told about data, columns and time; the model and what it may lose are said apart."""
    return Recipe(
        data=str(Path(data).absolute()) if isinstance(data, str | Path) else "",
        target=columns.target,
        task=columns.task,
        kinds=dict(columns.kinds or {}),
        time_order=columns.time_order,
        holdout=wish.holdout,
        unknown=columns.unknown,
        time_budget_s=wish.time_budget_s,
        tolerance=wish.tolerance,
        refit=wish.refit,
        seed=wish.seed,
    )


def _trained(
    data: "str | Path | pd.DataFrame",
    columns: Columns,
    wish: Wish,
    destination: Destination,
    told: Recipe,
    progress: Progress,
) -> TrainOutcome:
    """See ``train``."""
    started = time.monotonic()
    if wish.privacy is not None and media.is_media(data, wish.target):
        lesson = private_training.media_lesson(Path(data), wish, wish.privacy, progress)
    elif wish.privacy is not None:
        lesson = private_training.lesson(data, columns, wish, wish.privacy, progress)
    elif media.is_media(data, wish.target):
        if wish.online:
            raise SettingInvalid("Pictures and sounds are not learned online; leave --online out.")
        lesson = media.lesson(Path(data), wish, progress)
    else:
        lesson = reading.lesson(data, columns, wish, progress)
    wish.allowed.check(lesson.signature)
    private = columns.private or {}
    with_personal(with_captures(lesson.signature, private), columns.personal)
    name, deploy, home, signer = destination
    with tempfile.TemporaryDirectory(prefix="servable-") as folder, opened(home, create=True) as place:
        result = lesson.train(Path(folder))
        signature = with_personal(result.signature, columns.personal)
        result = replace(result, trained=result.trained._replace(signature=signature))
        proving = Proving(wish.tolerance, wish.allowed.lossy(result.signature, result.holdout_truth))
        contents = _kept_private(_contents(place, name, result, lesson.source, proving), private)
        contents = replace(
            contents,
            told=_rows(told, lesson.source),
            recipe={**contents.recipe, **({"personal": dict(columns.personal)} if columns.personal else {})},
        )
        published = publish_model(place, contents, progress=progress)
        signer.sign(place, published.record)
        if deploy:
            check_new(place, published.record)
            place.deployments.deploy(name, published.record.version)
    outcome = _outcome(published, result, time.monotonic() - started, deploy)
    said = tuple(sentences(suspects(result.signature, result.holdout)))
    return msgspec.structs.replace(outcome, suspects=said)


def _kept_private(contents: Contents, private: Mapping[str, str]) -> Contents:
    """The contents with what its columns may become in captured traffic; the recipe says it again."""
    if not private:
        return contents
    trained = contents.trained
    signature = with_captures(trained.signature, private)
    recipe = {**contents.recipe, "private": dict(private)}
    return replace(contents, trained=trained._replace(signature=signature), recipe=recipe)


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


def _rows(told: Recipe, source: Mapping[str, Any]) -> Recipe:
    """What training was told, with the size and digest of the rows that it read."""
    rows, digest = int(source.get("rows", 0)), str(source.get("sha256", ""))
    return msgspec.structs.replace(told, rows=rows, sha256=digest)


def _contents(
    home: Home, name: str, result: "TrainingResult", source: dict[str, Any], proving: Proving
) -> Contents:
    from servable.training import report

    shown = report.report_of(
        result,
        title=name,
        created_at=timestamp(SystemClock().now()),
        data=str(source["data"]),
    )
    earlier = private_training.recipes(home, name) if PRIVACY in result.recipe else []
    previous = previous_evaluation(home, name)
    if previous is not None and previous.task != result.evaluation.task:
        previous = None
    return Contents(
        model=name,
        adapter=result.adapter,
        trained=result.trained,
        sample=Sample(result.holdout, result.holdout_truth),
        recipe=private_training.with_total(result.recipe, earlier),
        keeps_rows=PRIVACY not in result.recipe,
        metrics=dict(result.evaluation.metrics),
        source=source,
        evaluation=result.evaluation,
        profile=result.profile,
        report=partial(_rendered, shown, previous),
        proving=proving,
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
        refitted=bool(result.recipe["split"].get("refitted")),
        serving=published.manifest.serving,
        variants=variant_rows(published.manifest),
        report=str(published.folder / REPORT_FILE),
        package=str(published.folder),
        seconds=seconds,
        deployed=deployed,
    )
