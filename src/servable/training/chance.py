"""How much of an accuracy, or of a lead, may be chance. Pure."""

import numpy as np
from numpy.typing import NDArray


def at_least(share: float, rows: int) -> float:
    """What an accuracy is at least, give or take: the lower end of Wilson's interval of one sigma.

    Wilson, "Probable inference, the law of succession, and statistical inference", 1927.

    Args:
        share: of rows on which a model was right.
        rows: how many there were, at least 1.
    """
    middle = share + 0.5 / rows
    spread = (share * (1 - share) / rows + 0.25 / rows**2) ** 0.5
    return float((middle - spread) / (1 + 1 / rows))


def surely_better(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> bool:
    """Whether one model beats another on the same rows by more than one sigma of chance.

    Only rows count on which one of them is right and the other is not. McNemar, "Note on the sampling error
    of the difference between correlated proportions or percentages", 1947.

    Args:
        one: on which rows it is right.
        other: likewise.
    """
    won, lost = int((one & ~other).sum()), int((other & ~one).sum())
    return won - lost > float((won + lost) ** 0.5)
