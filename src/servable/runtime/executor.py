"""The Executor seam: where a Predictor runs, and how its turn is taken.

``InlineExecutor`` runs in the event loop: right for a compiled model whose run is shorter than a
thread hop. ``ThreadExecutor`` runs in a thread of its own so that a slow model does not hold up the
loop. A process executor belongs here too. ``servable.testing.check_executor`` is the conformance suite.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import msgspec

from servable.frameworks.base import Predictor
from servable.tensors import Arrays


class ExecutorStatistics(msgspec.Struct, frozen=True):
    """What an executor has done so far; tests, status and metrics read this same record."""

    kind: str
    runs: int
    failures: int
    running: int


class Executor(Protocol):
    """Runs one Predictor. Belongs to one event loop."""

    async def run(self, arrays: Arrays) -> dict[str, Any]:
        """Answer the rows.

        Cancelling the caller never disturbs another caller; work that has started in a thread runs to
        its end and its answer is dropped.

        Raises:
            ModelFailed: the model raised.
        """
        ...

    def statistics(self) -> ExecutorStatistics:
        """The present figures."""
        ...

    async def close(self) -> None:
        """Wait for what is running, then close the Predictor."""
        ...


class InlineExecutor:
    """Runs in the event loop itself."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._runs = 0
        self._failures = 0

    async def run(self, arrays: Arrays) -> dict[str, Any]:
        """Answer the rows at once; nothing else runs meanwhile."""
        self._runs += 1
        try:
            return self._predictor.predict(arrays)
        except BaseException:
            self._failures += 1
            raise

    def statistics(self) -> ExecutorStatistics:
        """The present figures; nothing is ever running when they are read."""
        return ExecutorStatistics("inline", self._runs, self._failures, 0)

    async def close(self) -> None:
        """Close the Predictor."""
        self._predictor.close()


class ThreadExecutor:
    """Runs in one thread of its own, one call at a time, in the order of arrival."""

    def __init__(self, predictor: Predictor, name: str) -> None:
        self._predictor = predictor
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"servable-{name}")
        self._runs = 0
        self._failures = 0
        self._running = 0

    async def run(self, arrays: Arrays) -> dict[str, Any]:
        """Answer the rows in the thread; the event loop stays free."""
        self._runs += 1
        self._running += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._pool, self._predictor.predict, arrays
            )
        except BaseException:
            self._failures += 1
            raise
        finally:
            self._running -= 1

    def statistics(self) -> ExecutorStatistics:
        """The present figures; ``running`` counts those that wait for the thread too."""
        return ExecutorStatistics("thread", self._runs, self._failures, self._running)

    async def close(self) -> None:
        """Let the running call end, then close the Predictor."""
        await asyncio.to_thread(self._pool.shutdown, wait=True)
        self._predictor.close()
