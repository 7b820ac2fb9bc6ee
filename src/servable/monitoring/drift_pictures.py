"""The distribution of a column before and now, in bins that suit a picture. Pure."""

import numpy as np
from numpy.typing import NDArray

from servable.monitoring.drift_records import Picture
from servable.monitoring.reference import Reference

#: Bins of a picture of numbers.
BINS = 24
#: Values of a category that have a bar of their own.
BARS = 12
#: Share of the rows on each side that a picture leaves out.
_TAIL = 0.005


def picture(
    reference: Reference, codes: NDArray[np.int64], numbers: NDArray[np.float64] | None, part: slice
) -> Picture | None:
    """Shares before and now; None where no row has a value.

    Args:
        reference: what was.
        codes: bins of all rows, int64 ``[rows]``.
        numbers: of a number: the values themselves.
        part: the rows that are shown.
    """
    there = codes[part][codes[part] >= 0]
    if not len(there):
        return None
    if reference.kind == "category" or numbers is None:
        return _bars(reference, np.bincount(there, minlength=len(reference.counts)))
    shown = numbers[part]
    return _histogram(reference, shown[np.isfinite(shown)])


def _bars(reference: Reference, counts: NDArray[np.int64]) -> Picture:
    before, now = reference.counts / reference.rows, counts / counts.sum()
    labels = [*reference.values, "others"]
    order = np.argsort(-np.maximum(before, now), kind="stable")
    # The bin of what was not counted one by one stays last.
    first = [int(place) for place in order if place < len(reference.values)][:BARS]
    rest = [place for place in range(len(labels)) if place not in first]
    last = (float(before[rest].sum()), float(now[rest].sum()))
    others = ("others",) if max(last) > 0 else ()
    return Picture(
        labels=(*(labels[place] for place in first), *others),
        before=(*before[first].tolist(), *last[:1][: len(others)]),
        now=(*now[first].tolist(), *last[1:][: len(others)]),
    )


def _histogram(reference: Reference, values: NDArray[np.float64]) -> Picture | None:
    if not len(values):
        return None
    cumulated = np.append(0.0, np.cumsum(reference.counts[1:-1])) / reference.rows
    bounds = reference.bounds
    if len(bounds) == 1 or bounds[0] == bounds[-1]:
        # All rows had one value; it is a step, which stands just above it.
        bounds, cumulated = np.asarray([bounds[0], bounds[0]]), np.asarray([0.0, 1.0])
    old = np.interp([_TAIL, 1 - _TAIL], cumulated, bounds) if bounds[-1] > bounds[0] else bounds[:2]
    new = np.quantile(values, [_TAIL, 1 - _TAIL])
    low, high = min(old[0], new[0]), max(old[1], new[1])
    if not high > low:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, BINS + 1)
    before = np.diff(_below(edges, bounds, cumulated))
    now, _ = np.histogram(np.clip(values, low, high), bins=edges)
    return Picture(
        edges=tuple(edges.tolist()), before=tuple(before.tolist()), now=tuple((now / len(values)).tolist())
    )


def _below(
    edges: NDArray[np.float64], bounds: NDArray[np.float64], cumulated: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Share of the reference below each edge; the outermost edges hold what lies beyond them as well."""
    if bounds[-1] > bounds[0]:
        below = np.interp(edges, bounds, cumulated)
    else:
        below = (edges > bounds[0]).astype(np.float64)
    below[0], below[-1] = 0.0, 1.0
    return below
