"""Keeps the live models as desired state wants them: load first, then switch, then unload.

The host looks at the change token of its source, and when that moved makes itself so. A version is
opened, verified and warmed up in a thread while the old one goes on answering; then the table is
replaced in one step; then the old version is closed after its last request. A version that cannot be
loaded never takes traffic: the version before stays live, the reason is in the status, and loading
is tried again with growing pauses.

Under a memory budget (the setting ``memory``) a deployment is cold until it is called, unless it is
pinned, and the least recently used go when there is no room for another.
"""

import asyncio
import contextlib
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor

from servable.artifact.package import Outline
from servable.clock import Clock, SystemClock
from servable.errors import (
    ModelNotFound,
    ModelNotReady,
    Overloaded,
    ServableError,
    ServerStopping,
    VersionNotFound,
)
from servable.logs import fields, logger
from servable.monitoring.metrics import Metrics
from servable.protocols.native_schema import close_to
from servable.runtime.gpus import Gpus, MachineGpus
from servable.runtime.model import load_model
from servable.runtime.sharing import ALONE, Sharing
from servable.serving.accelerating import Accelerators
from servable.serving.live import Cold, Live, ModelStatus, Source, Wanted
from servable.serving.loading import Attempts, Loader, Loading, reason_of
from servable.serving.residents import Residents
from servable.serving.table import Table, default_of, table_of
from servable.settings import ServerSettings

_log = logger("serving")
#: Outlines of cold models that are kept for the documentation.
_KEPT_OUTLINES = 256


