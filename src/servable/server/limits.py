"""How much callers may ask: those who are known by their limits, those who show nothing by their address.

Whatever is decided for a request takes a dictionary lookup and a little arithmetic on numbers that all
processes of the server share (``limit_area``). Quotas are counted down from blocks that were taken out of the
registry beforehand; only a request that finds its block empty waits for the next one.
"""

import asyncio
import ipaddress
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from servable.errors import (
    RateLimited,
    ServableError,
    TooManyFailures,
    UnavailableError,
)
from servable.logs import fields, logger
from servable.registry.quotas import QuotaStore, open_quotas
from servable.security.callers import EVERYBODY, Caller, account_of
from servable.security.limits import Limits, limit_set, parse_quota, parse_rate
from servable.server.allowances import DAY_S, SECOND_NS, UNLIMITED, Allowance, Counted, Ticket
from servable.server.dividing import UNDIVIDED, Division
from servable.server.limit_area import LimitArea
from servable.settings import ServerSettings, is_loopback

_T = TypeVar("_T")
_log = logger("server")
_monotonic = time.monotonic_ns
_wall = time.time
#: Nanoseconds without a request after which a block is given back, and seconds between two looks at that.
_IDLE_NS, _LOOK_S = 30 * SECOND_NS, 5.0
#: Seconds for which a request waits for the registry.
_WAIT_S = 5.0
#: Callers, and addresses, of which is remembered where their limits are.
_KNOWN = 10_000
#: What callers are called who are refused.
_WHO = {"key": "This key"}
_ADDRESS = "This address"
#: What is counted of an address: its requests, and the keys that are not valid.
_ALL, _FAILURES = "all", "failures"


