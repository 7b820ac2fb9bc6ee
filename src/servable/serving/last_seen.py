"""Desired state as it was last seen, read again when its change token moves."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor

from servable.serving.capturing import Recorder
from servable.serving.live import Source, Wanted
from servable.serving.switching import Loaded


class LastSeen:
    """What a source wants. Belongs to one event loop.

    Args:
        source: of desired state.
        thread: where it is read, one call at a time.
        forget: called when somebody was erased since the last look.

    Attributes:
        wanted: every version that should be live; None before the first look.
    """

    def __init__(self, source: Source, thread: Executor, forget: Callable[[], None]) -> None:
        self._source = source
        self._thread = thread
        self._token: object = None
        #: Whether what moved has been read.
        self._read = False
        self.wanted: tuple[Wanted, ...] | None = None
        self._forget = forget
        self._erasures = 0

    async def look(self) -> bool:
        """Look once; whether another thing is wanted than at the last look.

        Raises:
            ServableError: it cannot be read; ``wanted`` stays as it was.
        """
        if not self._source.moved() and self._read:
            return False
        self._read = False
        moved = await self._look()
        self._read = True
        return moved

    async def _look(self) -> bool:
        loop = asyncio.get_running_loop()
        token = await loop.run_in_executor(self._thread, self._source.token)
        if self.wanted is not None and token == self._token:
            return False
        wanted = await loop.run_in_executor(self._thread, self._source.wanted)
        erasures = await loop.run_in_executor(self._thread, self._source.erasures)
        if erasures != self._erasures:
            self._erasures = erasures
            self._forget()
        moved = wanted != self.wanted
        self._token, self.wanted = token, wanted
        return moved

    def wants(self, loaded: Wanted) -> bool:
        """Whether what was or is being loaded is wanted, perhaps under other names."""
        return any(loaded.loads_like(other) for other in self.wanted or ())

    async def close(self) -> None:
        """Close the source."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._source.close)


def forget(loaded: Loaded, recorder: Recorder) -> None:
    """Let go of what is remembered of callers.

    Args:
        loaded: whose kept answers go.
        recorder: what it holds in memory and in its journal comes to the disk now, without who was erased.
    """
    for live in (*loaded.lives.values(), *loaded.fresh.values(), *loaded.former):
        live.cache.clear()
    recorder.settle_soon()
