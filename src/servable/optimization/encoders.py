"""Encoders of categories, compiled by asking the fitted encoder what it makes of each category.

So handle_unknown, min_frequency, drop, target statistics and encoded missing values need no rules of their
own here: the table says what came out. Texts of all columns are looked up by one hash node.
"""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from onnx import numpy_helper

from servable.artifact.signature import Field
from servable.optimization.columns import Matrix, View
from servable.optimization.graph import ML, Graph, Unconvertible
from servable.tensors import MISSING_STRING, STRINGS

#: A text and a number that no training data holds, to ask what becomes of unknown categories.
_UNKNOWN_TEXT = "\x00unknown\x00"
_UNKNOWN_NUMBER = -987654321.123
_LARGEST_TABLE = 20_000_000


class _Answers(NamedTuple):
    """What an encoder makes of one column, the others held at their first category.

    Attributes:
        keys: the categories as they arrive packed (str, or float with NaN).
        rows: float64 ``[keys, width]``, the encoder's whole output row for each.
        unknown: ``[width]`` for any other value; None when the encoder refuses such values.
    """

    keys: list[Any]
    rows: NDArray[np.float64]
    unknown: NDArray[np.float64] | None


class _Codes(NamedTuple):
    """One column's look-up: what arrives, what comes out, and what comes out for anything else."""

    keys: list[Any]
    codes: list[Any]
    other: Any


def ordinal(graph: Graph, encoder: Any, view: View) -> Matrix:
    """One output per column: OrdinalEncoder, and TargetEncoder of one target.

    Raises:
        Unconvertible: the categories are of a type that does not travel packed.
    """
    answers = _ask(encoder, view)
    if answers[0].rows.shape[1] != len(view.fields):
        raise Unconvertible(f"{type(encoder).__name__} makes several outputs of a column")
    parts: list[Matrix] = []
    places: list[int] = []
    for text in (False, True):
        chosen = [place for place, field in enumerate(view.fields) if (field.array == STRINGS) is text]
        if not chosen:
            continue
        fields = [view.fields[place] for place in chosen]
        tables: list[_Codes] = []
        for place in chosen:
            answer = answers[place]
            other = np.nan if answer.unknown is None else float(answer.unknown[place])
            tables.append(_Codes(answer.keys, answer.rows[:, place].tolist(), other))
        found = _look_up(graph, view, fields, tables, np.float64)
        parts.append(Matrix(found, len(chosen), codes=frozenset(range(len(chosen)))))
        places += chosen
    joined = join(graph, parts)
    return joined.select(graph, np.argsort(places).tolist())


def one_hot(graph: Graph, encoder: Any, view: View) -> Matrix:
    """Several outputs per column, of which each column sets its own: OneHotEncoder.

    The output is the sum over the columns of a row of a table, which is exact since no two columns touch
    the same output.
    """
    answers = _ask(encoder, view)
    base = answers[0].rows[0]
    width = len(base)
    rows: list[NDArray[np.float64]] = []
    tables: dict[bool, list[_Codes]] = {False: [], True: []}
    fields: dict[bool, list[Field]] = {False: [], True: []}
    for field, answer in zip(view.fields, answers, strict=True):
        start = sum(len(block) for block in rows)
        other = np.zeros(width) if answer.unknown is None else answer.unknown - base
        rows.append(np.vstack([answer.rows - base, other[None, :]]))
        text = field.array == STRINGS
        numbered = list(range(start, start + len(answer.keys)))
        tables[text].append(_Codes(answer.keys, numbered, start + len(answer.keys)))
        fields[text].append(field)
    table = np.vstack(rows)
    if table.size > _LARGEST_TABLE:
        raise Unconvertible("one-hot columns with too many categories for a table")
    looked_up = [
        Matrix(_look_up(graph, view, fields[text], tables[text], np.int64), len(fields[text]))
        for text in (False, True)
        if fields[text]
    ]
    codes = join(graph, looked_up).tensor
    chosen = graph.node("Gather", [graph.constant(table), codes], axis=0)
    axis = graph.constant(np.asarray([1], dtype=np.int64))
    summed = graph.node("ReduceSum", [chosen, axis], keepdims=0)
    if base.any():
        summed = graph.node("Add", [summed, graph.constant(base)])
    return Matrix(summed, width)


def join(graph: Graph, parts: Sequence[Matrix]) -> Matrix:
    """Matrices side by side."""
    if len(parts) == 1:
        return parts[0]
    tensors = [part.plain(graph).tensor for part in parts]
    places: set[int] = set()
    width = 0
    for part in parts:
        places |= {width + place for place in part.codes}
        width += part.width
    return Matrix(graph.node("Concat", tensors, axis=1), width, codes=frozenset(places))


