"""Reads a table or texts that are learned from with differential privacy, and adds up what that spends."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from servable.artifact.manifest import Manifest
from servable.errors import ArtifactError, DataError, ModelNotFound, SettingInvalid
from servable.progress import Progress
from servable.registry.home import Home
from servable.workflows.reading import LABEL, TEXT, Columns, Lesson, Wish
from servable.workflows.sources import need_extra, table_of

if TYPE_CHECKING:
    import pandas as pd

    from servable.training.bounds import Bounds
    from servable.training.data import Problem
    from servable.training.outcome import TrainingResult

#: What a recipe in a manifest calls the privacy that a model was trained with.
PRIVACY = "privacy"


class Privacy(NamedTuple):
    """How much a training may give away about one row.

    Attributes:
        epsilon: above 0; 1 is strong, 10 is weak.
        bounds: file with the public bounds of all columns that are to be used.
        delta: the chance that it does not hold; None for one in ten times the rows.
    """

    epsilon: float
    bounds: Path
    delta: float | None = None


def wanted(epsilon: float | None, bounds: str | Path | None, delta: float | None) -> Privacy | None:
    """What was asked for; None for a training without differential privacy.

    Raises:
        SettingInvalid: only a part of it was told.
    """
    if epsilon is None:
        if bounds is not None or delta is not None:
            raise SettingInvalid("Bounds and a delta of privacy go with --privacy-epsilon; add it.")
        return None
    if bounds is None:
        raise SettingInvalid(
            "Differential privacy needs --bounds FILE, with the range or the values of every column that is "
            "to be used: taken from the rows themselves they would give them away."
        )
    return Privacy(epsilon, Path(bounds), delta)


def media_lesson(path: Path, wish: Wish, privacy: Privacy, progress: Progress) -> Lesson:
    """Read labelled pictures, ready to be learned from within a budget.

    Raises:
        InputError: the files, what is known of them or an option cannot be used; the sentence says why.
        FileMissing: there is no such file.
        DependencyMissing: an extra is not installed.
    """
    if wish.online or wish.refit:
        raise SettingInvalid("--online and --refit would learn from rows once more; leave them out here.")
    from servable.training.tasks.private import budget

    budget.need_opacus()
    from servable.training.tasks import media, tensors
    from servable.training.tasks.private import pictures

    if wish.models not in ("auto", pictures.NETWORK):
        raise SettingInvalid(
            f"{wish.models!r} is not trained with differential privacy on pictures; {pictures.NETWORK} is."
        )
    target = wish.target or LABEL
    known = pictures.read_known(privacy.bounds, target)
    progress.begin("Read the data")
    found = media.read(path, target=wish.target)
    if found.train.medium != "image":
        raise SettingInvalid(
            "Sounds are not trained with differential privacy; tables, texts and pictures are."
        )
    progress.done(f"{len(found.train.files)} files, {len(known.classes)} classes")
    problem = tensors.problem_of(
        found, target=target, holdout=wish.holdout, seed=wish.seed, progress=progress, field=known.field
    )
    pictures.check_classes(problem, known, privacy.bounds)
    split = {
        "share": wish.holdout,
        "order": "set aside" if problem.set_aside else "random",
        "seed": wish.seed,
    }
    allowed = budget.Budget(privacy.epsilon, privacy.delta)

    def learn(folder: Path) -> "TrainingResult":
        recipe = {"data": path.name, "split": split}
        return pictures.train(problem, allowed, recipe, seed=wish.seed, folder=folder, progress=progress)

    return Lesson(learn, {"data": path.name, "rows": len(problem.rows)}, problem.signature)


def lesson(
    data: "str | Path | pd.DataFrame", columns: Columns, wish: Wish, privacy: Privacy, progress: Progress
) -> Lesson:
    """Read a table or texts, ready to be learned from within a budget.

    Raises:
        InputError: the data, the bounds or an option cannot be used; the sentence says why.
        FileMissing: there is no such file.
        DependencyMissing: an extra is not installed.
    """
    if wish.online or wish.refit:
        raise SettingInvalid("--online and --refit would learn from rows once more; leave them out here.")
    need_extra()
    from servable.training import bounds as bounding
    from servable.training.tasks import text_folders
    from servable.training.tasks.private import budget, tables, texts

    in_folders = isinstance(data, str | Path) and text_folders.is_texts(Path(data))
    if in_folders or texts.names_texts(bounding.read_held(privacy.bounds)):
        return _texts_lesson(data, columns, wish, privacy, progress, in_folders=in_folders)
    if columns.target is None:
        raise SettingInvalid("Differential privacy is there for models with a target; name it.")
    if wish.models == tables.FOREST and privacy.delta is not None:
        raise SettingInvalid(
            f"{tables.FOREST} keeps to its epsilon without any exception, so that its delta is 0; leave "
            "--privacy-delta out."
        )
    if wish.models != tables.FOREST:
        budget.need_opacus()
    progress.begin("Read the data")
    frame, source = table_of(data)
    known = bounding.read_bounds(privacy.bounds)
    problem = _problem_of(frame, known, columns, columns.target)
    progress.done(f"{problem.size} rows, {len(problem.columns)} columns, {problem.task}")

    def learn(_: Path) -> "TrainingResult":
        return tables.train(
            problem,
            known,
            budget.Budget(privacy.epsilon, privacy.delta),
            model=str(wish.models),
            holdout=wish.holdout,
            seed=wish.seed,
            progress=progress,
        )

    return Lesson(learn, source, problem.signature)


def _problem_of(frame: "pd.DataFrame", known: "Bounds", columns: Columns, target: str) -> "Problem":
    """A table within its bounds, nothing of whose rows is in the signature; raises what ``lesson`` does."""
    from servable.training import bounds as bounding
    from servable.training.data import infer

    if isinstance(columns.time_order, str):
        raise DataError("Differential privacy orders rows by no column; sort the file, and say --time-order.")
    frame, kinds = bounding.bounded(frame, known, target)
    numbers = isinstance(known.of(target), bounding.Range)
    problem = infer(
        frame,
        target,
        task="regression" if numbers else "classification",
        kinds=kinds,
        time_order=columns.time_order,
        unknown=columns.unknown,
    )
    bounding.check_classes(problem.signature, known)
    return replace(problem, signature=bounding.signature_of(problem.signature, known))


def _texts_lesson(
    data: "str | Path | pd.DataFrame",
    columns: Columns,
    wish: Wish,
    privacy: Privacy,
    progress: Progress,
    *,
    in_folders: bool,
) -> Lesson:
    """Texts in folders of classes, or in a column of a table; raises what ``lesson`` does."""
    from servable.training import bounds as bounding
    from servable.training.tasks import text_folders
    from servable.training.tasks.private import budget, texts

    target = columns.target or (LABEL if in_folders else None)
    if target is None:
        raise SettingInvalid("Differential privacy is there for models with a target; name it.")
    if wish.models not in ("auto", texts.LINEAR):
        raise SettingInvalid(
            f"{wish.models!r} is not trained with differential privacy on texts; {texts.LINEAR} is."
        )
    if isinstance(columns.time_order, str):
        raise DataError("Differential privacy orders rows by no column; sort the file, and say --time-order.")
    known = texts.read_known(bounding.read_held(privacy.bounds), target, privacy.bounds)
    progress.begin("Read the data")
    set_aside = None
    if in_folders:
        folder = Path(str(data))
        if known.column != TEXT:
            raise SettingInvalid(
                f"The texts of {folder.name} are the column {TEXT!r}; {privacy.bounds} calls it "
                f"{known.column!r}."
            )
        frame, set_aside = text_folders.read(folder, TEXT, target)
        source: dict[str, Any] = {"data": folder.name, "rows": len(frame)}
    else:
        frame, source = table_of(data)
    problem = texts.problem_of(frame, known, target, set_aside, columns.time_order)
    progress.done(f"{problem.size} texts, {len(problem.signature.classes)} classes")
    allowed = budget.Budget(privacy.epsilon, privacy.delta)

    def learn(_: Path) -> "TrainingResult":
        return texts.train(problem, known, allowed, holdout=wish.holdout, seed=wish.seed, progress=progress)

    return Lesson(learn, source, problem.signature)


def with_total(recipe: dict[str, Any], earlier: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A recipe whose privacy says what all versions spent together: budgets of the same people's rows add up.

    Args:
        recipe: of the new version, as the manifest keeps it.
        earlier: those of the versions before.
    """
    if PRIVACY not in recipe:
        return recipe
    spent = [found[PRIVACY] for found in earlier if PRIVACY in found] + [recipe[PRIVACY]]
    total = {
        **recipe[PRIVACY],
        "versions": len(spent),
        "epsilon_of_all_versions": round(sum(float(one["epsilon"]) for one in spent), 6),
        "delta_of_all_versions": sum(float(one["delta"]) for one in spent),
        "versions_without": len(earlier) + 1 - len(spent),
    }
    return {**recipe, PRIVACY: total}


def recipes(home: Home, name: str) -> list[dict[str, Any]]:
    """The recipes of all versions of a model whose packages can be read."""
    try:
        records = home.models.versions(name)
    except ModelNotFound:
        return []
    found = []
    for record in records:
        try:
            found.append(dict(home.package(record).manifest.recipe))
        except ArtifactError:
            continue
    return found


def is_private(manifest: Manifest) -> bool:
    """Whether a version was trained with differential privacy."""
    return PRIVACY in manifest.recipe
