"""Answers of a model as plain JSON values, one for each row: what all formats that speak in rows give back.

NaN and infinity stay what they are; the JSON encoder of ``msgspec`` writes them as ``null``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from servable.tensors import PREDICTION, PROBABILITIES

Label = str | bool | int | float


def label_key(label: Any) -> str:
    """A class label as the key of the probabilities."""
    if isinstance(label, bool):
        return "true" if label else "false"
    return str(label)


def answer_values(arrays: Mapping[str, Any], labels: Sequence[Label] = ()) -> list[Any]:
    """One value a row: the label, the number, the nested list, or an object of a model's several outputs.

    Args:
        arrays: of a Response.
        labels: a classifier's classes in order; empty for other models.

    Raises:
        IndexError: a class index that the signature does not have.
    """
    answer = arrays.get(PREDICTION)
    if answer is not None:
        if labels:
            return [labels[index] for index in answer.tolist()]
        return list(answer.tolist())
    if len(arrays) == 1:
        return list(next(iter(arrays.values())).tolist())
    columns = {name: array.tolist() for name, array in arrays.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def answer_chances(arrays: Mapping[str, Any], keys: Sequence[str]) -> list[dict[str, float]] | None:
    """A classifier's probabilities by label, one object a row; None when the model gives none.

    Args:
        arrays: of a Response.
        keys: see ``label_key``; empty for models that are no classifiers.

    Raises:
        ValueError: another number of probabilities than of labels.
    """
    chances = arrays.get(PROBABILITIES)
    if not keys or chances is None:
        return None
    return [dict(zip(keys, row, strict=True)) for row in chances.tolist()]
