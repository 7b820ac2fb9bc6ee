"""What one caller may ask still at a server that shares the caller's limits with others of its registry.

A request looks at the share that the server has, which is numbers in memory. Shares are asked for beside the
requests; only the first of a caller, and of one who was away for a minute, waits for the registry.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from servable.errors import ServableError
from servable.security.limits import Limits, Rate
from servable.security.shares import Amounts, Share, Wish, alone, debt_after
from servable.server.allowances import SECOND_NS, Counted, Owner, Part, Ticket
from servable.server.limit_area import (
    ASKED,
    AT_ONCE,
    HOLDERS,
    MARK,
    MOMENT,
    QUIET,
    REQUESTS,
    SETTLED,
    SHARED,
)

#: Nanoseconds between two times at which a share is asked for, a little less than the pause between looks.
_SETTLE_NS = 900_000_000
#: Looks without a request after which a share is given back.
_QUIET = 60


class Divider(Protocol):
    """Who asks for shares."""

    async def join(self, allowance: "Divided") -> None:
        """Take a share for the first time; whatever happens there is one afterwards."""
        ...


class Divided(Counted):
    """What is left of the share that this server has of a caller's limits.

    Args:
        owner: the limiter.
        divider: asks for shares.
        find: gives the slot, which may be another one after a while.
        limits: of the caller, at all servers together.
        who: it is, as people are told.
        name: of the account.
    """

    __slots__ = ("_at_once", "_divider", "_given", "_requests")

    def __init__(
        self,
        owner: Owner,
        divider: Divider,
        find: Callable[[], int],
        limits: Limits,
        who: str,
        name: str,
    ) -> None:
        super().__init__(owner, find, limits, who, name)
        self._divider = divider
        self._given = self._whole
        #: The share that ``_given`` was made of.
        self._requests = limits.rate.requests if limits.rate else 0
        self._at_once = limits.concurrency

    def _part(self, slot: int) -> Part | None:
        cells = self._cells
        if not cells[slot + SHARED]:
            return None
        cells[slot + ASKED] += 1
        requests, at_once = cells[slot + REQUESTS], cells[slot + AT_ONCE]
        if requests != self._requests or at_once != self._at_once:
            rate = self.limits.rate
            self._given = Part.of(Rate(requests, rate.window_s) if rate and requests else None, at_once)
            self._requests, self._at_once = requests, at_once
        return self._given

    def _joining(self, within: bool) -> Ticket:
        return _Joining(self, within)

    async def join(self) -> None:
        """Wait until the server has a share."""
        await self._divider.join(self)

    @property
    def _amounts(self) -> Amounts:
        rate = self.limits.rate
        return Amounts(rate.requests if rate else 0, self.limits.concurrency)

    def wish(self, *, first: bool = False) -> Wish | None:
        """What is to be said of the caller now; None when another process just did, or there is no share.

        Args:
            first: whether there may be no share yet.
        """
        cells, slot = self._cells, self._slot
        if cells[slot + MARK] != self._mark or not (first or cells[slot + SHARED]):
            return None
        with self._turn:
            now = max(1, self._owner.now_ns())
            shared = cells[slot + SHARED]
            if not first and (not shared or now - cells[slot + SETTLED] < _SETTLE_NS):
                return None
            cells[slot + SETTLED] = now
            asked, cells[slot + ASKED] = cells[slot + ASKED], 0
            busy = self._area.requests(slot)
            cells[slot + QUIET] = 0 if asked or busy else cells[slot + QUIET] + 1
            held = Amounts(cells[slot + REQUESTS], cells[slot + AT_ONCE]) if shared else None
            return Wish(self.name, self._amounts, held, busy, max(asked, int(first)), self._debt(now))

    @property
    def present(self) -> bool:
        """Whether the server has a share."""
        cells, slot = self._cells, self._slot
        return cells[slot + MARK] == self._mark and cells[slot + SHARED] > 0

    def give_up(self) -> bool:
        """Have no share any more when nobody asked for long; whether there is none from now on."""
        cells, slot = self._cells, self._slot
        if cells[slot + MARK] != self._mark or cells[slot + QUIET] < _QUIET:
            return False
        with self._turn:
            if cells[slot + ASKED] or not cells[slot + SHARED]:
                return False
            cells[slot + SHARED] = cells[slot + REQUESTS] = cells[slot + AT_ONCE] = cells[slot + QUIET] = 0
            return True

    def settled(self, share: Share) -> None:
        """A share came from the registry."""
        self._hold(share.held, share.debt, share.holders)

    def unsettled(self, *, away_ns: int) -> None:
        """The registry could not be asked.

        Args:
            away_ns: nanoseconds after which the others have taken the share.
        """
        cells, slot = self._cells, self._slot
        if cells[slot + MARK] != self._mark:
            return
        if not cells[slot + SHARED]:
            self._hold(self._amounts, None, 1)
        elif self._owner.now_ns() - cells[slot + SHARED] > away_ns:
            with self._turn:
                whole, holders = self._amounts, max(1, cells[slot + HOLDERS])
                cells[slot + REQUESTS] = alone(whole.requests, cells[slot + REQUESTS], holders)
                cells[slot + AT_ONCE] = alone(whole.at_once, cells[slot + AT_ONCE], holders)

    def _hold(self, held: Amounts, debt: float | None, holders: int) -> None:
        cells, slot = self._cells, self._slot
        if cells[slot + MARK] != self._mark:
            return
        with self._turn:
            now = max(1, self._owner.now_ns())
            before = cells[slot + REQUESTS] if cells[slot + SHARED] else 0
            own = self._debt(now)
            after = debt_after(before, held.requests, own, debt)
            if after != own:
                cells[slot + MOMENT] = now + int(after * self._window_ns)
            cells[slot + REQUESTS], cells[slot + AT_ONCE] = held
            cells[slot + HOLDERS] = holders
            cells[slot + SHARED] = now

    @property
    def _window_ns(self) -> int:
        return self.limits.rate.window_s * SECOND_NS if self.limits.rate else SECOND_NS

    def _debt(self, now: int) -> float:
        return min(1.0, max(0, self._cells[self._slot + MOMENT] - now) / self._window_ns)


class _Joining(Ticket):
    """A ticket of a caller of whose limits the server has no share yet; one is on its way from now on."""

    __slots__ = ("_error", "_inner", "_over", "_task", "waits")

    def __init__(self, allowance: Divided, within: bool) -> None:
        self._inner: Ticket | None = None
        self._error: ServableError | None = None
        self._over = False
        self._task = asyncio.get_running_loop().create_task(self._enter(allowance, within))
        self.waits = True

    async def _enter(self, allowance: Divided, within: bool) -> None:
        await allowance.join()
        try:
            self._inner = allowance.enter(within=within)
            if self._over:
                self._inner.release()
            await self._inner.granted()
        except ServableError as error:
            # Whoever waits is told; perhaps nobody does.
            self._error = error

    async def granted(self) -> None:
        # Several may wait, and whoever leaves takes nothing from the others.
        await asyncio.shield(self._task)
        self.waits = False
        if self._error is not None:
            raise self._error

    def release(self) -> None:
        self._over = True
        if self._inner is not None:
            self._inner.release()
