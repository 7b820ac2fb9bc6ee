"""The Executor seam: a fake, and the check for all executors."""

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np

from servable.errors import ModelFailed
from servable.frameworks.base import Predictor
from servable.runtime.executor import Done, Executor, ExecutorStatistics, Outcome, Pieces, run_batch
from servable.runtime.framing import AHEAD
from servable.runtime.stepping import Steps
from servable.tensors import NUMBERS, PREDICTION, Arrays
from servable.testing.expect import expect
from servable.testing.predictors import CountingPredictor, FakePredictor


class FakeExecutor:
    """Gives way to the event loop once, then runs; remembers every batch.

    Attributes:
        arrays: every batch that was started, in order.
        opened: whether it was made ready.
        closed: whether it was closed.
    """

    kind = "fake"
    away = False

    def __init__(self, predictor: Predictor, slots: int = 1) -> None:
        self.slots = slots
        self.arrays: list[Arrays] = []
        self.opened = False
        self.closed = False
        self._predictor = predictor
        self._failures = 0
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._streams: set[Steps] = set()

    async def open(self) -> None:
        """Nothing to do."""
        self.opened = True

    def start(self, arrays: Arrays, done: Done) -> None:
        """Answer the rows at the next turn of the loop.

        Raises:
            RuntimeError: every slot is taken, or it was closed; the caller is wrong.
        """
        if self._running >= self.slots or self.closed:
            raise RuntimeError("a batch was started in an executor that is full or closed")
        self.arrays.append(arrays)
        self._running += 1
        self._idle.clear()
        asyncio.get_running_loop().call_soon(self._run, arrays, done)

    def _run(self, arrays: Arrays, done: Done) -> None:
        try:
            outcome = Outcome(self._predictor.predict(arrays), None)
        except Exception as error:  # noqa: BLE001 - the border to the model: whatever it raises is its answer
            self._failures += 1
            outcome = Outcome(None, error)
        self._running -= 1
        done(outcome)
        if not self._running:
            self._idle.set()

    def stream(self, arrays: Arrays) -> Pieces:
        """Each step at a turn of the loop."""
        return Steps(self._predictor, arrays, self._streams)

    def statistics(self) -> ExecutorStatistics:
        """The present figures."""
        return ExecutorStatistics(
            kind="fake",
            slots=self.slots,
            running=self._running,
            runs=len(self.arrays),
            failures=self._failures,
            streams=len(self._streams),
        )

    async def close(self) -> None:
        """Wait for what runs, then close the Predictor."""
        await self._idle.wait()
        self.closed = True
        self._predictor.close()


def check_executor(make: Callable[[Predictor], Executor]) -> None:
    """Try what the Executor seam promises.

    Right answers, never more than ``slots`` at once, failures that stay alone, and a clean end.

    Args:
        make: makes an executor around a predictor; called inside a running event loop, several times. An
            executor that runs elsewhere cannot take the object: it must run an equal model there, which
            answers a row's sum and fails where a number is -1.

    Raises:
        AssertionError: a promise is broken.
    """
    for part in (_answers, _failures, _closing):
        asyncio.run(asyncio.wait_for(part(make), timeout=60.0))


def check_streams(make: Callable[[Predictor], Executor], ahead: int = AHEAD) -> None:
    """Try what the seam promises about answers in pieces.

    Right pieces in order, several at once and beside batches, failures that stay alone, nothing made far
    ahead of the reader, and an end when the reader leaves.

    Args:
        make: makes an executor around a ``CountingPredictor``, or around a model elsewhere whose streams give
            the same numbers, under whatever name.
        ahead: how many pieces it may make before the first is taken.

    Raises:
        AssertionError: a promise is broken.
    """
    asyncio.run(asyncio.wait_for(_streaming(make, ahead), timeout=60.0))


async def _streaming(make: Callable[[Predictor], Executor], ahead: int) -> None:
    predictor = CountingPredictor()
    executor = make(predictor)
    await executor.open()

    async def all_of(below: float, poison: float = 0.0) -> list[float]:
        pieces = executor.stream(_rows(below, poison))
        try:
            return [_first(piece) async for piece in pieces]
        finally:
            await pieces.aclose()

    expect(await all_of(20.0) == list(map(float, range(20))), "every piece comes once, in order")
    expect(await all_of(0.0) == [], "an answer may have no pieces")
    both = await asyncio.gather(all_of(30.0), all_of(40.0), run_batch(executor, _rows(7.0, 0.0)))
    expect([len(both[0]), len(both[1])] == [30, 40], "two streams at once get their own pieces")
    expect(bool(both[2]), "a batch is answered beside streams")
    failed = await asyncio.gather(all_of(10.0, -1.0), all_of(10.0), return_exceptions=True)
    expect(isinstance(failed[0], ModelFailed), "the model's error ends its stream")
    expect(failed[1] == list(map(float, range(10))), "a stream that fails does so alone")
    before = predictor.made
    left = executor.stream(_rows(1e6, 0.0))
    expect(_first(await anext(left)) == 0.0, "a long answer begins")
    await run_batch(executor, _rows(1.0, 0.0))
    expect(predictor.made - before <= ahead + 1, "the model is not far ahead of its reader")
    expect(executor.statistics().streams == 1, "statistics know the open stream")
    await left.aclose()
    await left.aclose()
    while executor.statistics().streams:
        await asyncio.sleep(0.001)
    while predictor.made and predictor.ended < 7:
        await asyncio.sleep(0.001)
    expect(await run_batch(executor, _rows(3.0, 0.0)) is not None, "a stream that was left ends nothing")
    await executor.close()


