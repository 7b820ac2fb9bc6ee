"""What a fitted scikit-learn model says about its inputs and outputs, completed by sample rows."""

import warnings
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import is_classifier, is_clusterer, is_regressor
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from servable.artifact.signature import Field, Kind, Signature, Task
from servable.errors import ArtifactUnreadable, ArtifactUnsupported, DataError
from servable.frameworks.frame import dtype_of, pack, to_frame
from servable.tensors import MISSING_STRING, NUMBERS, STRINGS

_ARRAY = "array"
#: The style of a model whose rows are texts and not rows of a table.
TEXTS = "texts"
_VECTORIZERS = ("CountVectorizer", "TfidfVectorizer", "HashingVectorizer")
_EXAMPLE_TEXT = "A text."
_LONGEST_EXAMPLE = 200
#: A text column with more different values than this in the sample is free text.
_MOST_VALUES = 100


def derive(model: Any, sample: pd.DataFrame | None) -> tuple[Signature, str]:
    """The signature of a fitted model, and how it wants its rows: ``array``, ``pandas`` or ``texts``.

    Args:
        model: a fitted estimator or pipeline.
        sample: rows that it accepts; gives dtypes, ranges, missing values and the example.

    Raises:
        ArtifactUnreadable: no fitted model.
        ArtifactUnsupported: it has no ``predict``, or several targets.
        DataError: the sample lacks columns, or has another number of them.
    """
    if not hasattr(model, "predict"):
        raise ArtifactUnsupported(f"The file holds a {type(model).__name__}, which has no predict method.")
    names, style = _columns(model, sample)
    known = dict(_encoded(model, names))
    texts = set(names) if style == TEXTS else set(_vectorized(model, names))
    fields = tuple(
        _text(name, None if sample is None else sample[name])
        if name in texts
        else _field(name, known.get(name), None if sample is None else sample[name])
        for name in names
    )
    held = next((field.name for field in fields if field.array == STRINGS), None)
    if style == _ARRAY and held is not None:
        raise DataError(
            f"The model was fitted on an array, which is served as numbers, and the sample's column {held!r} "
            "holds texts; give numbers, or fit the model on a DataFrame whose columns have names."
        )
    task, answer = _answer(model)
    probabilities = task == "classification" and callable(getattr(model, "predict_proba", None))
    signature = Signature(
        task=task, inputs=fields, outputs=(answer,), probabilities=probabilities, example=_example(fields)
    )
    if sample is not None:
        pack(sample, signature)
    return msgspec.structs.replace(signature, inputs=_with_missing(model, signature, style)), style


def _columns(model: Any, sample: pd.DataFrame | None) -> tuple[list[str], str]:
    """The names of the columns, and the style."""
    count = getattr(model, "n_features_in_", None)
    if takes_texts(model):
        check_fitted(model)
        return [_text_column(sample)], TEXTS
    if count is None:
        check_fitted(model)
        if sample is None:
            raise ArtifactUnsupported("The model does not say what it takes; add --sample with example rows.")
        return [str(name) for name in sample.columns], "pandas"
    names = getattr(model, "feature_names_in_", None)
    made_up = [f"Column_{place}" for place in range(count)]
    if names is not None and list(names) != made_up:
        listed = [str(name) for name in names]
        if sample is not None:
            absent = [name for name in listed if name not in sample.columns]
            if absent:
                raise DataError(f"The sample has no column {absent[0]!r}, which the model was fitted on.")
        return listed, "pandas"
    if sample is None:
        return [f"x{place}" for place in range(count)], _ARRAY
    if sample.shape[1] != count:
        raise DataError(f"The model takes {count} columns, the sample has {sample.shape[1]}.")
    return [str(name) for name in sample.columns], _ARRAY


def check_fitted(model: Any) -> None:
    """Whether the first step of a model was fitted.

    Raises:
        ArtifactUnreadable: it was not.
    """
    try:
        check_is_fitted(getattr(model, "steps", [("", model)])[0][1])
    except Exception as foreign:  # Whatever the library raises becomes one sentence.
        raise ArtifactUnreadable(
            f"The {type(model).__name__} in the file was never fitted; fit it before saving."
        ) from foreign


