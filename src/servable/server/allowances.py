"""What one caller may ask still: one decision a request, on numbers that all processes of a server share."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from servable.errors import ConcurrencyLimited, QuotaExhausted, RateLimited, ServableError
from servable.security.limits import Limits, Rate, arrival, excess, low
from servable.server.limit_area import COUNTS, DAY, EMPTY, LEFT, MARK, MOMENT, USED, LimitArea

SECOND_NS = 1_000_000_000
DAY_S = 86_400
#: Nanoseconds for which an empty quota is believed to be empty: others may give back, or it may be raised.
_BELIEVED_NS = 1 * SECOND_NS
#: Nanoseconds for which the day is believed to be the same one, if it does not end before.
_DAY_LOOK_NS = SECOND_NS // 10
#: Nanoseconds after which a server that has nothing to give of a rate may have something.
NONE_HERE_NS = 1 * SECOND_NS


class Owner(Protocol):
    """Who keeps the limits of all callers of a process."""

    area: LimitArea

    def now_ns(self) -> int:
        """A clock for durations, the same one in all processes, in nanoseconds."""
        ...

    def seconds(self) -> float:
        """The wall clock, in seconds since 1970."""
        ...

    def fetch_soon(self, allowance: "Counted") -> None:
        """Take a block in the background."""
        ...

    async def fetch(self, allowance: "Counted") -> None:
        """Take a block.

        Raises:
            ServableError: the registry cannot tell whether there is one.
        """
        ...


class Ticket:
    """A request that may be answered.

    Attributes:
        waits: whether ``granted`` has to be awaited before it is.
    """

    __slots__ = ()
    waits = False

    async def granted(self) -> None:
        """Wait until it is known that the request may be answered.

        Raises:
            QuotaExhausted: it may not.
            ServableError: nobody can tell.
        """

    def release(self) -> None:
        """The request was answered, or nobody waits for the answer; again does nothing."""


#: Of a request without limits.
FREE = Ticket()


class _Held(Ticket):
    """A ticket of a limited caller."""

    __slots__ = ("_allowance", "_counted", "waits")

    def __init__(self, allowance: "Counted", counted: bool, waits: bool) -> None:
        self._allowance = allowance
        self._counted = counted
        self.waits = waits

    async def granted(self) -> None:
        if self.waits:
            # Of several who wait one takes.
            self.waits = False
            await self._allowance.fetch()

    def release(self) -> None:
        if self._counted:
            self._counted = False
            self._allowance.leave()


class Both(Ticket):
    """A ticket of a part of a request whose own ticket is not granted yet.

    Args:
        whole: of the request.
        part: of the part of it.
    """

    __slots__ = ("_part", "_whole")
    waits = True

    def __init__(self, whole: Ticket, part: Ticket) -> None:
        self._whole = whole
        self._part = part

    async def granted(self) -> None:
        """See ``Ticket``: the request's own first."""
        await self._whole.granted()
        await self._part.granted()

    def release(self) -> None:
        """See ``Ticket``; of the part alone."""
        self._part.release()


class Allowance(Protocol):
    """What one caller may ask still. Belongs to one event loop."""

    def enter(self, *, within: bool = False) -> Ticket:
        """One more request.

        Args:
            within: whether it is a part of one that is being answered, such as a message of a stream, and so
                does not count as one more at once.

        Raises:
            LimitReached: there are too many.
        """
        ...


class _Unlimited:
    """Anything."""

    def enter(self, *, within: bool = False) -> Ticket:
        """Always."""
        return FREE


UNLIMITED: Allowance = _Unlimited()


class Part(NamedTuple):
    """So much of a caller's limits.

    Attributes:
        rate: None for nothing where there is a rate, and for any where there is none.
        interval_ns: that one request of the rate is worth.
        worth_ns: that all requests of its window are worth.
        at_once: requests at once.
    """

    rate: Rate | None
    interval_ns: int
    worth_ns: int
    at_once: int

    @classmethod
    def of(cls, rate: Rate | None, at_once: int) -> "Part":
        """A part by its rate."""
        return cls(rate, rate.interval_ns if rate else 0, rate.worth_ns if rate else 0, at_once)


