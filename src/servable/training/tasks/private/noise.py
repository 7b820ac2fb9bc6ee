"""Whole-number noise for counts, drawn exactly from the randomness of the system.

Noise made of floating-point numbers has gaps that tell the count under it (Mironov, "On significance of the
least significant bits for differential privacy", 2012). Here every draw is of whole numbers: the discrete
Laplace distribution by the method of Canonne, Kamath and Steinke, "The discrete Gaussian for differential
privacy", 2020, algorithms 1 and 2.
"""

import secrets
from collections.abc import Callable
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

#: A whole number from 0 to below the one given, each as likely.
Below = Callable[[int], int]
#: Epsilons are taken as so fine a fraction, rounded down, so that never more is spent than was asked.
_FINE = 10**6


def as_fraction(epsilon: float) -> Fraction:
    """An epsilon as a fraction that is not above it; at least one in a million.

    Args:
        epsilon: above 0; values below one in a million cannot be kept exactly and come out as 0.
    """
    return Fraction(int(Fraction(epsilon) * _FINE), _FINE)


def noisy_counts(
    counts: NDArray[np.int64], epsilon: Fraction, below: Below = secrets.randbelow
) -> NDArray[np.int64]:
    """Counts with discrete Laplace noise, each ``exp(-epsilon * size)`` times as likely the larger it is.

    Where one row is in one count, the result is differentially private with this epsilon and a delta of 0.

    Args:
        counts: of any shape.
        epsilon: above 0.
        below: draws the randomness; the system's, except in tests.
    """
    noise = np.fromiter((_laplace(epsilon, below) for _ in range(counts.size)), np.int64, counts.size)
    return counts + noise.reshape(counts.shape)


def _laplace(epsilon: Fraction, below: Below) -> int:
    """One draw of the discrete Laplace distribution with scale ``1 / epsilon``."""
    numerator, denominator = epsilon.numerator, epsilon.denominator
    while True:
        part = below(denominator)
        if not _exponential(part, denominator, below):
            continue
        whole = 0
        while _exponential(1, 1, below):
            whole += 1
        size = (part + denominator * whole) // numerator
        negative = bool(below(2))
        # Minus zero is zero, which must not be twice as likely.
        if not (negative and size == 0):
            return -size if negative else size


def _exponential(numerator: int, denominator: int, below: Below) -> bool:
    """True with the chance ``exp(-numerator / denominator)``, of a fraction from 0 to 1."""
    tries = 1
    while below(denominator * tries) < numerator:
        tries += 1
    return tries % 2 == 1
