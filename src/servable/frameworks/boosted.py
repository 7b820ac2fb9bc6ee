"""What the adapters of LightGBM, XGBoost and CatBoost share: columns, coded categories, answers.

Such a model takes a matrix with one column for each feature. A category is the place of its value among
those seen in training, or a number that is its own code.
"""

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from servable.artifact.files import storage_errors
from servable.artifact.manifest import TRAINED, Variant
from servable.artifact.signature import Field, Signature, Task
from servable.errors import DataError, ModelFailed, SettingInvalid
from servable.frameworks.base import Hints, Trained
from servable.frameworks.frame import dtype_of, pack
from servable.tensors import NUMBERS, PREDICTION, PROBABILITIES, STRINGS, Arrays, row_count

#: How a library's scores are read: numbers; the probability of the second of two classes; one for each class;
#: the index of a class.
Meaning = Literal["values", "positive", "rows", "labels"]
#: Option of the trained variant: for each coded column its categories, whose places are the codes.
CODED = "coded"
#: Option of the trained variant: see ``Meaning``.
SCORES = "scores"

#: Option of XGBoost: how many rounds count; 0 for all.
ROUNDS = "rounds"
#: Option of CatBoost: the loss that it was trained with.
LOSS = "loss"
#: Where ``read`` keeps the path of the original for ``kept``; never goes into a package.
ORIGIN = "origin"

Value = str | bool | int | float


class Column(NamedTuple):
    """A feature as the model knows it.

    Attributes:
        name: empty when the model does not say.
        kind: ``number``; ``coded`` for a category given as the place of its value in ``values``; ``whole``
            for one whose whole numbers are the codes; ``text`` for one that the library takes as text.
        values: known categories.
        missing: whether the model answers rows that lack it.
    """

    name: str
    kind: Literal["number", "coded", "whole", "text"] = "number"
    values: tuple[Value, ...] = ()
    missing: bool = True


class Answers(NamedTuple):
    """What the scores mean; ``classes`` are those of the model itself, ``width`` how many there must be."""

    scores: Meaning
    classes: tuple[Value, ...] = ()


def signature_of(
    columns: Sequence[Column], answers: Answers, sample: pd.DataFrame | None, hints: Hints
) -> Signature:
    """The signature of a boosted model.

    Args:
        columns: in the order of the model's matrix.
        answers: what it gives.
        sample: rows that it accepts; names columns that the model does not name and gives ranges.
        hints: labels of the classes, and inputs, whose names and descriptions win.

    Raises:
        DataError: the sample does not fit the model.
        SettingInvalid: a hint contradicts the model.
    """
    named = _named(columns, sample, hints)
    fields = tuple(_field(column, None if sample is None else sample[column.name]) for column in named)
    if hints.inputs:
        fields = tuple(_told(field, hint) for field, hint in zip(fields, hints.inputs, strict=True))
    task, answer = _answer(answers, hints)
    if hints.task is not None and hints.task != task:
        raise SettingInvalid(
            f"The description says that the model does {hints.task}, but its objective is one of {task}."
        )
    signature = Signature(
        task=task,
        inputs=fields,
        outputs=(answer,),
        probabilities=answers.scores in ("positive", "rows"),
        example={field.name: field.example for field in fields},
    )
    if sample is not None:
        pack(sample, signature)
    return signature


def coded_of(columns: Sequence[Column], signature: Signature) -> dict[str, list[Value]]:
    """The option ``CODED``."""
    return {
        field.name: list(column.values)
        for column, field in zip(columns, signature.inputs, strict=True)
        if column.kind == "coded"
    }


def _named(columns: Sequence[Column], sample: pd.DataFrame | None, hints: Hints) -> list[Column]:
    """The columns with names: the model's own, else those of the sample or of the hints, else made up.

    Raises:
        DataError: the sample lacks a column, or has another number of them.
        SettingInvalid: the hints have another number of inputs.
    """
    count = len(columns)
    if hints.inputs and len(hints.inputs) != count:
        raise SettingInvalid(
            f"The description has {len(hints.inputs)} inputs, but the model takes {count} columns."
        )
    if all(column.name for column in columns):
        if sample is None:
            return list(columns)
        return [column._replace(name=_in_sample(column.name, sample)) for column in columns]
    if sample is not None and sample.shape[1] != count:
        raise DataError(f"The model takes {count} columns, the sample has {sample.shape[1]}.")
    if sample is not None:
        names = [str(name) for name in sample.columns]
    else:
        names = [field.name for field in hints.inputs] or [f"x{place}" for place in range(count)]
    return [column._replace(name=name) for column, name in zip(columns, names, strict=True)]


def _in_sample(name: str, sample: pd.DataFrame) -> str:
    """The name of the sample's column that a model calls so; LightGBM writes spaces as underscores.

    Raises:
        DataError: there is none.
    """
    if name in sample.columns:
        return name
    for column in sample.columns:
        if re.sub(r"\s", "_", str(column)) == name:
            return str(column)
    raise DataError(f"The sample has no column {name!r}, which the model takes.")


