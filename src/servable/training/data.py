"""From a table to a problem: task, target, columns, signature, and the rows in packed form."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from servable.artifact.signature import Field, Signature, Task
from servable.errors import DataError, SettingInvalid
from servable.frameworks.frame import pack, to_frame
from servable.tensors import STRINGS, Arrays, row_count, take
from servable.training.columns import ColumnInfo, check_choices, classify, close_names, field_of
from servable.training.table import read_table, typed_column

__all__ = ["MIN_ROWS", "MIN_ROWS_PER_CLASS", "Problem", "infer", "read_table", "truth_of"]

#: Fewer rows than this cannot be trained on, held out and compared.
MIN_ROWS = 20
#: Fewer rows of a class than this cannot be in every part.
MIN_ROWS_PER_CLASS = 5
#: A target of whole numbers with at most this many different values is read as classes.
CLASS_NUMBERS = 10
#: More classes than this are taken for free text or an id.
MOST_CLASSES = 200
#: A class this many times rarer than its even share makes a set imbalanced.
IMBALANCE = 0.4


@dataclass(frozen=True, eq=False)
class Problem:
    """A table made ready to learn from; immutable by convention, safe to share between threads.

    Attributes:
        signature: what a model for it takes and gives.
        arrays: the usable rows, packed.
        truth: int64 class index, float64 value, or None for clustering; ``[rows]``.
        rows: number of each usable row in the table that was read, from 0.
        target: name of the target column, None for clustering.
        columns: the columns used, with reasons.
        dropped: the columns left out, with reasons.
        notes: sentences about the rows (some without target, imbalance) and the task.
        time_order: whether the rows are in time order.
        set_aside: places of the rows that the data itself keeps for measuring; None where it keeps none.
    """

    signature: Signature
    arrays: Arrays
    truth: NDArray[Any] | None
    rows: NDArray[np.int64]
    target: str | None
    columns: tuple[ColumnInfo, ...]
    dropped: tuple[ColumnInfo, ...]
    notes: tuple[str, ...]
    time_order: bool = False
    set_aside: NDArray[np.int64] | None = None

    @property
    def task(self) -> Task:
        """What is to be done."""
        return self.signature.task

    @property
    def size(self) -> int:
        """How many usable rows there are."""
        return row_count(self.arrays)

    @property
    def texts(self) -> tuple[Field, ...]:
        """The columns of free text."""
        return tuple(field for field in self.signature.inputs if field.kind == "text")

    def groups(self) -> NDArray[np.int64] | None:
        """A number for each row ``[rows]``, the same for rows whose texts are the same; None without texts.

        Case and blanks do not count. Rows of one number belong into one part of a split: a text that is
        learned from and asked for again says nothing about new texts.
        """
        if not self.texts:
            return None
        known = [field.name for field in self.signature.packed(STRINGS)]
        places = [known.index(field.name) for field in self.texts]
        seen: dict[tuple[str, ...], int] = {}
        rows = self.arrays[STRINGS][:, places]
        keys = (tuple(" ".join(text.casefold().split()) for text in row) for row in rows)
        return np.fromiter((seen.setdefault(key, len(seen)) for key in keys), np.int64, len(rows))

    @property
    def imbalanced(self) -> bool:
        """Whether a class is much rarer than its even share."""
        if self.task != "classification" or self.truth is None:
            return False
        counts = np.bincount(self.truth, minlength=len(self.signature.classes))
        return bool(counts.min() / counts.sum() * len(counts) < IMBALANCE)

    def frame(self, rows: NDArray[np.int64] | None = None) -> pd.DataFrame:
        """The given rows (all by default) in the canonical form that pipelines are fitted on."""
        arrays = self.arrays if rows is None else {name: array[rows] for name, array in self.arrays.items()}
        return to_frame(arrays, self.signature, "canonical")

    def part(self, rows: NDArray[np.int64]) -> "Problem":
        """The same problem with only these rows, none of which is set aside."""
        return replace(
            self,
            arrays=take(self.arrays, rows),
            truth=self.truth_at(rows),
            rows=self.rows[rows],
            set_aside=None,
        )

    def truth_at(self, rows: NDArray[np.int64]) -> NDArray[Any] | None:
        """The truth of the given rows."""
        return None if self.truth is None else self.truth[rows]


def infer(
    frame: pd.DataFrame,
    target: str | None,
    *,
    task: Task | None = None,
    kinds: Mapping[str, str] | None = None,
    time_order: bool | str = False,
    unknown: Literal["accept", "refuse"] = "accept",
) -> Problem:
    """Find out what is to be learned and from which columns.

    Args:
        frame: as ``read_table`` gives it.
        target: the column to predict; None makes clusters.
        task: overrides what the target's values suggest.
        kinds: overrides by column: ``number category boolean date text drop``.
        time_order: True when the rows are in time order; a column's name sorts by it first.
        unknown: whether a category value that training did not see is accepted when served.

    Raises:
        DataError: no such column, one class only, all values missing, too few rows, or no usable column.
        SettingInvalid: a task that does not go with the target, or a kind that does not exist.
    """
    kinds = dict(kinds or {})
    names = [str(name) for name in frame.columns]
    frame = frame.set_axis(names, axis="columns")
    check_choices(kinds, names)
    _check_task(target, task, names)
    frame, notes = in_order(frame, time_order)
    kept, lost = (frame, []) if target is None else _with_target(frame, target)
    found, truth, output, note = _asked(kept, target, task, kinds)
    if len(kept) < MIN_ROWS:
        raise DataError(
            f"Only {len(kept)} usable rows; at least {MIN_ROWS} are needed to train and to hold some out."
        )
    typed, columns, dropped = _columns(kept, target, kinds)
    fields = tuple(field_of(typed[info.name], info, unknown) for info in columns)
    signature = Signature(
        task=found,
        inputs=fields,
        outputs=(output,),
        probabilities=found == "classification",
        example={field.name: field.example for field in fields},
    )
    return Problem(
        signature=signature,
        arrays=pack(pd.DataFrame(typed), signature),
        truth=truth,
        rows=kept.index.to_numpy(dtype=np.int64),
        target=target,
        columns=columns,
        dropped=dropped,
        notes=(note, *notes, *lost),
        time_order=bool(time_order),
    )


def _asked(
    frame: pd.DataFrame, target: str | None, task: Task | None, kinds: Mapping[str, str]
) -> tuple[Task, NDArray[Any] | None, Field, str]:
    """What is to be done, the right answers, the output's field, and the reason."""
    if target is None:
        output = Field(name="cluster", kind="category", dtype="int64")
        return "clustering", None, output, "clustering, as no target was given"
    found, note = _task(frame[target], task, kinds.get(target))
    truth, output = _truth(frame[target], target, found)
    return found, truth, output, note


