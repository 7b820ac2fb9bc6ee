"""A keeper in the event loop of a test, and servers that share a model through it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from servable.runtime.framing import Share
from servable.runtime.keeper import Keeper
from servable.runtime.mailbox import hand_over, mailbox
from servable.runtime.process import ChildLimits, ChildSpec, ProcessExecutor

#: As a server has them that shares: the keeper watches.
WATCHED = ChildLimits(run_s=1e9, heartbeat_s=1e9, tick_s=0.05)


class Kept:
    """A keeper, and the ends of its mailbox. Belongs to one event loop."""

    def __init__(self) -> None:
        self._keepers, self.servers = mailbox()
        self._running: asyncio.Task[None] | None = None
        self.keeper = self.begin()

    def begin(self) -> Keeper:
        """A keeper in place of the one before."""
        self.keeper = Keeper(self._keepers)
        self._running = asyncio.ensure_future(self.keeper.run())
        return self.keeper

    async def kill(self) -> None:
        """End the keeper, whoever shares something."""
        assert self._running is not None
        self._running.cancel()
        await asyncio.wait([self._running])

    async def close(self) -> None:
        """End everything as a parent does: the keeper ends by itself."""
        self.servers.close()
        assert self._running is not None
        await self._running
        self._keepers.close()

    def server(self, spec: ChildSpec, *, processes: int = 1, **share: Any) -> ProcessExecutor:
        """The executor of a server that shares the model."""
        wanted = Share("sum", processes, **share)
        return ProcessExecutor(
            spec._replace(share=wanted),
            name="sum",
            processes=processes,
            limits=WATCHED,
            start=partial(hand_over, self.servers),
        )

    def replacements(self) -> int:
        """How many processes were replaced so far."""
        return sum(each.replacements for each in self.keeper.statistics().values())


@asynccontextmanager
async def kept() -> AsyncIterator[Kept]:
    """A keeper; it must end once the servers are closed."""
    one = Kept()
    try:
        yield one
    finally:
        await one.close()


@asynccontextmanager
async def shared(
    one: Kept, spec: ChildSpec, servers: int = 2, **share: Any
) -> AsyncIterator[list[ProcessExecutor]]:
    """Servers that share a model."""
    executors = [one.server(spec, **share) for _ in range(servers)]
    try:
        await asyncio.gather(*(executor.open() for executor in executors))
        yield executors
    finally:
        await asyncio.gather(*(executor.close() for executor in executors))


class KeptExecutor(ProcessExecutor):
    """The executor of the only server of a keeper, with the keeper."""

    def __init__(self, spec: ChildSpec, *, processes: int = 1) -> None:
        self._ends = mailbox()
        super().__init__(
            spec._replace(share=Share("sum", processes)),
            name="sum",
            processes=processes,
            limits=WATCHED,
            start=partial(hand_over, self._ends[1]),
        )
        self._keeping: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """With the keeper."""
        self._keeping = asyncio.ensure_future(Keeper(self._ends[0]).run())
        await super().open()

    async def close(self) -> None:
        """With the keeper, which ends by itself."""
        await super().close()
        self._ends[1].close()
        if self._keeping is not None:
            await self._keeping
        self._ends[0].close()


def stranger(one: Kept, data: bytes) -> socket.socket:
    """Somebody who hands over a conversation and speaks nonsense in it; the end that hears the answer."""
    ours, theirs = socket.socketpair()
    with theirs:
        hand_over(one.servers, (theirs.fileno(), theirs.fileno(), theirs.fileno()), lambda: None)
    ours.sendall(data)
    return ours
