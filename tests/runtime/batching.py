"""An executor whose batches end when a test says so, a loop on a fake clock, and requests that remember."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np

from servable.errors import ModelDied, ModelFailed
from servable.monitoring.metrics import Meter
from servable.runtime.batch_policy import BatchLimits
from servable.runtime.batcher import Batcher
from servable.runtime.executor import Done, ExecutorStatistics, Outcome
from servable.runtime.waiting import Waiting
from servable.tensors import Arrays
from servable.testing import FakeClock

#: What a row does to its model.
FINE, BAD, DEADLY = 0.0, 1.0, 2.0


class HeldExecutor:
    """Keeps every batch until ``finish``; a row's second number says what it does.

    Attributes:
        started: the row numbers of every batch, in order.
        watch: called with the row numbers before a batch starts.
        closed: whether it was closed.
    """

    away = False

    def __init__(self, slots: int = 1, kind: str = "process") -> None:
        self.kind = kind
        self.slots = slots
        self.started: list[list[int]] = []
        self.deaths: list[list[int]] = []
        self.watch: Callable[[list[int]], None] = lambda rows: None
        self.closed = False
        self.most = 0
        self._flights: list[tuple[Arrays, Done]] = []

    async def open(self) -> None:
        """Nothing to do."""

    def start(self, arrays: Arrays, done: Done) -> None:
        """Keep a batch."""
        rows = [int(each) for each in arrays["numbers"][:, 0]]
        self.watch(rows)
        self.started.append(rows)
        self.most = max(self.most, len(rows))
        self._flights.append((arrays, done))

    @property
    def running(self) -> int:
        """How many batches are kept."""
        return len(self._flights)

    def finish(self, which: int = 0) -> None:
        """Let a batch end as its rows want it."""
        arrays, done = self._flights.pop(which)
        numbers = arrays["numbers"]
        if (numbers[:, 1] == DEADLY).any():
            self.deaths.append([int(each) for each in numbers[:, 0]])
            done(Outcome(None, ModelDied("The model's process died.")))
        elif (numbers[:, 1] == BAD).any():
            done(Outcome(None, ModelFailed("The model raised.")))
        else:
            done(Outcome({"prediction": numbers[:, 0] * 2.0, "probabilities": numbers[:, :1] / 2.0}, None))

    def statistics(self) -> ExecutorStatistics:
        """The present figures."""
        return ExecutorStatistics(kind=self.kind, slots=self.slots, running=self.running)

    async def close(self) -> None:
        """Nothing runs any more."""
        assert not self._flights
        self.closed = True


class Asking(Waiting):
    """A request that remembers what became of it.

    Attributes:
        outcomes: everything that ``settle`` was called with.
        order: shared by all; whoever is settled adds itself.
    """

    __slots__ = ("clock", "first", "order", "outcomes", "raises", "settled_at")

    def __init__(
        self,
        first: int,
        rows: int = 1,
        *,
        does: float = FINE,
        deadline: float = math.inf,
        weight: float = 1.0,
    ) -> None:
        numbers = np.full((rows, 2), does)
        numbers[:, 0] = np.arange(first, first + rows)
        numbers[: rows - 1, 1] = FINE
        super().__init__({"numbers": numbers}, rows, deadline, weight)
        self.first = first
        self.outcomes: list[tuple[dict[str, Any] | None, BaseException | None]] = []
        self.order: list[Asking] = []
        self.raises: Exception | None = None
        self.clock: FakeClock | None = None
        self.settled_at = math.nan

    def settle(self, arrays: dict[str, Any] | None, error: BaseException | None) -> None:
        """Remember."""
        self.outcomes.append((arrays, error))
        self.order.append(self)
        if self.clock is not None:
            self.settled_at = self.clock.monotonic()
        if self.raises is not None:
            raise self.raises

    @property
    def error(self) -> BaseException | None:
        """The one error."""
        ((_, error),) = self.outcomes
        return error

    @property
    def answered(self) -> bool:
        """Whether it got the right answer to each of its rows, once."""
        if len(self.outcomes) != 1 or self.outcomes[0][0] is None:
            return False
        arrays = self.outcomes[0][0]
        expected = np.arange(self.first, self.first + self.rows)
        return (
            arrays["prediction"].tolist() == (expected * 2.0).tolist()
            and arrays["probabilities"].tolist() == (expected / 2.0)[:, None].tolist()
        )


class _ClockLoop(asyncio.SelectorEventLoop):
    """Its timers follow a fake clock."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._fake = clock

    def time(self) -> float:
        return self._fake.monotonic()


class Scene:
    """A batcher with everything around it.

    Attributes:
        order: who was settled, in that order.
    """

    def __init__(self, executor: HeldExecutor, limits: BatchLimits | None = None) -> None:
        self.clock = FakeClock()
        self.executor = executor
        self.meter = Meter("m", 1)
        self.batcher = Batcher(executor, name="m", meter=self.meter, limits=limits, clock=self.clock)
        self.order: list[Asking] = []

    def submit(self, *members: Asking) -> None:
        """Submit, and have them remember the order of settling."""
        for each in members:
            each.order = self.order
            each.clock = self.clock
            self.batcher.submit(each)

    async def turn(self) -> None:
        """Let the loop turn until nothing is left to do at this time."""
        for _ in range(4):
            await asyncio.sleep(0)

    async def advance(self, seconds: float) -> None:
        """Time passes."""
        self.clock.advance(seconds)
        await self.turn()

    async def finish(self, seconds: float = 0.001) -> None:
        """The oldest batch ends after so long."""
        self.clock.advance(seconds)
        self.executor.finish()
        await self.turn()

    async def finish_all(self) -> None:
        """Let everything end."""
        await self.turn()
        while self.executor.running:
            await self.finish()


def play(scene: Scene, part: Callable[[Scene], Awaitable[None]]) -> None:
    """Run a part of a test in an event loop on the scene's clock, then close the batcher."""

    async def whole() -> None:
        await part(scene)
        closing = asyncio.ensure_future(scene.batcher.close())
        await scene.finish_all()
        await closing
        assert scene.executor.closed
        assert scene.meter.queued == 0

    with asyncio.Runner(loop_factory=lambda: _ClockLoop(scene.clock)) as runner:
        runner.run(whole())
