"""Whether and when to try again: pure decisions, and the budget that keeps clients from making a storm."""

import threading
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from servable.clock import Clock

#: Statuses after which the same request may succeed: overload, a restart, a gateway between two servers.
RETRYABLE_STATUSES = frozenset({429, 502, 503, 504})


class RetryPolicy(NamedTuple):
    """How to try again.

    Attributes:
        retries: how many more attempts after the first.
        base_s: the longest first wait.
        cap_s: the longest of our own waits; a server's Retry-After may ask for more.
    """

    retries: int = 2
    base_s: float = 0.1
    cap_s: float = 2.0


class Attempt(NamedTuple):
    """How one attempt ended.

    Attributes:
        number: 0 for the first.
        status: the HTTP status, None when no answer came.
        retry_after_s: what the server asked for, None when it did not.
        remaining_s: what is left of the caller's time.
    """

    number: int
    status: int | None
    retry_after_s: float | None
    remaining_s: float


def wait_before_retry(policy: RetryPolicy, attempt: Attempt, jitter: float) -> float | None:
    """Seconds to wait before the next attempt, or None to give up.

    The longest wait doubles with each attempt, and ``jitter`` spreads the wait over all of it, so that
    clients that failed together do not come back together. A server's Retry-After is waited for in full
    and the spread added to it; a wait that would use up the caller's time is not begun.

    Args:
        policy: see there.
        attempt: how the last one ended.
        jitter: random, 0 to 1.
    """
    if attempt.number >= policy.retries:
        return None
    if attempt.status is not None and attempt.status not in RETRYABLE_STATUSES:
        return None
    longest = min(policy.cap_s, policy.base_s * 2**attempt.number)
    wait = longest * jitter + (attempt.retry_after_s or 0.0)
    return wait if wait < attempt.remaining_s else None


def retry_after_s(header: str | None, clock: Clock) -> float | None:
    """The seconds that a Retry-After header asks for (a number or an HTTP date), None if it says nothing."""
    if not header:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
        return max(0.0, (moment - clock.now()).total_seconds())
    except (TypeError, ValueError):
        # Not a date, or a date without a zone: the header is treated as absent.
        return None


class RetryBudget:
    """Lets retries be at most a share of the requests, with a small reserve. Safe between threads.

    Each request earns ``ratio`` of a retry, each retry costs one; the reserve is also the most that
    can be saved up.
    """

    def __init__(self, ratio: float = 0.1, reserve: float = 10.0) -> None:
        self._ratio = ratio
        self._reserve = reserve
        self._saved = reserve
        self._lock = threading.Lock()

    def earn(self) -> None:
        """A request is made."""
        with self._lock:
            self._saved = min(self._reserve, self._saved + self._ratio)

    def spend(self) -> bool:
        """Ask for one retry; False when the budget is used up."""
        with self._lock:
            if self._saved < 1.0:
                return False
            self._saved -= 1.0
            return True
