"""Who is let into the queue. Pure: it is told the time and the queue."""

import math

from servable.errors import DeadlineExceeded, Overloaded
from servable.runtime.batch_line import Line
from servable.runtime.batch_policy import BatchLimits, Cap, expected_wait, retry_after, rows_within
from servable.runtime.cost import CostCurve


class Admission:
    """The door of one queue. Nobody is refused for an estimate that is not well founded.

    The first four attributes are for a quick look: a request within all of them may come in, another
    one is examined.

    Args:
        name: of the model, for messages.
        limits: how far one may go.
        slots: how many batches run at once.

    Attributes:
        most_requests: so many may wait.
        most_rows: with more rows before it, a request would wait too long.
        near_s: a deadline farther than this, and ``row_wait_s`` for each row that waits, can be met.
        row_wait_s: see ``near_s``.
        refused: how many were refused.
    """

    #: A request is let in while its expected wait takes no more than this share of its time. The rest is
    #: for its run and for what the estimate does not know: with all of it, the queue would settle where
    #: every answer comes a little too late, and the model would work for nobody.
    PATIENCE = 0.5

    __slots__ = (
        "_cap",
        "_curve",
        "_limits",
        "_name",
        "_slots",
        "most_requests",
        "most_rows",
        "near_s",
        "refused",
        "row_wait_s",
    )

    def __init__(self, name: str, limits: BatchLimits, slots: int) -> None:
        self.most_requests = limits.queue_requests
        self.most_rows = math.inf
        self.near_s = 0.0
        self.row_wait_s = 0.0
        self.refused = 0
        self._name = name
        self._limits = limits
        self._slots = slots
        self._curve = CostCurve()
        self._cap = Cap(1, 1)

    def learn(self, curve: CostCurve, cap: Cap) -> None:
        """The cost of batches has changed."""
        self._curve, self._cap = curve, cap
        self.most_rows = rows_within(curve, cap, self._limits.queue_s, self._slots)
        if curve.founded:
            full_s = curve.seconds(cap.enough)
            self.near_s = (2.0 * full_s + curve.seconds(1)) / self.PATIENCE
            self.row_wait_s = full_s / cap.enough / self._slots / self.PATIENCE

    def examine(self, line: Line, deadline: float, now: float, busy: bool) -> None:
        """Look closely at a request that would be the last of the queue.

        Args:
            line: who waits.
            deadline: of the request, seconds of the monotonic clock.
            now: the time of that clock.
            busy: whether it could not start at once; if it could, it is tried whatever was estimated, so
                that a wrong estimate mends itself.

        Raises:
            Overloaded: the queue is full, or waiting in it would take too long.
            DeadlineExceeded: its time is over, or too short for a run.
        """
        if deadline <= now:
            self.refused += 1
            raise DeadlineExceeded(f"The time for this request of {self._name} was over when it arrived.")
        curve = self._curve
        wait_s = expected_wait(curve, self._cap, line.rows, self._slots)
        if line.requests >= self.most_requests or line.rows > self.most_rows:
            self.refused += 1
            raise Overloaded(
                f"{line.requests} requests wait for {self._name} already; try again later.",
                retry_after(wait_s) if curve.founded else 1.0,
            )
        if not busy or not curve.founded:
            return
        if deadline < now + curve.seconds(1):
            self.refused += 1
            raise DeadlineExceeded(f"A run of {self._name} takes longer than the time for this request.")
        if wait_s > self.PATIENCE * (deadline - now):
            self.refused += 1
            raise Overloaded(
                f"{line.requests} requests wait for {self._name}, too long for the time of this one; "
                "try again later.",
                retry_after(wait_s),
            )
