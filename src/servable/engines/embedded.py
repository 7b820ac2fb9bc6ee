"""Puts models into an application that a team has already, as an ASGI application of its own.

Inside the lifespan of its host the models live in the host's event loop. Hosts that forward no lifespan to
what is mounted in them, as FastAPI and Starlette do not, may put ``lifespan`` into their own; otherwise the
first request brings up a thread with the models, which ends with the process.
"""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from servable.engines.bridge import across
from servable.engines.tenant import Keeper, Plan, Tenant, abandon, plan_of
from servable.errors import ConflictError, ServableError


def asgi(
    *models: str | Path,
    home: str | Path | None = None,
    sample: str | Path | None = None,
    trust: bool = False,
    **settings: Any,
) -> "Embedded":
    """Models as an ASGI application, to be mounted under FastAPI or Starlette or served by any ASGI server.

    Nothing is read or loaded before the lifespan begins or the first request comes. Deployments are followed
    for as long as it lives. The host's own names, middleware and authentication stand before it; request
    ids, deadlines and the limits on bodies and queues hold as in a server.

    Args:
        models: paths of model files, which are taken in as by ``servable serve PATH``, and references
            (``name``, ``name:3``, ``name@alias``); every deployment of the home when there are none.
        home: the home's folder; looked up when None.
        sample: rows that the model files accept (CSV or Parquet).
        trust: whether code in the model files may run; a pickle can do anything that you can.
        settings: any setting by name, see ``servable.settings``; those of sockets are of no use here.

    Raises:
        SettingInvalid: a setting does not exist or cannot be used.
    """
    return Embedded(plan_of(models, home, sample, trust, settings))


class Embedded:
    """An ASGI application of the models of a plan. May be called from several event loops.

    Args:
        plan: what is to be served.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._keeper = Keeper(plan)
        self._lock = threading.Lock()
        self._inside: tuple[Tenant, asyncio.AbstractEventLoop] | None = None
        self._entered = 0
        self._pid = os.getpid()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request, or follow a lifespan; see the ASGI specification."""
        if scope["type"] == "lifespan":
            await self._follow(receive, send)
        elif scope["type"] != "http":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
        else:
            tenant, loop = self._found()
            if loop is asyncio.get_running_loop():
                await tenant(scope, receive, send)
            else:
                await across(loop, tenant, scope, receive, send)

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """The models in this event loop: loaded when the block begins, closed when it ends.

        ``FastAPI(lifespan=models.lifespan)``, or ``async with models.lifespan():`` inside a lifespan of one's
        own. Several blocks may be open at once; the last one closes.

        Args:
            app: the host, which is not looked at.

        Raises:
            ServableError: a file, a reference or the home is not what it should be. A version that cannot be
                loaded is no error here; its requests are answered with 503 and the reason until it can.
            ConflictError: a block is open in another event loop.
        """
        tenant, loop = self._enter()
        try:
            await _there(loop, tenant.open())
            yield
        finally:
            await self._leave()

    async def close(self) -> None:
        """Close every model after its last request, wherever it lives. A later request loads anew."""
        with self._lock:
            inside, self._inside, self._entered = self._inside, None, 0
        if inside is not None:
            await _there(inside[1], inside[0].close())
        await asyncio.to_thread(self._keeper.close)

    def _found(self) -> tuple[Tenant, asyncio.AbstractEventLoop]:
        with self._lock:
            self._forget_what_is_gone()
            inside = self._inside
        return inside or self._keeper.found()

    def _forget_what_is_gone(self) -> None:
        """A loop of a parent does not run in its children, and one that was closed runs no more."""
        if self._pid != os.getpid():
            abandon(self._inside)
            self._pid, self._inside, self._entered = os.getpid(), None, 0
        elif self._inside is not None and self._inside[1].is_closed():
            self._inside, self._entered = None, 0

    def _enter(self) -> tuple[Tenant, asyncio.AbstractEventLoop]:
        loop = asyncio.get_running_loop()
        with self._lock:
            self._forget_what_is_gone()
            if self._inside is None and self._keeper.running:
                # A request came before the lifespan, and the models are loaded already.
                found = self._keeper.found()
            else:
                found = self._inside = self._inside or (Tenant(self._plan), loop)
                if found[1] is not loop:
                    raise ConflictError(
                        "These models live in another event loop; make another application for this one."
                    )
            self._entered += 1
        return found

    async def _leave(self) -> None:
        with self._lock:
            self._entered = max(self._entered - 1, 0)
            last = not self._entered
        if last:
            await self.close()

    async def _follow(self, receive: Any, send: Any) -> None:
        await receive()
        try:
            tenant, loop = self._enter()
            await _there(loop, tenant.open())
        except ServableError as error:
            await self._leave()
            await send({"type": "lifespan.startup.failed", "message": error.message})
            raise
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._leave()
        await send({"type": "lifespan.shutdown.complete"})


async def _there(loop: asyncio.AbstractEventLoop, work: Any) -> None:
    """Await a coroutine in the loop that it belongs to."""
    if loop is asyncio.get_running_loop():
        await work
    else:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))
