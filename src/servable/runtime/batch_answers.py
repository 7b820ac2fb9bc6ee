"""Rows into a batch and answers out of it; no decisions about what runs."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from servable.errors import ModelFailed
from servable.logs import fields, logger
from servable.runtime.waiting import OVER, RUNNING, Part, Waiting, has_rows

_log = logger("runtime")


def packed(batch: list[Waiting]) -> dict[str, Any] | None:
    """The rows of several requests, one after another; None where their forms differ.

    The forms are not compared beforehand: as a rule all requests of a model have one form, and putting
    arrays together finds out anyway.
    """
    first = batch[0].arrays
    names = len(first)
    if any(len(waiting.arrays) != names for waiting in batch):
        return None
    try:
        return {
            name: np.concatenate([each.arrays[name] for each in batch], dtype=array.dtype, casting="no")
            for name, array in first.items()
        }
    except (KeyError, TypeError, ValueError):
        # Another name, another dtype, another trailing shape.
        return None


def answer(batch: list[Waiting], arrays: dict[str, Any], rows: int, model: str) -> bool:
    """Give each its rows, in the order of the batch; the arrays of a batch of one go through untouched.

    Args:
        batch: who was in it; those that are over meanwhile get nothing.
        arrays: the model's answers.
        rows: how many the batch had.
        model: for the log.

    Returns:
        Whether the answers could be told apart; if not, nobody was answered.
    """
    if len(batch) == 1:
        waiting = batch[0]
        if waiting.state == RUNNING:
            _give(waiting, arrays, model)
        return True
    if not has_rows(arrays, rows):
        return False
    for waiting, mine in zip(batch, _apart(batch, arrays, rows), strict=True):
        if waiting.state != RUNNING:
            continue
        if waiting.split is not None:
            _give(waiting, mine, model)
            continue
        waiting.state = OVER
        try:
            waiting.settle(mine, None)
        except Exception:  # noqa: BLE001 - the border to whoever asked; the others still get theirs
            _log.exception("an answer could not be given", extra=fields(model=model))
    return True


def settle(waiting: Waiting, arrays: dict[str, Any] | None, error: BaseException | None, model: str) -> None:
    """Settle a request that is over; what that raises is logged and harms nobody else."""
    try:
        waiting.settle(arrays, error)
    except Exception:  # noqa: BLE001 - the border to whoever asked; the others still get theirs
        _log.exception("an answer could not be given", extra=fields(model=model))


def _give(waiting: Waiting, arrays: dict[str, Any], model: str) -> None:
    waiting.state = OVER
    if not isinstance(waiting, Part):
        settle(waiting, arrays, None, model)
        return
    whole, split = waiting.whole, waiting.split
    if whole.state == OVER or split is None or not split.answered(waiting, arrays):
        return
    whole.state = OVER
    # Without this the request and its parts would hold each other until the next garbage collection.
    whole.split = None
    try:
        joined = split.joined()
    except ModelFailed as error:
        settle(whole, None, error, model)
    else:
        settle(whole, joined, None, model)


def _apart(batch: list[Waiting], arrays: dict[str, Any], rows: int) -> Iterable[dict[str, Any]]:
    """Each one's answers, as views."""
    if rows != len(batch):
        return _sliced(batch, arrays)
    # Every request has one row: going through an array by rows is half as dear as slicing it, and a
    # written-out dictionary a quarter of one that is put together.
    columns = [array[:, None] for array in arrays.values()]
    if len(columns) == 1:
        (name,) = arrays
        return [{name: row} for row in columns[0]]
    if len(columns) == 2:
        name, other = arrays
        return [{name: row, other: its} for row, its in zip(*columns, strict=True)]
    names = tuple(arrays)
    return [dict(zip(names, rows_of, strict=True)) for rows_of in zip(*columns, strict=True)]


def _sliced(batch: list[Waiting], arrays: dict[str, Any]) -> Iterator[dict[str, Any]]:
    start = 0
    for waiting in batch:
        rows = slice(start, start + waiting.rows)
        start = rows.stop
        yield {name: array[rows] for name, array in arrays.items()}
