"""Drift of inputs and answers that are whole arrays, against the rows that a package keeps. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from servable.monitoring.drift import Observed
from servable.monitoring.drift_records import ColumnDrift, Limits, Point
from servable.monitoring.reference import Key
from servable.monitoring.vectors import Vectors, compare_vectors, independent
from servable.monitoring.windows import Window, runs

#: Old and new rows must be told apart in this share of the pairs.
LEAST_TOLD_APART = 0.65
#: Windows with fewer rows that are independent of each other are not judged.
LEAST_INDEPENDENT = 20


def judge_arrays(
    arrays: Mapping[Key, Vectors],
    kept: Mapping[Key, NDArray[Any]],
    observed: Observed,
    windows: Sequence[Window],
    limits: Limits,
) -> tuple[ColumnDrift, ...]:
    """What became of every input and answer that is a whole array.

    Args:
        arrays: what was served, by column.
        kept: rows that the model was measured on, of the same columns ``[rows, ...]``, perhaps ``narrowed``.
        observed: says when rows came.
        windows: of the rows, in order.
        limits: what counts as drift; the error rate is divided among the columns.
    """
    found = []
    compared = [key for key in arrays if len(kept[key]) > 1]
    for key in compared:
        points = []
        for window in windows:
            now = independent(arrays[key].between(window.start, window.stop))
            if len(now) >= LEAST_INDEPENDENT:
                points.append(_point(kept[key], now, window, observed, limits, len(compared)))
        found.append(_column(key, points))
    return tuple(found)


def _point(
    before: NDArray[Any], now: NDArray[Any], window: Window, observed: Observed, limits: Limits, columns: int
) -> Point:
    compared = compare_vectors(before, now, seed=window.start)
    p_value = min(compared.p_value * columns, 1.0)
    drift = p_value <= limits.alpha and compared.told_apart >= LEAST_TOLD_APART
    return Point(
        row=window.start,
        at=observed.when(window.start),
        rows=window.rows,
        drift=drift,
        reasons=("values",) if drift else (),
        test="mmd",
        statistic=compared.told_apart,
        p_value=p_value,
        effective=float(compared.rows),
    )


def _column(key: Key, points: Sequence[Point]) -> ColumnDrift:
    stretches = runs([point.drift for point in points])
    latest = stretches[-1] if stretches else None
    inside = points if latest is None else points[latest.first : latest.last + 1]
    return ColumnDrift(
        side=key.side,
        name=key.name,
        kind="array",
        state="unknown" if not points else "steady" if latest is None else "drift" if latest.open else "over",
        since_row=None if latest is None else points[latest.first].row,
        since="" if latest is None else points[latest.first].at,
        until="" if latest is None or latest.open else points[min(latest.last + 1, len(points) - 1)].at,
        strongest=max(inside, key=lambda point: point.statistic, default=None),
        newest=points[-1] if points else None,
        episodes=len(stretches),
        points=tuple(points),
    )
