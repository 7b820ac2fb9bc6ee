"""Many rows in one call of a River model, where its mini-batch protocol answers as one row at a time does.

River promises such calls for some models and steps, and its own tests except several of them from being
equal. So equality is not taken on trust: the first rows are asked both ways, and where the answers differ,
or a row is of a kind that batches treat otherwise, every row is asked by itself, as ever. Only answering is
done in batches: ``learn_many`` takes one step for a whole batch and comes to another model.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from river import base, compose

from servable.artifact.signature import Signature
from servable.frameworks.river_rows import columns_of
from servable.tensors import PREDICTION, PROBABILITIES, Arrays, row_count, take

#: Fewer rows are answered sooner one by one: a table takes milliseconds, a row of a linear model a hundredth.
FEWEST_ROWS = 1_000
#: Rows that are asked both ways before a batch is believed.
_PROOF_ROWS = 64
#: The largest difference at which answers are equal: the order of a sum, and no more.
_TOLERANCE = 1e-9
Answers = dict[str, Any]


class Batches(Protocol):
    """Answers many rows at once, or says that it cannot. One call at a time."""

    def answers(self, arrays: Arrays, one_by_one: Callable[[Arrays], Answers]) -> Answers | None:
        """Answers in packed form; None where the rows are to be asked by themselves.

        Args:
            arrays: packed rows.
            one_by_one: asks every row by itself.
        """
        ...


class NoBatches:
    """A model that is asked row by row."""

    def answers(self, arrays: Arrays, one_by_one: Callable[[Arrays], Answers]) -> Answers | None:
        """None."""
        return None


class ManyRows:
    """A model that River can ask about many rows at once.

    Args:
        model: of River; see ``takes_batches``.
        signature: of it.
        labels: its classes as it names them, in the order of the signature; empty for a regressor.
    """

    def __init__(self, model: Any, signature: Signature, labels: list[Any]) -> None:
        self._model = model
        self._signature = signature
        self._labels = labels
        self._proven = False
        self._differs = False

    def answers(self, arrays: Arrays, one_by_one: Callable[[Arrays], Answers]) -> Answers | None:
        """See ``Batches``."""
        if self._differs or row_count(arrays) < FEWEST_ROWS:
            return None
        found = self._asked(arrays)
        if found is None or self._proven:
            return found
        some = slice(0, _PROOF_ROWS)
        self._proven = _equal(one_by_one(take(arrays, some)), take(found, some))
        self._differs = not self._proven
        return found if self._proven else None

    def _asked(self, arrays: Arrays) -> Answers | None:
        import pandas as pd

        columns = columns_of(arrays, self._signature)
        if any(None in values for values in columns.values()):
            # Batches have no None, and a step may take NaN for a number.
            return None
        frame = pd.DataFrame(columns)
        try:
            if not self._labels:
                return {PREDICTION: np.asarray(self._model.predict_many(frame), np.float64)}
            shares = self._model.predict_proba_many(frame)
        except Exception:  # noqa: BLE001 - whatever it is, the rows are asked by themselves, and say what is wrong
            return None
        if len(shares) != len(frame) or not set(shares.columns) <= set(self._labels):
            return None
        found = shares.reindex(columns=self._labels, fill_value=0.0).to_numpy(np.float64)
        # Of equal shares the first as the model has them wins, which only a row by itself can tell.
        ordered = np.sort(found, axis=1)
        if (ordered[:, -1] - ordered[:, -2] <= _TOLERANCE).any():
            return None
        return {PREDICTION: found.argmax(axis=1).astype(np.int64), PROBABILITIES: found}


def batches_of(model: Any, signature: Signature, labels: list[Any], *, largest_wins: bool) -> Batches:
    """How many rows of a model may be asked at once.

    Args:
        model: of River.
        signature: of it.
        labels: its classes as it names them; empty for a regressor.
        largest_wins: whether a classifier names the class with the largest share.
    """
    classifies = signature.task == "classification"
    if classifies and not (signature.probabilities and largest_wins and len(labels) > 1):
        return NoBatches()
    asked = "predict_proba_many" if classifies else "predict_many"
    return ManyRows(model, signature, labels) if takes_batches(model, asked) else NoBatches()


def takes_batches(model: Any, asked: str) -> bool:
    """Whether a model, and every step before it, has the calls for many rows.

    Args:
        model: of River.
        asked: ``predict_many`` or ``predict_proba_many``.
    """
    if isinstance(model, compose.Pipeline):
        *steps, last = model.steps.values()
        return all(map(_transforms, steps)) and takes_batches(last, asked)
    if not isinstance(model, base.MiniBatchClassifier | base.MiniBatchRegressor):
        return False
    # A classifier that only names a class has inherited a call that raises.
    return getattr(type(model), asked, None) is not getattr(base.MiniBatchClassifier, asked, None)


def _transforms(step: Any) -> bool:
    if isinstance(step, compose.Pipeline):
        return all(map(_transforms, step.steps.values()))
    if isinstance(step, compose.TransformerUnion):
        return all(map(_transforms, step.transformers.values()))
    return hasattr(step, "transform_many")


def _equal(one: Answers, many: Answers) -> bool:
    if one.keys() != many.keys():
        return False
    return all(
        np.array_equal(one[name], many[name])
        if many[name].dtype.kind == "i"
        else bool(np.allclose(one[name], many[name], rtol=_TOLERANCE, atol=_TOLERANCE))
        for name in many
    )
