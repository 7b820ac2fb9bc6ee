"""Keeps the live models as desired state wants them: load first, then switch, then unload.

The host looks at the change token of its source, and when that moved makes itself so. A version is
opened, verified and warmed up in a thread while the old one goes on answering; then the table is
replaced in one step; then the old version is closed after its last request. A version that cannot be
loaded never takes traffic: the version before stays live, the reason is in the status, and loading
is tried again with growing pauses.
"""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from servable.artifact.package import Package
from servable.clock import Clock, SystemClock
from servable.errors import (
    ArtifactUnreadable,
    ConflictError,
    ModelNotFound,
    ModelNotReady,
    ServableError,
    VersionNotFound,
)
from servable.logs import fields, logger
from servable.monitoring.metrics import Metrics
from servable.protocols.native import MAX_ROWS, NativeCodec
from servable.protocols.native_schema import close_to
from servable.runtime.model import LoadedModel, load_model
from servable.serving.live import Live, ModelStatus, Source, Table, Wanted, table_of

_log = logger("serving")
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0

#: Makes a verified package ready to answer; blocks.
Loader = Callable[[Package], LoadedModel]


class _Failure(NamedTuple):
    """A wanted version that could not be loaded, and when it is tried again (monotonic seconds)."""

    wanted: Wanted
    error: ServableError
    attempts: int
    again_at: float