class Host:
    """The live models of one server process. Belongs to one event loop.

    Args:
        source: desired state.
        metrics: counts the requests of every live model.
        settings: limits, the memory budget, and how often the change token is looked at.
        loading: makes a package ready to answer.
        clock: times the pauses between attempts, the batchers and the caches.
        sharing: with whom models may be shared.
        gpus: whose memory is counted; this machine's when None.
    """

    def __init__(
        self,
        source: Source,
        metrics: Metrics,
        settings: ServerSettings | None = None,
        *,
        loading: Loading = load_model,
        clock: Clock | None = None,
        sharing: Sharing = ALONE,
        gpus: Gpus | None = None,
    ) -> None:
        settings, clock = settings or ServerSettings(), clock or SystemClock()
        self.table = Table()
        self.metrics = metrics
        self._source = source
        self._poll_s = settings.poll_s
        self._loader = loader = Loader(source, metrics, settings, clock, loading, sharing)
        self._accelerators = Accelerators(
            settings.accelerator_memory, loader, gpus or MachineGpus(), self._counted, self._unload
        )
        self._residents = Residents(
            settings.memory, loader, clock, self._counted, self._unload, self._accelerators
        )
        self._attempts = Attempts(clock)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="servable-host")
        self._token: object = None
        self._wanted: tuple[Wanted, ...] | None = None
        self._lives: dict[str, Live] = {}
        #: Loaded, and waiting to be switched to together with the others.
        self._fresh: dict[str, Live] = {}
        self._colds: dict[str, Cold] = {}
        self._warming: dict[Cold, asyncio.Task[ServableError | None]] = {}
        self._retiring: dict[Live, asyncio.Task[None]] = {}
        self._outlines: dict[str, Outline] = {}
        self._closing = False

    # ------------------------------------------------------------------ what callers ask

    @property
    def settled(self) -> bool:
        """Whether desired state was read and every wanted version was tried at least once."""
        return self._wanted is not None

    @property
    def ready(self) -> bool:
        """Whether every wanted model answers, if need be with the version before or after a cold start."""
        table = self.table
        return self.settled and all(
            status.model in table.models or status.model in table.cold for status in table.statuses
        )

    @property
    def failures(self) -> tuple[ServableError, ...]:
        """Why wanted versions are not live."""
        return self._attempts.errors

    def find(self, reference: str) -> Live | Cold:
        """The model of a reference; an empty one means the only or the default model.

        Returns:
            A ``Live``, or a ``Cold`` when it must be loaded first: await its ``warm``.

        Raises:
            ModelNotFound: no such name; lists close matches.
            VersionNotFound: the name is served, in another version.
            ModelNotReady: wanted, and not live yet.
            ServerStopping: the host was closed.
            ConflictError: no reference, and several models without a default.
        """
        table = self.table
        found = table.targets.get(reference) or table.cold.get(reference)
        if found is not None:
            return found
        if self._closing:
            raise ServerStopping("The server is stopping; ask another one.")
        if not reference:
            return default_of(table, settled=self.settled)
        name = reference.partition("@")[0].partition(":")[0]
        other = table.models.get(name) or table.cold.get(name)
        if other is not None:
            raise VersionNotFound(
                f"{reference} is not served here; the live version of {name} is {other.version}."
            )
        for status in table.statuses:
            if status.model == name:
                reason = (status.reason or status.state).rstrip(".")
                raise ModelNotReady(f"{name}:{status.version} is not ready: {reason}.")
        if not self.settled:
            raise ModelNotReady("The models are still being loaded; try again in a moment.")
        names = table.names
        hint = close_to(name, names).lstrip("; ")
        served = ", ".join(names[:10]) or "none"
        shown = name if len(name) <= 64 and name.isprintable() else "that name"
        raise ModelNotFound(
            f"No model {shown!r} is served here{f' ({hint})' if hint else ''}; served are: {served}."
        )

    async def outline(self, cold: Cold) -> Outline:
        """What the package of a cold model says about itself, read without loading it.

        Raises:
            ServableError: it cannot be read.
        """
        wanted = cold.wanted
        known = self._outlines.get(wanted.digest)
        if known is None:
            loop = asyncio.get_running_loop()
            known = await loop.run_in_executor(self._thread, self._source.outline, wanted)
            if len(self._outlines) >= _KEPT_OUTLINES:
                self._outlines.pop(next(iter(self._outlines)))
            self._outlines[wanted.digest] = known
        return known

    # ------------------------------------------------------------------ making it so

    async def run(self) -> None:
        """Follow desired state until cancelled. What goes wrong is logged and tried again."""
        while True:
            try:
                await self.reconcile()
            except ServableError as error:
                _log.error("desired state cannot be read", extra=fields(reason=error.message))
            except Exception:  # noqa: BLE001 - following must not end while the server lives
                _log.exception("looking at desired state failed inside")
            await asyncio.sleep(self._poll_s)

    async def reconcile(self) -> bool:
        """Look once, and make it so if anything changed.

        Returns:
            Whether the table was replaced.

        Raises:
            ServableError: desired state cannot be read; everything stays as it was.
        """
        loop = asyncio.get_running_loop()
        token = await loop.run_in_executor(self._thread, self._source.token)
        returning = [live.wanted for live in self._lives.values() if self._accelerators.may_return(live)]
        due = any(self._must_load(wanted) for wanted in (*self._attempts.due(), *returning))
        if self._wanted is not None and token == self._token and not due:
            return False
        wanted = await loop.run_in_executor(self._thread, self._source.wanted)
        if wanted == self._wanted and not due:
            self._token = token
            return False
        self._attempts.keep(frozenset(wanted))
        self._residents.keep(frozenset(each.digest for each in wanted))
        for each in wanted:
            if not self._must_load(each):
                continue
            try:
                self._fresh[each.model] = await self._residents.load(each)
            except ServableError as error:
                self._attempts.failed(each, error)
            else:
                self._attempts.succeeded(each)
        self._switch(wanted)
        self._token, self._wanted = token, wanted
        return True

    def _must_load(self, wanted: Wanted) -> bool:
        """Whether desired state alone is reason enough to load it now."""
        live = self._lives.get(wanted.model)
        if live is not None and live.wanted.loads_like(wanted) and not self._accelerators.may_return(live):
            return False
        if self._attempts.resting(wanted):
            return False
        return live is not None or not self._on_demand(wanted)

    def _on_demand(self, wanted: Wanted) -> bool:
        return self._residents.lazy and not wanted.policy.pinned

    def _switch(self, wanted: tuple[Wanted, ...]) -> None:
        """Replace the table in one step, then send away what is no longer wanted."""
        lives: dict[str, Live] = {}
        colds: dict[str, Cold] = {}
        failed: list[ModelStatus] = []
        for each in wanted:
            name, before = each.model, self._lives.get(each.model)
            live = self._fresh.get(name)
            if live is None and before is not None and before.wanted.loads_like(each):
                live = before
            if self._on_demand(each):
                colds[name] = self._cold(each)
            if live is not None:
                live.wanted = each
                lives[name] = live
            elif (failure := self._attempts.failure(each)) is not None and (
                before is not None or name not in colds
            ):
                failed.append(failure.status())
                # The version before goes on answering to the name until its successor is ready.
                if before is not None:
                    lives[name] = before
        gone = [live for live in self._lives.values() if lives.get(live.model) is not live]
        self._lives, self._colds, self._fresh = lives, colds, {}
        self.table = table_of(
            lives.values(), failed, [cold for name, cold in colds.items() if name not in lives]
        )
        self.metrics.set_loaded(len(lives))
        for live in gone:
            self._retire(live)

    def _cold(self, wanted: Wanted) -> Cold:
        """The handle of a model that is loaded on demand: the same one for as long as it loads the same."""
        cold = self._colds.get(wanted.model)
        if cold is None or not cold.wanted.loads_like(wanted):
            return Cold(wanted, self._warm)
        cold.wanted = wanted
        return cold

    # ------------------------------------------------------------------ on demand

    async def _warm(self, cold: Cold, reference: str) -> Live:
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
            found = self.find(reference or found.model)
        return found

    async def _fetched(self, cold: Cold) -> ServableError | None:
        """Load it unless somebody does already; why that failed."""
        if self._colds.get(cold.model) is not cold or cold.model in self._lives:
            return None
        task = self._warming.get(cold)
        if task is None:
            resting = self._attempts.resting(cold.wanted)
            if resting is not None:
                return resting.error
            task = asyncio.get_running_loop().create_task(self._fetch(cold))
            self._warming[cold] = task
            task.add_done_callback(lambda _: self._warming.pop(cold, None))
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
            if self._colds.get(cold.model) is cold:
                self.table = self.table.noted(cold)
            return error
        self._attempts.succeeded(wanted)
        cold.failure = ""
        if self._colds.get(cold.model) is not cold or cold.model in self._lives:
            # Desired state moved on while it was loaded.
            self._retire(live)
            return None
        live.wanted = cold.wanted
        self._lives[cold.model] = live
        self.table = self.table.warmed(live, cold)
        self.metrics.set_loaded(len(self._lives))
        return None

    async def cool(self, found: Live | Cold) -> bool:
        """Unload a model that is loaded on demand, after its last request; the next call loads it again.

        Returns:
            Whether it is cold now; a model that its deployment wants in memory stays there.
        """
        if isinstance(found, Cold):
            return True
        free = any(live is found and may for live, may in self._counted())
        if free:
            await self._unload([found])
        return free

    def _counted(self) -> Iterator[tuple[Live, bool]]:
        """Every model in memory, and whether it may be unloaded: its cold self can bring it back."""
        for live in self._lives.values():
            cold = self._colds.get(live.model)
            yield live, cold is not None and cold.wanted.loads_like(live.wanted)
        for live in (*self._fresh.values(), *self._retiring):
            yield live, False

    async def _unload(self, lives: Collection[Live]) -> None:
        for live in lives:
            del self._lives[live.model]
        self.table = self.table.cooled((live, self._colds[live.model]) for live in lives)
        self.metrics.set_loaded(len(self._lives))
        await asyncio.gather(*(self._retire(live) for live in lives))
        await self._loader.give_back()
        _log.info("models unloaded", extra=fields(models=", ".join(live.wanted.reference for live in lives)))

    # ------------------------------------------------------------------ ending

    def _retire(self, live: Live) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(live.retire())
        self._retiring[live] = task
        task.add_done_callback(lambda _: self._retiring.pop(live, None))
        return task

    async def close(self) -> None:
        """Close every model after its last request, then the source."""
        self._closing = True
        warming = list(self._warming.values())
        for task in warming:
            task.cancel()
        await asyncio.gather(*warming, return_exceptions=True)
        lives = [*self._lives.values(), *self._fresh.values()]
        self.table = Table()
        self._lives, self._colds, self._fresh = {}, {}, {}
        self.metrics.set_loaded(0)
        for live in lives:
            self._retire(live)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._retiring.values(), return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._source.close)
        self._loader.close()
        self._thread.shutdown(wait=False)
