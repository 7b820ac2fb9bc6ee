"""Rows in order of time cut into windows, and what a sequence of verdicts over windows says. Pure."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from servable.clock import span_s
from servable.errors import SettingInvalid

#: Windows that a body of rows is cut into when nobody says how.
USUAL_WINDOWS = 30
#: A window of the usual kind has at least so many rows.
USUAL_ROWS = 200
#: A run goes on over this many quiet windows, since a test may miss what is there; a long one over more.
_LEAST_GAP, _MOST_GAP = 1, 3
#: One more quiet window is bridged for every so many windows of a run.
_GAP_EVERY = 5
_WORDS = {604_800.0: "week", 86_400.0: "day", 3600.0: "hour", 60.0: "minute", 1.0: "second"}
_DIGITS = re.compile(r"\d+")
#: Autocorrelation of a column's effect over windows from which on it counts as a season.
_SEASONAL = 0.5
_VALLEY = 0.2
_LEAST_CYCLES = 3


class Window(NamedTuple):
    """Rows ``start`` up to and without ``stop``."""

    start: int
    stop: int

    @property
    def rows(self) -> int:
        """How many there are."""
        return self.stop - self.start


class Length(NamedTuple):
    """How long a window is: in rows or in seconds; both 0: as suits the rows."""

    rows: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        if self.seconds:
            for unit_s, word in _WORDS.items():
                count = self.seconds / unit_s
                if count.is_integer() or word == "second":
                    return f"{count:g} {word}{'' if count == 1 else 's'}"
        return f"{self.rows:,} rows" if self.rows else "to suit the rows"


class Run(NamedTuple):
    """Windows ``first`` to ``last`` in which something was so, and whether it still is."""

    first: int
    last: int
    open: bool


def length_of(text: str, *, setting: str = "--window") -> Length:
    """A length such as ``1d``, ``6h``, ``30min`` or ``5000`` (rows).

    Raises:
        SettingInvalid: it is none; ``setting`` says where it came from.
    """
    rows = text.strip()
    length = Length(rows=int(rows)) if _DIGITS.fullmatch(rows) else Length(seconds=span_s(rows) or 0.0)
    if length == Length():
        raise SettingInvalid(
            f"{setting} takes a number of rows such as 5000 or a time such as 6h or 1d, not {text!r}."
        )
    return length


def cut(rows: int, at: NDArray[np.float64] | None, length: Length, least: int) -> tuple[Window, ...]:
    """The windows of some rows.

    Args:
        rows: how many.
        at: when each one came, in seconds since 1970, ascending; None where nobody knows.
        length: of a window; windows of a time begin at whole multiples of it, so that a day is a day.
        least: a window with fewer rows is put together with the next, or the last with the one before.

    Raises:
        SettingInvalid: windows of a time, and nobody knows when the rows came.
    """
    if not rows:
        return ()
    if length.seconds:
        if at is None:
            raise SettingInvalid(
                "Windows of a time need a time for each row; name its column with --time, or give a "
                "number of rows as --window."
            )
        slots = np.floor(at / length.seconds)
        starts = [0, *(np.flatnonzero(np.diff(slots) != 0) + 1).tolist()]
    else:
        size = length.rows or max(USUAL_ROWS, -(-rows // USUAL_WINDOWS))
        starts = list(range(0, rows, size))
        # What is left over at the end is no window of its own unless it is half of one.
        least = max(least, size // 2)
    return _joined(starts, rows, least)


def _joined(starts: Sequence[int], rows: int, least: int) -> tuple[Window, ...]:
    found: list[Window] = []
    begin = 0
    for stop in [*starts[1:], rows]:
        if stop - begin >= least:
            found.append(Window(begin, stop))
            begin = stop
    if begin < rows:
        before = found.pop().start if found else 0
        found.append(Window(before, rows))
    return tuple(found)


def runs(flags: Sequence[bool]) -> tuple[Run, ...]:
    """The stretches of windows in which something was so; a few quiet windows do not break one.

    The longer it has been so, the more quiet windows it takes to call it over: at most three are bridged.
    """
    found: list[Run] = []
    first, last, seen = -1, -1, 0
    for place, flag in enumerate(flags):
        if not flag:
            continue
        if first >= 0 and place - last - 1 > _gap(seen):
            found.append(Run(first, last, open=False))
            first, seen = -1, 0
        first, last, seen = (place if first < 0 else first), place, seen + 1
    if first >= 0:
        found.append(Run(first, last, open=len(flags) - 1 - last <= _gap(seen)))
    return tuple(found)


def _gap(seen: int) -> int:
    return min(_LEAST_GAP + seen // _GAP_EVERY, _MOST_GAP)


def season(effects: Sequence[float]) -> int:
    """After how many windows an effect comes again; 0 where it does not.

    A season is seen only after three of them, and one longer than what was looked at cannot be seen at all.
    """
    values = np.asarray(effects, np.float64)
    values = values - values.mean() if len(values) else values
    variance = float(values @ values)
    longest = len(values) // _LEAST_CYCLES
    if longest < 2 or variance <= 1e-12:
        return 0
    likeness = np.asarray([float(values[:-lag] @ values[lag:]) / variance for lag in range(1, longest + 2)])
    for lag in range(2, longest + 1):
        here = likeness[lag - 1]
        peak = here > likeness[lag - 2] and here >= likeness[lag]
        # A peak after a valley: a slow change is like itself at every short distance and is no season.
        if here > _SEASONAL and peak and likeness[: lag - 1].min() < _VALLEY:
            return lag
    return 0
