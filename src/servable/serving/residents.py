"""Loads models under a budget of memory: makes room first, and again when one grew beyond its estimate.

``runtime.memory`` decides who goes; this does what it says. Without a budget everything is just loaded.
"""

import asyncio
from collections.abc import Collection

from servable.artifact.package import Package
from servable.clock import Clock
from servable.errors import ModelNotReady, Overloaded
from servable.runtime.memory import Resident, Room, in_mebibytes, larger_than_budget, make_room
from servable.serving.accelerating import Accelerators, Lives, Unload
from servable.serving.live import Live, Wanted
from servable.serving.loading import Loader

#: Longest wait for models in use to become free, and how often that is looked at.
_ROOM_WAIT_S = 5.0
_LOOK_S = 0.005

#: Bytes that a model takes beside its weights: codecs, batcher, figures, and what the allocator loses.
#: Measured with a hundred small models.
BESIDE = 192 * 1024


class Residents:
    """Loads models so that all together stay within a budget. Belongs to one event loop.

    Args:
        budget: bytes; 0 means that there is none.
        loader: loads one.
        clock: ends the wait for models in use.
        lives: who is in memory.
        unload: sends some away.
        accelerators: load one where there is room for it.
    """

    def __init__(
        self,
        budget: int,
        loader: Loader,
        clock: Clock,
        lives: Lives,
        unload: Unload,
        accelerators: Accelerators,
    ) -> None:
        self._budget = budget
        self._now = clock.monotonic
        self._loader = loader
        self._lives = lives
        self._unload = unload
        self._accelerators = accelerators
        self._reserved: dict[Wanted, int] = {}
        self._known: dict[str, int] = {}

    @property
    def lazy(self) -> bool:
        """Whether models that are not pinned wait for their first call."""
        return self._budget > 0

    def keep(self, digests: Collection[str]) -> None:
        """Forget how large all other packages were."""
        self._known = {digest: size for digest, size in self._known.items() if digest in digests}
        self._accelerators.keep(digests)

    async def load(self, wanted: Wanted) -> Live:
        """The model, ready to answer and not yet in the table.

        Raises:
            ModelNotReady: there can be no room for it.
            Overloaded: the models that could make room are all in use.
            ServableError: it cannot be loaded.
        """
        package, files = await self._loader.open(wanted)
        if not self.lazy:
            return await self._accelerators.load(wanted, package, files)
        await self._reserve(wanted, self._known.get(wanted.digest, files + BESIDE))
        try:
            live = await self._loaded(wanted, package, files)
            if live.size > self._budget:
                # The first model of a kind also pays for what its library sets up once; only what it
                # takes a second time is its own.
                await self._dismiss(live)
                live = await self._loaded(wanted, package, files)
            await self._settle(live)
        finally:
            self._reserved.pop(wanted, None)
        return live

    async def trim(self) -> None:
        """Unload what passes the budget and is no longer in use.

        A model that turns out larger than its estimate stays where all others are in use, and then the
        budget stays passed until one of them is free.
        """
        if not self.lazy:
            return
        # What goes already makes its room without another one's going.
        staying = [
            each for each in self._residents() if not (isinstance(each.key, Live) and each.key.retired)
        ]
        await self._make(make_room(0, staying, self._budget))

    async def _make(self, room: Room) -> None:
        """Send away who goes."""
        if room.unload:
            await self._unload([live for live, _ in self._lives() if live in room.unload])

    async def _loaded(self, wanted: Wanted, package: Package, files: int) -> Live:
        live = await self._accelerators.load(wanted, package, files)
        live.size = self._known[wanted.digest] = max(files // live.loaded.sharers, live.size) + BESIDE
        return live

    async def _dismiss(self, live: Live) -> None:
        """Close a model that nobody has found yet."""
        await live.retire()
        await self._loader.give_back()

    async def _reserve(self, wanted: Wanted, needed: int) -> None:
        """Wait until so many bytes are free, and keep them."""
        latest = self._now() + _ROOM_WAIT_S
        while True:
            room = make_room(needed, self._residents(), self._budget)
            if room.fits:
                # Kept before anything is awaited, so that nobody else takes what is being freed.
                self._reserved[wanted] = needed
                await self._make(room)
                return
            self._refuse(wanted, needed, room.ever)
            if self._now() >= latest:
                raise Overloaded(
                    f"{wanted.reference} needs {in_mebibytes(needed)} of memory, and the models that hold "
                    f"the budget of {in_mebibytes(self._budget)} are all in use; try again or raise --memory."
                )
            await asyncio.sleep(_LOOK_S)

    async def _settle(self, live: Live) -> None:
        """Make room for what it took beyond its estimate; it goes itself when there can be none."""
        self._reserved[live.wanted] = live.size
        room = make_room(0, self._residents(), self._budget)
        await self._make(room)
        if not room.fits:
            pinned = sum(other.pinned * other.size for other, _ in self._lives())
            if pinned + live.size > self._budget:
                await self._dismiss(live)
                self._refuse(live.wanted, live.size, False)

    def _refuse(self, wanted: Wanted, needed: int, ever: bool) -> None:
        if ever:
            return
        # Measured afresh the next time: what else the process did may have been taken for the model's.
        self._known.pop(wanted.digest, None)
        if needed > self._budget:
            raise ModelNotReady(f"{larger_than_budget(wanted.reference, needed, self._budget)}.")
        raise ModelNotReady(
            f"{wanted.reference} needs {in_mebibytes(needed)} of memory, and pinned models leave less "
            f"than that of the budget of {in_mebibytes(self._budget)}; raise --memory or unpin one."
        )

    def _residents(self) -> list[Resident]:
        return [
            *(
                Resident(live, live.size, live.used, free and not live.in_flight, live.pinned)
                for live, free in self._lives()
            ),
            *(Resident(wanted, size, 0, free=False) for wanted, size in self._reserved.items()),
        ]
