"""Rows that are whole arrays (pictures, sounds, embeddings) against rows kept in the package. Pure.

A single number of such an array says little, so all are compared at once by the maximum mean discrepancy of a
Gaussian kernel, whose p-value comes from dealing the rows out anew many times. How large a difference is says
the share of pairs that the kernel ranks rightly when it must tell an old row from a new one: 0.5 is guessing.

Wide rows are projected onto ``MOST_NUMBERS`` numbers first, which keeps distances. The projection follows
from the width alone, so that rows which were kept projected can be compared with later ones.
"""

import hashlib
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from servable.monitoring.differences import dependence

#: Rows of each side that are compared; the kernel grows with their square.
MOST_ROWS = 300
#: Wider rows are projected onto this many numbers.
MOST_NUMBERS = 256
#: How often rows are dealt out anew. The smallest p-value is one in so many and one.
DEALS = 999
#: Numbers of a row that are multiplied at once, so that the projection of a picture takes little memory.
_BLOCK = 4096
#: Directions along which it is looked whether neighbours are alike.
_DIRECTIONS = 4
#: Of so many lines one is a little alike by chance, which is no reason to leave out rows.
_SLACK = 0.75
_ROUNDING = 1e-12


class Vectors(NamedTuple):
    """Arrays of some of the rows that were served.

    Attributes:
        places: which rows, ascending, int64 ``[n]``.
        values: any numeric dtype ``[n, ...]``.
    """

    places: NDArray[np.int64]
    values: NDArray[Any]

    def between(self, start: int, stop: int) -> NDArray[Any]:
        """The values of the rows from ``start`` on and before ``stop``."""
        first, last = np.searchsorted(self.places, [start, stop])
        return self.values[first:last]


class VectorComparison(NamedTuple):
    """How arrays differ from those kept.

    Attributes:
        rows: compared, of the newer side.
        discrepancy: the squared maximum mean discrepancy, unbiased; about 0 where nothing differs.
        p_value: how often rows dealt out anew differ as much.
        told_apart: share of pairs of an old and a new row that are told apart rightly, 0.5 to 1.
    """

    rows: int
    discrepancy: float
    p_value: float
    told_apart: float


def compare_vectors(before: NDArray[Any], now: NDArray[Any], *, seed: int = 0) -> VectorComparison:
    """Hold arrays against those kept.

    Args:
        before: rows that the model was measured on, any numeric dtype ``[rows, ...]``, perhaps ``narrowed``.
        now: later rows of the same shape, independent of each other; at least two on each side.
        seed: of the choice of rows and of the dealing out.
    """
    random = np.random.default_rng(seed)
    old, new = narrowed(_some(before, random)), narrowed(_some(now, random))
    kernel = _kernel(np.vstack([old, new]))
    first = np.arange(len(kernel)) < len(old)
    dealt = np.stack([first, *(random.permutation(first) for _ in range(DEALS))], axis=1)
    found = _discrepancies(kernel, dealt)
    # Sums of the same numbers in another order differ by rounding.
    as_large = int((found[1:] >= found[0] - _ROUNDING).sum())
    return VectorComparison(
        len(new), float(found[0]), (as_large + 1) / (DEALS + 1), _told_apart(kernel, first)
    )


def narrowed(rows: NDArray[Any]) -> NDArray[np.float64]:
    """Rows as at most ``MOST_NUMBERS`` numbers each, with the distances between them about as they were.

    Args:
        rows: any numeric dtype ``[rows, ...]``; what is not finite counts as 0.

    Returns:
        float64 ``[rows, numbers]``; rows that are narrow already are only laid flat.
    """
    flat = rows.reshape(len(rows), -1)
    width = flat.shape[1]
    if width <= MOST_NUMBERS:
        return _finite(flat)
    found = np.zeros((len(flat), MOST_NUMBERS))
    for start in range(0, width, _BLOCK):
        part = _finite(flat[:, start : start + _BLOCK])
        found += part @ _signs(width, start, part.shape[1])
    return found