def _first(arrays: dict[str, Any]) -> float:
    return float(np.ravel(next(iter(arrays.values())))[0])


def _rows(*values: float) -> dict[str, Any]:
    """One row."""
    return {NUMBERS: np.array([values])}


async def _many(executor: Executor, batches: list[dict[str, Any]]) -> list[Any]:
    """What became of every batch, never more than the slots at once."""
    free = asyncio.Semaphore(executor.slots)

    async def one(arrays: dict[str, Any]) -> Any:
        async with free:
            return await run_batch(executor, arrays)

    return await asyncio.gather(*map(one, batches), return_exceptions=True)


def _is_sum(answer: Any, value: float) -> bool:
    return isinstance(answer, dict) and answer[PREDICTION].tolist() == [value]


async def _answers(make: Callable[[Predictor], Executor]) -> None:
    """Every batch gets the answer to its own rows."""
    executor = make(FakePredictor())
    await executor.open()
    expect(executor.slots >= 1, "there is at least one slot")
    expect(_is_sum(await run_batch(executor, _rows(1.0, 2.0)), 3.0), "the answer is the predictor's")
    answers = await _many(executor, [_rows(float(i), 1.0) for i in range(50)])
    right = all(_is_sum(answer, i + 1.0) for i, answer in enumerate(answers))
    expect(right, "each of many batches gets the answer to its own rows")
    frozen = np.array([[4.0, 5.0]])
    frozen.flags.writeable = False
    expect(_is_sum(await run_batch(executor, {NUMBERS: frozen}), 9.0), "read-only rows are answered")
    large = np.ones((50_000, 2))
    answer = await run_batch(executor, {NUMBERS: large})
    expect(answer[PREDICTION].tolist() == [2.0] * 50_000, "large batches are answered row for row")
    dropped = asyncio.ensure_future(run_batch(executor, _rows(1.0, 1.0)))
    await asyncio.sleep(0)
    dropped.cancel()
    await asyncio.gather(dropped, return_exceptions=True)
    while executor.statistics().running:
        await asyncio.sleep(0.001)
    expect(_is_sum(await run_batch(executor, _rows(7.0, 0.0)), 7.0), "a dropped answer ends nothing")
    statistics = executor.statistics()
    expect(statistics.runs >= 54 and statistics.failures == 0, "statistics count runs, and no failure")
    expect(statistics.running == 0, "statistics know that nothing runs any more")
    expect(statistics.kind == executor.kind != "", "statistics name the kind of executor")
    expect(statistics.slots == executor.slots, "statistics name the slots")
    await executor.close()


async def _failures(make: Callable[[Predictor], Executor]) -> None:
    """A failing batch fails alone, and nobody is called twice."""
    executor = make(FakePredictor(poison=-1.0))
    await executor.open()
    answers = await _many(executor, [_rows(-1.0 if i == 3 else float(i), 0.0) for i in range(6)])
    expect(isinstance(answers[3], ModelFailed), "the predictor's error reaches its batch")
    others = all(_is_sum(answer, float(i)) for i, answer in enumerate(answers) if i != 3)
    expect(others, "a failing batch fails alone")
    expect(executor.statistics().failures >= 1, "statistics count failures")
    outcomes: list[Outcome] = []
    executor.start(_rows(1.0, 0.0), outcomes.append)
    while not outcomes:
        await asyncio.sleep(0.001)
    expect(outcomes[0].error is None, "a failure does not end the executor")
    await executor.close()
    expect(len(outcomes) == 1, "done is called exactly once")


async def _closing(make: Callable[[Predictor], Executor]) -> None:
    """The predictor is closed once, after the running batch."""
    predictor = FakePredictor()
    executor = make(predictor)
    await executor.open()
    running = asyncio.ensure_future(run_batch(executor, _rows(1.0, 0.0)))
    await asyncio.sleep(0)
    await executor.close()
    expect(_is_sum(await asyncio.wait_for(running, 5.0), 1.0), "close waits for what is running")
    # A predictor that never ran here has an equal elsewhere, which ends with its process.
    expect(predictor.closed == 1 or not predictor.calls, "close closes the predictor, once")


async def expect_free_loop(executor: Executor, predictor: FakePredictor) -> None:
    """Check that a held model does not hold up the event loop; for executors that run elsewhere.

    Raises:
        AssertionError: the loop did not turn while the model ran.
    """
    predictor.hold()
    try:
        first = asyncio.ensure_future(run_batch(executor, _rows(1.0)))
        while predictor.calls == 0:
            await asyncio.sleep(0.001)
        expect(not first.done(), "the event loop turns while the model runs")
        expect(executor.statistics().running == 1, "statistics know that a batch runs")
    finally:
        predictor.let_go()
    expect(_is_sum(await first, 1.0), "the batch is answered when the model goes on")
