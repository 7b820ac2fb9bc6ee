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

#: Rows of each side that are compared; the kernel grows with their square.
MOST_ROWS = 300
#: Wider rows are projected onto this many numbers.
MOST_NUMBERS = 256
#: How often rows are dealt out anew. The smallest p-value is one in so many and one.
DEALS = 999
#: Numbers of a row that are multiplied at once, so that the projection of a picture takes little memory.
_BLOCK = 4096
#: Of fewer rows nobody can tell whether neighbours are alike.
_LEAST_ROWS = 8
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
    """Every so many rows, far enough from each other to say nothing about each other.

    The lag is the first at which rows are no more alike than chance makes them. The more numbers vary by
    themselves, the less that is, and the smaller a likeness the comparison would take for drift.

    Args:
        rows: in order of time ``[rows, ...]``.
    """
    size = len(rows)
    if size < _LEAST_ROWS:
        return rows
    points = narrowed(rows)
    points -= points.mean(axis=0)
    spread = float((points**2).sum()) / size
    if not spread:
        return rows
    # One over the count of equally strong numbers that would vary as these do.
    concentration = float(((points.T @ points / size) ** 2).sum()) / spread**2
    chance = 1.5 * math.sqrt(concentration / size)
    return rows[:: _independence_lag(points / math.sqrt(spread), chance)]


def _independence_lag(points: NDArray[np.float64], chance: float) -> int:
    """The first lag at which rows, centred and of mean squared length 1, are no more alike than by chance."""
    size = len(points)
    alike: list[float] = []
    for lag in range(1, size // 2):
        alike.append(float((points[:-lag] * points[lag:]).sum()) / (size - lag))
        # Taking off the mean of rows that are alike hides as much of their likeness.
        hidden = min((1.0 + 2.0 * sum(each for each in alike if each > chance)) / size, 1.0)
        if alike[-1] * (1.0 - hidden) + (hidden if lag > 1 else 0.0) < chance:
            return lag
    return max(size // 2, 1)


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
