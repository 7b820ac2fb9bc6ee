"""Keeps model processes that several servers share, each model once. See ``mailbox`` and ``shared``."""

import asyncio
import contextlib
import socket
from collections.abc import Coroutine
from typing import Any

from servable.errors import ArtifactUnreadable, ServableError
from servable.logs import fields, logger
from servable.runtime.executor import ExecutorStatistics
from servable.runtime.framing import Load
from servable.runtime.guest import Guest
from servable.runtime.mailbox import Ended, take_over
from servable.runtime.seating import Seating
from servable.runtime.shared import USUAL_WAY, SharedModel, Way

_log = logger("keeper")


class Keeper:
    """All shared models of a server. Belongs to one event loop.

    A model is loaded for the first who asks for it, and ends with the last who shares it.

    Args:
        mailbox: the keepers' end; stays the caller's.
        seating: where models go; on the GPUs of this machine when None.
        way: how a model is held.
    """

    def __init__(
        self, mailbox: socket.socket, *, seating: Seating | None = None, way: Way = USUAL_WAY
    ) -> None:
        self._mailbox = mailbox
        self._models: dict[Load, SharedModel] = {}
        self._seating = seating or Seating()
        self._way = way
        self._by_guest: dict[Guest, SharedModel | None] = {}
        self._opening: dict[SharedModel, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()

    def statistics(self) -> dict[str, ExecutorStatistics]:
        """The present figures of every model that is loaded or being loaded, by name."""
        return {model.name: model.statistics() for model in self._models.values()}

    async def run(self) -> None:
        """Serve until nobody can come any more and everybody has left, or until cancelled."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._mailbox.fileno(), self._came)
        looking = self._begin(self._seating.run())
        try:
            await self._ended.wait()
        finally:
            loop.remove_reader(self._mailbox.fileno())
            looking.cancel()
            for guest in tuple(self._by_guest):
                guest.close()
            while self._tasks:
                await asyncio.wait(tuple(self._tasks))

    def _came(self) -> None:
        try:
            descriptors = take_over(self._mailbox)
        except (Ended, OSError):
            # Without an end of servers there are no servers: whoever had a conversation is gone as well.
            self._ended.set()
            return
        if descriptors is not None:
            guest = Guest(descriptors, self)
            self._by_guest[guest] = None

    # ------------------------------------------------------------------ guests

    def enter(self, guest: Guest, load: Load) -> SharedModel:
        """See ``guest.Landlord``."""
        if load.share is None:
            raise ArtifactUnreadable("A keeper must be told how to share a model.")
        model = self._models.get(load)
        if model is None:
            model = self._models[load] = SharedModel(load, load.share, self._way)
            self._opening[model] = self._begin(self._open(model))
        self._by_guest[guest] = model
        model.join(guest)
        return model

    def leave(self, guest: Guest) -> None:
        """See ``guest.Landlord``."""
        model = self._by_guest.pop(guest, None)
        if model is None:
            return
        model.leave(guest)
        if not model.guests and self._models.get(model.load) is model:
            del self._models[model.load]
            opening = self._opening.get(model)
            if opening is not None:
                opening.cancel()
            else:
                self._begin(self._close(model))

    async def _open(self, model: SharedModel) -> None:
        error: ServableError
        try:
            await self._seating.open(model)
            model.tell()
        except asyncio.CancelledError:
            # Nobody wants it any more.
            return
        except ServableError as raised:
            error = raised
        except Exception as raised:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            _log.exception("a shared model cannot be opened")
            error = ArtifactUnreadable(f"The model cannot be loaded ({type(raised).__name__}).")
        else:
            _log.info("shared model ready", extra=fields(model=model.name, device=model.device))
            return
        finally:
            del self._opening[model]
        # The next who asks begins anew.
        if self._models.get(model.load) is model:
            del self._models[model.load]
        for guest in tuple(model.guests):
            guest.fail(0, error)
            guest.close()

    async def _close(self, model: SharedModel) -> None:
        with contextlib.suppress(ServableError):
            await self._seating.close(model)
        _log.info("shared model let go", extra=fields(model=model.name))

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
