"""Gaussian noise for sums of vectors: how much of it a budget asks for, and where it comes from.

Several looks at the same rows, each with Gaussian noise, give away exactly as much as one look with less
noise (Dong, Roth and Su, "Gaussian differential privacy", 2022, corollary 3.3), and what that is in terms of
epsilon and delta is known exactly (Balle and Wang, "Improving the Gaussian mechanism for differential
privacy", 2018, theorem 8). So nothing is estimated and nothing is left over.
"""

import math
import os
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr, ndtri

#: So many bytes of randomness.
Draw = Callable[[int], bytes]
#: Draws that one number of noise is made of. What the gaps between floating-point numbers would tell of a sum
#: under the noise is out of reach with four (Holohan and Braghin, "Secure random sampling in differential
#: privacy", 2021).
_PARTS = 4
#: Noise is larger by this part, for whatever rounding adds to the norm of a row.
_ROUNDING = 1e-6


def delta_of(epsilon: float, looks: float) -> float:
    """The least delta that goes with an epsilon.

    Args:
        epsilon: above 0.
        looks: how far a row moves the sum, in standard deviations of the noise; of several looks the root of
            the sum of squares.
    """
    middle, half = epsilon / looks, looks / 2
    return float(ndtr(half - middle) - math.exp(min(epsilon + float(log_ndtr(-half - middle)), 0.0)))


def multiplier(epsilon: float, delta: float, steps: int) -> float:
    """Standard deviation of the noise in each of so many looks, for rows that move a sum by at most 1.

    Args:
        epsilon: above 0.
        delta: above 0 and below 1.
        steps: looks, at least one.
    """
    least, most = 1e-9, 1e3
    # Halved until the numbers are next to one another; the smaller one keeps to the budget.
    for _ in range(100):
        middle = math.sqrt(least * most)
        least, most = (middle, most) if delta_of(epsilon, middle) <= delta else (least, middle)
    return math.sqrt(steps) / least * (1 + _ROUNDING)


def noise(shape: tuple[int, ...], deviation: float, draw: Draw = os.urandom) -> NDArray[np.float64]:
    """Gaussian noise from the system's own randomness.

    Args:
        shape: of the answer.
        deviation: the standard deviation.
        draw: the randomness; another one only in tests.
    """
    total = np.zeros(shape)
    for _ in range(_PARTS):
        # With one bit more, half of a step would be lost, and the largest draw would be 1: endless noise.
        whole = np.frombuffer(draw(8 * total.size), np.uint64) >> np.uint64(12)
        total += ndtri((whole + 0.5) / 2.0**52).reshape(shape)
    return total * (deviation / math.sqrt(_PARTS))
