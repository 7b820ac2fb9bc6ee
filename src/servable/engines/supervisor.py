"""Keeps several HTTP processes on one listening socket.

The parent binds the socket, never accepts and never runs a model. A worker that dies is replaced at
once: the socket stays open meanwhile, so nobody is refused. One that dies while it starts is tried
again with growing pauses, and one that is not heard for too long is killed. The figures of all are
added up here, those of the dead included, so a counter never falls.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import msgspec

from servable.engines.child import Child, Common
from servable.engines.keeping import Keeping
from servable.errors import ServableError, SurroundingsError
from servable.logs import fields, logger
from servable.monitoring.totals import Snapshot, merge, past, process_figures, requests
from servable.runtime.poison import PoisonArea
from servable.server.exposure import check_exposure
from servable.server.lifecycle import bind, url_of
from servable.server.limit_area import LimitArea
from servable.server.messages import Change, Changed, Start
from servable.server.tls import certificate_of
from servable.server.turns import Board
from servable.server.workers import ASK_S, share
from servable.settings import ServerSettings

_log = logger("workers")
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 10.0
#: Deaths while starting, before any worker was ready, after which the server gives up.
_TRIES = 3
#: Seconds beyond the time to drain after which a worker that was told to end is killed.
_MARGIN_S = 5.0
#: Seconds that a worker has to end when there is no time to drain.
_AT_ONCE_S = 2.0
#: Least seconds without a sign of life after which a worker counts as hung.
_SILENT_S = 10.0


class Supervisor:
    """Several HTTP processes from start to end. Belongs to one event loop.

    Args:
        settings: everything; limits are those of all workers together.
        only: references to serve; every deployment when empty.
        version: of Servable.
        logs: whether the workers write log lines to standard error.
    """

    def __init__(
        self, settings: ServerSettings, only: Sequence[str], version: str, *, logs: bool = True
    ) -> None:
        check_exposure(settings)
        # Each worker reads it for itself; what is wrong with it is said once.
        certificate_of(settings)
        self._settings = settings
        self._only = tuple(only)
        self._version = version
        self._logs = logs
        self._socket = bind(settings.host, settings.port)
        self.url = url_of(self._socket, settings.host, settings.scheme)
        # Twice as many as workers: one that ends and its successor may both be there for a while.
        self._board = Board.create(2 * settings.workers + 1)
        self._poison = PoisonArea.create()
        self._limits = LimitArea.create(self._board.places)
        self._keeping = Keeping(settings, logs=logs)
        self._places: list[Child | None] = [None] * settings.workers
        self._children: set[Child] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._past = Snapshot()
        self._replacements = 0
        self._deaths = [0] * settings.workers
        self._up = False
        self._changed = asyncio.Condition()
        self._stopping = asyncio.Event()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._restarting = asyncio.Lock()

    @property
    def _drain_limit_s(self) -> float:
        return self._settings.drain_s + self._settings.shutdown_s + _MARGIN_S

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of the workers."""
        return tuple(child.pid for child in self._places if child is not None and child.alive)

    async def run(self, started: "asyncio.Future[None] | None" = None) -> None:
        """Serve until ``stop``.

        Args:
            started: is given its result once every worker is ready.

        Raises:
            ServableError: nothing could be served, and why.
        """
        watching = asyncio.create_task(self._watch())
        try:
            self._places = [self._begin() for _ in self._places]
            ready = asyncio.ensure_future(self._all_ready())
            over = asyncio.ensure_future(self._over())
            await asyncio.wait([ready, over], return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                _log.info("all workers ready", extra=fields(url=self.url, workers=len(self._places)))
                if started is not None and not started.done():
                    started.set_result(None)
            ready.cancel()
            await over
        finally:
            watching.cancel()
            await self._end()

    def stop(self) -> None:
        """Ask it to end; a second time, to end at once without waiting for anybody. Call in its loop."""
        at_once = self._stopping.is_set()
        self._stopping.set()
        # Only the workers keep it open now, each until it has drained.
        self._socket.close()
        limit_s = _AT_ONCE_S if at_once else self._drain_limit_s
        for child in self._children:
            _stop(child, limit_s, at_once=at_once)

    async def restart(self, settings: ServerSettings | None = None) -> bool:
        """Replace every worker, one after the other; each answers until its successor is ready.

        Args:
            settings: from now on, instead of those before; address and number of workers stay.

        Returns:
            Whether all were replaced; False: a successor could not start, and the one before stays.
        """
        async with self._restarting:
            before, self._settings = self._settings, settings or self._settings
            for place in range(len(self._places)):
                if self._stopping.is_set():
                    return False
                new = self._begin()
                if not await new.began():
                    self._settings = before
                    return False
                # The one there now: it may have been replaced meanwhile.
                old, self._places[place] = self._places[place], new
                if old is not None:
                    _stop(old, self._drain_limit_s)
                    # One more than usual at a time, not twice as many.
                    await old.ended()
            return True

    async def figures(self) -> Snapshot:
        """What all processes counted so far."""
        return await self.totals()

    async def totals(self, but: Child | None = None) -> Snapshot:
        """The figures of all processes, fresh or the last known.

        Args:
            but: leave this worker's out.
        """
        others = [child for child in self._children if child is not but]
        asking = [asyncio.create_task(child.refresh()) for child in others]
        if asking:
            # Shorter than the worker waits, so that it gets what is known by then.
            _, late = await asyncio.wait(asking, timeout=ASK_S * 0.6)
            for task in late:
                task.cancel()
        own = Snapshot(process=process_figures(), worker_replacements=self._replacements)
        known = [_answering(child) for child in self._children if child is not but]
        return merge([self._past, own, self._keeping.snapshot, *known])

    async def change(self, wanted: Change, but: Child) -> Changed:
        """Have every worker but one load or unload a model.

        One that is not ready yet is not asked: it begins with what desired state wants.

        Args:
            wanted: what to do.
            but: leave this worker out.

        Returns:
            The first error that one of them met, if any.
        """
        others = [child for child in self._children if child is not but and child.ready]
        answers = await asyncio.gather(*(child.change(wanted) for child in others))
        return next((answer for answer in answers if answer.code), Changed(wanted.number))

    # ------------------------------------------------------------------ keeping the places filled

    def _begin(self) -> Child:
        """A worker that is being started, seen to its end by a task of its own."""
        taken = {child.place for child in self._children}
        start = Start(
            settings=share(self._settings, len(self._places)),
            only=self._only,
            version=self._version,
            workers=len(self._places),
            place=next(place for place in range(self._board.places) if place not in taken),
            places=self._board.places,
            patient=self._up,
            logs=self._logs,
        )
        common = Common(self._keeping.descriptor, self._board, self._poison, self._limits)
        child = Child(start, self._socket, common)
        self._children.add(child)
        task = asyncio.create_task(self._see_through(child))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return child

    async def _see_through(self, child: Child) -> None:
        ending = ""
        try:
            # The socket is closed once it was asked to end.
            if not self._stopping.is_set():
                ending = await child.run(self)
        except OSError as error:
            ending = f"it could not be started: {error.strerror}"
        finally:
            self._children.discard(child)
            self._past = merge([self._past, past(child.snapshot)])
        # Whoever has no place any more was told to end.
        if not self._stopping.is_set() and child in self._places:
            await self._replace(self._places.index(child), child, ending)

    async def _replace(self, place: int, child: Child, ending: str) -> None:
        self._replacements += 1
        if child.ready:
            self._deaths[place] = 0
        self._deaths[place] += 1
        pause_s = pause(self._deaths[place])
        told = fields(pid=child.pid, ended=ending, pause_s=pause_s)
        _log.warning("a worker ended by itself and is replaced", extra=told)
        if not self._up and (child.failure is not None or self._deaths[place] >= _TRIES):
            self._give_up(child.failure, ending)
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), pause_s)
        if not self._stopping.is_set() and self._places[place] is child:
            async with self._changed:
                self._places[place] = self._begin()
                self._changed.notify_all()

    def _give_up(self, failure: ServableError | None, ending: str) -> None:
        if not self._failed.done():
            self._failed.set_exception(
                failure
                or SurroundingsError(
                    f"A worker ended {_TRIES} times while it started ({ending}); the log above may say why."
                )
            )

    async def _over(self) -> None:
        """Return when it was asked to end; raise when nothing can be served."""
        stopping = asyncio.create_task(self._stopping.wait())
        both: list[asyncio.Future[Any]] = [stopping, self._failed]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if self._failed.done():
            self._failed.result()

    async def _all_ready(self) -> None:
        for place in range(len(self._places)):
            while True:
                child = self._places[place]
                if child is not None and await child.began():
                    break
                async with self._changed:
                    while self._places[place] is child:
                        await self._changed.wait()
        self._up = True

    async def _watch(self) -> None:
        """Kill workers that give no sign of life; their replacement follows from their end."""
        limit_s = max(self._settings.run_limit_s, _SILENT_S)
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1.0)
            for child in tuple(self._children):
                if loop.time() - child.heard_at > limit_s:
                    _log.error("a worker hangs and is killed", extra=fields(pid=child.pid, silent_s=limit_s))
                    child.kill()

    async def _end(self) -> None:
        self._stopping.set()
        self._socket.close()
        if self._failed.done():
            for child in self._children:
                _stop(child, _AT_ONCE_S, at_once=True)
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))
        await self._keeping.close()
        self._board.close()
        self._poison.close()
        self._limits.close()
        _log.info("all workers stopped", extra=fields(requests=requests(self._past)))


def pause(deaths: int) -> float:
    """Seconds before the next try after so many deaths in a row: none after the first, then growing."""
    return 0.0 if deaths < 2 else min(_FIRST_PAUSE_S * 2.0 ** min(deaths - 2, 30), _LONGEST_PAUSE_S)


def _answering(child: Child) -> Snapshot:
    """A worker's figures; one that is not ready yet does not count as a worker."""
    return child.snapshot if child.ready else msgspec.structs.replace(child.snapshot, workers=0)


def _stop(child: Child, limit_s: float, *, at_once: bool = False) -> None:
    """Tell a worker to end, and see to it that it does."""
    child.stop(at_once=at_once)
    asyncio.get_running_loop().call_later(limit_s, child.kill)
