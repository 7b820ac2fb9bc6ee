"""From a wanted version to a live model, and the memory of attempts that failed."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import msgspec

from servable.artifact.package import Package
from servable.artifact.selfcheck import read_recorded
from servable.artifact.signature import Signature
from servable.clock import Clock
from servable.errors import ArtifactUnreadable, ServableError
from servable.frameworks.devices import PROCESSOR, Placed
from servable.inputs.rows import Preparer, file_fields
from servable.logs import fields, logger
from servable.monitoring.metrics import Meter, Metrics
from servable.protocols.base import Codec, CodecLimits
from servable.protocols.codecs import native_codecs
from servable.registry.policy import Policy
from servable.runtime.batch_policy import BatchLimits
from servable.runtime.batcher import Batcher
from servable.runtime.cache import NoCache, ResponseCache
from servable.runtime.confinement import Confinement, Mode
from servable.runtime.footprint import give_back
from servable.runtime.load_thread import LoadThread
from servable.runtime.model import (
    MOST_ROWS,
    LoadedModel,
    LoadLimits,
    load_model,
    usable_cores,
    variant_bytes,
    variant_of,
)
from servable.runtime.pace import Pace
from servable.runtime.sharing import ALONE, Sharing
from servable.serving.capturing import Recorder
from servable.serving.live import Live, ModelStatus, Parts, Source, Wanted
from servable.serving.preparing import Preparing
from servable.serving.selfcheck import check
from servable.settings import ServerSettings

_log = logger("serving")
_T = TypeVar("_T")
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
#: Seconds of a pause between two steps of a load beside which requests are answered.
_BREATH_S = 0.0005


class Seated(NamedTuple):
    """Where a model is to be computed.

    Attributes:
        device: ``cuda:0`` ...; ``cpu`` whatever its deployment asks for; empty: as its deployment asks.
        budget: bytes that all models may hold of that GPU; 0: nobody counts.
        note: why it is not where its deployment asks, without a full stop; else empty.
    """

    device: str = ""
    budget: int = 0
    note: str = ""


AS_ASKED = Seated()
ON_PROCESSOR = Seated(PROCESSOR)


class Loading(Protocol):
    """How a verified package is made ready; ``load_model`` unless a test says otherwise."""

    def __call__(
        self,
        package: Package,
        policy: Policy,
        *,
        limits: LoadLimits,
        pool: Executor,
        meter: Meter,
        sharing: Sharing,
    ) -> Awaitable[LoadedModel]:
        """See ``load_model``."""
        ...


class Failure(NamedTuple):
    """A wanted version that could not be loaded, and when it is tried again (monotonic seconds)."""

    wanted: Wanted
    error: ServableError
    attempts: int
    again_at: float

    def status(self) -> ModelStatus:
        """What a person sees of it."""
        return ModelStatus(
            model=self.wanted.model,
            version=self.wanted.version,
            state="failed",
            reason=reason_of(self.wanted, self.error),
        )


def reason_of(wanted: Wanted, error: ServableError) -> str:
    """Why a version is not ready, for those who call it from elsewhere.

    Where its package lies on this machine is none of their business; the log has the whole message.
    """
    return re.sub(rf"\S*/.*?{wanted.digest}", wanted.reference, error.message)


class Attempts:
    """Which versions failed to load, and until when they are left alone."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures: dict[Wanted, Failure] = {}

    @property
    def errors(self) -> tuple[ServableError, ...]:
        """Why versions are not live."""
        return tuple(failure.error for failure in self._failures.values())

    def due(self) -> tuple[Wanted, ...]:
        """Those that failed and may be tried again."""
        now = self._clock.monotonic()
        return tuple(wanted for wanted, failure in self._failures.items() if failure.again_at <= now)

    def failure(self, wanted: Wanted) -> Failure | None:
        """How it failed; None when it did not."""
        return self._failures.get(wanted)

    def resting(self, wanted: Wanted) -> Failure | None:
        """Its failure while it is left alone, else None."""
        failure = self._failures.get(wanted)
        return failure if failure is not None and failure.again_at > self._clock.monotonic() else None

    def failed(self, wanted: Wanted, error: ServableError) -> Failure:
        """It failed; the pause doubles with every time."""
        earlier = self._failures.get(wanted)
        attempts = earlier.attempts + 1 if earlier else 1
        pause = min(_FIRST_PAUSE_S * 2.0 ** min(attempts - 1, 30), _LONGEST_PAUSE_S)
        failure = Failure(wanted, error, attempts, self._clock.monotonic() + pause)
        self._failures[wanted] = failure
        _log.error("the model cannot be loaded", extra=fields(model=wanted.reference, reason=error.message))
        return failure

    def succeeded(self, wanted: Wanted) -> None:
        """It is live."""
        self._failures.pop(wanted, None)

    def keep(self, wanted: frozenset[Wanted]) -> None:
        """Forget all others."""
        self._failures = {key: failure for key, failure in self._failures.items() if key in wanted}


