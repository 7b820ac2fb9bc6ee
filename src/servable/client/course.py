"""The course of one call over its attempts: decides, and never sends or waits itself."""

import random
from typing import Generic, TypeVar

import httpx

from servable.client import wire
from servable.client.retry import Attempt, RetryBudget, RetryPolicy, retry_after_s, wait_before_retry
from servable.clock import Clock

T = TypeVar("T")

#: How one attempt ended: an answer, or the reason why there is none.
Outcome = httpx.Response | httpx.HTTPError | httpx.InvalidURL


class Terms:
    """What all calls of one client have in common. Safe to share between threads and tasks.

    Args:
        url: the server's address, checked.
        timeout_s: the most that one call may take, all its attempts together.
        retries: more attempts after the first.
        clock: measures the time.
    """

    def __init__(self, url: str, timeout_s: float, retries: int, clock: Clock) -> None:
        self.url = wire.base_url(url)
        self.timeout_s = timeout_s
        self.policy = RetryPolicy(retries)
        self.clock = clock
        self.budget = RetryBudget()


class Course(Generic[T]):
    """One call from its first attempt to its result. Belongs to one thread or task.

    Args:
        call: what is sent.
        terms: the client's.
        patient: False for a call that is made once only.
    """

    def __init__(self, call: wire.Call[T], terms: Terms, *, patient: bool = True) -> None:
        self._call = call
        self._terms = terms
        self._policy = terms.policy if patient else RetryPolicy(0)
        self._deadline = terms.clock.monotonic() + terms.timeout_s
        self._number = 0
        terms.budget.earn()

    def remaining_s(self) -> float:
        """Seconds left, at least a millisecond so that a late attempt fails by its timeout."""
        return max(0.001, self._deadline - self._terms.clock.monotonic())

    def wait_s(self, outcome: Outcome) -> float | None:
        """Seconds to wait before the next attempt; None when ``outcome`` is the last word."""
        if isinstance(outcome, httpx.Response) and outcome.is_success:
            return None
        if isinstance(outcome, httpx.InvalidURL | httpx.UnsupportedProtocol | httpx.TooManyRedirects):
            return None
        status, asked = None, None
        if isinstance(outcome, httpx.Response):
            status = outcome.status_code
            asked = retry_after_s(outcome.headers.get("retry-after"), self._terms.clock)
        attempt = Attempt(self._number, status, asked, self._deadline - self._terms.clock.monotonic())
        wait = wait_before_retry(self._policy, attempt, random.random())
        if wait is None or not self._terms.budget.spend():
            return None
        self._number += 1
        return wait

    def result(self, outcome: Outcome) -> T:
        """What the caller gets.

        Raises:
            RemoteError: the server answered with an error, or with something that is no answer of Servable.
            ServerUnreachable: there was no answer.
            SettingInvalid: the address cannot be used.
        """
        if isinstance(outcome, httpx.Response):
            return wire.result(self._call, outcome, self._terms.url)
        raise wire.unreachable(outcome, self._terms.url, self._terms.timeout_s) from outcome
