"""What goes on beside a server: it counts for rollouts, and keeps a watcher while one is needed.

Nothing here is on the way of a request. The database is read and written in a thread of its own; one that
fails or hangs is logged and tried again, and the server does not notice. The watcher is a process of its own
with a lower priority, so that none of its libraries come into the server.
"""

import asyncio
import contextlib
import os
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from servable.engines.auditing import Auditing
from servable.engines.watcher_keeper import WatcherKeeper
from servable.errors import ServableError
from servable.logs import fields, logger
from servable.monitoring.alert_rules import rules_are_written
from servable.monitoring.totals import Snapshot
from servable.registry.pulse import pulse_of
from servable.registry.reports import GoingOn, Reports, open_reports
from servable.registry.rollout_records import NO_COUNTS, Counts
from servable.settings import ServerSettings, config_path

_log = logger("rollout")
T = TypeVar("T")
#: Seconds between two looks whether a rollout goes on.
LOOK_S = 0.25
#: Looks between two reports of what was counted.
_LOOKS_A_REPORT = 4
#: Looks between two reports that say the same: whoever reads them takes a server that is silent for gone.
_LOOKS_A_SIGN = 40
#: Looks after a failure of the database until the next one.
_LOOKS_OF_REST = 20
#: Seconds that the last report may take when the server ends.
_LAST_S = 2.0


def server_name() -> str:
    """A name for one life of a server, which no other life has."""
    return f"{socket.gethostname()[:30]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def counts_of(snapshot: Snapshot, model: str, version: int) -> Counts | None:
    """What a server counted for a version; None while it neither has it nor failed to load it. Pure."""
    failure = snapshot.failed.get(f"{model}:{version}", "")
    for compared in snapshot.comparisons:
        if (compared.model, compared.shadow) == (model, version) and compared.requests:
            # The time of a shadow is not that of a version which answers, so its durations are no evidence.
            return Counts(codes=compared.codes, shadow=compared.sums(), failure=failure)
    for figures in snapshot.models:
        if (figures.model, figures.version) == (model, version):
            return Counts(codes=figures.codes, latencies=figures.latencies, failure=failure)
    return Counts(failure=failure) if failure else None


