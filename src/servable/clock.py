"""The Clock seam: who reads the time asks a clock that was handed in, so a test can hand in its own.

``SystemClock`` is the real one. ``servable.testing.FakeClock`` moves only when told.
"""

import re
import time
from datetime import UTC, datetime
from typing import Protocol

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d|w)", re.IGNORECASE)


class Clock(Protocol):
    """Two times: one for durations and deadlines, one for people and records."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back, unaffected by changes of the wall clock."""
        ...

    def now(self) -> datetime:
        """The wall-clock time, aware, in UTC."""
        ...


class SystemClock:
    """The machine's own clocks. Safe to share between threads and tasks."""

    def monotonic(self) -> float:
        """Seconds of ``time.monotonic``."""
        return time.monotonic()

    def now(self) -> datetime:
        """The current time in UTC."""
        return datetime.now(UTC)


def timestamp(moment: datetime) -> str:
    """An aware moment as ISO 8601 in UTC with seconds, ``2026-01-31T12:00:00Z``: the form kept in records."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def span_s(text: str) -> float | None:
    """The seconds of a span of time such as ``500ms``, ``30s``, ``10m``, ``6h``, ``1d`` or ``2w``.

    Upper case, ``min`` for minutes and spaces around both parts are understood; None for anything else.
    """
    found = _SPAN.fullmatch(text.strip())
    return None if found is None else float(found[1]) * _SECONDS[found[2].lower()]
