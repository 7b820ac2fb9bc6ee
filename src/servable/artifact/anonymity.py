"""What records that people hand around may say about few rows: nothing (k-anonymity).

Profiles, signatures and reports are about all rows. A value that fewer than ``least_rows`` rows have says
who somebody is, and so does the largest salary of all. So rare values are counted together, and extremes are
those that at least so many rows reach or exceed.

Sweeney, "k-anonymity: a model for protecting privacy", 2002. It protects what is shown against being looked
up; it is no guarantee like differential privacy, and says nothing about the model itself.
"""

import numpy as np
from numpy.typing import NDArray

from servable.settings import load_settings

#: Rows that a value must have to be named where nobody says otherwise.
LEAST = 5
#: Stands for a value that too few rows have.
RARE = "(rare)"
#: What example texts are made of; no text of anybody.
_WORDS = "This text stands for one of the usual length and says nothing. "


def least_rows() -> int:
    """The setting ``k_anonymity``: rows that a value must have to be named."""
    return load_settings().k_anonymity


def usual_range(values: NDArray[np.float64], least: int) -> tuple[float, float]:
    """The smallest and the largest value, each such that at least so many rows are there or beyond.

    Args:
        values: float64 ``[rows]``, none missing, at least one.
        least: that many; with fewer than twice as many rows both are the middle one.
    """
    ordered = np.sort(values)
    place = min(least, (len(ordered) + 1) // 2) - 1
    return float(ordered[place]), float(ordered[len(ordered) - 1 - place])


def example_text(length: int) -> str:
    """A made-up text of so many characters."""
    return (_WORDS * (length // len(_WORDS) + 1))[:length].strip()
