"""One timer for many deadlines."""

import asyncio
import math
from collections.abc import Callable

#: The timer rings no more often than this.
_LEAST_S = 0.001


class Alarm:
    """Rings when the soonest deadline has come; costs one comparison for each later deadline.

    Belongs to one event loop.

    Args:
        now: the monotonic clock that the deadlines are seconds of.
        ring: called in the event loop with the time, when ``soonest`` has come. It calls ``watch`` with the
            next deadline.

    Attributes:
        soonest: none of the watched deadlines is sooner; infinite when there is none.
    """

    __slots__ = ("_at", "_now", "_ring", "_timer", "soonest")

    def __init__(self, now: Callable[[], float], ring: Callable[[float], None]) -> None:
        self.soonest = math.inf
        self._now = now
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None
        self._at = math.inf

    def watch(self, deadline: float, now: float) -> None:
        """This deadline is the soonest; an infinite one is none."""
        self.soonest = deadline
        if deadline == math.inf:
            return
        if self._timer is not None:
            if self._at <= deadline:
                return
            self._timer.cancel()
        self._at = deadline
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(deadline - now, _LEAST_S), self._rang)

    def stop(self) -> None:
        """Ring no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _rang(self) -> None:
        self._timer = None
        now = self._now()
        if self.soonest <= now:
            self._ring(now)
        elif self.soonest < math.inf:
            self.watch(self.soonest, now)