def same_width(before: NDArray[Any], now: NDArray[Any]) -> bool:
    """Whether rows can be compared: they are as wide, or would be if both were narrowed."""
    one, other = (math.prod(rows.shape[1:]) for rows in (before, now))
    return one == other or (one == MOST_NUMBERS and other > MOST_NUMBERS)


def _signs(width: int, start: int, rows: int) -> NDArray[np.float64]:
    """A part of the projection of rows of a width: signs drawn from a hash, which no library ever changes.

    Achlioptas, "Database-friendly random projections", 2001.
    """
    bits = hashlib.shake_256(f"{width}:{start}".encode()).digest(rows * MOST_NUMBERS // 8)
    drawn = np.unpackbits(np.frombuffer(bits, np.uint8)).reshape(rows, MOST_NUMBERS)
    signs: NDArray[np.float64] = (drawn * 2.0 - 1.0) / np.sqrt(MOST_NUMBERS)
    return signs


def independent(rows: NDArray[Any]) -> NDArray[Any]:
    """Every so many rows that neighbours among them say nothing about each other.

    Args:
        rows: in order of time ``[rows, ...]``.
    """
    if len(rows) < 3:
        return rows
    points = narrowed(rows)
    centred = points - points.mean(axis=0)
    # Along a few directions that follow from the width alone, and along the numbers that vary most.
    directions = _signs(centred.shape[1], 0, centred.shape[1])[:, :_DIRECTIONS]
    widest = np.argsort(-centred.var(axis=0), kind="stable")[:_DIRECTIONS]
    lines = np.hstack([centred @ directions, centred[:, widest]])
    alike = max(dependence(np.ascontiguousarray(line), ordered=True) for line in lines.T)
    return rows[:: int(np.ceil(alike - _SLACK))] if alike > 1 + _SLACK else rows


def _finite(rows: NDArray[Any]) -> NDArray[np.float64]:
    return np.nan_to_num(rows.astype(np.float64), posinf=0.0, neginf=0.0)


def _some(rows: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    if len(rows) <= MOST_ROWS:
        return rows
    return rows[np.sort(random.choice(len(rows), MOST_ROWS, replace=False))]


def _kernel(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Likeness of every two rows, as wide as half of all distances."""
    lengths = (points**2).sum(axis=1)
    squares = np.maximum(lengths[:, None] + lengths[None, :] - 2 * points @ points.T, 0)
    middle = float(np.median(squares[np.triu_indices(len(points), 1)]))
    likeness: NDArray[np.float64] = np.exp(-squares / (middle or 1.0))
    np.fill_diagonal(likeness, 0.0)
    return likeness


def _discrepancies(kernel: NDArray[np.float64], dealt: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The squared discrepancy of every way to call some rows old.

    Args:
        kernel: likeness of every two rows ``[rows, rows]``, 0 of a row to itself.
        dealt: which rows are old ``[rows, ways]``, equally many in each.
    """
    side = dealt.astype(np.float64)
    old = int(dealt[:, 0].sum())
    new = len(dealt) - old
    to_old = kernel @ side
    within_old = (side * to_old).sum(axis=0)
    across = to_old.sum(axis=0) - within_old
    within_new = kernel.sum() - within_old - 2 * across
    found: NDArray[np.float64] = (
        within_old / (old * (old - 1)) + within_new / (new * (new - 1)) - 2 * across / (old * new)
    )
    return found


def _told_apart(kernel: NDArray[np.float64], first: NDArray[np.bool_]) -> float:
    """The area under the curve of a row's likeness to new rows less that to old ones, itself left out."""
    old, new = int(first.sum()), int((~first).sum())
    to_old = kernel[:, first].sum(axis=1) / np.where(first, old - 1, old)
    to_new = kernel[:, ~first].sum(axis=1) / np.where(first, new, new - 1)
    score = to_new - to_old
    wins = (score[~first][:, None] > score[first][None, :]).mean()
    ties = (score[~first][:, None] == score[first][None, :]).mean()
    # Leaving a row out makes it look a little strange to its own side, so guessing can come out below a half.
    return max(float(wins + ties / 2), 0.5)
