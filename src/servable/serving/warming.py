"""Loads cold models when they are called: many callers at once cause one load."""

import asyncio
from typing import Protocol

from servable.errors import ModelNotReady, Overloaded, ServableError, ServerStopping
from servable.serving.live import Cold, Live
from servable.serving.loading import Attempts, reason_of
from servable.serving.residents import Residents


class Place(Protocol):
    """Where cold models stand until they are loaded: the host."""

    def find(self, reference: str) -> Live | Cold:
        """The model of a reference; see ``Host.find``."""
        ...

    def waits(self, cold: Cold) -> bool:
        """Whether it is still the handle of its model, and the model is not loaded."""
        ...

    def arrived(self, cold: Cold, live: Live) -> None:
        """It is loaded; nothing else may have happened since it waited for that."""
        ...

    def noted(self, cold: Cold) -> None:
        """It cannot be loaded; ``cold.failure`` says why."""
        ...

    def unwanted(self, live: Live) -> None:
        """Nobody waits for it any more: close it."""
        ...


class Warming:
    """Loads models on demand. Belongs to one event loop.

    Args:
        place: where they stand.
        residents: load one.
        attempts: remember what failed.
    """

    def __init__(self, place: Place, residents: Residents, attempts: Attempts) -> None:
        self._place = place
        self._residents = residents
        self._attempts = attempts
        self._tasks: dict[Cold, asyncio.Task[ServableError | None]] = {}
        self._closing = False

    async def warm(self, cold: Cold, reference: str) -> Live:
        """What ``Cold.warm`` does."""
        found: Live | Cold = cold
        while isinstance(found, Cold):
            error = await self._fetched(found)
            if isinstance(error, Overloaded):
                raise Overloaded(error.message, error.retry_after_s) from error
            if error is not None:
                reason = reason_of(found.wanted, error)
                raise ModelNotReady(f"{found.wanted.reference} is not ready: {reason}") from error
            # Looked up again in the same step in which it is handed out: it may have been replaced, or
            # unloaded for another one, in the meantime.
            found = self._place.find(reference or found.model)
        return found

    async def _fetched(self, cold: Cold) -> ServableError | None:
        """Load it unless somebody does already; why that failed."""
        if not self._place.waits(cold):
            return None
        task = self._tasks.get(cold)
        if task is None:
            resting = self._attempts.resting(cold.wanted)
            if resting is not None:
                return resting.error
            task = asyncio.get_running_loop().create_task(self._fetch(cold))
            self._tasks[cold] = task
            task.add_done_callback(lambda _: self._tasks.pop(cold, None))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            # Cancelled is the caller, or the load because the server ends.
            if self._closing:
                raise ServerStopping("The server is stopping; ask another one.") from None
            raise

    async def _fetch(self, cold: Cold) -> ServableError | None:
        wanted = cold.wanted
        try:
            live = await self._residents.load(wanted)
        except Overloaded as error:
            # Nothing is wrong with the model, so the next caller may try at once.
            return error
        except ServableError as error:
            self._attempts.failed(wanted, error)
            cold.failure = reason_of(wanted, error)
            self._place.noted(cold)
            return error
        self._attempts.succeeded(wanted)
        cold.failure = ""
        if self._place.waits(cold):
            live.wanted = cold.wanted
            self._place.arrived(cold, live)
        else:
            # Desired state moved on while it was loaded.
            self._place.unwanted(live)
        return None

    async def close(self) -> None:
        """Take back every load."""
        self._closing = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
