"""Loads models so that what they hold of each GPU stays within a budget.

``runtime.accelerator`` decides who goes where; this does what it says. What does not fit runs on the
processor, and comes back once there is room. A model that all workers share is seated by its keeper, who
alone knows what the workers hold together; here only those make room that can be loaded again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import NamedTuple

from servable.artifact.package import Package
from servable.frameworks.devices import gpu_number
from servable.runtime.accelerator import no_room, really, seat, usual_budget
from servable.runtime.gpus import Gpus
from servable.runtime.memory import Resident
from servable.runtime.model import variant_of
from servable.serving.live import Live, Wanted
from servable.serving.loading import ON_PROCESSOR, Loader, Seated

#: The models in memory, each with whether it may be unloaded.
Lives = Callable[[], Iterable[tuple[Live, bool]]]
#: Takes models out of the table, closes them and gives their memory back.
Unload = Callable[[Collection[Live]], Awaitable[None]]


class _Place(NamedTuple):
    """Where a model should be."""

    device: str
    budget: int


class Accelerators:
    """Seats models on GPUs, one at a time. Belongs to one event loop.

    Args:
        budget: bytes of each GPU; 0: what it has, less a reserve.
        loader: loads one.
        gpus: what is known of them.
        lives: who is in memory.
        unload: sends some away.
    """

    def __init__(self, budget: int, loader: Loader, gpus: Gpus, lives: Lives, unload: Unload) -> None:
        self._given = budget
        self._loader = loader
        self._gpus = gpus
        self._lives = lives
        self._unload = unload
        self._budgets: dict[str, int] = {}
        #: Bytes that a package took, as this process counts them.
        self._known: dict[str, int] = {}
        #: Those that run on the processor for want of room.
        self._fallen: dict[Live, _Place] = {}
        # What one takes can be told only while no other is loaded.
        self._seating = asyncio.Lock()

    async def load(self, wanted: Wanted, package: Package, files: int) -> Live:
        """The model, where there is room for it.

        Args:
            wanted: what to load.
            package: opened.
            files: bytes of the files of the variant that serves; what it takes is thought to be as much until
                it was measured.

        Raises:
            ServableError: it cannot be loaded.
        """
        variant = variant_of(package.manifest)
        device = self._gpus.wanted(variant, wanted.policy.device)
        budget = self._budget_of(device)
        if not budget:
            return await self._loader.load(wanted, package)
        self._fallen = {live: place for live, place in self._fallen.items() if not live.retired}
        async with self._seating:
            return await self._seated(wanted, package, files, _Place(device, budget))

    async def _seated(self, wanted: Wanted, package: Package, files: int, place: _Place) -> Live:
        shared = self._loader.shares(wanted, package)
        needed = self._known.get(wanted.digest, files)
        room = self._room(place)
        if not await self._make_room(needed, place, room) and not shared:
            return await self._on_processor(wanted, package, needed, place, room)
        live = await self._loader.load(wanted, package, Seated(place.device, place.budget))
        taken = self._taken(live)
        if taken:
            self._known[wanted.digest] = taken
        if not taken or shared or await self._make_room(taken, place, place.budget):
            return live
        await live.retire()
        await self._loader.give_back()
        return await self._on_processor(wanted, package, taken, place, place.budget)

    def _room(self, place: _Place) -> int:
        """What all models can hold of a GPU now."""
        return really(place.budget, self._held(place.device), self._gpus.memory(place.device))

    def _held(self, device: str) -> int:
        return sum(resident.size for resident in self._residents(device))

    async def _make_room(self, needed: int, place: _Place, room: int) -> bool:
        """Whether so many more bytes fit, once those left that may."""
        chosen = seat(needed, self._residents(place.device), room)
        if chosen.unload:
            await self._unload([live for live, _ in self._lives() if live in chosen.unload])
        return chosen.on_device

    async def _on_processor(
        self, wanted: Wanted, package: Package, needed: int, place: _Place, room: int
    ) -> Live:
        note = no_room(place.device, needed, self._held(place.device), place.budget, room)
        live = await self._loader.load(wanted, package, ON_PROCESSOR._replace(note=note))
        self._fallen[live] = place
        return live

    def may_return(self, live: Live) -> bool:
        """Whether a model runs on the processor for want of room that is there by now."""
        place = self._fallen.get(live)
        if place is None or live.retired:
            return False
        needed = self._known.get(live.wanted.digest)
        if not needed:
            return False
        chosen = seat(needed, self._residents(place.device), self._room(place))
        return chosen.on_device and not chosen.unload

    def keep(self, digests: Collection[str]) -> None:
        """Forget how large all other packages were."""
        self._known = {digest: size for digest, size in self._known.items() if digest in digests}

    def _residents(self, device: str) -> list[Resident]:
        return [
            Resident(live, taken, live.used, free and not live.in_flight, live.pinned)
            for live, free in self._lives()
            if live.loaded.device.device == device and (taken := self._taken(live))
        ]

    def _taken(self, live: Live) -> int:
        """What a model holds of its GPU: as often as there are workers, unless they share it."""
        loaded = live.loaded
        return loaded.accelerator_bytes * (1 if loaded.sharers > 1 else self._loader.workers)

    def _budget_of(self, device: str) -> int:
        """The budget of a GPU; 0 for the processor, and where nothing is known."""
        if gpu_number(device) is None:
            return 0
        if self._given:
            return self._given
        if device not in self._budgets:
            memory = self._gpus.memory(device)
            self._budgets[device] = usual_budget(memory.total) if memory is not None else 0
        return self._budgets[device]
