"""An answer in pieces whose model runs in this process: every step is a call, in the loop or in a thread."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import Executor as Pool
from contextlib import suppress
from typing import Any, Self, cast

from servable.errors import ModelFailed, ServableError
from servable.frameworks.base import Predictor, StreamingPredictor
from servable.logs import logger
from servable.tensors import Arrays

_log = logger("runtime")


class Steps:
    """Implements ``executor.Pieces``. Belongs to one event loop.

    Args:
        predictor: that streams.
        arrays: one row.
        among: the open ones; this one stands there until it is closed and its last step is over.
        pool: whose threads make the steps; None to make them in the loop.
    """

    def __init__(
        self, predictor: Predictor, arrays: Arrays, among: "set[Steps]", pool: Pool | None = None
    ) -> None:
        self._predictor = predictor
        self._arrays: Arrays | None = arrays
        self._source: Iterator[dict[str, Any]] | None = None
        self._among = among
        self._pool = pool
        self._step: asyncio.Future[dict[str, Any] | None] | None = None
        self._over = False
        among.add(self)

    def __aiter__(self) -> Self:
        """Itself."""
        return self

    async def __anext__(self) -> dict[str, Any]:
        """The next piece; a step that is cut off goes on, and its piece is the next one's."""
        if self._over:
            raise StopAsyncIteration
        if self._pool is None:
            # Without this a model that never waits would keep everything else out.
            await asyncio.sleep(0)
            piece = self._next()
        else:
            if self._step is None:
                self._step = asyncio.get_running_loop().run_in_executor(self._pool, self._next)
            piece = await asyncio.shield(self._step)
            self._step = None
        if piece is None:
            await self.aclose()
            raise StopAsyncIteration
        return piece

    def _next(self) -> dict[str, Any] | None:
        """One step of the model; None after the last piece."""
        if self._source is None:
            if not isinstance(self._predictor, StreamingPredictor):
                raise ModelFailed("The model does not answer in pieces.")
            self._source = self._predictor.stream(cast("Arrays", self._arrays))
        return next(self._source, None)

    async def aclose(self) -> None:
        """Close the model's iterator, after a step that is still running; nothing is waited for."""
        if self._over:
            return
        self._over = True
        if self._step is not None and not self._step.done():
            self._step.add_done_callback(self._let_go)
        else:
            self._let_go(self._step)

    def _let_go(self, step: "asyncio.Future[Any] | None") -> None:
        if step is not None and not step.cancelled():
            # What a step raised that nobody waited for was meant for nobody.
            step.exception()
        if self._pool is not None:
            with suppress(RuntimeError):
                asyncio.get_running_loop().run_in_executor(self._pool, self._close).add_done_callback(
                    lambda _: self._among.discard(self)
                )
                return
        self._close()
        self._among.discard(self)

    def _close(self) -> None:
        close_quietly(self._source)
        self._source = self._arrays = None


def close_quietly(source: Iterator[Any] | None) -> None:
    """Close a model's iterator, if it can be closed; what it raises is for the log alone."""
    close = getattr(source, "close", None)
    if close is None:
        return
    try:
        close()
    except Exception as error:  # noqa: BLE001 - the border to the model, and nobody waits for this answer
        reason = error.message if isinstance(error, ServableError) else type(error).__name__
        _log.warning("a model failed while it let go of an answer: %s", reason)
