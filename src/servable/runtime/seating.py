"""Where a keeper puts shared models: on their GPU while there is room, else on the processor, and back.

A model that found no room is looked after: as soon as there is room it is loaded on its GPU beside what
answers, and switched to. One that cannot be loaded there is tried again after a pause that doubles; one that
would answer otherwise there stays where it is until it is loaded anew.
"""

import asyncio
from typing import NamedTuple, Protocol

from servable.clock import Clock, SystemClock
from servable.errors import ServableError
from servable.logs import fields, logger
from servable.runtime.accelerator import no_room, really, seat
from servable.runtime.framing import Load, Share
from servable.runtime.gpus import Gpus, MachineGpus
from servable.runtime.memory import Resident

_log = logger("keeper")
#: Seconds between looks whether there is room, which ask the driver only while somebody waits for room.
_LOOK_S = 1.0
#: A load beside what answers takes processors from it, so those that fail must be rare.
_FIRST_PAUSE_S = 5.0
_LONGEST_PAUSE_S = 300.0


class Prepared(NamedTuple):
    """A model that was loaded on its GPU beside what answers.

    Attributes:
        accelerator_bytes: of the memory of the GPU, what all its processes take.
        stays: one sentence why it must stay where it is, whatever room there is; nothing of it is left on the
            GPU then. Empty when it may move.
    """

    accelerator_bytes: int
    stays: str = ""


class Seated(Protocol):
    """A shared model, as far as it is seated."""

    load: Load

    @property
    def accelerator_bytes(self) -> int:
        """Of the memory of its GPU, what all its processes took; nothing of what is only prepared."""
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

    async def prepare(self) -> Prepared:
        """Load it on its GPU beside what answers. Cancelling it leaves nothing there.

        Raises:
            ServableError: why it cannot be loaded there now; nothing of the attempt is left.
        """
        ...

    def move(self) -> None:
        """What was prepared answers from now on."""
        ...

    async def forget(self) -> None:
        """End what was prepared."""
        ...

    def stays(self, note: str) -> None:
        """It stays on the processor, for the reason of this sentence."""
        ...

    async def close(self) -> None:
        """Let every process end."""
        ...


class _Fallen(NamedTuple):
    """A model on the processor that would be on a GPU.

    Attributes:
        share: what it asked for.
        failures: how often loading it on the GPU failed.
        again_at: when it may be tried next, in monotonic seconds.
    """

    share: Share
    failures: int = 0
    again_at: float = 0.0