class Beside:
    """Follows the rollouts of a server's home. Belongs to one event loop.

    Args:
        settings: of the server.
        figures: gives those of all its processes together.
        watch: whether it may start a watcher.
        logs: whether a watcher writes log lines to standard error.
    """

    def __init__(
        self,
        settings: ServerSettings,
        figures: Callable[[], Awaitable[Snapshot]],
        *,
        watch: bool = True,
        logs: bool = True,
    ) -> None:
        self._settings = settings
        self._figures = figures
        self._watcher = WatcherKeeper(settings, logs=logs) if watch and settings.watch else None
        #: Rules of alerts are looked at whether or not anything is captured.
        self._alerts = bool(settings.alert_webhook) or rules_are_written(config_path())
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="servable-beside")
        self._pulse = pulse_of(Path(settings.home), settings.database_url)
        self._reports: Reports | None = None
        #: What was last read, and whether it still holds as far as the pulse tells.
        self._going_on: tuple[GoingOn, ...] = ()
        self._capturing = False
        self._known = False
        self._name = server_name()
        #: What had been counted when a rollout was first seen, and what was last written of it.
        self._begun: dict[int, dict[int, Counts]] = {}
        self._written: dict[int, tuple[int, dict[int, Counts]]] = {}
        self._looks = 0
        self._rest = 0
        self._failing = False

    async def run(self) -> None:
        """Look and report until cancelled."""
        while True:
            if self._rest:
                self._rest -= 1
            else:
                await self._guarded()
            await asyncio.sleep(LOOK_S)

    async def _guarded(self) -> None:
        try:
            await self.look()
            self._failing = False
        except ServableError as error:
            if not self._failing:
                _log.warning("rollouts cannot be counted for now", extra=fields(reason=error.message))
            self._failing, self._rest = True, _LOOKS_OF_REST
        except Exception:  # noqa: BLE001 - whatever is wrong here must not end what goes on beside a server
            _log.exception("counting for rollouts failed inside")
            self._rest = _LOOKS_OF_REST

    async def look(self) -> None:
        """Look once, and report when it is time.

        Raises:
            ServableError: the database does not answer.
        """
        reports = await self._opened()
        if self._pulse.moved() or not self._known:
            # Known only once it was read to the end, so that a failure is followed by another try.
            self._known = False
            self._going_on, self._capturing = await self._aside(partial(_read, reports))
            self._known = True
        going_on = self._going_on
        await self._count(reports, going_on, due=self._looks % _LOOKS_A_REPORT == 0)
        if self._watcher is not None and self._looks % _LOOKS_A_REPORT == 0:
            self._watcher.keep(needed=self._alerts or bool(going_on) or self._capturing)
        self._looks += 1

    async def _count(self, reports: Reports, going_on: tuple[GoingOn, ...], *, due: bool) -> None:
        for number in self._begun.keys() - {each.id for each in going_on}:
            del self._begun[number]
            self._written.pop(number, None)
        # What was counted before is taken note of as soon as a rollout begins.
        if not going_on or not (due or any(each.id not in self._begun for each in going_on)):
            return
        snapshot = await self._figures()
        for each in going_on:
            found = {version: counts_of(snapshot, each.model, version) for version in each.versions}
            known = {version: counts for version, counts in found.items() if counts is not None}
            begun = self._begun.setdefault(each.id, known)
            since = {version: counts.less(begun.get(version, NO_COUNTS)) for version, counts in known.items()}
            looks, before = self._written.get(each.id, (0, {}))
            if since and (since != before or self._looks - looks >= _LOOKS_A_SIGN):
                await self._aside(partial(reports.count, each.id, self._name, since))
                self._written[each.id] = (self._looks, since)

    async def _opened(self) -> Reports:
        if self._reports is None:
            home, url = Path(self._settings.home), self._settings.database_url
            self._reports = await self._aside(lambda: open_reports(home, database_url=url))
        return self._reports

    async def _aside(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def close(self) -> None:
        """Say once more what was counted, and end the watcher; call when ``run`` has ended."""
        if self._watcher is not None:
            self._watcher.end()
        if self._begun and self._reports is not None:
            with contextlib.suppress(ServableError, TimeoutError):
                await asyncio.wait_for(self._last(self._reports), _LAST_S)
        if self._watcher is not None:
            await self._watcher.close()
        self._pulse.close()
        if self._reports is not None:
            self._thread.submit(self._reports.close)
        self._thread.shutdown(wait=False)

    async def _last(self, reports: Reports) -> None:
        await self._count(reports, await self._aside(reports.going_on), due=True)


def _read(reports: Reports) -> tuple[tuple[GoingOn, ...], bool]:
    return reports.going_on(), reports.capturing()


@contextlib.asynccontextmanager
async def beside(
    settings: ServerSettings,
    figures: Callable[[], Awaitable[Snapshot]],
    started: "asyncio.Future[None]",
    *,
    logs: bool,
) -> AsyncIterator[None]:
    """While the block runs, what goes on beside a server; it begins when the server has started.

    Args:
        settings: of the server.
        figures: gives those of all its processes together.
        started: has its result once every model was tried.
        logs: whether a watcher writes log lines to standard error.
    """
    found, auditing = Beside(settings, figures, logs=logs), Auditing(settings)

    async def follow() -> None:
        await asyncio.wait([started])
        await asyncio.gather(found.run(), auditing.run())

    following = asyncio.create_task(follow())
    try:
        yield
    finally:
        following.cancel()
        await asyncio.wait([following])
        await found.close()
        await auditing.close()