def takes_texts(model: Any) -> bool:
    """Whether the first step of a model reads texts: a vectorizer, or a union of such."""
    step = model
    while isinstance(step, Pipeline):
        step = next((inner for _, inner in step.steps if inner not in (None, "passthrough")), None)
    if type(step).__name__ == "FeatureUnion":
        return any(takes_texts(inner) for _, inner in step.transformer_list)
    return type(step).__name__ in _VECTORIZERS


def _text_column(sample: pd.DataFrame | None) -> str:
    """The name of the one column of texts."""
    if sample is None:
        return "text"
    held = [str(name) for name in sample.columns if not pd.api.types.is_numeric_dtype(sample[name].dtype)]
    if len(held) != 1:
        raise DataError(
            f"The model takes one column of texts, the sample has {len(held)}; leave that one, and name the "
            "column that holds the answer by --target."
        )
    return held[0]


def _vectorized(model: Any, names: list[str]) -> Iterator[str]:
    """The columns of a table that a vectorizer reads."""
    step = model
    while isinstance(step, Pipeline):
        step = step.steps[0][1]
    for _, inner, columns in getattr(step, "transformers_", ()):
        if not isinstance(inner, str) and takes_texts(inner):
            yield from _chosen(columns, names)


def _text(name: str, column: pd.Series | None) -> Field:
    """One input of free text; an empty one is a text."""
    held = [] if column is None else [str(value) for value in column.dropna() if str(value).strip()]
    example = sorted(held, key=len)[len(held) // 2][:_LONGEST_EXAMPLE] if held else _EXAMPLE_TEXT
    return Field(name=name, kind="text", dtype="str", missing=True, example=example)


def _encoded(model: Any, names: list[str]) -> Iterator[tuple[str, tuple[list[Any], bool]]]:
    """Columns that go into an encoder: name, its categories, and whether others are refused."""
    step = model
    while isinstance(step, Pipeline):
        step = next((s for _, s in step.steps if not _is_imputer(s)), step.steps[-1][1])
    if hasattr(step, "transformers_"):
        for _, inner, columns in step.transformers_:
            if isinstance(inner, str):
                continue
            yield from _encoded(inner, _chosen(columns, names))
    elif hasattr(step, "categories_") and len(step.categories_) == len(names):
        refuses = getattr(step, "handle_unknown", "") == "error"
        for name, categories in zip(names, step.categories_, strict=True):
            yield name, (list(categories), refuses)


def _is_imputer(step: Any) -> bool:
    return "Imputer" in type(step).__name__


def _chosen(columns: Any, names: list[str]) -> list[str]:
    """The names that a ColumnTransformer's column choice means; nothing for forms not known."""
    if isinstance(columns, slice):
        whole = isinstance(columns.start, int | None) and isinstance(columns.stop, int | None)
        return names[columns] if whole else []
    chosen = np.atleast_1d(np.asarray(columns, dtype=object)).tolist()
    if chosen and all(isinstance(entry, bool | np.bool_) for entry in chosen):
        return [name for name, wanted in zip(names, chosen, strict=True) if wanted]
    return [entry if isinstance(entry, str) else names[int(entry)] for entry in chosen]


def _field(name: str, encoded: tuple[list[Any], bool] | None, column: pd.Series | None) -> Field:
    """One input from what the model knows of it and from its sample column."""
    if encoded is not None:
        categories, refuses = encoded
        values = tuple(_plain(value) for value in categories if value is not None and value == value)
        missing = len(values) < len(categories)
        dtype = dtype_of(values)
        first = next(iter(values), None)
        return Field(
            name=name,
            kind="boolean" if dtype == "bool" else "category",
            dtype=dtype,
            missing=missing,
            values=values,
            unknown="refuse" if refuses else "accept",
            example=first,
        )
    if column is None:
        return Field(name=name, kind="number", dtype="float64", example=0.0)
    return sampled(name, column)


def sampled(name: str, column: pd.Series) -> Field:
    """One input from its sample column alone."""
    present = column.dropna()
    missing = len(present) < len(column)
    first = _plain(present.iloc[0]) if len(present) else None
    kind: Kind
    if pd.api.types.is_bool_dtype(column.dtype):
        return Field(name=name, kind="boolean", dtype="bool", missing=missing, example=first)
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        shown = None if first is None else pd.Timestamp(present.iloc[0]).isoformat()
        return Field(name=name, kind="date", dtype="datetime", missing=missing, example=shown)
    if pd.api.types.is_numeric_dtype(column.dtype):
        whole = pd.api.types.is_integer_dtype(column.dtype)
        return Field(
            name=name,
            kind="number",
            dtype="int64" if whole else "float64",
            missing=missing,
            minimum=float(present.min()) if len(present) else None,
            maximum=float(present.max()) if len(present) else None,
            example=first if first is not None else 0.0,
        )
    texts = sorted({str(value) for value in present})
    kind = "text" if len(texts) > _MOST_VALUES else "category"
    return Field(
        name=name,
        kind=kind,
        dtype="str",
        missing=missing,
        values=tuple(texts) if kind == "category" else (),
        example=None if first is None else str(first),
    )


def _plain(value: Any) -> Any:
    """A numpy scalar as Python's own."""
    return value.item() if isinstance(value, np.generic) else value


def _answer(model: Any) -> tuple[Task, Field]:
    """The task and the output."""
    if is_classifier(model):
        classes = model.classes_
        if isinstance(classes, list):
            raise ArtifactUnsupported("The model predicts several targets at once, which is not served yet.")
        values = tuple(_plain(value) for value in classes)
        return "classification", Field(
            name="prediction", kind="category", dtype=dtype_of(values), values=values
        )
    if is_clusterer(model):
        return "clustering", Field(name="prediction", kind="number", dtype="int64")
    if not is_regressor(model) and hasattr(model, "fit_predict"):
        # Mixtures and outlier detectors give whole numbers.
        return "clustering", Field(name="prediction", kind="number", dtype="int64")
    return "regression", Field(name="prediction", kind="number", dtype="float64")


def _example(fields: tuple[Field, ...]) -> dict[str, Any]:
    return {field.name: field.example for field in fields}


def example_arrays(signature: Signature) -> dict[str, NDArray[Any]]:
    """The signature's example as one packed row; an input without an example is missing."""
    frame = pd.DataFrame({field.name: [signature.example.get(field.name)] for field in signature.inputs})
    free = [_lenient(field) for field in signature.inputs]
    return pack(frame, Signature(task=signature.task, inputs=tuple(free), outputs=signature.outputs))


def _lenient(field: Field) -> Field:
    return Field(name=field.name, kind=field.kind, dtype=field.dtype, missing=True)


def _with_missing(model: Any, signature: Signature, style: str) -> tuple[Field, ...]:
    """The inputs, with ``missing`` set where the model answers a row that lacks the value."""
    fields = []
    row = example_arrays(signature)
    for field in signature.inputs:
        accepts = field.missing or _answers_without(model, signature, style, row, field)
        fields.append(msgspec.structs.replace(field, missing=accepts))
    return tuple(fields)


def _answers_without(
    model: Any, signature: Signature, style: str, row: dict[str, NDArray[Any]], field: Field
) -> bool:
    """Whether the model answers the example row with one value taken out."""
    arrays = {name: array.copy() for name, array in row.items()}
    place = [other.name for other in signature.packed(field.array)].index(field.name)
    arrays[field.array][0, place] = MISSING_STRING if field.array == STRINGS else np.nan
    given: Any = arrays[NUMBERS] if style == _ARRAY else to_frame(arrays, signature, "pandas")
    try:
        with warnings.catch_warnings():
            # Only the outcome matters here.
            warnings.simplefilter("ignore")
            model.predict(given)
    except Exception:  # noqa: BLE001 - whatever it raises, it does not answer such a row
        return False
    return True