class Loader:
    """Makes live models. Belongs to one event loop.

    What blocks runs in one thread, one model after the other, so that the memory of each can be told.

    Args:
        source: opens packages.
        metrics: gives each model its meter.
        settings: limits of requests, queues and model processes.
        clock: handed on to batchers and caches.
        loading: makes a package ready.
        sharing: with whom models may be shared.

    Attributes:
        workers: how many server processes load the same models.
        recorder: captures what live models are asked, and keeps feedback.
    """

    def __init__(
        self,
        source: Source,
        metrics: Metrics,
        settings: ServerSettings,
        clock: Clock,
        loading: Loading = load_model,
        sharing: Sharing = ALONE,
    ) -> None:
        self.workers = sharing.workers
        self.recorder = Recorder(settings, clock)
        self._sharing = sharing
        self._source = source
        self._metrics = metrics
        self._settings = settings
        self._clock = clock
        self._loading = loading
        self._pace = Pace()
        self._pool = LoadThread(self._pace)
        # Threads begin when files first come.
        self._opening = ThreadPoolExecutor(
            max(1, usable_cores() // settings.workers), thread_name_prefix="servable-files"
        )
        self._limits = LoadLimits(
            cores=max(1, usable_cores() // settings.workers),
            run_limit_s=settings.run_limit_s,
            start_limit_s=settings.start_limit_s,
            process_memory=settings.process_memory,
            confinement=confinement_of(settings),
            pace=self._pace,
        )
        self._open_to_say = True

    def pause_between_steps(self) -> None:
        """Do so from now on, because requests are answered meanwhile."""
        self._pace.breath_s = _BREATH_S

    async def open(self, wanted: Wanted) -> tuple[Package, int]:
        """The verified package, and the bytes of the files of the variant that serves.

        Raises:
            ServableError: it cannot be opened; whatever else was raised is turned into one.
        """
        with _ours(wanted):
            package = await self._in_thread(lambda: self._source.open(wanted))
            return package, variant_bytes(package.manifest, variant_of(package.manifest))

    def shares(self, wanted: Wanted, package: Package) -> bool:
        """Whether all workers use the same processes of a model."""
        return self._sharing.wanted(variant_of(package.manifest), wanted.policy)

    async def load(self, wanted: Wanted, package: Package, seated: Seated = AS_ASKED) -> Live:
        """The model, ready to answer.

        Args:
            wanted: what to load.
            package: opened.
            seated: where it is to be computed.

        Raises:
            ServableError: it cannot be loaded; whatever else was raised is turned into one.
        """
        meter = self._metrics.meter(wanted.model, wanted.version)
        policy = wanted.policy
        if seated.note:
            policy = msgspec.structs.replace(policy, device=PROCESSOR)
        limits = msgspec.structs.replace(
            self._limits,
            accelerator=seated.device,
            accelerator_budget=seated.budget,
            behind=wanted.is_shadow,
        )
        with _ours(wanted):
            loaded = await self._loading(
                package, policy, limits=limits, pool=self._pool, meter=meter, sharing=self._sharing
            )
            if seated.note:
                loaded = loaded._replace(device=Placed(loaded.device.device, seated.note))
            try:
                recorded = await self._in_thread(lambda: read_recorded(package.folder))
                await check(loaded, recorded)
                # Compiling decoders takes longer than many answers, and the loop is needed for these.
                codecs = await self._in_thread(lambda: self._codecs(loaded.signature))
                live = Live(wanted, loaded, self._parts(wanted, loaded, meter, codecs))
            except BaseException:
                await loaded.executor.close()
                raise
        live.tap = self.recorder.tap(live)
        meter.load_seconds = loaded.load_seconds
        _log.info(
            "model live",
            extra=fields(
                model=wanted.reference,
                variant=loaded.variant.name,
                runs=loaded.placement,
                device=loaded.device.device,
                seconds=round(loaded.load_seconds, 3),
            ),
        )
        self._say_lacking(wanted, loaded)
        if loaded.device.note:
            _log.warning(
                "the model runs on the processor",
                extra=fields(model=wanted.reference, reason=loaded.device.note),
            )
        return live

    def _say_lacking(self, wanted: Wanted, loaded: LoadedModel) -> None:
        """Say once what this machine does not keep model processes from; ``status`` says it of each model."""
        lacking = loaded.confinement.lacking
        if lacking and self._open_to_say:
            self._open_to_say = False
            _log.warning(
                "model processes are confined in part", extra=fields(model=wanted.reference, reason=lacking)
            )

    def _codecs(self, signature: Signature) -> dict[str, Codec]:
        settings = self._settings
        return native_codecs(signature, max_rows=settings.max_rows, max_depth=settings.max_depth)

    def _parts(self, wanted: Wanted, loaded: LoadedModel, meter: Meter, codecs: dict[str, Codec]) -> Parts:
        settings, policy = self._settings, wanted.policy
        most = policy.max_batch or MOST_ROWS
        limits = BatchLimits(
            max_rows=min(most, loaded.batching.rows) if loaded.batching.rows else most,
            queue_requests=settings.queue_requests,
            queue_s=settings.queue_s,
            batchable=loaded.batching.shared and policy.max_batch != 1,
        )
        batcher = Batcher(
            loaded.executor,
            name=wanted.reference,
            meter=meter,
            limits=limits,
            clock=self._clock,
            poison=self._sharing.poisons(f"{wanted.digest}/{loaded.variant.name}"),
        )
        cache = (
            ResponseCache(policy.cache_bytes, policy.cache_age_s, meter, self._clock)
            if policy.cache_bytes
            else NoCache()
        )
        refused = CodecLimits(settings.max_rows, settings.max_depth, settings.max_body_bytes)
        return Parts(batcher, codecs, cache, meter, refused, self._preparing(wanted, loaded, batcher))

    def _preparing(self, wanted: Wanted, loaded: LoadedModel, batcher: Batcher) -> Preparing | None:
        """What opens the files of a model that takes some."""
        if not file_fields(loaded.signature):
            return None
        settings = self._settings
        return Preparing(
            batcher,
            Preparer(loaded.signature, settings.max_body_bytes),
            self._opening,
            name=wanted.reference,
            most=settings.queue_requests,
            clock=self._clock,
        )

    async def give_back(self) -> None:
        """Return the memory of unloaded models to the system."""
        await self._in_thread(give_back)

    def close(self) -> None:
        """End the threads. Nothing may be loaded any more."""
        self._pool.shutdown(wait=False)
        self._opening.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


def confinement_of(settings: ServerSettings) -> Confinement:
    """What the model processes of a server are to be kept from."""
    return Confinement(
        mode=Mode[settings.confinement.upper()],
        hidden=(str(Path(settings.home).absolute()),),
        files=tuple(str(Path(each).absolute()) for each in settings.model_files),
        environment=settings.model_environment,
    )


@contextmanager
def _ours(wanted: Wanted) -> Iterator[None]:
    """Turns whatever a foreign library raises while loading into one of our errors, and logs it."""
    try:
        yield
    except ServableError:
        raise
    except Exception as raised:  # Whatever the library raises becomes one sentence.
        _log.error("loading failed inside", extra=fields(model=wanted.reference), exc_info=raised)
        raise ArtifactUnreadable(
            f"{wanted.reference} cannot be loaded: its library raised {type(raised).__name__}."
        ) from raised
