"""Refused requests on their way to the audit log: every one counts, and no flood of them fills the disk.

In each window of a minute the first refusals of every place, such as an address, are recorded one by one, the
others as one record with their number. Adding one takes a few microseconds and bounded memory.
"""

import ipaddress
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Generic, NamedTuple, TypeVar

_P = TypeVar("_P", bound=tuple[str, ...] | str)

#: Seconds of a window.
WINDOW_S = 60.0
#: Refusals of a window that are recorded one by one: of one address, of one limit, and of all together.
EACH = 10
EACH_LIMIT = 1
TOGETHER = 100
#: Places of a window that are counted by themselves, and that get a record of their own with the number.
ADDRESSES = 1_000
NAMED = 25
#: Longest address of a request that is looked at.
_TARGET = 512


class Denial(NamedTuple):
    """A request that was refused.

    Attributes:
        at: seconds since 1970.
        address: of the caller.
        code: the error's.
        caller: who it is, as the audit log says it.
        key: the id of the key that was shown, ``?`` for what has none; empty when nothing was shown.
        method: of the request.
        target: what stood after it.
        need: what the caller wanted to do; empty when that is not known.
        model: with which model; only one that exists.
    """

    at: float
    address: str
    code: str
    caller: str
    key: str
    method: bytes
    target: bytes
    need: str
    model: str


class Limited(NamedTuple):
    """A limit that was reached, as refusals because of it are counted.

    Attributes:
        caller: whose, as the audit log says it.
        code: the error's.
        address: of the caller where nobody knows who it is, and empty where it is known.
    """

    caller: str
    code: str
    address: str


class More(NamedTuple, Generic[_P]):
    """How many refusals of a window were not recorded one by one.

    Attributes:
        place: where; None for all places that have no record of their own here.
        number: at least one.
        since: when the window began, in seconds since 1970.
    """

    place: _P | None
    number: int
    since: float


class Denials(Generic[_P]):
    """The refusals of a window. Belongs to one event loop.

    Args:
        now: the wall clock, in seconds since 1970.
        place: by what they are counted; of one type that can be sorted.
        each: how many of one place are recorded one by one.
    """

    def __init__(self, now: Callable[[], float], place: Callable[[Denial], _P], each: int) -> None:
        self._now = now
        self._place = place
        self._each = each
        self._began = now()
        self._waiting: deque[Denial] = deque()
        self._alone = 0
        #: By place: how many there were, and how many of them were recorded one by one.
        self._counts: dict[_P, list[int]] = {}
        self._others = 0

    def add(self, denial: Denial) -> None:
        """Take note of one."""
        place = self._place(denial)
        counts = self._counts.get(place)
        if counts is None:
            if len(self._counts) >= ADDRESSES:
                self._others += 1
                return
            counts = self._counts[place] = [0, 0]
        counts[0] += 1
        if counts[1] < self._each and self._alone < TOGETHER:
            counts[1] += 1
            self._alone += 1
            self._waiting.append(denial._replace(target=denial.target[:_TARGET]))

    def take(self, *, last: bool = False) -> tuple[list[Denial], list[More[_P]]]:
        """What is to be recorded now.

        Args:
            last: whether the window ends now, however long it was.

        Returns:
            Refusals one by one, and at the end of a window how many more there were.
        """
        waiting = list(self._waiting)
        self._waiting.clear()
        now = self._now()
        # A clock that was set back must not keep a window open.
        if not last and 0 <= now - self._began < WINDOW_S:
            return waiting, []
        rest = sorted(
            (
                (counts[0] - counts[1], place)
                for place, counts in self._counts.items()
                if counts[0] > counts[1]
            ),
            key=_most_first,
        )
        more: list[More[_P]] = [More(place, count, self._began) for count, place in rest[:NAMED]]
        others = self._others + sum(count for count, _ in rest[NAMED:])
        if others:
            more.append(More(None, others, self._began))
        self._began, self._alone, self._others = now, 0, 0
        self._counts = {}
        return waiting, more


def address_of(denial: Denial) -> str:
    """The place of a refusal for what the caller may not do."""
    return network_of(denial.address)


def limit_of(denial: Denial) -> Limited:
    """The place of a refusal because there were too many requests."""
    # Whoever is known is limited as such, from wherever.
    address = "" if ":" in denial.caller else network_of(denial.address)
    return Limited(denial.caller, denial.code, address)


def _most_first(pair: tuple[int, Any]) -> tuple[int, Any]:
    return -pair[0], pair[1]


@lru_cache(maxsize=4096)
def network_of(address: str) -> str:
    """Whose address it is: itself, and of IPv6 the 64 bits of which one caller has all."""
    if ":" not in address:
        return address
    try:
        found = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((found, 64), strict=False))
