"""Where a keeper puts shared models: on their GPU while there is room, else on the processor."""

import asyncio
from typing import Protocol

from servable.runtime.accelerator import no_room, really, seat
from servable.runtime.framing import Load
from servable.runtime.gpus import Gpus, MachineGpus
from servable.runtime.memory import Resident


class Seated(Protocol):
    """A shared model, as far as it is seated."""

    load: Load

    @property
    def accelerator_bytes(self) -> int:
        """Of the memory of its GPU, what all its processes took."""
        ...

    async def open(self) -> None:
        """Load it.

        Raises:
            ServableError: why it cannot be loaded.
        """
        ...

    def to_processor(self, note: str) -> None:
        """Have it computed by the processor when it is opened next, for the reason of this sentence."""
        ...

    async def close(self) -> None:
        """Let every process end."""
        ...


class Seating:
    """Opens models, and counts what they hold of each GPU. Belongs to one event loop.

    Args:
        gpus: what is known of them; this machine's when None.
    """

    def __init__(self, gpus: Gpus | None = None) -> None:
        self._gpus = gpus or MachineGpus()
        self._seated: dict[str, list[Seated]] = {}
        #: Bytes that each process of a package took.
        self._known: dict[str, int] = {}
        # What one takes can be told only while no other is loaded.
        self._lock = asyncio.Lock()

    async def open(self, model: Seated) -> None:
        """Load a model where there is room for it.

        Raises:
            ServableError: why it cannot be loaded.
        """
        share = model.load.share
        if share is None or not share.accelerator:
            await model.open()
            return
        device, budget = share.accelerator, share.accelerator_budget
        processes = share.processes + share.spares
        async with self._lock:
            others = self._seated.setdefault(device, [])
            residents = [Resident(other.load, other.accelerator_bytes, 0, free=False) for other in others]
            held = sum(resident.size for resident in residents)
            needed = processes * self._known.get(model.load.digest, share.accelerator_bytes)
            room = really(budget, held, self._gpus.memory(device))
            if seat(needed, residents, room).on_device:
                await model.open()
                room = budget
                needed = model.accelerator_bytes
                if needed:
                    self._known[model.load.digest] = needed // processes
                if seat(needed, residents, budget).on_device:
                    others.append(model)
                    return
                await model.close()
            model.to_processor(no_room(device, needed, held, budget, room))
            await model.open()

    def leave(self, model: Seated) -> None:
        """A model was closed."""
        for models in self._seated.values():
            if model in models:
                models.remove(model)
