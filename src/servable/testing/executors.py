"""The Executor seam: a fake, and the check for all executors."""

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np

from servable.errors import ModelFailed
from servable.frameworks.base import Predictor
from servable.runtime.executor import Executor, ExecutorStatistics
from servable.tensors import NUMBERS, PREDICTION
from servable.testing.expect import expect, expect_error
from servable.testing.predictors import FakePredictor


class FakeExecutor:
    """Gives way to the event loop once, then runs; remembers every call in ``arrays``."""

    def __init__(self, predictor: Predictor) -> None:
        self.arrays: list[Any] = []
        self.closed = False
        self._predictor = predictor
        self._failures = 0
        self._running = 0

    async def run(self, arrays: Any) -> dict[str, Any]:
        """Answer the rows."""
        self.arrays.append(arrays)
        self._running += 1
        try:
            await asyncio.sleep(0)
            return self._predictor.predict(arrays)
        except BaseException:
            self._failures += 1
            raise
        finally:
            self._running -= 1

    def statistics(self) -> ExecutorStatistics:
        """The present figures."""
        return ExecutorStatistics("fake", len(self.arrays), self._failures, self._running)

    async def close(self) -> None:
        """Close the Predictor."""
        self.closed = True
        self._predictor.close()


def check_executor(make: Callable[[Predictor], Executor]) -> None:
    """Try what the Executor seam promises.

    Right answers, failures and cancellations that stay alone, and a clean end.

    Args:
        make: makes an executor around a predictor; called inside a running event loop, several times.

    Raises:
        AssertionError: a promise is broken.
    """
    for part in (_answers, _failures, _cancellation, _closing):
        asyncio.run(asyncio.wait_for(part(make), timeout=60.0))


def _rows(*values: float) -> dict[str, Any]:
    """One row."""
    return {NUMBERS: np.array([values])}


async def _answers(make: Callable[[Predictor], Executor]) -> None:
    """Everyone gets the answer to his own rows."""
    predictor = FakePredictor()
    executor = make(predictor)
    alone = await executor.run(_rows(1.0, 2.0))
    expect(alone[PREDICTION].tolist() == [3.0], "run answers what the predictor answers")
    many = await asyncio.gather(*(executor.run(_rows(float(i), 1.0)) for i in range(50)))
    sums = [answer[PREDICTION].tolist() for answer in many]
    expect(sums == [[i + 1.0] for i in range(50)], "each of many callers gets the answer to his own rows")
    frozen = np.array([[4.0, 5.0]])
    frozen.flags.writeable = False
    answer = await executor.run({NUMBERS: frozen})
    expect(answer[PREDICTION].tolist() == [9.0], "read-only rows are answered")
    statistics = executor.statistics()
    expect(statistics.runs >= 1 and statistics.failures == 0, "statistics count runs, and no failure")
    expect(statistics.running == 0, "statistics know that nothing runs any more")
    expect(bool(statistics.kind), "statistics name the kind of executor")
    await executor.close()


async def _failures(make: Callable[[Predictor], Executor]) -> None:
    """A failing call fails alone."""
    executor = make(FakePredictor(poison=-1.0))
    calls = [executor.run(_rows(-1.0 if i == 3 else float(i))) for i in range(6)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    expect(isinstance(answers[3], ModelFailed), "the predictor's error reaches its caller")
    others = [answer for i, answer in enumerate(answers) if i != 3]
    expect(all(isinstance(answer, dict) for answer in others), "a failing call fails alone")
    expect(executor.statistics().failures >= 1, "statistics count failures")
    again = await executor.run(_rows(1.0))
    expect(again[PREDICTION].tolist() == [1.0], "a failure does not end the executor")
    await executor.close()


async def _cancellation(make: Callable[[Predictor], Executor]) -> None:
    """One cancelled caller, before and while the model runs, and his neighbours."""
    predictor = FakePredictor()
    executor = make(predictor)
    tasks = [asyncio.ensure_future(executor.run(_rows(float(i)))) for i in range(5)]
    tasks[1].cancel()
    await asyncio.sleep(0)
    tasks[2].cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    for i in (0, 3, 4):
        answer = answers[i]
        right = isinstance(answer, dict) and answer[PREDICTION].tolist() == [float(i)]
        expect(right, "cancelling one caller leaves the answers of the others alone")
    again = await executor.run(_rows(7.0))
    expect(again[PREDICTION].tolist() == [7.0], "a cancellation does not end the executor")
    await executor.close()


async def _closing(make: Callable[[Predictor], Executor]) -> None:
    """The predictor is closed once, after the running calls."""
    predictor = FakePredictor()
    executor = make(predictor)
    running = asyncio.ensure_future(executor.run(_rows(1.0)))
    await asyncio.sleep(0)
    await executor.close()
    expect(predictor.closed == 1, "close closes the predictor, once")
    answer = await running
    expect(answer[PREDICTION].tolist() == [1.0], "close waits for what is running")


async def expect_free_loop(executor: Executor, predictor: FakePredictor) -> None:
    """Check that a held model does not hold up the event loop; for executors that run elsewhere.

    Raises:
        AssertionError: a caller could not be cancelled while the model ran.
    """
    predictor.hold()
    try:
        first = asyncio.ensure_future(executor.run(_rows(1.0)))
        second = asyncio.ensure_future(executor.run(_rows(2.0)))
        while predictor.calls == 0:
            await asyncio.sleep(0.001)
        first.cancel()
        with expect_error(asyncio.CancelledError, "a caller can be cancelled while the model runs"):
            await first
    finally:
        predictor.let_go()
    answer = await second
    expect(answer[PREDICTION].tolist() == [2.0], "the next caller is answered after a cancelled one")