def _check_task(target: str | None, task: Task | None, names: list[str]) -> None:
    """Whether there is such a target, and a task that goes with it."""
    if target is not None and target not in names:
        raise DataError(f"There is no column {target!r} to predict; {close_names(target, names)}")
    if task not in (None, "classification", "regression", "clustering"):
        raise SettingInvalid(f"{task!r} is no task; choose classification, regression or clustering.")
    if target is None and task not in (None, "clustering"):
        raise SettingInvalid(f"{task.capitalize()} needs a target: name the column to predict.")
    if target is not None and task == "clustering":
        raise SettingInvalid("Clustering has no target; leave the target out or choose another task.")


def in_order(frame: pd.DataFrame, time_order: bool | str) -> tuple[pd.DataFrame, list[str]]:
    """The rows numbered from 0 and, where a column gives the time, sorted by it."""
    frame = frame.reset_index(drop=True)
    if not isinstance(time_order, str):
        return frame, []
    if time_order not in frame.columns:
        raise DataError(
            f"There is no column {time_order!r} to order by; {close_names(time_order, list(frame.columns))}"
        )
    info, moments = classify(frame[time_order], time_order, None)
    if info.kind not in ("date", "number") and info.note != "counts the rows":
        raise DataError(f"Column {time_order!r} holds neither dates nor numbers and cannot give the order.")
    if moments.isna().any():
        raise DataError(f"Column {time_order!r} has missing values and cannot give the order of the rows.")
    order = np.argsort(moments.to_numpy(), kind="stable")
    return frame.iloc[order], [f"rows sorted by {time_order}"]


def _with_target(frame: pd.DataFrame, target: str) -> tuple[pd.DataFrame, list[str]]:
    """The rows that have a target, and a note about the others."""
    column = frame[target]
    missing = (
        column.isna()
        if column.dtype.kind in "biufM"
        else column.isna() | (column.astype(str).str.strip() == "")
    )
    if missing.all():
        raise DataError(f"Column {target!r} has no value in any row; there is nothing to learn from.")
    if not missing.any():
        return frame, []
    count = int(missing.sum())
    return frame[~missing], [f"{count} rows without a value of {target} were left out"]


def _task(column: "pd.Series[Any]", asked: Task | None, chosen: str | None) -> tuple[Task, str]:
    """What kind of problem the target makes, with the reason."""
    numeric = column.dtype.kind in "iuf"
    if asked == "regression" and not numeric:
        raise SettingInvalid(
            f"{column.name!r} holds text, so it cannot be predicted as a number; use classification."
        )
    if asked is not None:
        return asked, f"{asked}, as asked"
    if chosen == "number" and numeric:
        return "regression", "regression, as the target was said to be a number"
    if chosen in ("category", "boolean"):
        return "classification", f"classification, as the target was said to be a {chosen}"
    if not numeric:
        return "classification", "classification, as the target holds labels"
    values = column.to_numpy(dtype="float64")
    different = len(np.unique(values))
    if different <= 2 or (
        bool((values == np.floor(values)).all())
        and different <= CLASS_NUMBERS
        and len(values) >= 5 * different
    ):
        return "classification", f"classification, as the target has only {different} different values"
    return "regression", "regression, as the target is a number"


