"""At which row a column changed. Pure."""

import numpy as np
from numpy.typing import NDArray

from servable.monitoring.differences import shares
from servable.monitoring.reference import Reference

#: How often what came after is looked at anew, from the better row on.
_ROUNDS = 4


def change_row(reference: Reference, codes: NDArray[np.int64], most: int) -> int:
    """The row at which values most likely began to come from what is seen at the end.

    Before it rows are taken to be as in the reference, from it on as in the later rows given; of all rows
    the one is named under which what was seen is most likely. Where the change was sudden this is the very
    row, where it was slow it is a place within it.

    Args:
        reference: what was.
        codes: bins of the rows around the change, in order of time, -1 for missing; int64 ``[rows]``.
        most: the change is no later than this row.

    Returns:
        A row from 0 up to ``most``.
    """
    missing = len(reference.counts)
    places = np.where(codes < 0, missing, codes)
    absent = reference.rows * reference.missing / max(1 - reference.missing, 1e-12)
    before = shares(np.append(reference.counts, absent))
    row = most // 2
    for _ in range(_ROUNDS):
        after = shares(np.bincount(places[row:], minlength=missing + 1).astype(np.float64))
        gain = np.log(after / before)[places[:most]]
        # What all rows from a place on gain together by being called changed; the best place to begin.
        better = int(np.argmax(np.append(np.cumsum(gain[::-1])[::-1], 0.0)))
        if better in (row, len(places)):
            return better
        row = better
    return row