def _field(column: Column, seen: pd.Series | None) -> Field:
    """One input from what the model knows of it, and from its sample column."""
    if column.kind == "text":
        values = column.values
        if seen is not None and not values:
            values = tuple(sorted({_as_text(value) for value in seen.dropna()}))
        first = values[0] if values else "unknown"
        if seen is not None and len(seen.dropna()):
            first = _as_text(seen.dropna().iloc[0])
        return Field(
            name=column.name,
            kind="category",
            dtype="str",
            missing=column.missing,
            values=values,
            example=first,
        )
    if column.kind != "number":
        dtype = "int64" if column.kind == "whole" else dtype_of(column.values)
        return Field(
            name=column.name,
            kind="boolean" if dtype == "bool" else "category",
            dtype=dtype,
            missing=column.missing,
            values=column.values,
            example=column.values[0] if column.values else 0,
        )
    present = None if seen is None else seen.dropna()
    numeric = present is not None and pd.api.types.is_numeric_dtype(present.dtype) and len(present) > 0
    if present is None or not numeric:
        return Field(name=column.name, kind="number", dtype="float64", missing=column.missing, example=0.0)
    if pd.api.types.is_bool_dtype(present.dtype):
        example = bool(present.iloc[0])
        return Field(name=column.name, kind="boolean", dtype="bool", missing=column.missing, example=example)
    return Field(
        name=column.name,
        kind="number",
        dtype="int64" if pd.api.types.is_integer_dtype(present.dtype) else "float64",
        missing=column.missing,
        minimum=float(present.min()),
        maximum=float(present.max()),
        example=present.iloc[0].item(),
    )


def _told(field: Field, hint: Field) -> Field:
    """A field with what the caller says of it; how it travels is the model's own affair."""
    return msgspec.structs.replace(
        field,
        name=hint.name,
        description=hint.description or field.description,
        minimum=field.minimum if hint.minimum is None else hint.minimum,
        maximum=field.maximum if hint.maximum is None else hint.maximum,
        example=field.example if hint.example is None else hint.example,
    )


def _as_text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _answer(answers: Answers, hints: Hints) -> tuple[Task, Field]:
    """The task and the output.

    Raises:
        SettingInvalid: labels for a model that has no classes, or another number of them.
    """
    if answers.scores == "values":
        if hints.labels:
            raise SettingInvalid(
                "Labels are given, but the model's objective is one of numbers, not of classes."
            )
        return "regression", Field(name="prediction", kind="number", dtype="float64")
    if hints.labels and len(hints.labels) != len(answers.classes):
        raise SettingInvalid(
            f"{len(hints.labels)} labels are given, but the model tells {len(answers.classes)} classes apart."
        )
    values = tuple(hints.labels) or answers.classes
    return "classification", Field(name="prediction", kind="category", dtype=dtype_of(values), values=values)


class Coder:
    """From packed arrays to the matrix that a model takes."""

    def __init__(self, signature: Signature, coded: Mapping[str, Sequence[Value]]) -> None:
        numbers, strings = signature.packed(NUMBERS), signature.packed(STRINGS)
        place = {field.name: index for index, field in enumerate(numbers)}
        place |= {field.name: index for index, field in enumerate(strings)}
        self._plain = not coded and not strings
        self._columns = [
            (field.array, place[field.name], _table(coded.get(field.name))) for field in signature.inputs
        ]

    def matrix(self, arrays: Arrays) -> NDArray[np.float64]:
        """Float64 ``[rows, features]``: unknown and missing categories are NaN."""
        if self._plain:
            return np.asarray(arrays[NUMBERS], dtype=np.float64)
        made = np.empty((row_count(arrays), len(self._columns)), dtype=np.float64)
        for index, (array, place, table) in enumerate(self._columns):
            column = arrays[array][:, place]
            if table is None:
                made[:, index] = column
            else:
                made[:, index] = [table.get(value, np.nan) for value in column.tolist()]
        return made


def _table(values: Sequence[Value] | None) -> dict[Any, float] | None:
    """The code of each category as it travels: texts as they are, all others as floats."""
    if values is None:
        return None
    return {value if isinstance(value, str) else float(value): float(i) for i, value in enumerate(values)}


class BoostedPredictor:
    """A model behind packed arrays. One call at a time.

    Args:
        score: the library's own scores for packed arrays.
        scores: what they mean.
    """

    concurrent = False

    def __init__(self, score: Callable[[Arrays], Any], scores: Meaning) -> None:
        self._score: Callable[[Arrays], Any] | None = score
        self._scores = scores

    def predict(self, arrays: Arrays) -> dict[str, Any]:
        """Answer all rows.

        Raises:
            ModelFailed: the library raised, or the predictor is closed.
        """
        try:
            if self._score is None:
                raise RuntimeError("the predictor is closed")
            raw = np.asarray(self._score(arrays))
        except Exception as foreign:  # Whatever the library raises becomes one sentence.
            raise ModelFailed(
                f"The trained model failed on {row_count(arrays)} rows ({type(foreign).__name__})."
            ) from foreign
        if self._scores == "values":
            return {PREDICTION: raw.reshape(-1).astype(np.float64)}
        if self._scores == "labels":
            return {PREDICTION: raw.reshape(-1).astype(np.int64)}
        if self._scores == "positive":
            second = raw.reshape(-1)
            raw = np.stack([1 - second, second], axis=1)
        return {PREDICTION: np.argmax(raw, axis=1), PROBABILITIES: raw}

    def close(self) -> None:
        """Drop the model; its memory goes with the last reference."""
        self._score = None


def kept(trained: Trained, folder: Path, framework: str, name: str) -> Variant:
    """Copy the file that a model was read from into a package, under a name, and say how to load it again."""
    options = dict(trained.options)
    with storage_errors("copying the model"):
        shutil.copyfile(str(options.pop(ORIGIN)), folder / name)
    return Variant(name=TRAINED, format=framework, path=name, options=options)


def first_line(foreign: BaseException) -> str:
    """What a library said, cut to one line for a sentence of ours."""
    lines = [line.strip() for line in str(foreign).splitlines() if line.strip()]
    said = lines[0] if lines else type(foreign).__name__
    # XGBoost begins with the time and the place in its source.
    return said.rpartition("Check failed: ")[2].rstrip(".:")[:160]
