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
from servable.errors import ServableError, ServerStopping
from servable.logs import fields, logger
from servable.monitoring.metrics import Metrics
from servable.protocols.base import VERSION_HEADER, Head
from servable.runtime.gpus import Gpus, MachineGpus
from servable.runtime.model import load_model
from servable.runtime.pace import keep_back
from servable.runtime.sharing import ALONE, Sharing
from servable.serving.accelerating import Accelerators
from servable.serving.former import Former
from servable.serving.last_seen import LastSeen, forget
from servable.serving.live import Cold, Key, Live, Source, Wanted
from servable.serving.loading import Attempts, Loader, Loading
from servable.serving.outlines import Outlines
from servable.serving.residents import Residents
from servable.serving.shadow import Shadows
from servable.serving.split import Split
from servable.serving.switching import Loaded, next_of
from servable.serving.table import Rows, Table, absent, table_of, wished
from servable.serving.warming import Warming
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
        self.table, self.metrics = Table(), metrics
        self._poll_s = settings.poll_s
        self._loader = loader = Loader(source, metrics, settings, clock, loading, sharing)
        self.recorder = loader.recorder
        self._accelerators = Accelerators(
            settings.accelerator_memory, loader, gpus or MachineGpus(), self._counted, self._unload
        )
        self._residents = Residents(
            settings.memory, loader, clock, self._counted, self._unload, self._accelerators
        )
        self._attempts = Attempts(clock)
        self._former = Former(settings.keep_warm_s, clock)
        self._shadows = Shadows(metrics)
        self._thread = ThreadPoolExecutor(1, "servable-host", initializer=keep_back)
        self._outlines = Outlines(source, self._thread)
        self._watched = LastSeen(source, self._thread, lambda: forget(self._loaded, self.recorder))
        #: Whether desired state is ahead of the table, and whether it was ever followed.
        self._behind, self._settled = True, False
        self._lives: dict[Key, Live] = {}
        #: Loaded, and waiting to be switched to together with the others.
        self._fresh: dict[Key, Live] = {}
        self._colds: dict[Key, Cold] = {}
        self._warming = Warming(self, self._residents, self._attempts)
        self._retiring: dict[Live, asyncio.Task[None]] = {}
        self._closing = False

    # ------------------------------------------------------------------ what callers ask

    @property
    def settled(self) -> bool:
        """Whether desired state was read and every wanted version was tried at least once."""
        return self._settled

    @property
    def ready(self) -> bool:
        """Whether desired state was followed, and every wanted model answers (see ``Table.complete``)."""
        return self.settled and self.table.complete

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
        self._loader.pause_between_steps()
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

        A model is switched as soon as everything of it is loaded; what needs no load does not wait for
        what does, so that a rollback is not held up by another model.

        Returns:
            Whether the table was replaced.

        Raises:
            ServableError: desired state cannot be read; everything stays as it was.
        """
        self._let_go(self._former.over())
        await self._residents.trim()
        self.table = self.table.looked_after()
        self._behind |= await self._watched.look()
        if not self._behind and not self._due():
            return False
        tried: set[Wanted] = set()
        while pending := [each for each in self._pending() if each not in tried]:
            if await self._load(pending[0]):
                tried.add(pending[0])
        self._switch(self._watched.wanted or ())
        self._behind, self._settled = False, True
        return True

    def _due(self) -> bool:
        """Whether something may be loaded again although nothing else is wanted."""
        returning = [live.wanted for live in self._lives.values() if self._accelerators.may_return(live)]
        return any(self._must_load(wanted) for wanted in (*self._attempts.due(), *returning))

    def _pending(self) -> list[Wanted]:
        """What must be loaded; models of which nothing must be are switched."""
        wanted = self._watched.wanted or ()
        self._attempts.keep(frozenset(wanted))
        self._residents.keep(frozenset(each.digest for each in wanted))
        pending = [each for each in wanted if self._must_load(each)]
        if pending and self._settled:
            self._switch(wanted, {each.model for each in pending})
        return pending

    async def _load(self, wanted: Wanted) -> bool:
        """Load one version, and follow meanwhile what needs no load.

        Returns:
            Whether it came to an end; a load is given up when nobody wants its version any more, so that
            one that hangs holds up no other.
        """
        self._make_way(wanted)
        loading = asyncio.ensure_future(self._residents.load(wanted))
        try:
            while not (await asyncio.wait([loading], timeout=self._poll_s))[0]:
                self.table = self.table.looked_after()
                with contextlib.suppress(ServableError):
                    if await self._watched.look():
                        self._pending()
                        if not self._watched.wants(wanted):
                            loading.cancel()
            if loading.cancelled():
                return False
            self._fresh[wanted.key] = loading.result()
        except ServableError as error:
            self._attempts.failed(wanted, error)
        except asyncio.CancelledError:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
            raise
        else:
            self._attempts.succeeded(wanted)
        return True

    @property
    def _loaded(self) -> Loaded:
        return Loaded(self._lives, self._fresh, self._former, self.table)

    def _must_load(self, wanted: Wanted) -> bool:
        """Whether desired state alone is reason enough to load it now."""
        loaded = self._loaded
        live = loaded.serving(wanted)
        fresh = live is not None and live is self._fresh.get(wanted.key)
        if live is not None and (fresh or not self._accelerators.may_return(live)):
            return False
        if self._attempts.resting(wanted):
            return False
        return loaded.before(wanted) is not None or not self._on_demand(wanted)

    def _on_demand(self, wanted: Wanted) -> bool:
        return self._residents.lazy and not wanted.policy.pinned and not wanted.divided

    def _make_way(self, wanted: Wanted) -> None:
        """Before another version of a model is loaded, the one that is kept warm goes.

        So no more than two are in memory for a switch, the one of a rollback among them.
        """
        kept = self._former.of(wanted.model)
        others = self._watched.wanted or ()
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

    def _switch(self, wanted: tuple[Wanted, ...], held: Collection[str] = ()) -> None:
        """Replace the table in one step, then send away what is no longer wanted.

        Args:
            wanted: every version that should be live.
            held: models that stay as they are, because something of them must be loaded first.
        """
        loaded, followed = self._loaded, [each for each in wanted if each.model not in held]
        colds = {each.key: self._cold(each) for each in followed if self._on_demand(each)}
        colds |= {key: cold for key, cold in self._colds.items() if cold.model in held}
        failures = {each: found.status() for each in followed if (found := self._attempts.failure(each))}
        after = next_of(followed, loaded, failures, colds, held)
        gone = self._former.switched(loaded.lives.values(), loaded.table.models, after.lives, after.named)
        self._lives, self._fresh, self._colds = after.lives, after.fresh, colds
        self._shadows.attach(after.lives)
        waiting = [cold for cold in colds.values() if cold.model not in after.named]
        kept = self._former.statuses()
        self.table = table_of(Rows(after.lives.values(), after.named, after.failures, waiting, kept))
        self._count()
        for live in (*gone, *after.unused):
            self._retire(live)

    def _count(self) -> None:
        self.metrics.set_loaded(len(self._lives) + len(self._former))

    def _cold(self, wanted: Wanted) -> Cold:
        """The handle of a model that is loaded on demand: the same one for as long as it loads the same."""
        cold = self._colds.get(wanted.key)
        if cold is None or not cold.wanted.loads_like(wanted):
            return Cold(wanted, self._warming.warm)
        cold.wanted = wanted
        return cold

    # ------------------------------------------------------------------ on demand

    def waits(self, cold: Cold) -> bool:
        """Whether it is still the handle of its model, and the model is not loaded."""
        return self._colds.get(cold.key) is cold and cold.model not in self.table.models

    def arrived(self, cold: Cold, live: Live) -> None:
        """A cold model is loaded."""
        self._lives[cold.key] = live
        self.table = self.table.warmed(live, cold)
        self._count()

    def noted(self, cold: Cold) -> None:
        """A cold model cannot be loaded."""
        if self._colds.get(cold.key) is cold:
            self.table = self.table.noted(cold)

    def unwanted(self, live: Live) -> None:
        """A model was loaded that nobody wants any more."""
        self._retire(live)

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
        await self._warming.close()
        lives = [*self._lives.values(), *self._fresh.values(), *self._former]
        self.table = Table()
        self._lives, self._colds, self._fresh = {}, {}, {}
        self._former.clear()
        self.metrics.set_loaded(0)
        for live in lives:
            self._retire(live)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._retiring.values(), return_exceptions=True)
        await self.recorder.close()
        await self._watched.close()
        self._loader.close()
        self._thread.shutdown(wait=False)
