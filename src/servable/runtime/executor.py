"""The Executor seam: where a Predictor runs.

An executor takes a batch and says later, by one call, what became of it. It has a fixed number of
``slots``: so many batches may be in it at once, and whoever feeds it (the batcher) keeps to that.
Callbacks instead of futures, because an inline run is over before ``start`` returns and a future per
batch would cost more than the model.

An answer in pieces is an asynchronous iterator and takes no slot: its steps run between batches.

``InlineExecutor`` runs in the event loop: right for a compiled model whose run is shorter than a
thread hop. ``ThreadExecutor`` runs in threads of its own so that a slow model does not hold up the
loop. ``process.ProcessExecutor`` runs in child interpreters. ``servable.testing.check_executor`` is the
conformance suite.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol, Self

import msgspec

from servable.frameworks.base import Predictor
from servable.runtime.stepping import Steps
from servable.tensors import Arrays


class Outcome(NamedTuple):
    """What became of a batch: exactly one of the two is None.

    Attributes:
        arrays: the answers, row for row.
        error: why there are none. ``ModelFailed``: the model raised. ``ModelDied``: its process died or
            hung while it had the batch. Anything else is a fault of ours.
    """

    arrays: dict[str, Any] | None
    error: BaseException | None


Done = Callable[[Outcome], None]


class Pieces(Protocol):
    """An answer in pieces on its way. Belongs to one event loop and one reader.

    Little is made ahead of the reader: one that asks for nothing more stops the model. Whoever has one closes
    it, also when it came to its end by itself.
    """

    def __aiter__(self) -> Self:
        """Itself."""
        ...

    async def __anext__(self) -> dict[str, Any]:
        """The next piece; see ``StreamingPredictor.stream``. Cancelling it loses no piece.

        Raises:
            StopAsyncIteration: that was all.
            ModelFailed: the model raised.
            ModelDied: its process died.
        """
        ...

    async def aclose(self) -> None:
        """Nobody wants more: the model's iterator is closed as soon as its present step is over."""
        ...


class ExecutorStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What an executor has done so far; tests, status and metrics read this same record.

    Attributes:
        kind: ``inline``, ``thread`` or ``process``.
        slots: how many batches may be in it at once.
        running: how many are.
        runs: batches begun.
        failures: batches that ended with an error.
        processes: living child processes.
        replacements: children that were replaced because they died, hung or grew too large.
        streams: answers in pieces that were begun and not closed.
    """

    kind: str
    slots: int = 1
    running: int = 0
    runs: int = 0
    failures: int = 0
    processes: int = 0
    replacements: int = 0
    streams: int = 0


class Executor(Protocol):
    """Runs one Predictor. Belongs to one event loop; no method may be called from another thread."""

    #: ``inline``, ``thread`` or ``process``.
    kind: str
    #: How many batches may be in it at once; constant.
    slots: int

    @property
    def away(self) -> bool:
        """Whether nothing of it can take a batch now, so that what is given to it waits until it is back."""
        ...

    async def open(self) -> None:
        """Make it ready to take batches; does nothing where that needs no time.

        Raises:
            ServableError: it cannot be made ready, and why.
        """
        ...

    def start(self, arrays: Arrays, done: Done) -> None:
        """Run a batch.

        At most ``slots`` batches may be in the executor. The arrays must stay unchanged until ``done``
        was called.

        Args:
            arrays: packed rows; see ``tensors``.
            done: called exactly once in the event loop, perhaps before ``start`` returns. It must not raise.
        """
        ...

    def stream(self, arrays: Arrays) -> Pieces:
        """Begin an answer in pieces; only for variants with the option ``STREAMS``.

        Args:
            arrays: one packed row; must stay unchanged until the pieces are closed.
        """
        ...

    def statistics(self) -> ExecutorStatistics:
        """The present figures."""
        ...

    async def close(self) -> None:
        """Wait for what is running, then give everything back. Nothing may be started any more."""
        ...


class InlineExecutor:
    """Runs in the event loop itself; nothing else runs meanwhile."""

    kind = "inline"
    slots = 1
    away = False

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._predict = predictor.predict
        self._runs = 0
        self._failures = 0
        self._streams: set[Steps] = set()

    async def open(self) -> None:
        """Nothing to do."""

    def start(self, arrays: Arrays, done: Done) -> None:
        """Run at once; ``done`` was called when this returns."""
        self._runs += 1
        try:
            outcome = Outcome(self._predict(arrays), None)
        except Exception as error:  # noqa: BLE001 - the border to the model: whatever it raises is its answer
            self._failures += 1
            outcome = Outcome(None, error)
        done(outcome)

    def stream(self, arrays: Arrays) -> Pieces:
        """Each step holds up the loop, which turns between two of them."""
        return Steps(self._predictor, arrays, self._streams)

    def statistics(self) -> ExecutorStatistics:
        """The present figures; nothing is ever running when they are read."""
        return ExecutorStatistics(
            kind="inline", runs=self._runs, failures=self._failures, streams=len(self._streams)
        )

    async def close(self) -> None:
        """Close the Predictor."""
        self._predictor.close()


class ThreadExecutor:
    """Runs in threads of its own, as many as it has slots.

    Args:
        predictor: must say that it is ``concurrent`` when there are several slots.
        name: of the threads.
        slots: how many batches run at once.
    """

    kind = "thread"
    away = False

    def __init__(self, predictor: Predictor, name: str, slots: int = 1) -> None:
        self.slots = slots if predictor.concurrent else 1
        self._predictor = predictor
        self._pool = ThreadPoolExecutor(max_workers=self.slots, thread_name_prefix=f"servable-{name}")
        self._runs = 0
        self._failures = 0
        self._running = 0
        self._idle: asyncio.Event | None = None
        self._streams: set[Steps] = set()

    async def open(self) -> None:
        """Nothing to do; threads begin with the first batch."""

    def start(self, arrays: Arrays, done: Done) -> None:
        """Run in a thread; the event loop stays free."""
        self._runs += 1
        self._running += 1
        loop = asyncio.get_running_loop()

        def ended(outcome: Outcome) -> None:
            self._running -= 1
            if outcome.error is not None:
                self._failures += 1
            done(outcome)
            if self._idle is not None and not self._running:
                self._idle.set()

        def work() -> None:
            try:
                outcome = Outcome(self._predictor.predict(arrays), None)
            except Exception as error:  # noqa: BLE001 - the border to the model: whatever it raises is its answer
                outcome = Outcome(None, error)
            loop.call_soon_threadsafe(ended, outcome)

        self._pool.submit(work)

    def stream(self, arrays: Arrays) -> Pieces:
        """Steps and batches take turns in the threads."""
        return Steps(self._predictor, arrays, self._streams, self._pool)

    def statistics(self) -> ExecutorStatistics:
        """The present figures."""
        return ExecutorStatistics(
            kind="thread",
            slots=self.slots,
            running=self._running,
            runs=self._runs,
            failures=self._failures,
            streams=len(self._streams),
        )

    async def close(self) -> None:
        """Let the running calls end, then close the Predictor."""
        if self._running:
            self._idle = asyncio.Event()
            await self._idle.wait()
        await asyncio.to_thread(self._pool.shutdown, wait=True)
        self._predictor.close()


async def run_batch(executor: Executor, arrays: Arrays) -> dict[str, Any]:
    """One batch as a coroutine, for checks and tests. Cancelling it drops the answer.

    Raises:
        ModelFailed: the model raised.
        ModelDied: its process died.
    """
    future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    def done(outcome: Outcome) -> None:
        if future.done():
            return
        if outcome.error is not None:
            future.set_exception(outcome.error)
        else:
            future.set_result(outcome.arrays or {})

    executor.start(arrays, done)
    return await future
