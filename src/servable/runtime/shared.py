"""A model in processes that several servers use together.

Each server puts its own requests together and gives one batch at a time to each of its connections. Batches
of several servers that wait for the same free process run together where the model answers row for row.
They are served in the order of arrival, and since a connection has one batch at a time, that is fair.

A death is told to everybody whose rows were in the run, and each of them tries its requests once more, one
at a time. Until those are through nothing of theirs runs beside rows of another server: whoever is to blame
is found by the second death, and the others lose nothing but time.

A model that its keeper put on the processor may be moved to its GPU: it is loaded there in other processes
while the old ones answer, those take what comes from one moment on, and the old ones end once they have
answered what they were given.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from servable.artifact.package import read_signature
from servable.errors import ModelDied, ModelFailed, ModelNotReady, SelfCheckFailed, ServableError
from servable.frameworks.base import MIXES
from servable.frameworks.devices import PROCESSOR
from servable.runtime.batchable import Batching, as_declared, batching_elsewhere
from servable.runtime.executor import Executor, ExecutorStatistics, Outcome, Pieces, run_batch
from servable.runtime.framing import Load, Ready, Share
from servable.runtime.guest import Guest
from servable.runtime.process import ProcessExecutor
from servable.runtime.rehearsal import example_arrays
from servable.runtime.seating import Prepared
from servable.runtime.spawning import ChildLimits, ChildSpec
from servable.runtime.waiting import has_rows
from servable.tensors import Arrays, row_count

#: Seconds between looks whether the streams of processes that are to end are over.
_LOOK_S = 0.1
#: Sees that a model answers on a device as it should. Takes what was loaded, where it runs and that device;
#: raises a ``ServableError`` when it does not.
Check = Callable[[Load, Executor, str], Awaitable[None]]


async def _unchecked(load: Load, executor: Executor, device: str) -> None:
    """Takes every answer for right."""


class Way(NamedTuple):
    """How a model is held.

    Attributes:
        processes: makes what keeps its processes.
        check: is asked before a model that was moved answers.
    """

    processes: Callable[..., ProcessExecutor] = ProcessExecutor
    check: Check = _unchecked


USUAL_WAY = Way()


class Turn(NamedTuple):
    """A batch of one server that waits.

    Attributes:
        guest: whose.
        number: under which it hears of it.
        arrays: the rows.
        rows: how many.
        form: what batches that run together have in common.
        alone: whether it must run by itself.
    """

    guest: Guest
    number: int
    arrays: Arrays
    rows: int
    form: tuple[Any, ...]
    alone: bool


class Ask(NamedTuple):
    """What decides who runs together.

    Attributes:
        rows: of a batch.
        form: of a batch.
        alone: whether it runs by itself.
    """

    rows: int
    form: tuple[Any, ...]
    alone: bool


def together(waiting: Sequence[Ask | Turn], most: int) -> tuple[int, ...]:
    """Which of those who wait run next; pure.

    Args:
        waiting: in the order of arrival, at least one.
        most: rows in a run of several; one that has more by itself runs by itself.

    Returns:
        Places in ``waiting``, the first among them, in order: as many of its form as there is room for, and
        nobody is passed over by a later one of the same form.
    """
    first = waiting[0]
    chosen = [0]
    rows = first.rows
    if first.alone:
        return (0,)
    for place in range(1, len(waiting)):
        each = waiting[place]
        if each.alone or each.form != first.form:
            continue
        if rows + each.rows > most:
            break
        rows += each.rows
        chosen.append(place)
    return tuple(chosen)


class SharedModel:
    """A model and those who share it. Belongs to one event loop.

    Args:
        load: what they all asked for.
        share: what their keeper must know; of the load.
        way: how it is held.
    """

    def __init__(self, load: Load, share: Share, way: Way = USUAL_WAY) -> None:
        self.load = load
        self.guests: list[Guest] = []
        self.about: Ready | None = None
        self._share = share
        self._way = way
        self._batching = Batching(shared=False)
        self._waiting: deque[Turn] = deque()
        self._running = 0
        self._executor = self._processes(load.device)
        self._note = ""
        #: Loaded on its GPU, and waiting to take the place of what answers.
        self._prepared: ProcessExecutor | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._closing = False

    @property
    def name(self) -> str:
        """Of the model, for people."""
        return self._share.name

    @property
    def device(self) -> str:
        """What computes it."""
        return self._executor.device.device

    def statistics(self) -> ExecutorStatistics:
        """The present figures."""
        return self._executor.statistics()

    @property
    def accelerator_bytes(self) -> int:
        """Of the memory of its GPU, what all its processes took."""
        return self._taken_by(self._executor)

    def _taken_by(self, executor: ProcessExecutor) -> int:
        return executor.accelerator_bytes * (self._share.processes + self._share.spares)

    def _processes(self, device: str) -> ProcessExecutor:
        load, share = self.load, self._share
        return self._way.processes(
            ChildSpec(Path(load.folder), load.digest, load.variant, device, confinement=load.confinement),
            name=share.name,
            processes=share.processes,
            spares=share.spares,
            limits=ChildLimits(run_s=share.run_s, start_s=share.start_s, memory_bytes=load.memory_bytes),
            on_replaced=self._replaced,
        )

    async def open(self) -> None:
        """Load it; nobody is told yet.

        Raises:
            ServableError: why it cannot be loaded.
        """
        executor = self._executor
        await executor.open()
        try:
            self._batching = await self._batching_of(executor)
        except BaseException:
            await executor.close()
            raise

    async def _batching_of(self, executor: ProcessExecutor) -> Batching:
        example = example_arrays(read_signature(Path(self.load.folder)))
        found = await batching_elsewhere(lambda arrays: run_batch(executor, arrays), example)
        return as_declared(found, {MIXES: self._share.mixes})

    def to_processor(self, note: str) -> None:
        """Have it computed by the processor when it is opened next, for the reason of this sentence."""
        self._executor = self._processes(PROCESSOR)
        self._note = note

    def tell(self) -> None:
        """It is loaded: tell everybody who waits for it."""
        executor = self._executor
        device, note = executor.device
        self.about = Ready(
            executor.example_seconds,
            executor.load_seconds,
            executor.memory_bytes,
            device,
            self._note or note,
            executor.accelerator_bytes,
            executor.protections,
        )
        for guest in self.guests:
            guest.ready(self.about)

    async def close(self) -> None:
        """Let every process end."""
        self._closing = True
        await asyncio.gather(self._executor.close(), self.forget(), *self._retiring)

    # ------------------------------------------------------------------ moving

    async def prepare(self) -> Prepared:
        """Load it on its GPU beside what answers, see ``seating.Seated``.

        Raises:
            ServableError: why it cannot be loaded there now; nothing of the attempt is left.
        """
        executor = self._processes(self.load.device)
        await executor.open()
        try:
            device = executor.device
            if device.device == PROCESSOR:
                raise ModelNotReady(f"{self.name} runs on the processor, although there is room on its GPU.")
            batching = await self._batching_of(executor)
            await self._way.check(self.load, executor, device.device)
        except SelfCheckFailed as error:
            await executor.close()
            return Prepared(0, error.message)
        except BaseException:
            await executor.close()
            raise
        self._prepared = executor
        if not _as_free(batching, self._batching):
            # The workers put rows together as they learned at their start, and would go on with it.
            await self.forget()
            return Prepared(0, f"{self.name} takes rows together on the processor, but not on its GPU.")
        self._batching = batching
        return Prepared(self._taken_by(executor))

    def move(self) -> None:
        """What was prepared answers from now on; what answered before ends once it has nothing left to do."""
        prepared, self._prepared = self._prepared, None
        if prepared is None:
            return
        before, self._executor = self._executor, prepared
        self._note = ""
        self._running = 0
        task = asyncio.get_running_loop().create_task(self._retire(before))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
        self.tell()
        self._go_on()

    async def forget(self) -> None:
        """End what was prepared, if anything was."""
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            await prepared.close()

    def stays(self, note: str) -> None:
        """It stays on the processor, for the reason of this sentence."""
        self._note = note
        self.tell()

    async def _retire(self, executor: ProcessExecutor) -> None:
        """End processes after what they were given: closing them waits for runs, but not for streams."""
        while executor.statistics().streams and not self._closing:
            await asyncio.sleep(_LOOK_S)
        with contextlib.suppress(ServableError):
            await executor.close()

    # ------------------------------------------------------------------ guests

    def join(self, guest: Guest) -> None:
        """One more shares it, and hears when it is ready."""
        self.guests.append(guest)
        if self.about is not None:
            guest.ready(self.about)

    def leave(self, guest: Guest) -> None:
        """One is gone; what waits for it is not begun."""
        self.guests.remove(guest)
        self._waiting = deque(turn for turn in self._waiting if turn.guest is not guest)

    def _replaced(self) -> None:
        # One of them counts it, so that the sum over all is right.
        if self.guests:
            self.guests[0].replaced()

    # ------------------------------------------------------------------ work

    def run(self, guest: Guest, number: int, arrays: Arrays) -> None:
        """See ``guest.Model``."""
        rows = row_count(arrays)
        alone = guest.alone > 0 or not self._batching.shared
        guest.alone = max(guest.alone - rows, 0)
        self._waiting.append(Turn(guest, number, arrays, rows, _form(arrays), alone))
        self._go_on()

    def stream(self, arrays: Arrays) -> Pieces:
        """See ``guest.Model``."""
        return self._executor.stream(arrays)

    def _go_on(self) -> None:
        most = min(self._share.max_rows, self._batching.rows or self._share.max_rows)
        while self._waiting and self._running < self._executor.slots:
            places = together(self._waiting, most)
            turns = [self._waiting[place] for place in places]
            for place in reversed(places):
                del self._waiting[place]
            self._running += 1
            arrays = turns[0].arrays if len(turns) == 1 else _joined(turns)
            self._executor.start(arrays, partial(self._done, self._executor, turns))

    def _done(self, executor: ProcessExecutor, turns: list[Turn], outcome: Outcome) -> None:
        # What runs in processes that were left behind keeps nothing of the present ones busy.
        if executor is self._executor:
            self._running -= 1
        arrays, error = outcome
        rows = sum(turn.rows for turn in turns)
        told = arrays is not None and has_rows(arrays, rows)
        if len(turns) > 1 and not told and not isinstance(error, ModelDied):
            # One of them is to blame, and the others must not suffer for it.
            self._waiting.extendleft(turn._replace(alone=True) for turn in reversed(turns))
            turns = []
        start = 0
        for turn in turns:
            if arrays is not None:
                mine = arrays if len(turns) == 1 else _part(arrays, start, turn.rows)
                start += turn.rows
                turn.guest.answer(turn.number, mine)
                continue
            if isinstance(error, ModelDied):
                turn.guest.alone += turn.rows
            turn.guest.fail(turn.number, error or ModelFailed(f"{self._share.name} gave no answer."))
        self._go_on()


def _as_free(batching: Batching, before: Batching) -> bool:
    """Whether rows may be put together at least as freely as before."""
    if before.shared and not batching.shared:
        return False
    return not batching.rows or 0 < before.rows <= batching.rows


def _form(arrays: Arrays) -> tuple[Any, ...]:
    """What rows must have in common to be put together."""
    return tuple((name, array.dtype.str, array.shape[1:]) for name, array in arrays.items())


def _joined(turns: Sequence[Turn]) -> dict[str, Any]:
    return {name: np.concatenate([turn.arrays[name] for turn in turns]) for name in turns[0].arrays}


def _part(arrays: dict[str, Any], start: int, rows: int) -> dict[str, Any]:
    return {name: array[start : start + rows] for name, array in arrays.items()}
