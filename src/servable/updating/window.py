"""Which rows a turn learns from, which it measures on, and how much old ones count. Pure functions.

Rows are numbered in order of time, the newest last.
"""

from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from servable.errors import DataError


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """How far back a turn looks.

    Attributes:
        rows: the newest rows that are learned from; 0 for all.
        half_life: rows after which an older row counts half as much; 0: all count alike.
        held_out: share of the rows which the present version never saw that both versions are measured on;
            they are the newest, and the new version is measured before it may learn from them.
        fewest: rows to measure on, at least.
        most: rows to measure on, at most.
    """

    rows: int = 0
    half_life: int = 0
    held_out: float = 0.5
    fewest: int = 100
    most: int = 5_000


class Cut(NamedTuple):
    """Row numbers: those learned from, and those held out, which are later than all of them."""

    learn: NDArray[np.int64]
    held: NDArray[np.int64]


def cut(size: int, unseen: int, window: Window) -> Cut:
    """Part the rows of a turn.

    Args:
        size: how many there are.
        unseen: how many of the newest the present version never learned from.
        window: how far back to look.

    Raises:
        DataError: there are too few unseen rows to measure both versions on, or none to learn from.
    """
    if unseen < window.fewest:
        raise DataError(
            f"There are {unseen} labelled rows that the present version never learned from, and "
            f"{window.fewest} are needed to compare it with the next one; wait for more labels."
        )
    wanted = round(unseen * window.held_out)
    held = min(max(wanted, window.fewest), window.most, unseen)
    learn = np.arange(size - held, dtype=np.int64)
    if not len(learn):
        raise DataError(
            f"All {size} labelled rows are needed to compare the versions, so none are left to learn from; "
            "wait for more labels."
        )
    return Cut(recent(learn, window), np.arange(size - held, size, dtype=np.int64))


def recent(rows: NDArray[np.int64], window: Window) -> NDArray[np.int64]:
    """The newest of some rows, as many as the window holds."""
    return rows[-window.rows :] if window.rows else rows


def weights(count: int, window: Window) -> NDArray[np.float64] | None:
    """What each of so many rows counts, the newest 1; None where all count alike."""
    if not window.half_life:
        return None
    ages = np.arange(count - 1, -1, -1, dtype=np.float64)
    found: NDArray[np.float64] = 0.5 ** (ages / window.half_life)
    # A row that counts nothing at all is refused by some estimators.
    return np.maximum(found, 1e-12)
