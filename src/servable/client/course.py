"""The course of one call over its attempts: decides, and never sends or waits itself."""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import httpx
import msgspec

from servable.client import replies, wire
from servable.client.parts import P, Parts
from servable.client.retry import Attempt, RetryBudget, RetryPolicy, retry_after_s, wait_before_retry
from servable.clock import Clock, SystemClock
from servable.errors import SettingInvalid

T = TypeVar("T")

#: Seconds between two questions whether the server is ready.
_POLL_S = 0.05
#: How one attempt ended: an answer, or the reason why there is none.
Outcome = replies.Reply | httpx.HTTPError | httpx.InvalidURL

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
                raise replies.not_ready(self.url, timeout_s)
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

    def get(self, step: str, _default: Any = None, /) -> float:
        """The seconds for the step that begins now."""
        return self._course.step_s(step)


class Course(Generic[T]):
    """One call from its first attempt to its result. Belongs to one thread or task.

    Only what changes nothing on the server is ever called, so any call may be repeated as long as no part
    of its answer was handed on.

    Args:
        call: what is sent.
        terms: the client's.
        timeout_s: the most that this call may take; the client's when None.
        patient: False for a call that is made once only.
        by_part: the time is for the wait for each part of an answer, not for all of it; the server is not
            told of it and keeps to limits of its own.

    Raises:
        SettingInvalid: a time that is not above 0.
    """

    def __init__(
        self,
        call: wire.Call[T],
        terms: Terms,
        *,
        timeout_s: float | None = None,
        patient: bool = True,
        by_part: bool = False,
    ) -> None:
        self.timeout_s = terms.timeout_s if timeout_s is None else checked_timeout(timeout_s)
        self._terms = terms
        self._call = call
        if call.instead is not None and (call.path, call.media_type) in terms.unread:
            self._call = call.instead()
        self._policy = terms.policy if patient else RetryPolicy(0)
        self._deadline = terms.clock.monotonic() + self.timeout_s
        self._number = 0
        self._by_part = by_part
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

    def step_s(self, step: str) -> float:
        """Seconds for a step of httpx: ``connect read write pool``."""
        # How long a read may take is asked once for all reads of an answer.
        return self.timeout_s if self._by_part and step == "read" else self.remaining_s()

    def attempt(self) -> Mapping[str, Any]:
        """What the next attempt hands to httpx; it tells the server how long an answer is of use."""
        call, headers = self._call, self._call.headers
        if not self._by_part:
            milliseconds = max(1, int(self.remaining_s() * 1000))
            headers["x-request-timeout-ms"] = str(min(milliseconds, 10**11))
        return {
            "method": call.method,
            "url": call.path,
            "content": call.body,
            "headers": headers,
            "extensions": {"timeout": _Remaining(self)},
        }

    def wait_s(self, outcome: Outcome) -> float | None:
        """Seconds to wait before the next attempt; None when ``outcome`` is the last word."""
        if isinstance(outcome, _LASTING):
            return None
        status, asked = None, None
        if isinstance(outcome, replies.Reply):
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
        if isinstance(outcome, replies.Reply):
            return wire.result(self._call, outcome, self._terms.url)
        raise replies.unreachable(outcome, self._terms.url, self.timeout_s) from outcome

    def parts(self, response: httpx.Response) -> Parts[Any] | None:
        """What reads the answer that has begun; None for one to be read whole."""
        return self._call.parts(response.headers) if response.is_success else None

    def found(self, parts: Parts[P], data: bytes, response: httpx.Response) -> Iterator[P]:
        """The parts that are whole with these bytes.

        Raises:
            httpx.ReadTimeout: the call's time is over.
        """
        self.check(response)
        for part in parts.feed(data):
            yield part
            if self._by_part:
                # Whoever has the part may have thought about it for long.
                self._deadline = self._terms.clock.monotonic() + self.timeout_s

    @contextmanager
    def reading(self, response: httpx.Response) -> Iterator[None]:
        """While this is entered the parts of an answer are read, the first of which were handed on perhaps.

        Raises:
            RemoteError: a part is none of Servable's.
            ServerUnreachable: the connection broke, or the time is over.
        """
        try:
            yield
        except httpx.HTTPError as failure:
            raise replies.broken_off(failure, self._terms.url, self.timeout_s) from failure
        except (msgspec.MsgspecError, UnicodeDecodeError) as strange:
            address = self._terms.url + self._call.path
            raise replies.not_ours(response.status_code, response.headers, address) from strange
