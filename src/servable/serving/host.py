"""Keeps the live models as desired state wants them: load first, then switch, then unload.

The host looks at the change token of its source, and when that moved makes itself so. A version is
opened, verified and warmed up in a thread while the old one goes on answering; then the table is
replaced in one step; then the old version is closed after its last request, or kept warm for a while
for a rollback. A version that cannot be loaded never takes traffic: the version before stays live, the
reason is in the status, and loading is tried again with growing pauses. Several versions of one model
may be live at once, and then its requests are divided among them.

Under a memory budget (the setting ``memory``) a deployment is cold until it is called, unless it is
pinned or its requests are divided, and the least recently used go when there is no room for another.
"""

import asyncio
import contextlib
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor

from servable.artifact.package import Outline
from servable.clock import Clock, SystemClock
from servable.errors import ModelNotReady, Overloaded, ServableError, ServerStopping
from servable.logs import fields, logger
from servable.monitoring.metrics import Metrics
from servable.protocols.base import VERSION_HEADER, Head
from servable.runtime.gpus import Gpus, MachineGpus
from servable.runtime.model import load_model
from servable.runtime.sharing import ALONE, Sharing
from servable.serving.accelerating import Accelerators
from servable.serving.former import Former
from servable.serving.live import Cold, Key, Live, Source, Wanted
from servable.serving.loading import Attempts, Loader, Loading, reason_of
from servable.serving.outlines import Outlines
from servable.serving.residents import Residents
from servable.serving.split import Split
from servable.serving.switching import Loaded, next_of
from servable.serving.table import Rows, Table, absent, table_of, wished
from servable.settings import ServerSettings

