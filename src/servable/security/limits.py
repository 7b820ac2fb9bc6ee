"""How much a caller may ask: a rate, so many at once, and a quota for the day. Pure.

A rate is decided with the generic cell rate algorithm (ITU-T I.371, annex A, as virtual scheduling): of each
caller one moment is kept, from which on it would be as if it had never asked, and each request moves it
by the time that one request is worth. It admits what a token bucket of a window's worth admits, and
needs no timer: of any span of ``d`` seconds at most the window's count and ``d`` times the rate.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from servable.errors import InputError, SettingInvalid

_T = TypeVar("_T")
#: Nanoseconds in a second.
_SECOND_NS = 1_000_000_000
_WINDOWS = {"s": 1, "min": 60, "h": 3600, "day": 86_400}
_WORDS = {1: "a second", 60: "a minute", 3600: "an hour", 86_400: "a day"}
_UNITS = {
    "s": "s", "sec": "s", "second": "s", "m": "min", "min": "min", "minute": "min", "h": "h", "hour": "h",
    "d": "day", "day": "day",
}  # fmt: skip
_FACTORS = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}
_AMOUNT = re.compile(r"(\d{1,15})(?:\.(\d{1,9}))?\s*([kmg]?)", re.IGNORECASE)
#: A bill of requests has an end somewhere; beyond it a limit is none.
_MOST = 10**12
#: Most requests that a server takes out of a quota at once, and the part of the quota that it takes; of small
#: quotas a little more, because each block costs a write to the disk.
_MOST_BLOCK, _BLOCK_PART = 10_000, 100
_LEAST_BLOCK, _LEAST_PART = 16, 4


class Rate(NamedTuple):
    """So many requests in a window; a window's worth may come at once.

    Attributes:
        requests: how many.
        window_s: seconds of the window: a second, a minute, an hour or a day.
    """

    requests: int
    window_s: int

    @property
    def interval_ns(self) -> int:
        """Nanoseconds that one request is worth, rounded up, so that it is never more than the rate."""
        return -(-self.window_s * _SECOND_NS // self.requests)

    @property
    def worth_ns(self) -> int:
        """Nanoseconds that all requests of a window are worth, which may come at once."""
        return self.interval_ns * self.requests

    @property
    def words(self) -> str:
        """Such as ``100 requests a second``, for people."""
        return f"{self.requests} {'request' if self.requests == 1 else 'requests'} {_WORDS[self.window_s]}"

    def __str__(self) -> str:
        unit = next(name for name, seconds in _WINDOWS.items() if seconds == self.window_s)
        return f"{_short(self.requests)}/{unit}"


class Limits(NamedTuple):
    """What a key may ask for.

    Attributes:
        rate: None for any.
        quota: requests of a day of UTC; 0 for any number.
        concurrency: requests at once; 0 for any number.
    """

    rate: Rate | None = None
    quota: int = 0
    concurrency: int = 0

    def texts(self) -> dict[str, str | int]:
        """As a user writes them, without those that are not set: what the registry keeps."""
        found: dict[str, str | int] = {}
        if self.rate is not None:
            found["rate"] = str(self.rate)
        if self.quota:
            found["quota"] = f"{_short(self.quota)}/day"
        if self.concurrency:
            found["concurrency"] = self.concurrency
        return found


NO_LIMITS = Limits()


def most(one: Limits, other: Limits) -> Limits:
    """The larger one of each limit, where either sets it."""
    rates = [rate for rate in (one.rate, other.rate) if rate is not None]
    return Limits(
        max(rates, key=lambda rate: rate.requests / rate.window_s, default=None),
        max(one.quota, other.quota),
        max(one.concurrency, other.concurrency),
    )


def completed(limits: Limits, default: Limits) -> Limits:
    """Limits, with those of the default where they set none."""
    return Limits(
        limits.rate or default.rate, limits.quota or default.quota, limits.concurrency or default.concurrency
    )


def limits_of(texts: dict[str, Any]) -> Limits:
    """What ``Limits.texts`` wrote.

    Raises:
        InputError: it did not.
    """
    if not texts:
        return NO_LIMITS
    return parse_limits(texts.get("rate"), texts.get("quota"), texts.get("concurrency"))


def parse_limits(rate: str | None, quota: str | None, concurrency: int | None) -> Limits:
    """Read the limits of a key; what is None is not limited.

    Raises:
        InputError: one of them is none.
    """
    if concurrency is not None and not 1 <= concurrency <= 1_000_000:
        raise InputError(f"A concurrency is a number of requests from 1 to 1000000, not {concurrency}.")
    return Limits(
        None if rate is None else parse_rate(rate),
        0 if quota is None else parse_quota(quota),
        concurrency or 0,
    )


def limit_set(setting: str, text: str, parse: Callable[[str], _T]) -> _T | None:
    """What a setting says; None where it is empty.

    Args:
        setting: its name, for people.
        text: its value.
        parse: reads one.

    Raises:
        SettingInvalid: the value is none.
    """
    try:
        return parse(text) if text.strip() else None
    except InputError as error:
        raise SettingInvalid(f"The setting {setting}: {error.message}") from None


def parse_rate(text: str) -> Rate:
    """Read a rate such as ``100/s``, ``60/min``, ``5k/h`` or ``1M/day``.

    Raises:
        InputError: it is none.
    """
    amount, _, unit = text.partition("/")
    count, window = _amount(amount), _UNITS.get(unit.strip().lower())
    if not count or window is None:
        raise InputError(
            f"{text[:60]!r} is no rate; write a number of requests of 1 or more and a time, such as 100/s, "
            "60/min or 5k/h."
        )
    rate = Rate(count, _WINDOWS[window])
    if rate.requests > rate.window_s * 1_000_000:
        raise InputError(f"{text[:60]!r} is more than a million requests a second; leave the rate out.")
    return rate


def parse_quota(text: str) -> int:
    """Read a quota of a day such as ``1M/day`` or ``10k/day``.

    Raises:
        InputError: it is none.
    """
    amount, slash, unit = text.partition("/")
    count = _amount(amount)
    if not count or (slash and _UNITS.get(unit.strip().lower()) != "day"):
        raise InputError(
            f"{text[:60]!r} is no quota; write a number of requests of 1 or more for a day, such as 10k/day "
            "or 1M/day."
        )
    return count


def arrival(moment_ns: int, now_ns: int, interval_ns: int) -> int:
    """The moment that is kept of a caller after one more request; see the head of this file.

    Args:
        moment_ns: that was kept.
        now_ns: of the same clock.
        interval_ns: that the request is worth.
    """
    return (moment_ns if moment_ns > now_ns else now_ns) + interval_ns


def excess(arrival_ns: int, now_ns: int, worth_ns: int) -> int:
    """Nanoseconds by which a request comes too early; 0 or less when it may pass.

    Args:
        arrival_ns: the moment that would be kept if it passed.
        now_ns: of the same clock.
        worth_ns: of the rate that is allowed, see ``Rate``.
    """
    return arrival_ns - now_ns - worth_ns


def block(quota: int, taken: int) -> int:
    """How many requests a server takes out of a quota at once, to count them by itself; 0: none is left.

    Args:
        quota: of the day.
        taken: by all servers together so far.
    """
    least = max(1, min(_LEAST_BLOCK, quota // _LEAST_PART))
    return max(0, min(_MOST_BLOCK, max(least, quota // _BLOCK_PART), quota - taken))


def low(quota: int) -> int:
    """With how many requests of a block left a server takes the next one already; -1: only at the end."""
    return block(quota, 0) // 4 if quota >= 8 * _BLOCK_PART else -1


def _amount(text: str) -> int:
    """A number such as ``100``, ``10k`` or ``1.5M``; 0 for none, and for what is no whole number."""
    found = _AMOUNT.fullmatch(text.strip())
    if found is None:
        return 0
    whole, fraction, unit = found[1], found[2] or "", _FACTORS[found[3].lower()]
    scaled, rest = divmod(int(whole + fraction) * unit, 10 ** len(fraction))
    return 0 if rest or scaled > _MOST else scaled


def _short(count: int) -> str:
    """The shortest way to write a number: ``100``, ``10k``, ``1M``."""
    for unit, factor in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count % factor == 0:
            return f"{count // factor}{unit}"
    return str(count)
