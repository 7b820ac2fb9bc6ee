"""A model that anyone can check by hand: it sums the numbers of a row."""

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from servable.artifact.signature import Field, Signature
from servable.errors import ModelFailed
from servable.tensors import NUMBERS, PREDICTION, Arrays


def fake_signature(columns: int = 2) -> Signature:
    """A regression on number columns ``x0``, ``x1`` ... whose answer is their sum."""
    inputs = tuple(
        Field(name=f"x{index}", kind="number", dtype="float64", example=float(index + 1))
        for index in range(columns)
    )
    return Signature(
        task="regression",
        inputs=inputs,
        outputs=(Field(name="sum", kind="number", dtype="float64"),),
        example={field.name: field.example for field in inputs},
    )


class CountingPredictor:
    """Streams the whole numbers below the first number of a row, one each; says so to both ways of asking.

    After a row whose second number is -1 it raises in the middle.

    Attributes:
        made: how many pieces were made.
        ended: how many streams were closed or came to their end.
    """

    concurrent = False

    def __init__(self) -> None:
        self.made = 0
        self.ended = 0

    def predict(self, arrays: Arrays) -> dict[str, Any]:
        """How many numbers there are, float64 ``[rows]``."""
        return {PREDICTION: np.floor(arrays[NUMBERS][:, 0])}

    def stream(self, arrays: Arrays) -> Iterator[dict[str, Any]]:
        """The numbers.

        Raises:
            ModelFailed: in the middle, when the row says so.
        """
        below, poison = arrays[NUMBERS][0].tolist()
        try:
            for number in range(int(below)):
                if poison == -1.0 and number >= below / 2:
                    raise ModelFailed("The model was poisoned.")
                self.made += 1
                yield {PREDICTION: np.array([float(number)])}
        finally:
            self.ended += 1

    def close(self) -> None:
        """Nothing to give back."""


class FakePredictor:
    """Answers with the sum of each row's numbers. Safe to call from several threads.

    A row that holds ``poison`` raises ModelFailed. While ``hold()`` is in force calls wait until
    ``let_go()``, so that a test can act while the model runs.

    Attributes:
        calls: how many calls were begun.
        closed: how often it was closed.
    """

    concurrent = True

    def __init__(self, poison: float = -1.0) -> None:
        self.calls = 0
        self.closed = 0
        self._poison = poison
        self._free = threading.Event()
        self._free.set()
        self._lock = threading.Lock()

    def hold(self) -> None:
        """Calls from now on wait."""
        self._free.clear()

    def let_go(self) -> None:
        """Waiting calls go on."""
        self._free.set()

    def predict(self, arrays: Arrays) -> dict[str, Any]:
        """The sums, float64 ``[rows]``.

        Raises:
            ModelFailed: a row holds the poison.
        """
        with self._lock:
            self.calls += 1
        if not self._free.wait(timeout=30.0):
            raise ModelFailed("The model was held for more than 30 s.")
        numbers = arrays[NUMBERS]
        if bool(np.any(numbers == self._poison)):
            raise ModelFailed("The model was poisoned.")
        return {PREDICTION: numbers.sum(axis=1)}

    def close(self) -> None:
        """Counted."""
        self.closed += 1