_log = logger("serving")


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
        self._former = Former(settings.keep_warm_s, clock)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="servable-host")
        self._outlines = Outlines(source, self._thread)
        self._token: object = None
        self._wanted: tuple[Wanted, ...] | None = None
        self._lives: dict[Key, Live] = {}
        #: Loaded, and waiting to be switched to together with the others.
        self._fresh: dict[Key, Live] = {}
        self._colds: dict[Key, Cold] = {}
        self._warming: dict[Cold, asyncio.Task[ServableError | None]] = {}
        self._retiring: dict[Live, asyncio.Task[None]] = {}
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

        Of a model whose requests are divided, a name alone finds the version that answers whatever no
        other has a share of: what is said about a model does not depend on chance.

        Returns:
            A ``Live``, or a ``Cold`` when it must be loaded first: await its ``warm``.

        Raises:
            ServerStopping: the host was closed.
            ServableError: as ``table.absent``.
        """
        table = self.table
        found = table.targets.get(reference) or table.cold.get(reference)
        if found is not None:
            return found
        if self._closing:
            raise ServerStopping("The server is stopping; ask another one.")
        return absent(table, reference, settled=self.settled)

    def target(self, reference: str) -> Live | Cold | Split:
        """The same for requests: a ``Split`` where each of them finds its own version.

        Raises:
            ServableError: as ``find``.
        """
        return self.table.splits.get(reference) or self.find(reference)

    def meant(self, reference: str, head: Head) -> Live | Cold:
        """The model that answers one request.

        Args:
            reference: of the model.
            head: the request's headers; they may name a version, or a key that stays with one.

        Raises:
            VersionNotFound: the version that they name is not loaded, or another than the reference's.
            ServableError: as ``find``.
        """
        wish = head.get(VERSION_HEADER)
        if wish is not None:
            return wished(self.table, reference, self.find(reference), wish)
        found = self.target(reference)
        return found.pick(head) if isinstance(found, Split) else found

    async def outline(self, cold: Cold) -> Outline:
        """What the package of a cold model says about itself, read without loading it.

        Raises:
            ServableError: it cannot be read.
        """
        return await self._outlines.of(cold.wanted)

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
        self._let_go(self._former.over())
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
            self._make_way(each, wanted)
            try:
                self._fresh[each.key] = await self._residents.load(each)
            except ServableError as error:
                self._attempts.failed(each, error)
            else:
                self._attempts.succeeded(each)
        self._switch(wanted)
        self._token, self._wanted = token, wanted
        return True

    @property
    def _loaded(self) -> Loaded:
        return Loaded(self._lives, self._fresh, self._former, self.table.models)

    def _must_load(self, wanted: Wanted) -> bool:
        """Whether desired state alone is reason enough to load it now."""
        loaded = self._loaded
        live = loaded.serving(wanted)
        if live is not None and not self._accelerators.may_return(live):
            return False
        if self._attempts.resting(wanted):
            return False
        return loaded.before(wanted) is not None or not self._on_demand(wanted)

    def _on_demand(self, wanted: Wanted) -> bool:
        return self._residents.lazy and not wanted.policy.pinned and not wanted.divided

    def _make_way(self, wanted: Wanted, others: tuple[Wanted, ...]) -> None:
        """Before another version of a model is loaded, the one that is kept warm goes.

        So no more than two are in memory for a switch, the one of a rollback among them.
        """
        kept = self._former.of(wanted.model)
        if kept is not None and not any(kept is self._loaded.serving(other) for other in others):
            self._former.take(kept)
            self._let_go([kept])

    def _let_go(self, lives: list[Live]) -> None:
        """Close versions that were kept warm."""
        if lives:
            self.table = self.table.without(lives)
            self._count()
            for live in lives:
                self._retire(live)

    def _switch(self, wanted: tuple[Wanted, ...]) -> None:
        """Replace the table in one step, then send away what is no longer wanted."""
        loaded = self._loaded
        colds = {each.key: self._cold(each) for each in wanted if self._on_demand(each)}
        failures = {each: found for each in wanted if (found := self._attempts.failure(each)) is not None}
        lives, named, missing = next_of(wanted, loaded, failures)
        failed = [
            failures[each].status()
            for each in missing
            if each in failures and (loaded.before(each) is not None or each.key not in colds)
        ]
        gone = self._former.switched(loaded.lives.values(), loaded.named, lives, named)
        self._lives, self._colds, self._fresh = lives, colds, {}
        waiting = [cold for cold in colds.values() if cold.model not in named]
        self.table = table_of(Rows(lives.values(), named, failed, waiting, self._former.statuses()))
        self._count()
        for live in gone:
            self._retire(live)

    def _count(self) -> None:
        self.metrics.set_loaded(len(self._lives) + len(self._former))

    def _cold(self, wanted: Wanted) -> Cold:
        """The handle of a model that is loaded on demand: the same one for as long as it loads the same."""
        cold = self._colds.get(wanted.key)
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
        if not self._waits(cold):
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

    def _waits(self, cold: Cold) -> bool:
        """Whether it is still the handle of its model, and the model is not loaded."""
        return self._colds.get(cold.key) is cold and cold.model not in self.table.models

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
            if self._colds.get(cold.key) is cold:
                self.table = self.table.noted(cold)
            return error
        self._attempts.succeeded(wanted)
        cold.failure = ""
        if not self._waits(cold):
            # Desired state moved on while it was loaded.
            self._retire(live)
            return None
        live.wanted = cold.wanted
        self._lives[cold.key] = live
        self.table = self.table.warmed(live, cold)
        self._count()
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
        """Every model in memory, and whether it may go: one that is warm, or can be loaded when called."""
        for live in self._lives.values():
            cold = self._colds.get(live.key)
            yield live, cold is not None and cold.wanted.loads_like(live.wanted)
        for live in self._former:
            yield live, True
        for live in (*self._fresh.values(), *self._retiring):
            yield live, False

    async def _unload(self, lives: Collection[Live]) -> None:
        warm = [live for live in lives if self._former.take(live)]
        answering = [live for live in lives if live not in warm]
        for live in answering:
            del self._lives[live.key]
        self.table = self.table.without(warm).cooled((live, self._colds[live.key]) for live in answering)
        self._count()
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
        lives = [*self._lives.values(), *self._fresh.values(), *self._former]
        self.table = Table()
        self._lives, self._colds, self._fresh = {}, {}, {}
        self._former.clear()
        self.metrics.set_loaded(0)
        for live in lives:
            self._retire(live)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._retiring.values(), return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._source.close)
        self._loader.close()
        self._thread.shutdown(wait=False)
