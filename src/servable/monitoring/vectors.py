"""Rows that are whole arrays (pictures, sounds, embeddings) against rows kept in the package. Pure.

A single number of such an array says little, so all are compared at once by the maximum mean discrepancy of a
Gaussian kernel, whose p-value comes from dealing the rows out anew many times. How large a difference is says
the share of pairs that the kernel ranks rightly when it must tell an old row from a new one: 0.5 is guessing.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Rows of each side that are compared; the kernel grows with their square.
MOST_ROWS = 300
#: Wider rows are projected at random onto this many numbers, which keeps distances.
MOST_NUMBERS = 256
#: How often rows are dealt out anew. The smallest p-value is one in so many and one.
DEALS = 999


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
        before: rows that the model was measured on, any numeric dtype ``[rows, ...]``.
        now: later rows of the same shape; at least two on each side.
        seed: of the choice of rows, the projection and the dealing out.
    """
    random = np.random.default_rng(seed)
    old, new = _some(before, random), _some(now, random)
    points = _projected(np.vstack([old, new]), random)
    kernel = _kernel(points)
    first = np.arange(len(points)) < len(old)
    found = _discrepancy(kernel, first)
    dealt = [_discrepancy(kernel, random.permutation(first)) for _ in range(DEALS)]
    as_large = sum(each >= found for each in dealt)
    return VectorComparison(len(new), found, (as_large + 1) / (DEALS + 1), _told_apart(kernel, first))


def _some(rows: NDArray[Any], random: np.random.Generator) -> NDArray[np.float64]:
    flat = rows.reshape(len(rows), -1)
    if len(flat) > MOST_ROWS:
        flat = flat[np.sort(random.choice(len(flat), MOST_ROWS, replace=False))]
    return np.nan_to_num(flat.astype(np.float64))


def _projected(points: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    width = points.shape[1]
    if width <= MOST_NUMBERS:
        return points
    projected: NDArray[np.float64] = points @ random.normal(0, MOST_NUMBERS**-0.5, (width, MOST_NUMBERS))
    return projected


def _kernel(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Likeness of every two rows, as wide as half of all distances."""
    lengths = (points**2).sum(axis=1)
    squares = np.maximum(lengths[:, None] + lengths[None, :] - 2 * points @ points.T, 0)
    middle = float(np.median(squares[np.triu_indices(len(points), 1)]))
    likeness: NDArray[np.float64] = np.exp(-squares / (middle or 1.0))
    np.fill_diagonal(likeness, 0.0)
    return likeness


def _discrepancy(kernel: NDArray[np.float64], first: NDArray[np.bool_]) -> float:
    old, new = int(first.sum()), int((~first).sum())
    side = np.where(first, 1.0, 0.0)
    from_old = kernel @ side
    within_old = float(from_old[first].sum()) / (old * (old - 1))
    across = float(from_old[~first].sum()) / (old * new)
    within_new = float((kernel @ (1 - side))[~first].sum()) / (new * (new - 1))
    return within_old + within_new - 2 * across


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
