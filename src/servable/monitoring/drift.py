"""Drift of captured rows against what a package keeps: which columns, since when, how much. Pure.

Every window is judged on its own: all its tests together are corrected for their number by Benjamini and
Hochberg's procedure, which also keeps the share of windows with any false alarm at ``alpha`` while nothing
changes. What passes must be large as well.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from servable.artifact.anonymity import LEAST
from servable.clock import timestamp
from servable.monitoring import differences
from servable.monitoring.change import change_row
from servable.monitoring.differences import Comparison, compare
from servable.monitoring.drift_pictures import picture
from servable.monitoring.drift_records import ColumnDrift, Limits, Point
from servable.monitoring.reference import Key, Reference
from servable.monitoring.windows import Run, Window, runs, season
from servable.progress import NoProgress, Progress

#: New values of a category that are named.
_NEW_SHOWN = 5
_SIDES = ("quality", "output", "input", "unused")
_STATES = ("drift", "over", "steady", "unknown")


class Observed(NamedTuple):
    """Rows that were served, in order of time.

    Attributes:
        rows: how many.
        columns: values by column ``[rows]``: float64 with NaN for missing, or object (str) with "". A
            column that is absent was not captured.
        at: when each row came, seconds since 1970, ascending; None where nobody knows.
    """

    rows: int
    columns: Mapping[Key, NDArray[Any]]
    at: NDArray[np.float64] | None = None

    def when(self, row: int) -> str:
        """When a row came, ISO 8601 in UTC; empty where nobody knows or there is no such row."""
        if self.at is None or not 0 <= row < self.rows:
            return ""
        return timestamp(datetime.fromtimestamp(float(self.at[row]), UTC))


class _Held(NamedTuple):
    """One column ready to be compared: its bins, and the numbers where it has any."""

    reference: Reference
    codes: NDArray[np.int64]
    numbers: NDArray[np.float64] | None

    def in_window(self, window: Window) -> Comparison:
        part = slice(window.start, window.stop)
        return compare(self.reference, self.codes[part], None if self.numbers is None else self.numbers[part])


def judge(
    references: Sequence[Reference],
    observed: Observed,
    windows: Sequence[Window],
    limits: Limits,
    progress: Progress | None = None,
) -> tuple[ColumnDrift, ...]:
    """What became of every column that has a reference and was captured.

    Args:
        references: what was.
        observed: what is.
        windows: of its rows, in order.
        limits: what counts as drift.
        progress: told of each window.

    Returns:
        The columns: drift first, strongest first.

    Raises:
        DependencyMissing: scipy is not installed.
    """
    watched = progress or NoProgress()
    held = [_held(reference, observed) for reference in references if reference.key in observed.columns]
    judged: list[list[Point]] = [[] for _ in held]
    for window in windows:
        found = [column.in_window(window) for column in held]
        for place, point in enumerate(_points(held, found, window, observed, limits)):
            judged[place].append(point)
        watched.advance()
    columns = [
        _column(column, points, windows, observed) for column, points in zip(held, judged, strict=True)
    ]
    return tuple(sorted(columns, key=_order))


def _held(reference: Reference, observed: Observed) -> _Held:
    values = observed.columns[reference.key]
    numbers = reference.numbers(values) if reference.kind == "number" else None
    return _Held(reference, reference.codes(values), numbers)


def _points(
    held: Sequence[_Held],
    found: Sequence[Comparison],
    window: Window,
    observed: Observed,
    limits: Limits,
) -> list[Point]:
    """The verdicts on one window, all its tests corrected together."""
    tests = np.asarray([[each.p_value, each.p_missing] for each in found]).reshape(-1, 2)
    corrected = tests
    if tests.size:
        stats = differences.scipy_part("stats")
        corrected = stats.false_discovery_control(tests.ravel()).reshape(tests.shape)
    points = []
    for column, each, (p_value, p_missing) in zip(held, found, corrected.tolist(), strict=True):
        reasons = reasons_of(column.reference, each, p_value, p_missing, limits)
        points.append(
            Point(
                row=window.start,
                at=observed.when(window.start),
                rows=each.rows,
                drift=bool(reasons),
                reasons=reasons,
                test=each.test,
                statistic=each.statistic,
                p_value=min(p_value, p_missing),
                psi=each.psi,
                jensen_shannon=each.jensen_shannon,
                wasserstein=each.wasserstein,
                missing=each.missing,
                unseen=each.unseen,
                worse=each.worse,
                effective=each.effective,
            )
        )
    return points


def reasons_of(
    reference: Reference, found: Comparison, p_value: float, p_missing: float, limits: Limits
) -> tuple[str, ...]:
    """Why a column is in drift in a window; empty where it is not.

    Args:
        reference: of the column.
        found: the differences.
        p_value: of the test of values, corrected.
        p_missing: of the test of missing values, corrected.
        limits: what counts.
    """
    reasons = []
    if p_value <= limits.alpha:
        if reference.key.side == "quality":
            # Answers that got better are no reason to call anybody.
            if found.worse >= (limits.wrong if reference.kind == "category" else limits.error):
                reasons.append("worse")
        elif found.psi >= limits.effect:
            reasons.append("values")
    if p_missing <= limits.alpha and abs(found.missing - reference.missing) >= limits.missing:
        reasons.append("missing")
    # Labels come late or never: their absence says nothing about quality.
    return tuple(reason for reason in reasons if reference.key.side != "quality" or reason != "missing")


def _column(
    held: _Held, points: Sequence[Point], windows: Sequence[Window], observed: Observed
) -> ColumnDrift:
    reference = held.reference
    found = runs([point.drift for point in points])
    latest = found[-1] if found else None
    inside = points if latest is None else points[latest.first : latest.last + 1]
    shape = ColumnDrift(
        side=reference.key.side,
        name=reference.key.name,
        kind=reference.kind,
        state=_state(points, latest),
        strongest=max(inside, key=_strength, default=None),
        newest=points[-1] if points else None,
        missing_before=reference.missing,
        episodes=len(found),
        season=season([point.psi for point in points]) if len(found) > 1 else 0,
        points=tuple(points),
        picture=picture(reference, held.codes, held.numbers, _rows_of(latest, windows, observed)),
    )
    return shape if latest is None else _dated(shape, held, latest, windows, observed)


def _dated(
    shape: ColumnDrift, held: _Held, run: Run, windows: Sequence[Window], observed: Observed
) -> ColumnDrift:
    """With the row at which the drift began, and what new values came with it."""
    before = windows[max(run.first - 1, 0)].start
    some = windows[min(run.first + 2, run.last)].stop
    row = change_row(held.reference, held.codes[before:some], windows[run.first].stop - before) + before
    part = _rows_of(run, windows, observed)
    ended = "" if run.open else observed.when(windows[run.last].stop) or f"row {windows[run.last].stop:,}"
    return msgspec.structs.replace(
        shape,
        since_row=row,
        since=observed.when(row),
        until=ended,
        new_values=_new_values(held.reference, observed.columns[held.reference.key][part], held.codes[part]),
    )


def _rows_of(run: Run | None, windows: Sequence[Window], observed: Observed) -> slice:
    if run is None:
        return slice(0, observed.rows)
    return slice(windows[run.first].start, windows[run.last].stop)


def _new_values(reference: Reference, values: NDArray[Any], codes: NDArray[np.int64]) -> tuple[str, ...]:
    if reference.kind == "number" or reference.counts[-1] > 0:
        # Rare values were counted together, so nobody knows whether one of them is new.
        return ()
    names, counts = np.unique(values[codes == len(reference.values)].astype(str), return_counts=True)
    order = np.argsort(-counts, kind="stable")
    # A value that few rows have may say who somebody is.
    return tuple(str(names[place]) for place in order[:_NEW_SHOWN] if counts[place] >= LEAST)


def _state(points: Sequence[Point], run: Run | None) -> Any:
    if run is not None:
        return "drift" if run.open else "over"
    return "steady" if any(point.test or point.missing for point in points) else "unknown"


def _strength(point: Point) -> float:
    return max(point.psi, point.worse, point.missing if "missing" in point.reasons else 0.0)


def _order(column: ColumnDrift) -> tuple[int, int, float]:
    """Drift first; among drifts worse answers before other answers before what was sent."""
    strength = 0.0 if column.strongest is None else _strength(column.strongest)
    return _STATES.index(column.state), _SIDES.index(column.side), -strength
