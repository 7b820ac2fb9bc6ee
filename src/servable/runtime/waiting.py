"""One request's rows on their way through the batcher, whole or in parts."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from servable.errors import ModelFailed
from servable.protocols.base import NO_HEAD, Head
from servable.tensors import Arrays, take

#: Where a ``Waiting`` is: not submitted, in the queue, given to the executor (or about to be tried once
#: more), and answered or left by its caller.
NEW, QUEUED, RUNNING, OVER = range(4)


class Waiting:
    """One request's rows. A subclass says what becomes of the answer.

    Belongs to one event loop and is submitted once.

    Attributes:
        arrays: packed rows; they stay unchanged until ``settle`` was called.
        rows: how many rows they hold, at least 1.
        deadline: seconds of ``Clock.monotonic()`` after which nobody wants the answer; infinite without one.
        weight: its share against requests of other weights, above 0; twice the weight, twice the rows.
        queued_at: when it was submitted, seconds of ``Clock.monotonic()``.
        strikes: how many processes of the model died while they had it.
        state: where it is; set by the batcher.
        form: what it must have in common with its neighbours in a batch; set by the queue, if at all.
        split: its parts, when it is larger than a batch may be; set by the queue.
        head: the headers of the request, for whoever is told of it; they are read only.
        places: where its rows stand in the request that they are a piece of, from 0; None: it is all of it.
    """

    __slots__ = (
        "arrays",
        "deadline",
        "form",
        "head",
        "places",
        "queued_at",
        "rows",
        "split",
        "state",
        "strikes",
        "weight",
    )

    def __init__(self, arrays: Arrays, rows: int, deadline: float = math.inf, weight: float = 1.0) -> None:
        self.arrays = arrays
        self.rows = rows
        self.deadline = deadline
        self.weight = weight
        self.queued_at = 0.0
        self.strikes = 0
        self.state = NEW
        self.form: list[Any] | None = None
        self.split: Split | None = None
        self.places: Sequence[int] | None = None
        self.head: Head = NO_HEAD

    def settle(self, arrays: dict[str, Any] | None, error: BaseException | None) -> None:
        """Take what became of the rows; called once in the event loop, unless it was cancelled.

        What this raises is logged and harms nobody else.

        Args:
            arrays: the answers row for row, perhaps views of a batch's; None with an error.
            error: why there are none; perhaps the same object that a neighbour gets.
        """
        raise NotImplementedError


class Part(Waiting):
    """Some rows of a request that is larger than a batch may be.

    Attributes:
        whole: the request.
        index: which part it is, from 0.
    """

    __slots__ = ("index", "whole")

    def __init__(self, whole: Waiting, split: "Split", index: int, rows: slice) -> None:
        super().__init__(take(whole.arrays, rows), rows.stop - rows.start, whole.deadline, whole.weight)
        self.queued_at = whole.queued_at
        self.form = whole.form
        self.split = split
        self.whole = whole
        self.index = index


class Split:
    """How far a request is that runs in parts.

    Attributes:
        taken: rows that were given out in parts so far.
        parts: the parts that are not answered yet.
    """

    __slots__ = ("_answers", "_count", "_whole", "parts", "taken")

    def __init__(self, whole: Waiting) -> None:
        self.taken = 0
        self.parts: list[Part] = []
        self._whole = whole
        self._count = 0
        self._answers: dict[int, tuple[int, dict[str, Any]]] = {}

    @property
    def remaining(self) -> int:
        """Rows that were not given out yet."""
        return self._whole.rows - self.taken

    def next_part(self, rows: int) -> Part:
        """The next so many rows, as views."""
        part = Part(self._whole, self, self._count, slice(self.taken, self.taken + rows))
        self._count += 1
        self.taken += rows
        self.parts.append(part)
        return part

    def answered(self, part: Part, arrays: dict[str, Any]) -> bool:
        """Keep a part's answer; whether all rows are answered now."""
        self.parts.remove(part)
        self._answers[part.index] = (part.rows, arrays)
        return not self.parts and not self.remaining

    def joined(self) -> dict[str, Any]:
        """The answers of all parts, in the order of the rows.

        Raises:
            ModelFailed: the parts' answers have not one row for each row, so they cannot be put together.
        """
        ordered = [self._answers[index] for index in range(self._count)]
        names = ordered[0][1].keys()
        for rows, arrays in ordered:
            if arrays.keys() != names or not has_rows(arrays, rows):
                raise ModelFailed("The model does not answer row for row; send fewer rows at once.")
        try:
            return {name: np.concatenate([arrays[name] for _, arrays in ordered]) for name in names}
        except ValueError as error:
            raise ModelFailed(
                "The model answers rows in different forms; send fewer rows at once."
            ) from error

    def give_up(self) -> None:
        """Nobody wants the parts any more: none that has not started will, and no result counts."""
        for part in self.parts:
            part.state = OVER
        self.parts.clear()


def has_rows(arrays: dict[str, Any], rows: int) -> bool:
    """Whether every array has so many rows."""
    for array in arrays.values():
        shape = np.shape(array)
        if not shape or shape[0] != rows:
            return False
    return True