class Host:
    """The live models of one server process. Belongs to one event loop.

    Args:
        source: desired state.
        metrics: counts the requests of every live model.
        max_rows: most rows in one request.
        poll_s: seconds between looks at the change token.
        loader: makes a package ready to answer.
        clock: times the pauses between attempts.
    """

    def __init__(
        self,
        source: Source,
        metrics: Metrics,
        *,
        max_rows: int = MAX_ROWS,
        poll_s: float = 0.25,
        loader: Loader = load_model,
        clock: Clock | None = None,
    ) -> None:
        self.table = Table()
        self.metrics = metrics
        self._source = source
        self._max_rows = max_rows
        self._poll_s = poll_s
        self._loader = loader
        self._clock = clock or SystemClock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="servable-host")
        self._token: object = None
        self._wanted: tuple[Wanted, ...] | None = None
        self._failures: dict[Wanted, _Failure] = {}
        self._retiring: set[asyncio.Task[None]] = set()

    # ------------------------------------------------------------------ what callers ask

    @property
    def settled(self) -> bool:
        """Whether desired state was read and every wanted version was tried at least once."""
        return self._wanted is not None

    @property
    def ready(self) -> bool:
        """Whether every wanted model answers, if need be with the version before."""
        return self.settled and all(status.model in self.table.models for status in self.table.statuses)

    @property
    def failures(self) -> tuple[ServableError, ...]:
        """Why wanted versions are not live."""
        return tuple(failure.error for failure in self._failures.values())

    def find(self, reference: str) -> Live:
        """The live model of a reference; an empty one means the only or the default model.

        Raises:
            ModelNotFound: no such name; lists close matches.
            VersionNotFound: the name is live, in another version.
            ModelNotReady: wanted, and not live yet.
            ConflictError: no reference, and several models without a default.
        """
        table = self.table
        if not reference:
            return self._default(table)
        live = table.targets.get(reference)
        if live is not None:
            return live
        name = reference.partition("@")[0].partition(":")[0]
        if name in table.models:
            raise VersionNotFound(
                f"{reference} is not served here; the live version of {name} is {table.models[name].version}."
            )
        for status in table.statuses:
            if status.model == name:
                raise ModelNotReady(f"{name}:{status.version} is not ready: {status.reason or status.state}.")
        if not self.settled:
            raise ModelNotReady("The models are still being loaded; try again in a moment.")
        hint = close_to(name, list(table.models)).lstrip("; ")
        served = ", ".join(list(table.models)[:10]) or "none"
        shown = name if len(name) <= 64 and name.isprintable() else "that name"
        raise ModelNotFound(
            f"No model {shown!r} is served here{f' ({hint})' if hint else ''}; served are: {served}."
        )

    def _default(self, table: Table) -> Live:
        if table.default is not None:
            return table.default
        if not self.settled or (table.statuses and not table.models):
            raise ModelNotReady("The models are still being loaded or failed to load; see /readyz.")
        if not table.models:
            raise ModelNotFound("No model is served here; deploy one with: servable deploy NAME.")
        choices = ", ".join(f"/models/{name}/predict" for name in list(table.models)[:10])
        raise ConflictError(
            f"Several models are served and none is the default; name one: {choices}; "
            "or choose the default with: servable deploy NAME --default."
        )

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
        due = any(failure.again_at <= self._clock.monotonic() for failure in self._failures.values())
        if self._wanted is not None and token == self._token and not due:
            return False
        wanted = await loop.run_in_executor(self._thread, self._source.wanted)
        if wanted == self._wanted and not due:
            self._token = token
            return False
        await self._make_so(wanted)
        self._token, self._wanted = token, wanted
        return True

    async def _make_so(self, wanted: tuple[Wanted, ...]) -> None:
        self._failures = {key: failure for key, failure in self._failures.items() if key in wanted}
        present = {(live.model, live.version, live.wanted.digest): live for live in self._lives()}
        keep: list[Live] = []
        statuses: list[ModelStatus] = []
        for each in wanted:
            live = present.get((each.model, each.version, each.digest))
            live = self._renamed(live, each) if live else await self._load(each)
            if live is not None:
                keep.append(live)
                continue
            statuses.append(_failed(self._failures[each]))
            # The version before goes on answering to the name until its successor is ready.
            before = self.table.models.get(each.model)
            if before is not None and before not in keep:
                keep.append(before)
        gone = [live for live in self._lives() if not any(live.executor is kept.executor for kept in keep)]
        self.table = table_of(keep, statuses)
        self.metrics.set_loaded(len(keep))
        for live in gone:
            self._retire(live)

    def _lives(self) -> list[Live]:
        seen = {id(live): live for live in self.table.targets.values()}
        return list(seen.values())

    def _renamed(self, live: Live, wanted: Wanted) -> Live:
        """The same live model with today's aliases and default; its counts of requests stay with it."""
        live.wanted = wanted
        return live

    async def _load(self, wanted: Wanted) -> Live | None:
        earlier = self._failures.get(wanted)
        if earlier is not None and earlier.again_at > self._clock.monotonic():
            return None
        loop = asyncio.get_running_loop()
        name = f"{wanted.model}:{wanted.version}"
        try:
            loaded = await loop.run_in_executor(self._thread, self._open_and_load, wanted)
        except Exception as raised:  # noqa: BLE001 - a foreign library may raise anything; the others must stay live
            error = _as_ours(raised, name)
            attempts = earlier.attempts + 1 if earlier else 1
            pause = min(_FIRST_PAUSE_S * 2.0 ** (attempts - 1), _LONGEST_PAUSE_S)
            again = self._clock.monotonic() + pause
            self._failures[wanted] = _Failure(wanted, error, attempts, again)
            _log.error("the model cannot be loaded", extra=fields(model=name, reason=error.message))
            return None
        self._failures.pop(wanted, None)
        meter = self.metrics.meter(wanted.model, wanted.version)
        meter.load_seconds = loaded.load_seconds
        _log.info(
            "model live",
            extra=fields(
                model=name,
                variant=loaded.variant.name,
                runs=loaded.placement,
                seconds=round(loaded.load_seconds, 3),
            ),
        )
        codec = NativeCodec(loaded.signature, max_rows=self._max_rows)
        return Live(wanted, loaded, codec, meter)

    def _open_and_load(self, wanted: Wanted) -> LoadedModel:
        return self._loader(self._source.open(wanted))

    def _retire(self, live: Live) -> None:
        task = asyncio.get_running_loop().create_task(live.retire())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def close(self) -> None:
        """Close every model after its last request, then the source."""
        lives = self._lives()
        self.table = Table()
        self.metrics.set_loaded(0)
        for live in lives:
            self._retire(live)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._retiring, return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._source.close)
        self._thread.shutdown(wait=False)


def _as_ours(raised: Exception, name: str) -> ServableError:
    if isinstance(raised, ServableError):
        return raised
    _log.error("loading failed inside", extra=fields(model=name), exc_info=raised)
    return ArtifactUnreadable(f"{name} cannot be loaded: its library raised {type(raised).__name__}.")


def _failed(failure: _Failure) -> ModelStatus:
    return ModelStatus(
        model=failure.wanted.model,
        version=failure.wanted.version,
        state="failed",
        reason=failure.error.message,
    )
