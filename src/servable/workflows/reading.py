"""What is learned from, as ``train`` and ``select`` take it: a table, or texts in folders of classes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from servable.artifact.signature import Signature, Task
from servable.errors import SettingInvalid
from servable.progress import Progress
from servable.workflows.losses import Allowance, NothingLossy
from servable.workflows.sources import need_extra, table_of

if TYPE_CHECKING:
    import pandas as pd

    from servable.training.data import Problem
    from servable.training.outcome import TrainingResult
    from servable.workflows.private_training import Privacy

#: Seconds for choosing, tuning and fitting when nobody says.
BUDGET_S = 60.0
#: Names of the columns for texts in folders, and for their classes when nobody says.
TEXT, LABEL = "text", "label"


class Columns(NamedTuple):
    """What the caller says about columns; see ``train``."""

    target: str | None = None
    task: Task | None = None
    kinds: Mapping[str, str] | None = None
    time_order: bool | str = False
    unknown: Literal["accept", "refuse"] = "accept"
    private: Mapping[str, str] | None = None
    personal: Mapping[str, str] = MappingProxyType({})


class Wish(NamedTuple):
    """What the caller asks for; see ``train`` and ``select``."""

    target: str | None = None
    models: str | Sequence[str] = "auto"
    holdout: float = 0.2
    time_budget_s: float | None = None
    tolerance: float = 1e-4
    seed: int = 0
    allowed: Allowance = NothingLossy()
    online: bool = False
    refit: bool | None = None
    privacy: "Privacy | None" = None


class Lesson(NamedTuple):
    """What was read, ready to be learned from.

    Attributes:
        train: goes on, with a folder that stays until the package is written.
        source: a record of where the rows came from.
        signature: of the model to be.
    """

    train: "Callable[[Path], TrainingResult]"
    source: dict[str, Any]
    signature: Signature


class Read(NamedTuple):
    """Rows to learn from, and a record of where they came from."""

    problem: "Problem"
    source: dict[str, Any]


def read(data: "str | Path | pd.DataFrame", columns: Columns, progress: Progress) -> Read:
    """The problem that data make.

    Args:
        data: a CSV or Parquet file, a DataFrame, or a folder of class folders of texts in UTF-8.
        columns: what is said about them; the texts of a folder are the column ``text``, the names of their
            folders the target.
        progress: told of it.

    Raises:
        InputError: the data cannot be learned from; the sentence says why.
        FileMissing: there is no such data.
        DependencyMissing: the extra ``train`` is not installed.
    """
    progress.begin("Read the data")
    need_extra()
    from servable.training.data import infer
    from servable.training.tasks import text_folders

    set_aside = None
    if isinstance(data, str | Path) and text_folders.is_texts(Path(data)):
        folder = Path(data)
        if columns.target == TEXT:
            raise SettingInvalid(
                f"The texts of {folder.name} are the column {TEXT!r}, so its classes need another name; "
                "leave the target out or name it otherwise."
            )
        columns = columns._replace(
            target=columns.target or LABEL, kinds={TEXT: "text", **(columns.kinds or {})}
        )
        frame, set_aside = text_folders.read(folder, TEXT, columns.target or LABEL)
        source: dict[str, Any] = {"data": folder.name, "rows": len(frame)}
    else:
        frame, source = table_of(data)
    found = infer(
        frame,
        columns.target,
        task=columns.task,
        kinds=columns.kinds,
        time_order=columns.time_order,
        unknown=columns.unknown,
    )
    progress.done(f"{found.size} rows, {len(found.columns)} columns, {found.task}")
    return Read(replace(found, set_aside=set_aside), source)


def lesson(data: "str | Path | pd.DataFrame", columns: Columns, wish: Wish, progress: Progress) -> Lesson:
    """Read a table, or texts in folders of classes, ready to be learned from; raises what ``read`` does."""
    problem, source = read(data, columns, progress)
    from servable.training import tasks

    def learn(_: Path) -> "TrainingResult":
        return tasks.train(
            problem,
            model=str(wish.models),
            online=wish.online,
            holdout=wish.holdout,
            time_budget_s=BUDGET_S if wish.time_budget_s is None else wish.time_budget_s,
            seed=wish.seed,
            refit=refits(wish.refit, problem.time_order, problem.task),
            progress=progress,
        )

    return Lesson(learn, source, problem.signature)


def refits(wanted: bool | None, time_order: bool, task: str) -> bool:
    """Whether a model is fitted once more with the rows that it was measured on.

    Args:
        wanted: what the caller says; None for nothing.
        time_order: whether the held-out rows are the newest ones, which tell most about what comes next.
        task: of the model; clusters found anew would be other ones.
    """
    return time_order and task != "clustering" if wanted is None else wanted