class Limiter:
    """The limits of a server's callers. Belongs to one event loop.

    Args:
        settings: limits of addresses, and where the registry is.
        area: what is counted, shared with the other processes.
        now_ns: a clock for durations, the same one in all processes, in nanoseconds.
        seconds: the wall clock, in seconds since 1970.
        division: how limits are divided with other servers; those of keys that are not valid are not.

    Raises:
        SettingInvalid: a limit of addresses is none.
    """

    def __init__(
        self,
        settings: ServerSettings,
        area: LimitArea,
        now_ns: Callable[[], int] = _monotonic,
        seconds: Callable[[], float] = _wall,
        division: Division = UNDIVIDED,
    ) -> None:
        self.area = area
        self._division = division
        self.now_ns = now_ns
        self.seconds = seconds
        self._settings = settings
        rate = limit_set("rate_per_address", settings.rate_per_address, parse_rate)
        quota = limit_set("quota_per_address", settings.quota_per_address, parse_quota) or 0
        self._address_limits = Limits(rate, quota, settings.concurrency_per_address)
        self._failure_limits = Limits(
            limit_set("failures_per_address", settings.failures_per_address, parse_rate)
        )
        self._callers: dict[Caller, Allowance] = {}
        self._addresses: dict[tuple[str, str], Counted] = {}
        self._quotas: dict[str, Counted] = {}
        self._store: QuotaStore | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._fetching: dict[str, asyncio.Task[None]] = {}
        self._failing = False

    def enter(self, caller: Caller, address: str, *, within: bool = False) -> Ticket:
        """One more request.

        Args:
            caller: who asks. One with a key is limited by it, anybody else by the address.
            address: of the client; empty when it has none.
            within: see ``Allowance.enter``.

        Raises:
            LimitReached: there are too many.
        """
        if caller is EVERYBODY:
            return self._address(_ALL, address, self._address_limits).enter(within=within)
        allowance = self._callers.get(caller)
        if allowance is None:
            allowance = self._allowance(caller)
        return allowance.enter(within=within)

    def failed(self, address: str) -> None:
        """A key that is not valid was shown.

        Raises:
            TooManyFailures: the address has done so too often. Who shows a valid key is not asked about this.
        """
        if is_loopback(address) or is_loopback(network_of(address)):
            return
        try:
            self._address(_FAILURES, address, self._failure_limits).enter()
        except RateLimited as error:
            raise TooManyFailures(
                "Too many keys that are not valid came from this address; wait before the next try.",
                error.retry_after_s, amount=error.amount, window_s=error.window_s,
            ) from None  # fmt: skip

    def _allowance(self, caller: Caller) -> Allowance:
        limits, name = caller.limits, caller.account
        allowance: Allowance = UNLIMITED
        if any(limits):
            find = self.area.key if caller.kind == "key" else self.area.subject
            who = _WHO.get(caller.kind, "This caller")
            counted = self._division.allowance(self, lambda: find(name), limits, who, name)
            allowance = counted
            if limits.quota:
                self._quotas[name] = counted
        if len(self._callers) >= _KNOWN:
            self._callers.clear()
        self._callers[caller] = allowance
        return allowance

    def _address(self, kind: str, address: str, limits: Limits) -> Allowance:
        if not address or not any(limits):
            return UNLIMITED
        known = self._addresses.get((kind, address))
        if known is None:
            network = network_of(address)
            if len(self._addresses) >= _KNOWN:
                self._forget_addresses()
            known = self._addresses[kind, address] = self._counted(kind, network, limits)
        return known

    def _counted(self, kind: str, network: str, limits: Limits) -> Counted:
        find = lambda: self.area.address(kind, network)  # noqa: E731 - it is handed over, not named
        if kind == _FAILURES:
            # Whoever tries keys is told to wait at once, without asking the registry.
            return Counted(self, find, limits, _ADDRESS)
        name = account_of("address", network, limits)
        counted = self._division.allowance(self, find, limits, _ADDRESS, name)
        if limits.quota:
            self._quotas[name] = counted
        return counted

    def _forget_addresses(self) -> None:
        """Where so many were seen; what they hold of quotas counts as used."""
        for allowance in self._addresses.values():
            self._quotas.pop(allowance.name, None)
        self._addresses.clear()

    # ------------------------------------------------------------------ quotas

    def fetch_soon(self, allowance: Counted) -> None:
        """Take a block in the background, unless one is on its way."""
        if allowance.name not in self._fetching:
            self._begin(allowance)

    async def fetch(self, allowance: Counted) -> None:
        """Take a block, or wait for the one that is on its way.

        Raises:
            ServableError: the registry cannot be read or written.
        """
        task = self._fetching.get(allowance.name) or self._begin(allowance)
        try:
            # Whoever leaves takes nothing from the others.
            await asyncio.wait_for(asyncio.shield(task), _WAIT_S)
        except (ServableError, TimeoutError):
            raise UnavailableError(
                "The quota of this caller cannot be counted now; try again later."
            ) from None

    def _begin(self, allowance: Counted) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(self._fetch(allowance))
        self._fetching[allowance.name] = task
        task.add_done_callback(lambda done: self._fetched(allowance.name, done))
        return task

    def _fetched(self, name: str, done: "asyncio.Task[None]") -> None:
        self._fetching.pop(name, None)
        error = None if done.cancelled() else done.exception()
        if error is not None and not self._failing:
            # Nothing is answered beyond what was taken, so that there is never more than the quota.
            _log.error("quotas cannot be counted", extra=fields(key=name, reason=str(error)))
        self._failing = error is not None

    async def _fetch(self, allowance: Counted) -> None:
        day, name, quota = int(self.seconds() // DAY_S), allowance.name, allowance.limits.quota
        count = await self._aside(lambda store: store.take(name, day, quota))
        allowance.received(day, count)

    async def _aside(self, work: Callable[[QuotaStore], _T]) -> _T:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="servable-quotas")
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: work(self._opened()))

    def _opened(self) -> QuotaStore:
        """The registry's quotas; in their thread."""
        if self._store is None:
            self._store = open_quotas(Path(self._settings.home), self._settings.database_url)
        return self._store

    async def follow(self) -> None:
        """Give back blocks that nobody uses, so that other servers can, and take shares, until cancelled."""
        await asyncio.gather(self._division.follow(), self._follow_quotas())

    async def _follow_quotas(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            await self._give_back(_IDLE_NS)

    async def _give_back(self, idle_ns: int) -> None:
        for name, allowance in tuple(self._quotas.items()):
            day, left = allowance.surrendered(idle_ns)
            if left:
                try:
                    await self._aside(lambda store: store.give_back(name, day, left))  # noqa: B023 - awaited at once
                except ServableError as error:
                    # It counts as used, so that there is never more than the quota.
                    _log.warning("a block of a quota is lost", extra=fields(key=name, reason=error.message))

    async def close(self) -> None:
        """Give back what is left, and the registry."""
        await asyncio.gather(*self._fetching.values(), return_exceptions=True)
        await self._give_back(0)
        await self._division.close()
        if self._thread is not None:
            store, self._store = self._store, None
            if store is not None:
                await asyncio.get_running_loop().run_in_executor(self._thread, store.close)
            self._thread.shutdown(wait=True)
            self._thread = None


def network_of(address: str) -> str:
    """What counts as one address: one of IPv4, and of IPv6 a network of 64 bits, which one customer has."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
