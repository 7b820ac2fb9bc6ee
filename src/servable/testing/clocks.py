"""The Clock seam: a clock that moves only when told, and the check for all clocks."""

from datetime import UTC, datetime, timedelta

from servable.clock import Clock
from servable.testing.expect import expect


class FakeClock:
    """Moves only when told. Not for several threads at once.

    Args:
        start: the first wall-clock time.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)) -> None:
        self._now = start
        self._monotonic = 1000.0

    def monotonic(self) -> float:
        """Seconds, moved by ``advance`` alone."""
        return self._monotonic

    def now(self) -> datetime:
        """The time, moved by ``advance`` and ``jump``."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Time passes on both clocks.

        Raises:
            ValueError: time does not go back.
        """
        if seconds < 0:
            raise ValueError("time does not go back; use jump for a changed wall clock")
        self._monotonic += seconds
        self._now += timedelta(seconds=seconds)

    def jump(self, seconds: float) -> None:
        """Somebody changes the wall clock, in either direction; the monotonic one does not notice."""
        self._now += timedelta(seconds=seconds)


def check_clock(clock: Clock) -> None:
    """Try what the Clock seam promises.

    Raises:
        AssertionError: a promise is broken.
    """
    times = [clock.monotonic() for _ in range(1000)]
    expect(all(isinstance(time, float) for time in times), "monotonic gives a float")
    expect(times == sorted(times), "monotonic never goes back")
    moment = clock.now()
    expect(moment.utcoffset() == timedelta(0), "now is aware and in UTC")
