"""Limits of callers that all servers of a registry hold together: shares are taken once a second, beside."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar

from servable.errors import ServableError
from servable.logs import fields, logger
from servable.registry.shares import LASTING_S, ShareStore, open_shares
from servable.security.limits import Limits
from servable.security.shares import Wish
from servable.server.allowances import SECOND_NS, Counted, Owner
from servable.server.divided import Divided
from servable.server.limit_area import LimitArea
from servable.settings import ServerSettings

_T = TypeVar("_T")
_log = logger("server")
_wall = time.time
#: Seconds between two times at which shares are taken, and for which the first request of a caller waits.
SETTLE_S = 1.0
_WAIT_S = 5.0
#: Most callers whose shares are taken in one transaction.
_AT_ONCE = 500
#: Callers of whom is remembered that they are limited.
_KNOWN = 10_000


class Division(Protocol):
    """How limits are divided with other servers. Belongs to one event loop."""

    def allowance(
        self, owner: Owner, find: Callable[[], int], limits: Limits, who: str, name: str
    ) -> Counted:
        """What is left of a caller's limits; the arguments are those of ``Counted``."""
        ...

    async def follow(self) -> None:
        """Take shares until cancelled."""
        ...

    async def close(self) -> None:
        """Give back the shares, and the registry."""
        ...


class Undivided:
    """Every server has limits for itself."""

    def allowance(
        self, owner: Owner, find: Callable[[], int], limits: Limits, who: str, name: str
    ) -> Counted:
        """See ``Division``."""
        return Counted(owner, find, limits, who, name)

    async def follow(self) -> None:
        """There is nothing to take."""

    async def close(self) -> None:
        """Nothing is held."""


UNDIVIDED: Division = Undivided()


class SharedDivision:
    """Servers of a registry have shares. Belongs to one event loop.

    Where the registry cannot be written the share of the last time counts, and after a while at most an even
    one; a caller who comes for the first time then has the whole limit here.

    Args:
        settings: where the registry is.
        area: what is counted, shared with the other processes.
        seconds: the wall clock, in seconds since 1970.
    """

    def __init__(
        self, settings: ServerSettings, area: LimitArea, seconds: Callable[[], float] = _wall
    ) -> None:
        self._settings = settings
        self._area = area
        self._seconds = seconds
        #: The newest allowance of each account: limits may have become others.
        self._divided: dict[str, Divided] = {}
        self._joining: dict[str, asyncio.Task[None]] = {}
        self._store: ShareStore | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._failing = False

    def allowance(
        self, owner: Owner, find: Callable[[], int], limits: Limits, who: str, name: str
    ) -> Counted:
        """See ``Division``."""
        if limits.rate is None and not limits.concurrency:
            return Counted(owner, find, limits, who, name)
        divided = Divided(owner, self, find, limits, who, name)
        if len(self._divided) >= _KNOWN:
            self._divided = {each: known for each, known in self._divided.items() if known.present}
        # Also where another process takes the share: it may end, and this one goes on.
        self._divided[name] = divided
        return divided

    async def join(self, allowance: Divided) -> None:
        """Take a share for the first time, or wait for the one that is on its way.

        There is one afterwards, whatever happens.
        """
        name = allowance.name
        task = self._joining.get(name)
        if task is None:
            task = self._joining[name] = asyncio.get_running_loop().create_task(self._join(allowance))
            task.add_done_callback(lambda _: self._joining.pop(name, None))
        # Whoever leaves takes nothing from the others.
        await asyncio.shield(task)

    async def _join(self, allowance: Divided) -> None:
        # Another process of the server may have taken one.
        wish = None if allowance.present else allowance.wish(first=True)
        if wish is None:
            return
        await self._settle({wish.account: allowance}, [wish], ())

    async def follow(self) -> None:
        """See ``Division``."""
        while True:
            await asyncio.sleep(SETTLE_S)
            await self.settle()

    async def settle(self) -> None:
        """Take the shares of all callers once, and give back those of callers who were away for long."""
        asking: dict[str, Divided] = {}
        wishes: list[Wish] = []
        idle = []
        for name, allowance in tuple(self._divided.items()):
            wish = allowance.wish()
            if wish is not None:
                asking[name] = allowance
                wishes.append(wish)
            elif allowance.give_up():
                idle.append(name)
        for begin in range(0, max(len(wishes), len(idle)), _AT_ONCE):
            some = wishes[begin : begin + _AT_ONCE]
            await self._settle(asking, some, idle[begin : begin + _AT_ONCE])

    async def _settle(
        self, allowances: dict[str, Divided], wishes: Sequence[Wish], idle: Sequence[str]
    ) -> None:
        server, now = self._area.server, self._seconds()
        try:
            shares = await asyncio.wait_for(
                self._aside(lambda store: store.settle(server, wishes, now, idle)), _WAIT_S
            )
        except (ServableError, TimeoutError) as error:
            if not self._failing:
                reason = error.message if isinstance(error, ServableError) else "it does not answer"
                _log.error("limits cannot be divided with other servers", extra=fields(reason=reason))
            self._failing = True
            for wish in wishes:
                allowances[wish.account].unsettled(away_ns=int(LASTING_S * SECOND_NS))
            return
        self._failing = False
        for share in shares:
            allowances[share.account].settled(share)

    async def _aside(self, work: Callable[[ShareStore], _T]) -> _T:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="servable-limits")
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: work(self._opened()))

    def _opened(self) -> ShareStore:
        """The registry's shares; in their thread."""
        if self._store is None:
            self._store = open_shares(Path(self._settings.home), self._settings.database_url)
        return self._store

    async def close(self) -> None:
        """See ``Division``; where there are other processes of the server, its shares end by themselves."""
        await asyncio.gather(*self._joining.values(), return_exceptions=True)
        if self._thread is None:
            return
        server = self._area.server
        if self._area.descriptor is None and self._divided:
            await self._left(server)
        store, self._store = self._store, None
        if store is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, store.close)
        self._thread.shutdown(wait=True)
        self._thread = None

    async def _left(self, server: str) -> None:
        try:
            await asyncio.wait_for(self._aside(lambda store: store.leave(server)), _WAIT_S)
        except (ServableError, TimeoutError) as error:
            _log.warning("shares of limits end by themselves", extra=fields(reason=type(error).__name__))