def _truth(column: "pd.Series[Any]", target: str, task: Task) -> tuple[NDArray[Any], Field]:
    """The target as the model learns it, and the output's field."""
    if task == "regression":
        values = column.to_numpy(dtype="float64")
        if not np.isfinite(values).all():
            row = int(column.index[int(np.argmin(np.isfinite(values)))]) + 1
            raise DataError(
                f"Column {target!r} has an infinite number in data row {row}; correct or remove the row."
            )
        if values.min() == values.max():
            raise DataError(f"Column {target!r} has the same value in every row; there is nothing to learn.")
        output = Field(
            name=target,
            kind="number",
            dtype="float64",
            minimum=float(values.min()),
            maximum=float(values.max()),
        )
        return values, output
    labels = _labels(column)
    classes = sorted(set(labels))
    if len(classes) < 2:
        raise DataError(
            f"Column {target!r} has one class only ({classes[0]!r}); there is nothing to tell apart."
        )
    if len(classes) > MOST_CLASSES:
        raise DataError(
            f"Column {target!r} has {len(classes)} different values in {len(labels)} rows, too many for "
            "classes; choose another target or, for numbers, regression."
        )
    index = {label: place for place, label in enumerate(classes)}
    truth = np.fromiter((index[label] for label in labels), dtype=np.int64, count=len(labels))
    counts = np.bincount(truth)
    rare = int(np.argmin(counts))
    if counts[rare] < MIN_ROWS_PER_CLASS:
        raise DataError(
            f"Class {classes[rare]!r} of {target!r} has only {counts[rare]} rows; at least "
            f"{MIN_ROWS_PER_CLASS} are needed to learn and to check it: remove these rows or "
            "join the class with another."
        )
    kind: Literal["boolean", "category"] = "boolean" if isinstance(classes[0], bool) else "category"
    dtype = {bool: "bool", int: "int64", float: "float64"}.get(type(classes[0]), "str")
    return truth, Field(name=target, kind=kind, dtype=dtype, values=tuple(classes))


def _labels(column: "pd.Series[Any]") -> list[Any]:
    """Labels as plain Python values of one type: bool, int, or text."""
    values = column.tolist()
    if all(isinstance(value, bool | np.bool_) for value in values):
        return [bool(value) for value in values]
    if all(isinstance(value, int | float | np.integer | np.floating) for value in values):
        if all(float(value).is_integer() for value in values):
            return [int(value) for value in values]
        return [float(value) for value in values]
    return [str(value).strip() for value in values]


def _columns(
    frame: pd.DataFrame, target: str | None, kinds: Mapping[str, str]
) -> tuple[dict[str, Any], tuple[ColumnInfo, ...], tuple[ColumnInfo, ...]]:
    """Type every column but the target, and part those used from those left out."""
    typed: dict[str, Any] = {}
    used: list[ColumnInfo] = []
    dropped: list[ColumnInfo] = []
    for name in frame.columns:
        if name == target:
            continue
        info, column = classify(frame[name], name, kinds.get(name))
        if info.kind == "text" and target is None:
            info = ColumnInfo(name, "dropped", "free text, of which no clusters are made", info.chosen)
        if info.kind == "dropped":
            dropped.append(info)
        else:
            used.append(info)
            typed[name] = column
    if not used:
        reasons = "; ".join(f"{info.name}: {info.note}" for info in dropped[:5])
        raise DataError(f"No column is left to learn from ({reasons or 'there is none besides the target'}).")
    return typed, tuple(used), tuple(dropped)


def truth_of(frame: pd.DataFrame, signature: Signature) -> NDArray[Any] | None:
    """The target column of new rows, in the form that the model's answers have.

    Args:
        frame: rows that have the target column.
        signature: of the model.

    Returns:
        int64 class index or float64 value ``[rows]``; None for clustering.

    Raises:
        DataError: the column is not there, a value is missing, or a label is none of the model's.
    """
    if signature.task not in ("classification", "regression"):
        return None
    name = signature.answer.name
    if name not in frame.columns:
        raise DataError(
            f"The data has no column {name!r}, which holds the right answers; "
            f"{close_names(name, list(frame.columns))}"
        )
    column = frame[name]
    if column.isna().any():
        row = int(np.argmax(column.isna().to_numpy())) + 1
        raise DataError(f"Column {name!r} is empty in data row {row}; every row needs its right answer.")
    if signature.task == "regression":
        values = pd.to_numeric(column, errors="coerce").to_numpy(dtype="float64")
        bad = ~np.isfinite(values)
        if bad.any():
            row = int(np.argmax(bad))
            raise DataError(
                f"Column {name!r}, data row {row + 1}: expected a number, got {str(column.iloc[row])[:40]!r}."
            )
        return values
    classes = {str(label): place for place, label in enumerate(signature.classes)}
    labels = column
    if signature.answer.dtype != "str" and column.dtype.kind not in "biuf":
        labels = typed_column(column.astype(str), codes=False)
    known = [classes.get(str(label), -1) for label in _labels(labels)]
    truth = np.asarray(known, dtype=np.int64)
    if (truth < 0).any():
        row = int(np.argmax(truth < 0))
        shown = ", ".join(list(classes)[:8])
        raise DataError(
            f"Column {name!r}, data row {row + 1}: {str(column.iloc[row])[:40]!r} is none of the model's "
            f"classes ({shown})."
        )
    return truth