def _look_up(graph: Graph, view: View, fields: Sequence[Field], tables: list[_Codes], dtype: Any) -> str:
    """Codes ``[rows, fields]`` for text or number columns: for each, keys, codes and the code of others."""
    if fields[0].array != STRINGS:
        return _look_up_each(graph, view.source.numbers(fields).tensor, tables, dtype)
    tensor = view.source.strings(fields).tensor
    keys = [key for table in tables for key in table.keys]
    codes = [code for table in tables for code in table.codes]
    others = {repr(table.other) for table in tables}
    if len(others) > 1:
        return _look_up_each(graph, tensor, tables, dtype)
    if len(set(keys)) < len(keys) or len(fields) > 1:
        prefix = np.asarray([[f"{place}\x1f" for place in range(len(fields))]], dtype=object)
        tensor = graph.node("StringConcat", [graph.constant(prefix), tensor])
        keys = [f"{place}\x1f{key}" for place, table in enumerate(tables) for key in table.keys]
    return _label_encoder(graph, tensor, keys, codes, tables[0].other, dtype)


def _look_up_each(graph: Graph, tensor: str, tables: list[_Codes], dtype: Any) -> str:
    """Codes with one hash node per column."""
    columns = []
    for place, (keys, codes, other) in enumerate(tables):
        index = graph.constant(np.asarray([place], dtype=np.int64))
        column = graph.node("Gather", [tensor, index], axis=1) if len(tables) > 1 else tensor
        columns.append(_label_encoder(graph, column, keys, codes, other, dtype))
    return columns[0] if len(columns) == 1 else graph.node("Concat", columns, axis=1)


def _label_encoder(
    graph: Graph, tensor: str, keys: list[Any], codes: list[Any], other: Any, dtype: Any
) -> str:
    attributes: dict[str, Any] = {}
    if isinstance(keys[0], str):
        attributes["keys_strings"] = keys
    elif dtype is np.int64:
        # onnxruntime has no encoder from double to int64, so the codes pass through double.
        found = _label_encoder(graph, tensor, keys, codes, other, np.float64)
        return graph.node("Cast", [found], to=7)
    else:
        attributes["keys_tensor"] = numpy_helper.from_array(np.asarray(keys, dtype=np.float64), "keys")
    attributes["values_tensor"] = numpy_helper.from_array(np.asarray(codes, dtype=dtype), "values")
    attributes["default_tensor"] = numpy_helper.from_array(np.asarray([other], dtype=dtype), "other")
    return graph.node("LabelEncoder", [tensor], domain=ML, **attributes)


def _ask(encoder: Any, view: View) -> list[_Answers]:
    """What the encoder makes of every category of every column."""
    categories = [list(known) for known in encoder.categories_]
    if len(categories) != len(view.fields):
        raise Unconvertible(f"{type(encoder).__name__} was fitted on other columns than it is given")
    base = [known[0] for known in categories]
    answers = []
    for place, (field, known) in enumerate(zip(view.fields, categories, strict=True)):
        keys = [_key(value, field) for value in known]
        rows = _encode(encoder, view, base, place, known)
        missing = MISSING_STRING if field.array == STRINGS else np.nan
        if missing not in keys and not any(key != key for key in keys):
            extra = _try(encoder, view, base, place, _missing(field, view.style))
            if extra is not None:
                keys.append(missing)
                rows = np.vstack([rows, extra])
        unknown_value: Any = _UNKNOWN_TEXT if field.array == STRINGS else _UNKNOWN_NUMBER
        answers.append(_Answers(keys, rows, _try(encoder, view, base, place, unknown_value)))
    return answers


def _missing(field: Field, style: str) -> Any:
    """How a missing value of a column looks to the fitted encoder."""
    return MISSING_STRING if field.array == STRINGS and style == "canonical" else np.nan


def _key(value: Any, field: Field) -> Any:
    """A category as it arrives packed.

    Raises:
        Unconvertible: a text column has a category that is neither text nor missing.
    """
    missing = value is None or value != value
    if field.array != STRINGS:
        return np.nan if missing else float(value)
    if missing:
        return MISSING_STRING
    if not isinstance(value, str):
        raise Unconvertible(f"column {field.name!r} has the category {value!r}, which is no text")
    return str(value)


def _try(encoder: Any, view: View, base: list[Any], place: int, value: Any) -> NDArray[np.float64] | None:
    """The output for one value, None when the encoder refuses it."""
    try:
        return np.asarray(_encode(encoder, view, base, place, [value])[0])
    except (ValueError, TypeError):
        return None


def _encode(
    encoder: Any, view: View, base: list[Any], place: int, values: Sequence[Any]
) -> NDArray[np.float64]:
    """Output rows for values of one column, the others at ``base``."""
    columns: dict[str, Any] = {}
    for index, field in enumerate(view.fields):
        held = list(values) if index == place else [base[index]] * len(values)
        text = field.array == STRINGS
        columns[field.name] = pd.Series(held, dtype=object if text else None)
    frame = pd.DataFrame(columns)
    given: Any = frame if hasattr(encoder, "feature_names_in_") else frame.to_numpy(dtype=object)
    with warnings.catch_warnings():
        # Asking for an unknown category is the purpose here, so the encoder's warning says nothing new.
        warnings.simplefilter("ignore", UserWarning)
        encoded = encoder.transform(given)
    dense = encoded.toarray() if hasattr(encoded, "toarray") else encoded
    return np.asarray(dense, dtype=np.float64)