class Counted:
    """What is left of limits; everything is in the shared area.

    Args:
        owner: the limiter.
        find: gives the slot, which may be another one after a while.
        limits: of the caller.
        who: it is, as people are told: ``This key`` or ``This address``.
        name: of the account; empty where nobody else counts it.
    """

    __slots__ = ("_alone", "_area", "_cells", "_day", "_day_until", "_find", "_mark", "_own", "_owner",
                 "_plenty", "_slot", "_turn", "_who", "_whole", "limits", "name")  # fmt: skip

    def __init__(
        self, owner: Owner, find: Callable[[], int], limits: Limits, who: str, name: str = ""
    ) -> None:
        self._owner = owner
        self._area = owner.area
        self._cells = owner.area.cells
        self._find = find
        self._who = who
        self._whole = Part.of(limits.rate, limits.concurrency)
        #: With more than this left of a block the next one is not taken yet.
        self._plenty = low(limits.quota) + 1
        self._alone = owner.area.alone
        #: The day of UTC, and until when it is not looked at again.
        self._day = self._day_until = 0
        self.limits = limits
        self.name = name
        self._settle()

    def _settle(self) -> None:
        self._slot = self._find()
        self._mark = self._cells[self._slot + MARK]
        self._own = self._slot + COUNTS + self._area.place
        self._turn = self._area.turn(self._slot)

    def enter(self, *, within: bool = False) -> Ticket:
        """See ``Allowance``."""
        if self._cells[self._slot + MARK] != self._mark:
            self._settle()
        # Every request comes here, and a lock that nobody else wants costs a tenth of the decision.
        if self._alone:
            return self._decide(self._slot, within)
        with self._turn:
            return self._decide(self._slot, within)

    def _decide(self, slot: int, within: bool) -> Ticket:
        """See ``enter``; in turn."""
        given = self._part(slot)
        if given is None:
            return self._joining(within)
        cells, (rate, quota, concurrency) = self._cells, self.limits
        given_rate, interval_ns, worth_ns, at_once = given
        now = self._owner.now_ns()
        counted = concurrency > 0 and not within
        if counted and self._area.requests(slot) >= at_once:
            raise self._too_many_at_once()
        moment = 0
        if rate is not None:
            if given_rate is None:
                raise self._too_fast(rate, NONE_HERE_NS)
            moment = arrival(cells[slot + MOMENT], now, interval_ns)
            early = excess(moment, now, worth_ns)
            if early > 0:
                raise self._too_fast(rate, early)
        waits = quota > 0 and not self._take(now)
        if moment:
            cells[slot + MOMENT] = moment
        if counted:
            cells[self._own] += 1
        elif not waits:
            return FREE
        return _Held(self, counted, waits)

    def _part(self, slot: int) -> "Part | None":
        """What of the limits may be given here; None when that is not known yet. In turn, once a request.

        Args:
            slot: where the numbers of the caller begin.
        """
        return self._whole

    def _joining(self, within: bool) -> Ticket:
        """A ticket that waits for the part of the limits that may be given here."""
        # Only limits that are divided are ever not known.
        raise NotImplementedError

    def leave(self) -> None:
        """A request that counted as one at once is over."""
        if self._cells[self._slot + MARK] == self._mark and self._cells[self._own] > 0:
            # Nobody else writes this number while the process lives.
            self._cells[self._own] -= 1

    def _take(self, now: int) -> bool:
        """Take one request out of the block, in turn; false when it is empty and the registry must be asked.

        Raises:
            QuotaExhausted: the registry was asked a moment ago and had none.
        """
        cells, slot = self._cells, self._slot
        if now >= self._day_until:
            self._look_at_day(now)
        today = self._day
        if cells[slot + DAY] != today:
            cells[slot + DAY] = today
            cells[slot + LEFT] = cells[slot + EMPTY] = 0
        left = cells[slot + LEFT]
        if left > 0:
            cells[slot + LEFT] = left - 1
            cells[slot + USED] = now
            if left <= self._plenty and now - cells[slot + EMPTY] > _BELIEVED_NS:
                self._owner.fetch_soon(self)
            return True
        if cells[slot + EMPTY] and now - cells[slot + EMPTY] < _BELIEVED_NS:
            raise self._used_up()
        return False

    def _look_at_day(self, now: int) -> None:
        seconds = self._owner.seconds()
        self._day = int(seconds // DAY_S)
        # At midnight at the latest, and soon, because somebody may set the clock of the wall.
        self._day_until = now + min(_DAY_LOOK_NS, int((DAY_S - seconds % DAY_S) * SECOND_NS))

    async def fetch(self) -> None:
        """Wait for a block, and take one request out of it.

        Raises:
            QuotaExhausted: none is left.
            ServableError: the registry cannot tell.
        """
        while True:
            with self._turn:
                if self._take(self._owner.now_ns()):
                    return
            await self._owner.fetch(self)

    def received(self, day: int, count: int) -> None:
        """A block came from the registry; 0 requests: it has none."""
        cells, slot = self._cells, self._slot
        with self._turn:
            if cells[slot + MARK] != self._mark or cells[slot + DAY] != day:
                return
            now = max(1, self._owner.now_ns())
            cells[slot + LEFT] += count
            cells[slot + EMPTY] = 0 if count else now
            cells[slot + USED] = now

    def surrendered(self, idle_ns: int) -> tuple[int, int]:
        """What nobody used of the block for so long, with the day that it is of; it is not there any more."""
        cells, slot = self._cells, self._slot
        if cells[slot + MARK] != self._mark or cells[slot + LEFT] <= 0:
            return 0, 0
        with self._turn:
            if self._owner.now_ns() - cells[slot + USED] < idle_ns:
                return 0, 0
            left, cells[slot + LEFT] = cells[slot + LEFT], 0
            return cells[slot + DAY], left

    def _too_many_at_once(self) -> ServableError:
        most = self.limits.concurrency
        return ConcurrencyLimited(f"{self._who} may have {most} requests at once.", amount=most)

    def _too_fast(self, rate: Rate, early_ns: int) -> ServableError:
        return RateLimited(
            f"{self._who} may send {rate.words}; wait before the next one.",
            early_ns / SECOND_NS, amount=rate.requests, window_s=rate.window_s,
        )  # fmt: skip

    def _used_up(self) -> ServableError:
        return QuotaExhausted(
            f"{self._who} may send {self.limits.quota} requests a day; there will be more at midnight UTC.",
            DAY_S - self._owner.seconds() % DAY_S, amount=self.limits.quota, window_s=DAY_S,
        )  # fmt: skip
