"""The course of one call over its attempts: decides, and never sends or waits itself."""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import httpx
import msgspec

from servable.client import wire
from servable.client.results import Prediction
from servable.client.retry import Attempt, RetryBudget, RetryPolicy, retry_after_s, wait_before_retry
from servable.clock import Clock, SystemClock
from servable.errors import SettingInvalid

T = TypeVar("T")

#: Seconds between two questions whether the server is ready.
_POLL_S = 0.05
#: How one attempt ended: an answer, or the reason why there is none.
Outcome = wire.Reply | httpx.HTTPError | httpx.InvalidURL

#: Failures that another attempt would repeat.
_LASTING = (
    httpx.DecodingError,
    httpx.InvalidURL,
    httpx.LocalProtocolError,
    httpx.TooManyRedirects,
    httpx.UnsupportedProtocol,
)


class Terms:
    """What all calls of one client have in common. Safe to share between threads and tasks.

    Args:
        url: the server's address.
        timeout_s: the most that one call may take, all its attempts together.
        retries: more attempts after the first.
        clock: measures the time; the machine's when None.

    Raises:
        SettingInvalid: the address is none, or the time is not above 0.
    """

    def __init__(self, url: str, timeout_s: float, retries: int, clock: Clock | None) -> None:
        self.url = wire.base_url(url)
        self.timeout_s = checked_timeout(timeout_s)
        self.policy = RetryPolicy(retries)
        self.clock = clock or SystemClock()
        self.budget = RetryBudget()
        #: Addresses and media types that the server was found not to read.
        self.unread: set[tuple[str, str]] = set()

    def patience(self, timeout_s: float) -> Callable[[], float]:
        """From now on, what says how many seconds to wait before the server is asked again if it is ready.

        It raises ``ServerUnreachable`` once ``timeout_s`` seconds are over.
        """
        deadline = self.clock.monotonic() + timeout_s

        def pause_s() -> float:
            if self.clock.monotonic() + _POLL_S > deadline:
                raise wire.not_ready(self.url, timeout_s)
            return _POLL_S

        return pause_s


def checked_timeout(seconds: float) -> float:
    """The time for a call, if it is one.

    Raises:
        SettingInvalid: it is not above 0.
    """
    if not seconds > 0:
        raise SettingInvalid(f"A call cannot take {seconds:g} s; allow a time above 0.")
    return seconds


def checked_concurrency(requests: int) -> int:
    """How many requests may be under way at once, if it is such a number.

    Raises:
        SettingInvalid: it is below 1.
    """
    if requests < 1:
        raise SettingInvalid(f"A stream of {requests} requests at once cannot move; allow 1 or more.")
    return requests


class _Remaining(dict[str, float]):
    """What is left of a call's time, as the timeouts of httpx; each step that looks finds less."""

    def __init__(self, course: "Course[Any]") -> None:
        super().__init__()
        self._course = course

    def get(self, _step: str, _default: Any = None, /) -> float:
        """The seconds for the step that begins now."""
        return self._course.remaining_s()


class Course(Generic[T]):
    """One call from its first attempt to its result. Belongs to one thread or task.

    Only what changes nothing on the server is ever called, so any call may be repeated as long as no part
    of its answer was handed on.

    Args:
        call: what is sent.
        terms: the client's.
        timeout_s: the most that this call may take; the client's when None.
        patient: False for a call that is made once only.

    Raises:
        SettingInvalid: a time that is not above 0.
    """

    def __init__(
        self, call: wire.Call[T], terms: Terms, *, timeout_s: float | None = None, patient: bool = True
    ) -> None:
        self.timeout_s = terms.timeout_s if timeout_s is None else checked_timeout(timeout_s)
        self._terms = terms
        self._call = call
        if call.instead is not None and (call.path, call.media_type) in terms.unread:
            self._call = call.instead()
        self._policy = terms.policy if patient else RetryPolicy(0)
        self._deadline = terms.clock.monotonic() + self.timeout_s
        self._number = 0
        terms.budget.earn()

    def check(self, response: httpx.Response) -> None:
        """Look at the time while an answer comes in; one that drips could last for ever.

        Raises:
            httpx.ReadTimeout: the call's time is over.
        """
        if self._terms.clock.monotonic() >= self._deadline:
            raise httpx.ReadTimeout("The time is over.", request=response.request)

    def remaining_s(self) -> float:
        """Seconds left, at least a millisecond so that a late attempt fails by its timeout."""
        return max(0.001, self._deadline - self._terms.clock.monotonic())

    def attempt(self) -> Mapping[str, Any]:
        """What the next attempt hands to httpx; it tells the server how long an answer is of use."""
        call = self._call
        milliseconds = max(1, int(self.remaining_s() * 1000))
        return {
            "method": call.method,
            "url": call.path,
            "content": call.body,
            "headers": {**call.headers, "x-request-timeout-ms": str(min(milliseconds, 10**11))},
            "extensions": {"timeout": _Remaining(self)},
        }

    def wait_s(self, outcome: Outcome) -> float | None:
        """Seconds to wait before the next attempt; None when ``outcome`` is the last word."""
        if isinstance(outcome, _LASTING):
            return None
        status, asked = None, None
        if isinstance(outcome, wire.Reply):
            if outcome.good:
                return None
            if outcome.status == httpx.codes.UNSUPPORTED_MEDIA_TYPE and self._call.instead is not None:
                self._terms.unread.add((self._call.path, self._call.media_type))
                self._call = self._call.instead()
                return 0.0
            status = outcome.status
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
        if isinstance(outcome, wire.Reply):
            return wire.result(self._call, outcome, self._terms.url)
        raise wire.unreachable(outcome, self._terms.url, self.timeout_s) from outcome

    @contextmanager
    def reading(self, response: httpx.Response) -> Iterator[None]:
        """While this is entered the lines of an answer are read, whose first ones were handed on perhaps.

        Raises:
            RemoteError: a line is none of Servable's.
            ServerUnreachable: the connection broke, or the time is over.
        """
        try:
            yield
        except httpx.HTTPError as failure:
            self.result(failure)
        except msgspec.MsgspecError as strange:
            address = self._terms.url + self._call.path
            raise wire.not_ours(response.status_code, response.headers, address) from strange

    def answer_in(self, text: str, response: httpx.Response) -> Prediction | None:
        """The answer in one line of a response; None when it holds none.

        Raises:
            httpx.ReadTimeout: the call's time is over.
            msgspec.MsgspecError: the line is none of Servable's.
            RemoteError: it is an error.
        """
        self.check(response)
        return wire.line(text, response.headers.get("x-request-id", ""))
