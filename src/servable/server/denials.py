"""Refused requests on their way to the audit log: every one counts, and no flood of them fills the disk.

In each window of a minute the first refusals of every caller's address are recorded one by one, the others as
one record with their number. Adding one takes a few microseconds and bounded memory.
"""

import ipaddress
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

#: Seconds of a window.
WINDOW_S = 60.0
#: Refusals of a window that are recorded one by one: of one address, and of all together.
EACH = 10
TOGETHER = 100
#: Addresses of a window that are counted by themselves, and that get a record of their own with the number.
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


class More(NamedTuple):
    """How many refusals of a window were not recorded one by one.

    Attributes:
        address: of the callers; empty for all that have none of their own here.
        number: at least one.
        since: when the window began, in seconds since 1970.
    """

    address: str
    number: int
    since: float


class Denials:
    """The refusals of a window. Belongs to one event loop.

    Args:
        now: the wall clock, in seconds since 1970.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._began = now()
        self._waiting: deque[Denial] = deque()
        self._alone = 0
        #: By address: how many there were, and how many of them were recorded one by one.
        self._counts: dict[str, list[int]] = {}
        self._others = 0

    def add(self, denial: Denial) -> None:
        """Take note of one."""
        place = network_of(denial.address)
        counts = self._counts.get(place)
        if counts is None:
            if len(self._counts) >= ADDRESSES:
                self._others += 1
                return
            counts = self._counts[place] = [0, 0]
        counts[0] += 1
        if counts[1] < EACH and self._alone < TOGETHER:
            counts[1] += 1
            self._alone += 1
            self._waiting.append(denial._replace(target=denial.target[:_TARGET]))

    def take(self, *, last: bool = False) -> tuple[list[Denial], list[More]]:
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
            key=lambda pair: (-pair[0], pair[1]),
        )
        more = [More(place, count, self._began) for count, place in rest[:NAMED]]
        others = self._others + sum(count for count, _ in rest[NAMED:])
        if others:
            more.append(More("", others, self._began))
        self._began, self._alone, self._others = now, 0, 0
        self._counts = {}
        return waiting, more


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
