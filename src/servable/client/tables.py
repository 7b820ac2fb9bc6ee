"""Answers as tables of pandas and polars and as arrays; each library is imported when it is asked for."""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from servable.errors import DependencyMissing

#: Begins the name of the column that holds the probabilities of a label.
PROBABILITY = "probability_"


def library(name: str) -> Any:
    """A library that the caller wants an answer of.

    Raises:
        DependencyMissing: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as missing:
        raise DependencyMissing(
            f"Answers as {name} need the library {name}; install it with `pip install {name}`."
        ) from missing


def columns(
    predictions: Sequence[Any], probabilities: Sequence[Mapping[str, float | None]] | None
) -> dict[str, list[Any]]:
    """Answers column by column.

    Returns:
        ``prediction``, or a column for each output of a model that has several; and for each label
        ``probability_<label>``.
    """
    first = predictions[0] if predictions else None
    if isinstance(first, Mapping):
        found = {str(name): [answer[name] for answer in predictions] for name in first}
    else:
        found = {"prediction": list(predictions)}
    for label in probabilities[0] if probabilities else ():
        found[PROBABILITY + label] = [chances[label] for chances in probabilities or ()]
    return found


def array(values: Sequence[Any]) -> Any:
    """Values as an array: numbers as float64 or int64 with NaN for null, everything else as it is."""
    numpy = library("numpy")
    try:
        found = numpy.asarray(values)
    except ValueError:
        # Lists of different lengths make no array of numbers.
        found = numpy.empty(len(values), dtype=object)
        found[:] = list(values)
        return found
    if found.dtype.kind != "O":
        return found
    try:
        return found.astype("float64")
    except (TypeError, ValueError):
        return found
