"""Between the codec and the queue of a model that takes files: pictures and sounds become tensors in threads.

Models without such inputs have nothing of this on their way. Opening a file takes from tens of microseconds
to tenths of a second and lets other threads run meanwhile, so it never happens in the event loop.
"""

import asyncio
import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from servable.clock import Clock
from servable.errors import DeadlineExceeded, Overloaded
from servable.inputs.rows import Preparer
from servable.runtime.batcher import Batcher
from servable.runtime.waiting import NEW, OVER, Waiting
from servable.tensors import Arrays


class Preparing:
    """Takes requests in place of a batcher and hands them on with tensors. Belongs to one event loop.

    A request whose time is over is answered so at once; if its files were not begun by then, they never
    are. The number of requests that wait here is bounded as the queue is.

    Args:
        batcher: takes what is prepared.
        preparer: turns files into tensors.
        pool: where; shared by the models of a process.
        name: of the model, for messages.
        most: requests that may be here at once.
        clock: for tests; the machine's own when None.
    """

    def __init__(
        self,
        batcher: Batcher,
        preparer: Preparer,
        pool: ThreadPoolExecutor,
        *,
        name: str,
        most: int,
        clock: Clock | None = None,
    ) -> None:
        self._batcher = batcher
        self._preparer = preparer
        self._pool = pool
        self._name = name
        self._most = most
        self._now: Callable[[], float] = time.monotonic if clock is None else clock.monotonic
        #: Requests that are here, those among them that nobody waits for any more.
        self.pending = 0

    def submit(self, waiting: Waiting) -> None:
        """Take a request. Its ``settle`` is called exactly once, never before this returns.

        Raises:
            RequestTooLarge: the tensors of its files would take too much memory.
            Overloaded: too many requests are here already.
            DeadlineExceeded: its time is over.
            ServableError: as ``Batcher.submit``, for a request that holds tensors only.
        """
        arrays = waiting.arrays
        if not self._preparer.needed(arrays):
            self._batcher.submit(waiting)
            return
        self._preparer.check(arrays)
        left = waiting.deadline - self._now()
        if left <= 0:
            raise self._late()
        if self.pending >= self._most:
            raise Overloaded(f"{self.pending} requests of {self._name} wait for their files to be opened.")
        loop = asyncio.get_running_loop()
        timer = None if math.isinf(left) else loop.call_later(left, self._give_up, waiting)
        self.pending += 1
        job = self._pool.submit(self._prepared, waiting, arrays)

        def tell(done: Future[Any]) -> None:
            # A loop that was closed meanwhile has nobody left who waits.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._done, waiting, done, timer)

        job.add_done_callback(tell)

    def _prepared(self, waiting: Waiting, arrays: Arrays) -> dict[str, Any] | None:
        """In a thread: the tensors; None when nobody wants them any more."""
        if waiting.state == OVER or waiting.deadline <= self._now():
            return None
        return self._preparer.prepared(arrays)

    def _done(self, waiting: Waiting, done: Future[Any], timer: asyncio.TimerHandle | None) -> None:
        self.pending -= 1
        if timer is not None:
            timer.cancel()
        if waiting.state != NEW:
            return
        error = done.exception()
        arrays = None if error is not None else done.result()
        if arrays is not None:
            waiting.arrays = arrays
            try:
                self._batcher.submit(waiting)
            except Exception as refused:  # noqa: BLE001 - whatever it is, the one who waits is told
                error = refused
            else:
                return
        waiting.state = OVER
        waiting.settle(None, error or self._late())

    def _give_up(self, waiting: Waiting) -> None:
        """Its time is over while its files were opened, or waited to be."""
        if waiting.state == NEW:
            waiting.state = OVER
            waiting.settle(None, self._late())

    def _late(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"The time for this request of {self._name} was over before its answer.")
