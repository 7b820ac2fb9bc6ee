"""Errors and answers followed row by row: where their mean changed, without any reference. Pure.

Two detectors of river: ADWIN keeps a window that shrinks when its halves differ, and Page and Hinkley's test
sums up what exceeds the mean so far. Both take values for independent, so what they see are means of as many
rows as say the same.
"""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from servable.errors import DependencyMissing
from servable.monitoring.differences import EXTRA, dependence
from servable.monitoring.drift import Observed
from servable.monitoring.drift_records import Change, Limits, Stream
from servable.monitoring.reference import ERROR, PREDICTION, PROBABILITY, WRONG, Key

ADWIN, PAGE_HINKLEY = "adwin", "page-hinkley"
#: The columns that are followed.
FOLLOWED = (Key("quality", ERROR), Key("output", PROBABILITY), Key("output", PREDICTION))
#: A change of a number's mean by less than this part of its standard deviation is not told.
_LEAST_MOVE = 0.25
#: ADWIN's error rate, and after how many values it looks.
_DELTA, _CLOCK = 0.002, 4
#: Page and Hinkley's test on standardised values: what is forgiven each time, and the sum that is too much.
#: Without a change this is reached once in about 10**5 values.
_FORGIVEN, _TOO_MUCH, _LEAST_VALUES = 0.25, 20.0, 30
#: Parts of a stream in which the likeness of neighbours is looked at.
_PARTS = 9
#: Fewer rows than this are not followed.
_LEAST_ROWS = 100


def follow(observed: Observed, limits: Limits) -> tuple[Stream, ...]:
    """The changes of errors and answers within the rows.

    Args:
        observed: rows in order of time; a category that is followed is the quality of a classifier.
        limits: for the least change of a share.

    Raises:
        DependencyMissing: river is not installed.
    """
    found = []
    for key in FOLLOWED:
        values = observed.columns.get(key)
        numbers = None if values is None else _numbers(values)
        if numbers is None:
            continue
        rows = np.flatnonzero(~np.isnan(numbers))
        if len(rows) >= _LEAST_ROWS:
            changes = tuple(_changes(numbers[rows], rows, key, observed, limits))
            found.append(Stream(side=key.side, name=key.name, changes=changes))
    return tuple(found)


def _numbers(values: NDArray[Any]) -> NDArray[np.float64] | None:
    """A stream of numbers; right and wrong answers as 0 and 1; None for other categories."""
    if values.dtype != object:
        return values.astype(np.float64)
    texts = values.astype(str)
    if WRONG not in texts and "right" not in texts:
        return None
    return np.where(texts == "", np.nan, (texts == WRONG).astype(np.float64))


def _changes(
    values: NDArray[np.float64], rows: NDArray[np.int64], key: Key, observed: Observed, limits: Limits
) -> Iterator[Change]:
    size = _alike(values)
    blocks = len(values) // size
    means = values[: blocks * size].reshape(blocks, size).mean(axis=1)
    least = limits.wrong if set(np.unique(values)) <= {0.0, 1.0} else _LEAST_MOVE * float(values.std())
    detectors = [(ADWIN, _adwin(means))]
    if key.side == "quality":
        detectors.append((PAGE_HINKLEY, _page_hinkley(means)))
    for name, seen in detectors:
        places = _told(means, seen, least)
        bounds = [0, *places, blocks]
        for before, here, after in zip(bounds, bounds[1:], bounds[2:], strict=False):
            old, new = float(means[before:here].mean()), float(means[here:after].mean())
            # Page and Hinkley's test is asked for rises only.
            if name == ADWIN or new > old:
                row = int(rows[here * size])
                yield Change(row=row, at=observed.when(row), before=old, after=new, detector=name)


def _told(means: NDArray[np.float64], seen: list[int], least: float) -> list[int]:
    """Where those changes began that are large enough, of all that a detector noticed a while later.

    A detector may notice one change several times, and chance now and then. Places between which the mean
    hardly differs are dropped, the smallest difference first, and each that is left is moved to where the
    sums on its two sides differ most.
    """
    places = sorted({place for place in seen if 0 < place < len(means)})
    while places:
        bounds = [0, *places, len(means)]
        places = sorted({_split(means, bounds[at], bounds[at + 2]) for at in range(len(places))})
        bounds = [0, *places, len(means)]
        parts = [float(means[start:stop].mean()) for start, stop in pairwise(bounds)]
        gaps = [abs(after - before) for before, after in pairwise(parts)]
        smallest = int(np.argmin(gaps))
        if gaps[smallest] >= least:
            return places
        del places[smallest]
    return []


def _split(means: NDArray[np.float64], start: int, stop: int) -> int:
    """The place inside a part that divides it into the most different sides."""
    part = means[start:stop]
    return start + 1 + int(np.argmax(np.abs(np.cumsum(part - part.mean())[:-1])))


def _alike(values: NDArray[np.float64]) -> int:
    """How many rows say the same, by parts of the stream: a change makes all rows of one side alike."""
    parts = np.array_split(values, _PARTS)
    return max(1, math.ceil(float(np.median([dependence(part, ordered=True) for part in parts]))))


def _adwin(means: NDArray[np.float64]) -> list[int]:
    """The places at which a change was noticed."""
    detector = _river().ADWIN(delta=_DELTA, clock=_CLOCK)
    found: list[int] = []
    for place, value in enumerate(means.tolist()):
        detector.update(value)
        if detector.drift_detected:
            found.append(place)
    return found


def _page_hinkley(means: NDArray[np.float64]) -> list[int]:
    """The places at which it was noticed that the error grew."""
    scale = float(means.std())
    if scale == 0:
        return []
    detector = _river().PageHinkley(
        min_instances=_LEAST_VALUES, delta=_FORGIVEN, threshold=_TOO_MUCH, mode="up"
    )
    found = []
    for place, value in enumerate(((means - means.mean()) / scale).tolist()):
        detector.update(value)
        if detector.drift_detected and place > 0:
            found.append(place)
    return found


def _river() -> Any:
    try:
        from river import drift
    except ModuleNotFoundError as missing:
        raise DependencyMissing(
            f"Streams are followed with {missing.name}, which is not installed; "
            f"run: pip install 'servable[{EXTRA}]'"
        ) from missing
    return drift
