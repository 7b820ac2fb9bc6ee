"""Right answers that stand beside files as text, such as the names of their folders, as a model's answers."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from servable.artifact.signature import Signature
from servable.errors import DataError
from servable.protocols.answers import label_key

_SHOWN = 8


class Owner(NamedTuple):
    """Whose labels they are, for messages: the data's name, and the model's."""

    data: str
    model: str


def truth_of_labels(labels: Sequence[str], names: Sequence[str], owner: Owner, signature: Signature) -> Any:
    """Class indexes int64 ``[n]``, matched with the model's labels by their text; for a regressor the values.

    Args:
        labels: the right answers as text.
        names: of the files, for messages.
        owner: for messages.
        signature: of the model.

    Raises:
        DataError: the model knows no such class, or the answer is no number.
    """
    if signature.task == "regression":
        return _values(labels, names)
    return _class_indexes(labels, owner, signature)


def _class_indexes(labels: Sequence[str], owner: Owner, signature: Signature) -> Any:
    """The classes of files ``[rows]``, matched with the model's labels by their text.

    Raises:
        DataError: the model knows no such class.
    """
    places = {key: place for place, label in enumerate(signature.classes) for key in _texts(label)}
    strange = sorted(set(labels) - places.keys())
    if strange:
        shown = ", ".join(map(repr, strange[:_SHOWN])) + (", ..." if len(strange) > _SHOWN else "")
        classes = [str(label) for label in signature.classes]
        known = ", ".join(classes[:_SHOWN]) + (", ..." if len(classes) > _SHOWN else "")
        which = "the class" if len(strange) == 1 else "the classes"
        raise DataError(
            f"{owner.data} holds {which} {shown}, which {owner.model} does not know; its classes are {known}."
        )
    return np.asarray([places[label] for label in labels], np.int64)


def _texts(label: Any) -> tuple[str, str]:
    """How the name of a folder may say a label that is no text."""
    return label_key(label), str(label)


def _values(labels: Sequence[str], names: Sequence[str]) -> Any:
    """The numbers of files ``[rows]``."""
    made = np.zeros(len(labels))
    for row, (label, name) in enumerate(zip(labels, names, strict=True)):
        try:
            made[row] = float(label)
        except ValueError:
            made[row] = np.nan
        if not np.isfinite(made[row]):
            raise DataError(f"The right answer of {name} is {label[:40]!r}; the model answers numbers.")
    return made
