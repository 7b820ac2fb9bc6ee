"""One request to a batcher as a coroutine."""

import asyncio
import math
from typing import Any

from servable.runtime.batcher import Batcher
from servable.runtime.waiting import Waiting
from servable.tensors import Arrays


class _Asked(Waiting):
    __slots__ = ("answer",)

    def __init__(self, arrays: Arrays, rows: int, deadline: float, weight: float) -> None:
        super().__init__(arrays, rows, deadline, weight)
        self.answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    def settle(self, arrays: dict[str, Any] | None, error: BaseException | None) -> None:
        if self.answer.done():
            return
        if error is not None:
            self.answer.set_exception(error)
        else:
            self.answer.set_result(arrays or {})


async def ask(
    batcher: Batcher, arrays: Arrays, rows: int, *, deadline: float = math.inf, weight: float = 1.0
) -> dict[str, Any]:
    """One request as a coroutine. Cancelling it takes it out of the queue.

    Args:
        batcher: whom to ask.
        arrays: packed rows.
        rows: how many they are.
        deadline: seconds of the batcher's monotonic clock.
        weight: its share against requests of other weights.

    Raises:
        Overloaded: the queue is full.
        DeadlineExceeded: its time is over, or too short.
        PoisonRequest: it ended two processes of the model.
        ServerStopping: the batcher was closed.
        ModelFailed: the model raised.
    """
    waiting = _Asked(arrays, rows, deadline, weight)
    batcher.submit(waiting)
    try:
        return await waiting.answer
    finally:
        batcher.cancel(waiting)