class Seating:
    """Opens models, and counts what they hold of each GPU. Belongs to one event loop.

    Args:
        gpus: what is known of them; this machine's when None.
        clock: for pauses after loads that failed.
    """

    def __init__(self, gpus: Gpus | None = None, clock: Clock | None = None) -> None:
        self._gpus = gpus or MachineGpus()
        self._now = (clock or SystemClock()).monotonic
        self._seated: dict[str, list[Seated]] = {}
        #: Those that run on the processor for want of room, first those that have waited longest.
        self._fallen: dict[Seated, _Fallen] = {}
        #: Bytes that each process of a package took.
        self._known: dict[str, int] = {}
        # What one takes can be told only while no other is loaded.
        self._lock = asyncio.Lock()
        #: What is being loaded beside what answers, and by whom.
        self._preparing: tuple[Seated, asyncio.Task[Prepared]] | None = None

    async def open(self, model: Seated) -> None:
        """Load a model where there is room for it.

        Raises:
            ServableError: why it cannot be loaded.
        """
        share = model.load.share
        if share is None or not share.accelerator:
            await model.open()
            return
        if self._preparing is not None:
            # Somebody waits for this one, and nobody for that one, which answers already.
            _give_up(self._preparing[1])
        async with self._lock:
            residents = self._residents(share)
            room = self._room(share)
            needed = self._needed(model, share)
            if seat(needed, residents, room).on_device:
                await model.open()
                room = share.accelerator_budget
                needed = self._learned(model, share, model.accelerator_bytes)
                if seat(needed, residents, room).on_device:
                    self._seated.setdefault(share.accelerator, []).append(model)
                    return
                await model.close()
            model.to_processor(self._no_room(share, needed, room))
            await model.open()
            self._fallen[model] = _Fallen(share)

    async def close(self, model: Seated) -> None:
        """Let a model end, wherever it is or goes; what it holds counts until it has ended.

        Raises:
            ServableError: its processes could not be ended in order; it is not counted any more.
        """
        self._fallen.pop(model, None)
        if self._preparing is not None and self._preparing[0] is model:
            task = self._preparing[1]
            _give_up(task)
            await asyncio.wait([task])
        try:
            await model.close()
        finally:
            for models in self._seated.values():
                if model in models:
                    models.remove(model)

    # ------------------------------------------------------------------ the way back

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                await self.look()
            except Exception:  # noqa: BLE001 - looking must not end while the keeper lives
                _log.exception("looking for room on GPUs failed inside")

    async def look(self) -> None:
        """Move every model to its GPU that has room there by now, one after the other.

        Cancelling it gives up what is being loaded.
        """
        for model in tuple(self._fallen):
            async with self._lock:
                fallen = self._fallen.get(model)
                if fallen is not None and self._may_return(model, fallen):
                    await self._return(model, fallen)

    def _may_return(self, model: Seated, fallen: _Fallen) -> bool:
        if fallen.again_at > self._now():
            return False
        share = fallen.share
        return seat(self._needed(model, share), self._residents(share), self._room(share)).on_device

    async def _return(self, model: Seated, fallen: _Fallen) -> None:
        """Load it on its GPU and have it answer from there; whatever fails, it goes on where it is."""
        prepared = await self._prepared(model, fallen)
        if prepared is None:
            return
        share = fallen.share
        if prepared.stays:
            del self._fallen[model]
            _log.warning("a shared model stays", extra=fields(model=share.name, reason=prepared.stays))
            model.stays(_stays(share, "it would answer otherwise there; it stays until it is loaded anew"))
            return
        needed = self._learned(model, share, prepared.accelerator_bytes)
        if not seat(needed, self._residents(share), share.accelerator_budget).on_device:
            # It is known by now how large it is, so it is not tried again before there is that much room.
            model.stays(self._no_room(share, needed, share.accelerator_budget))
            await model.forget()
            return
        del self._fallen[model]
        self._seated.setdefault(share.accelerator, []).append(model)
        model.move()
        _log.info("shared model moved", extra=fields(model=share.name, device=share.accelerator))

    async def _prepared(self, model: Seated, fallen: _Fallen) -> Prepared | None:
        """What became of loading it on its GPU; None when nothing is there now, and why was told."""
        task = asyncio.get_running_loop().create_task(model.prepare())
        self._preparing = (model, task)
        try:
            await asyncio.wait([task])
        finally:
            self._preparing = None
            if not task.done():
                _give_up(task)
                await asyncio.wait([task])
        if task.cancelled() or model not in self._fallen:
            # It gives way to another one, or is being closed with everything that was prepared.
            return None
        error = task.exception()
        if error is None:
            return task.result()
        self._failed(model, fallen, error)
        return None

    def _failed(self, model: Seated, fallen: _Fallen, error: BaseException) -> None:
        failures = fallen.failures + 1
        pause_s = min(_FIRST_PAUSE_S * 2.0 ** min(failures - 1, 30), _LONGEST_PAUSE_S)
        self._fallen[model] = fallen._replace(failures=failures, again_at=self._now() + pause_s)
        known = isinstance(error, ServableError)
        _log.warning(
            "a shared model cannot be loaded on its GPU",
            extra=fields(
                model=fallen.share.name,
                reason=error.message if isinstance(error, ServableError) else type(error).__name__,
                pause_s=pause_s,
            ),
            exc_info=None if known else error,
        )
        model.stays(_stays(fallen.share, "there is room, but loading it there failed; it is tried again"))

    # ------------------------------------------------------------------ what is held

    def _residents(self, share: Share) -> list[Resident]:
        """What the models on a GPU hold of it."""
        return [
            Resident(other.load, other.accelerator_bytes, 0, free=False)
            for other in self._seated.get(share.accelerator, ())
        ]

    def _held(self, share: Share) -> int:
        return sum(resident.size for resident in self._residents(share))

    def _room(self, share: Share) -> int:
        """What all models can hold of a GPU now."""
        return really(share.accelerator_budget, self._held(share), self._gpus.memory(share.accelerator))

    def _needed(self, model: Seated, share: Share) -> int:
        """What a model is thought to take of its GPU."""
        processes = share.processes + share.spares
        return processes * self._known.get(model.load.digest, share.accelerator_bytes)

    def _learned(self, model: Seated, share: Share, taken: int) -> int:
        """What it took, remembered for its package; 0 where nobody can tell."""
        if taken:
            self._known[model.load.digest] = taken // (share.processes + share.spares)
        return taken

    def _no_room(self, share: Share, needed: int, room: int) -> str:
        return no_room(share.accelerator, needed, self._held(share), share.accelerator_budget, room)


def _give_up(task: "asyncio.Task[Prepared]") -> None:
    """Cancel it once: a second time would cut off what gives back the memory."""
    if not task.cancelling():
        task.cancel()


def _stays(share: Share, reason: str) -> str:
    """The sentence about a model that is not on its GPU although there is room, without a full stop."""
    return f"it should run on {share.accelerator} and runs on the processor, because {reason}"
