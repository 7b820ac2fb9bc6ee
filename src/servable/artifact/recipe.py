"""What training was told and which rows it had, so that it can be done again with newer ones.

``recipe.json`` lies in every package that training made. ``manifest.recipe`` says what came out of it: the
estimator, its parameters and the split.
"""

from pathlib import Path
from typing import Literal

import msgspec

from servable.artifact.loss import MaxLoss
from servable.artifact.manifest import RECIPE_FILE
from servable.artifact.package import read_json, write_json
from servable.artifact.signature import Task
from servable.errors import ArtifactUnreadable


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """One call of ``train``, and for a later version the traffic that was added to its rows.

    Attributes:
        data: absolute path of the rows that were read; empty for rows that were handed over in memory.
        sha256: of that file, empty where there is no single file.
        rows: how many there were.
        target: the column that is predicted; None for clusters.
        model: ``auto`` or the candidate that was asked for.
        task: that was asked for; None for found from the target.
        kinds: of columns, as they were asked for.
        time_order: whether the rows are in order of time, or the column that gives the order.
        holdout: share of rows that were held out.
        unknown: what happens to category values that training did not see.
        time_budget_s: seconds for comparing, tuning and fitting; None for what is usual.
        tolerance: at which a compiled form counts as equal.
        max_loss: the most that a lossy form may be worse.
        refit: whether the model was to be fitted again with the held-out rows; None for where rows are in
            order of time.
        seed: of everything left to chance.
        traffic_rows: labelled rows of traffic that were learned from besides.
        traffic_until: the moment of the newest of them, ISO 8601 in UTC with microseconds; empty: none.
    """

    data: str = ""
    sha256: str = ""
    rows: int = 0
    target: str | None = None
    model: str = "auto"
    task: Task | None = None
    kinds: dict[str, str] = {}
    time_order: bool | str = False
    holdout: float = 0.2
    unknown: Literal["accept", "refuse"] = "accept"
    time_budget_s: float | None = None
    tolerance: float = 1e-4
    max_loss: MaxLoss | str | None = None
    refit: bool | None = None
    seed: int = 0
    traffic_rows: int = 0
    traffic_until: str = ""


def write_recipe(folder: Path, recipe: Recipe) -> None:
    """Put a recipe into a package that is being made.

    Raises:
        StorageFull: no space left.
        StorageFailed: the storage failed.
    """
    write_json(folder, RECIPE_FILE, recipe)


def read_recipe(folder: Path) -> Recipe | None:
    """The recipe kept in a package; None for a model that was not trained here, or by an older Servable.

    Raises:
        ArtifactUnreadable: it is damaged.
    """
    found = read_json(folder, RECIPE_FILE)
    if found is None:
        return None
    try:
        return msgspec.convert(found, Recipe)
    except msgspec.ValidationError as error:
        raise ArtifactUnreadable(f"{RECIPE_FILE} of the package {folder} is damaged: {error}.") from error
