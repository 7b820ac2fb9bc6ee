"""Whether two versions give the same answers to the same rows, and by how much their scores differ. Pure."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from servable.tensors import PREDICTION, PROBABILITIES, Arrays

#: Numbers agree when they differ by no more than this share of the larger one.
AGREES = 0.05
_NUMBERS = frozenset("biuf")
_TEXTS = frozenset("OSU")


class Differences(NamedTuple):
    """Two answers to the same rows.

    Attributes:
        rows: how many were compared.
        agreed: how many got the same prediction: the same class or text, or a number within ``AGREES``.
        scores: for each row, float64, by how much the shadow's score is above the real one: of the class that
            the real version named, its probability; of a number, itself. None where there is nothing like it.
    """

    rows: int
    agreed: int
    scores: NDArray[Any] | None = None


class Sight:
    """How the answers of a shadow are read beside those of a real version. Immutable, safe to share.

    Classes are compared by their labels: two versions may know them in different orders.

    Args:
        real: the classes of the version that answers, in its order; empty where it is no classifier.
        shadow: those of its shadow.
        texts: whether texts are compared: not those of a version that writes another one each time, where
            equal texts would be chance.
    """

    __slots__ = ("_columns", "_real", "_same", "_texts")

    def __init__(self, real: Sequence[Any] = (), shadow: Sequence[Any] = (), *, texts: bool = True) -> None:
        known = {_key(label): place for place, label in enumerate(shadow)}
        #: For each real class, its place among the shadow's; -1 where the shadow does not know it.
        self._columns = np.array([known.get(_key(label), -1) for label in real], np.int64)
        self._real = len(self._columns)
        self._texts = texts
        self._same = self._columns.tolist() == list(range(len(shadow)))

    def differences(self, real: Arrays, shadow: Arrays) -> Differences | None:
        """What tells the answers apart; None where they cannot be compared.

        Args:
            real: the answers of the version that answers.
            shadow: those of its shadow to the same rows.
        """
        if not self._texts:
            real, shadow = _without_texts(real), _without_texts(shadow)
        one, other = real.get(PREDICTION), shadow.get(PREDICTION)
        if one is None or other is None:
            return _of_outputs(real, shadow)
        if len(one) != len(other):
            return None
        if self._real:
            return self._of_classes(one, other, real.get(PROBABILITIES), shadow.get(PROBABILITIES))
        if one.shape != other.shape:
            return Differences(len(one), 0)
        same = _same(one, other)
        scores = None
        if one.dtype.kind in _NUMBERS and other.dtype.kind in _NUMBERS:
            apart = other.astype(np.float64) - one
            scores = apart if apart.ndim == 1 else apart.reshape(len(apart), -1).mean(axis=1)
        return Differences(len(one), int(same.sum()), scores)

    def _of_classes(self, one: Any, other: Any, chances: Any, others: Any) -> Differences:
        rows = len(one)
        if rows == 1 and self._same:
            # Most requests have one row, for which numpy's ways are long.
            named = int(one[0])
            if chances is None or others is None:
                return Differences(1, int(named == other[0]))
            return Differences(
                1, int(named == other[0]), np.array([others.item(named) - chances.item(named)])
            )
        places = one if self._same else self._columns[one]
        agreed = int((places == other).sum())
        if chances is None or others is None:
            return Differences(rows, agreed)
        order = np.arange(rows)
        # A class that the shadow does not know has no probability.
        given = np.where(places >= 0, others[order, np.maximum(places, 0)], 0.0)
        return Differences(rows, agreed, (given - chances[order, one]).astype(np.float64))


def _without_texts(answers: Arrays) -> dict[str, Any]:
    return {name: array for name, array in answers.items() if array.dtype.kind not in _TEXTS}


def _key(label: Any) -> tuple[bool, Any]:
    """True is no 1."""
    return isinstance(label, bool), label


def _of_outputs(real: Arrays, shadow: Arrays) -> Differences | None:
    """Models with outputs of their own names: a row agrees when all outputs do."""
    if not real or real.keys() != shadow.keys():
        return None
    same: NDArray[np.bool_] | None = None
    for name, array in real.items():
        other = shadow[name]
        if len(array) != len(other) or (same is not None and len(same) != len(array)):
            return None
        here = _same(array, other) if array.shape == other.shape else np.zeros(len(array), np.bool_)
        same = here if same is None else same & here
    return None if same is None else Differences(len(same), int(same.sum()))


def _same(one: Any, other: Any) -> NDArray[np.bool_]:
    """Row for row, whether all cells agree."""
    if one.dtype.kind == "f" or other.dtype.kind == "f":
        left, right = one.astype(np.float64), other.astype(np.float64)
        with np.errstate(invalid="ignore"):
            near = np.abs(left - right) <= AGREES * np.maximum(np.abs(left), np.abs(right))
        cells = near | (left == right) | (np.isnan(left) & np.isnan(right))
    else:
        cells = np.asarray(one == other)
    return np.asarray(cells.reshape(len(one), -1).all(axis=1))
