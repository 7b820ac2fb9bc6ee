"""A keeper in the event loop of a test, and servers that share a model through it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from servable.clock import Clock
from servable.errors import ModelNotReady
from servable.frameworks.accelerators import DeviceMemory
from servable.frameworks.devices import PROCESSOR, Placed
from servable.runtime.children import Child
from servable.runtime.framing import Share
from servable.runtime.keeper import Keeper
from servable.runtime.mailbox import hand_over, mailbox
from servable.runtime.process import ChildLimits, ChildSpec, ProcessExecutor
from servable.runtime.seating import Seating
from servable.runtime.shared import Check, Way
from servable.testing import FakeGpus

#: As a server has them that shares: the keeper watches.
WATCHED = ChildLimits(run_s=1e9, heartbeat_s=1e9, tick_s=0.05)


class Gpu(FakeGpus):
    """A GPU that is not there, and what runs on it.

    Args:
        total: bytes of it.
        size: bytes of it that each process takes.

    Attributes:
        most: bytes that were taken at once.
        loads: how often something was loaded there.
        fails: whether the next loads fail.
        gate: what was loaded there is ready only once this is set.
    """

    def __init__(self, total: int, size: int) -> None:
        super().__init__(total)
        self.size = size
        self.most = 0
        self.loads = 0
        self.fails = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.there: set[OnGpu] = set()

    def memory(self, device: str) -> DeviceMemory:
        """What is taken now."""
        return DeviceMemory(self.total, self.taken)

    @property
    def taken(self) -> int:
        """Bytes of it that are taken."""
        return sum(executor.slots * self.size for executor in self.there)

    def processes(self, spec: ChildSpec, **more: Any) -> "OnGpu":
        """What keeps the processes of a model."""
        return OnGpu(self, spec, **more)


class OnGpu(ProcessExecutor):
    """Says of its processes that they compute on a GPU, unless they were to compute on the processor."""

    def __init__(self, gpu: Gpu, spec: ChildSpec, **more: Any) -> None:
        super().__init__(spec, **more)
        self._gpu = gpu
        self._there = spec.device != PROCESSOR

    async def open(self) -> None:
        """It takes its memory from the first moment on."""
        if not self._there:
            await super().open()
            return
        self._gpu.loads += 1
        self._gpu.there.add(self)
        self._gpu.most = max(self._gpu.most, self._gpu.taken)
        try:
            await super().open()
            await self._gpu.gate.wait()
            if self._gpu.fails:
                raise ModelNotReady("out of memory")
        except BaseException:
            await self.close()
            raise

    def moved(self, child: Child) -> None:
        """As its process says, but for where it is."""
        super().moved(child)
        if self._there:
            self.device, self.accelerator_bytes = Placed("cuda:0"), self._gpu.size

    async def close(self) -> None:
        """Its memory is free once it has ended."""
        await super().close()
        self._gpu.there.discard(self)


class Kept:
    """A keeper, and the ends of its mailbox. Belongs to one event loop.

    Args:
        gpu: on which it puts models; that of this machine when None.
        clock: of its pauses.
        check: is asked before a model that was moved answers.
    """

    def __init__(
        self, gpu: Gpu | None = None, clock: Clock | None = None, check: Check | None = None
    ) -> None:
        self._keepers, self.servers = mailbox()
        self._running: asyncio.Task[None] | None = None
        self._gpu, self._clock = gpu, clock
        self._way = Way() if gpu is None else Way(gpu.processes)
        if check is not None:
            self._way = self._way._replace(check=check)
        self.keeper = self.begin()

    def begin(self) -> Keeper:
        """A keeper in place of the one before."""
        self.seating = Seating(self._gpu, self._clock)
        self.keeper = Keeper(self._keepers, seating=self.seating, way=self._way)
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
async def kept(
    gpu: Gpu | None = None, clock: Clock | None = None, check: Check | None = None
) -> AsyncIterator[Kept]:
    """A keeper; it must end once the servers are closed."""
    one = Kept(gpu, clock, check)
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
