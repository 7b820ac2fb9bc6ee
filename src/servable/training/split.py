"""Which rows are held out and which validate: stratified and seeded, or the last ones in time."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold, StratifiedKFold, TimeSeriesSplit, train_test_split

from servable.artifact.signature import Task
from servable.errors import SettingInvalid

#: Share of the rows that training never sees.
HOLDOUT = 0.2

Rows = NDArray[np.int64]


class Split(NamedTuple):
    """Row numbers within the problem, both sorted: those learned from, and those held out."""

    train: Rows
    holdout: Rows


def hold_out(
    size: int,
    truth: NDArray[Any] | None,
    task: Task,
    *,
    share: float = HOLDOUT,
    time_order: bool = False,
    seed: int = 0,
    groups: NDArray[np.int64] | None = None,
) -> Split:
    """Choose the rows that training never sees.

    Args:
        size: how many rows there are.
        truth: class index or value ``[rows]``; classes keep their shares in both parts.
        task: of the problem.
        share: part of the rows to hold out, more than 0 and at most a half.
        time_order: the last rows are held out and nothing is shuffled.
        seed: the same seed and rows give the same split.
        groups: a number for each row; rows of one number go into one part. In time order those rows that
            share a number with a later, held-out one are in neither part.

    Raises:
        SettingInvalid: the share is out of range.
    """
    if not 0 < share <= 0.5:
        raise SettingInvalid(f"The held-out share must be more than 0 and at most 0.5, not {share}.")
    rows = np.arange(size, dtype=np.int64)
    count = max(round(size * share), 1)
    if time_order:
        first, last = rows[: size - count], rows[size - count :]
        return Split(first if groups is None else first[~np.isin(groups[first], groups[last])], last)
    if groups is not None:
        firsts = _first_rows(groups)
        inner = hold_out(len(firsts), None if truth is None else truth[firsts], task, share=share, seed=seed)
        held = np.isin(groups, groups[firsts[inner.holdout]])
        return Split(rows[~held], rows[held])
    classes = truth if task == "classification" else None
    if classes is not None and np.bincount(classes).min() < 2:
        # Repeated texts may leave a class with one row, which cannot be in both parts.
        classes = None
    if classes is not None:
        count = max(count, len(np.unique(classes)))
    train, holdout = train_test_split(rows, test_size=count, random_state=seed, stratify=classes)
    return Split(np.sort(train), np.sort(holdout))


def set_apart(size: int, held: Rows, groups: NDArray[np.int64] | None = None) -> Split:
    """The split that the data itself makes.

    Args:
        size: how many rows there are.
        held: those that nothing is learned from, sorted.
        groups: a number for each row; rows that share one with a held row are in neither part.
    """
    rows = np.arange(size, dtype=np.int64)
    known = np.isin(rows, held) if groups is None else np.isin(groups, groups[held])
    return Split(rows[~known], held)


def folds(
    truth: NDArray[Any] | None,
    size: int,
    task: Task,
    *,
    count: int = 5,
    time_order: bool = False,
    seed: int = 0,
    groups: NDArray[np.int64] | None = None,
) -> list[tuple[Rows, Rows]]:
    """Cut the training rows into pairs of (fit, validate), as positions within them.

    Args:
        truth: of the training rows.
        size: how many there are.
        task: of the problem.
        count: folds wanted; fewer where the rarest class has fewer rows.
        time_order: each fold validates on rows after those that it fits.
        seed: for the shuffling.
        groups: as for ``hold_out``.

    Raises:
        SettingInvalid: fewer than two folds.
    """
    if count < 2:
        raise SettingInvalid(f"At least 2 folds are needed, not {count}.")
    places = np.arange(size, dtype=np.int64)
    if groups is not None:
        return _grouped(truth, groups, task, count=count, time_order=time_order, seed=seed)
    if time_order:
        cutter: Any = TimeSeriesSplit(n_splits=count)
        return [(fit, check) for fit, check in cutter.split(places)]
    if task == "classification" and truth is not None and np.bincount(truth).min() > 1:
        count = max(2, min(count, int(np.bincount(truth).min())))
        cutter = StratifiedKFold(count, shuffle=True, random_state=seed)
        return list(cutter.split(places, truth))
    return list(KFold(count, shuffle=True, random_state=seed).split(places))


def _first_rows(groups: NDArray[np.int64]) -> Rows:
    """The first row of each group, sorted."""
    rows: Rows = np.sort(np.unique(groups, return_index=True)[1])
    return rows


def _grouped(
    truth: NDArray[Any] | None,
    groups: NDArray[np.int64],
    task: Task,
    *,
    count: int,
    time_order: bool,
    seed: int,
) -> list[tuple[Rows, Rows]]:
    """Folds of groups: cut as their first rows are, with a group's other rows beside it."""
    firsts = _first_rows(groups)
    classes = None if truth is None else truth[firsts]
    found = []
    for fit, check in folds(classes, len(firsts), task, count=count, time_order=time_order, seed=seed):
        parts = (np.flatnonzero(np.isin(groups, groups[firsts[part]])) for part in (fit, check))
        found.append((next(parts), next(parts)))
    return found


def thinned(
    rows: Rows, truth: NDArray[Any] | None, task: Task, most: int, *, time_order: bool, seed: int
) -> Rows:
    """At most ``most`` of the rows, classes in their shares, order kept; for a quick first comparison."""
    if len(rows) <= most:
        return rows
    if time_order:
        return rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
    classes = truth[rows] if task == "classification" and truth is not None else None
    kept, _ = train_test_split(rows, train_size=most, random_state=seed, stratify=classes)
    return np.sort(kept)
