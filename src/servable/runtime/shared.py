"""A model in processes that several servers use together.

Each server puts its own requests together and gives one batch at a time to each of its connections. Batches
of several servers that wait for the same free process run together where the model answers row for row.
They are served in the order of arrival, and since a connection has one batch at a time, that is fair.

A death is told to everybody whose rows were in the run, and each of them tries its requests once more, one
at a time. Until those are through nothing of theirs runs beside rows of another server: whoever is to blame
is found by the second death, and the others lose nothing but time.
"""

from collections import deque
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from servable.artifact.package import read_signature
from servable.errors import ModelDied, ModelFailed
from servable.frameworks.base import MIXES
from servable.frameworks.devices import PROCESSOR
from servable.runtime.batchable import Batching, as_declared, batching_elsewhere
from servable.runtime.executor import ExecutorStatistics, Outcome, Pieces, run_batch
from servable.runtime.framing import Load, Ready, Share
from servable.runtime.guest import Guest
from servable.runtime.process import ProcessExecutor
from servable.runtime.rehearsal import example_arrays
from servable.runtime.spawning import ChildLimits, ChildSpec
from servable.runtime.waiting import has_rows
from servable.tensors import Arrays, row_count


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
    """

    def __init__(self, load: Load, share: Share) -> None:
        self.load = load
        self.guests: list[Guest] = []
        self.about: Ready | None = None
        self._share = share
        self._batching = Batching(shared=False)
        self._waiting: deque[Turn] = deque()
        self._running = 0
        self._executor = self._processes(load.device)
        self._note = ""

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
        share = self._share
        return self._executor.accelerator_bytes * (share.processes + share.spares)

    def _processes(self, device: str) -> ProcessExecutor:
        load, share = self.load, self._share
        return ProcessExecutor(
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
            example = example_arrays(read_signature(Path(self.load.folder)))
            found = await batching_elsewhere(lambda arrays: run_batch(executor, arrays), example)
            self._batching = as_declared(found, {MIXES: self._share.mixes})
        except BaseException:
            await executor.close()
            raise

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
        await self._executor.close()

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
            self._executor.start(arrays, partial(self._done, turns))

    def _done(self, turns: list[Turn], outcome: Outcome) -> None:
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


def _form(arrays: Arrays) -> tuple[Any, ...]:
    """What rows must have in common to be put together."""
    return tuple((name, array.dtype.str, array.shape[1:]) for name, array in arrays.items())


def _joined(turns: Sequence[Turn]) -> dict[str, Any]:
    return {name: np.concatenate([turn.arrays[name] for turn in turns]) for name in turns[0].arrays}


def _part(arrays: dict[str, Any], start: int, rows: int) -> dict[str, Any]:
    return {name: array[start : start + rows] for name, array in arrays.items()}
