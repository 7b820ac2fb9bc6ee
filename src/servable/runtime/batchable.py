"""Whether rows of several callers may share one run of a model: tried out on the model's own example.

A graph exported with a fixed batch dimension takes one row and no more. A graph that normalises over
the batch, or quantises it with one scale, answers a row differently when another one is beside it. The
first is run row by row, the second request by request; anything else shares runs.
"""

from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from servable.errors import ModelFailed
from servable.frameworks.base import MIXES
from servable.tensors import Arrays

#: Answers that differ by no more than this share of their size are equal; sums in another order differ
#: by about a hundredth of it.
TOLERANCE = 1e-5

Run = Callable[[Arrays], Mapping[str, Any]]


class Batching(NamedTuple):
    """How rows may be put together.

    Attributes:
        shared: whether rows of several requests may be one batch, and a request several batches.
        rows: most rows in one run; 0 means any number.
        reason: one sentence when rows are not put together freely, without a full stop.
    """

    shared: bool = True
    rows: int = 0
    reason: str = ""


class Trial(NamedTuple):
    """A run to be done, and what must come out of it.

    Attributes:
        arrays: the stacked rows.
        order: for each row, which of the single answers it must equal.
    """

    arrays: dict[str, Any]
    order: tuple[int, ...]


def neighbour(arrays: Arrays) -> dict[str, Any]:
    """Another row beside the example: its floating-point tensors at half their size.

    Half a value is as a rule a value that the model takes, and different enough to be noticed.
    """
    return {
        name: array * array.dtype.type(0.5) if array.dtype.kind == "f" else array
        for name, array in arrays.items()
    }


def trials(first: Arrays, second: Arrays) -> tuple[Trial, ...]:
    """Two and three rows together, in orders that tell a row from its neighbour."""
    return tuple(
        Trial(
            {name: np.concatenate([(first, second)[number][name] for number in order]) for name in first},
            order,
        )
        for order in ((0, 1), (1, 0, 0))
    )


def verdict(
    singles: tuple[Mapping[str, Any], ...], order: tuple[int, ...], together: Mapping[str, Any]
) -> str:
    """What is wrong with an answer to several rows; empty when it is the single answers, row for row."""
    for name, alone in singles[0].items():
        several = together.get(name)
        shape = (len(order), *np.shape(alone)[1:])
        if several is None or np.shape(several) != shape or np.shape(alone)[0] != 1:
            return f"{name} of {len(order)} rows does not have one answer for each row"
        wanted = np.concatenate([np.asarray(singles[number][name]) for number in order])
        if not _equal(np.asarray(several), wanted):
            return f"{name} of a row changes with the rows beside it"
    return ""


def batching_of(run: Run, example: Arrays) -> Batching:
    """Try the model on its example, alone and beside another row.

    Args:
        run: answers rows; may raise ``ModelFailed``.
        example: one row that the model answers.

    Raises:
        ModelFailed: it no longer answers its example.
    """
    course = _course(example)
    arrays = next(course)
    try:
        while True:
            try:
                answer = run(arrays)
            except ModelFailed as error:
                arrays = course.throw(error)
            else:
                arrays = course.send(answer)
    except StopIteration as end:
        return cast("Batching", end.value)


async def batching_elsewhere(
    run: Callable[[Arrays], Awaitable[Mapping[str, Any]]], example: Arrays
) -> Batching:
    """The same for a model that runs outside the caller's thread.

    Raises:
        ModelFailed: it no longer answers its example.
    """
    course = _course(example)
    arrays = next(course)
    try:
        while True:
            try:
                answer = await run(arrays)
            except ModelFailed as error:
                arrays = course.throw(error)
            else:
                arrays = course.send(answer)
    except StopIteration as end:
        return cast("Batching", end.value)


def as_declared(batching: Batching, options: Mapping[str, Any]) -> Batching:
    """What was found out, unless the variant's options say that rows influence each other."""
    if not batching.shared or not options.get(MIXES):
        return batching
    return Batching(False, batching.rows, "rows influence each other, as the form itself says")


def _course(example: Arrays) -> Generator[Arrays, Mapping[str, Any], Batching]:
    """Asks for one run after another, is sent each answer or thrown the failure, and says what follows."""
    first = yield example
    second = neighbour(example)
    try:
        singles = (first, (yield second))
    except ModelFailed:
        # Not every model takes half its example; then the example stands beside itself.
        second, singles = dict(example), (first, first)
    for trial in trials(example, second):
        try:
            together = yield trial.arrays
        except ModelFailed:
            return Batching(True, 1, f"it takes one row at a time and fails on {len(trial.order)}")
        wrong = verdict(singles, trial.order, together)
        if wrong:
            return Batching(False, 0, f"rows influence each other: {wrong}")
    return Batching()


def _equal(left: NDArray[Any], right: NDArray[Any]) -> bool:
    if left.dtype.kind != "f" or right.dtype.kind != "f":
        return bool(np.array_equal(left, right))
    finite = right[np.isfinite(right)]
    scale = float(np.abs(finite).max()) if finite.size else 0.0
    return bool(np.allclose(left, right, rtol=TOLERANCE, atol=TOLERANCE * scale, equal_nan=True))
