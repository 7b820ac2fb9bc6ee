"""``watch``: follows rollouts, live quality, drift and alerts of a home, one watcher at a time.

Every watcher of a home, on whatever machine, asks for the lease; who has it acts and the others wait. All
that is done is idempotent, so two that both believe to have it do no harm.
"""

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from servable.clock import Clock, SystemClock
from servable.errors import ServableError
from servable.logs import fields, logger
from servable.registry.home import Home, open_home
from servable.rollout.controller import follow
from servable.rollout.pacing import Paced
from servable.settings import load_settings
from servable.workflows.rollout_outcomes import WatchOutcome

_log = logger("watcher")
#: The name of the lease.
LEASE = "watcher"
#: Seconds for which it is taken.
LEASE_S = 15.0
#: Seconds between two looks at the rollouts.
LOOK_S = 1.0


class Job(NamedTuple):
    """Something that is done again and again.

    Attributes:
        name: for the log.
        every_s: seconds between two times.
        work: takes the open home and a clock.
    """

    name: str
    every_s: float
    work: Callable[[Home, Clock], Any]


def jobs() -> tuple[Job, ...]:
    """What is done besides following rollouts."""
    # Lazily: whoever only follows rollouts on a small machine waits for none of what these bring.
    from servable.monitoring.segment_cache import SegmentCache
    from servable.workflows.alerting import raise_alerts
    from servable.workflows.compacting import compact_segments
    from servable.workflows.drift import refresh_drift
    from servable.workflows.quality import refresh_quality, remove_old

    return (
        Job("old traffic", 600.0, remove_old),
        Job("compaction", 60.0, compact_segments),
        Job("quality", 5.0, partial(refresh_quality, cache=SegmentCache())),
        Job("drift", 30.0, partial(refresh_drift, cache=SegmentCache())),
        Job("alerts", 5.0, raise_alerts),
    )


class Watcher:
    """Does what is due while it has the lease. Belongs to one thread.

    Args:
        home: an open home.
        clock: the time.
        others: what is done besides following rollouts; ``jobs`` when None.
    """

    def __init__(self, home: Home, clock: Clock, others: tuple[Job, ...] | None = None) -> None:
        self._home = home
        self._clock = clock
        self._jobs = jobs() if others is None else others
        self._due = {job.name: -float("inf") for job in self._jobs}
        #: Why a job could not be done the last time; said once.
        self._failing: dict[str, str] = {}
        self._outcomes = Paced(clock)
        self._holder = f"{socket.gethostname()[:60]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        # A look at the rollouts must not wait for a long read of captured traffic.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="servable-watcher")
        self._working: Future[None] | None = None
        self._had = False

    def look(self) -> bool:
        """Follow the rollouts, and begin what else is due.

        Returns:
            Whether it has the lease.

        Raises:
            ServableError: the database does not answer.
        """
        has = self._home.leases.take(LEASE, self._holder, LEASE_S)
        if has != self._had:
            _log.info("watches" if has else "another one watches", extra=fields(home=str(self._home.path)))
        self._had = has
        if not has:
            return False
        follow(self._home, self._clock, self._outcomes)
        if self._working is None or self._working.done():
            self._working = self._thread.submit(self._others)
        return True

    def once(self) -> WatchOutcome:
        """Do everything once, whether it is due or not, if nobody else watches."""
        if not self._home.leases.take(LEASE, self._holder, LEASE_S):
            return WatchOutcome(acted=False, holder=self._home.leases.holder(LEASE))
        self._others()
        going_on = follow(self._home, self._clock, self._outcomes)
        return WatchOutcome(acted=True, holder=self._holder, rollouts=going_on)

    def close(self) -> None:
        """Wait for what was begun, and let others watch."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._home.leases.give_back(LEASE, self._holder)

    def _others(self) -> None:
        for job in self._jobs:
            now = self._clock.monotonic()
            if now < self._due[job.name]:
                continue
            try:
                job.work(self._home, self._clock)
                self._failing.pop(job.name, None)
            except ServableError as error:
                if self._failing.get(job.name) != error.message:
                    _log.warning("could not be done", extra=fields(job=job.name, reason=error.message))
                self._failing[job.name] = error.message
            except Exception:  # noqa: BLE001 - one job must not end the others
                _log.exception("failed inside", extra=fields(job=job.name))
            self._due[job.name] = self._clock.monotonic() + job.every_s


def watch(
    home: str | Path | None = None,
    *,
    once: bool = False,
    database_url: str | None = None,
    ending: threading.Event | None = None,
    clock: Clock | None = None,
) -> WatchOutcome:
    """Watch a home until told to end. A database that does not answer is tried again.

    Args:
        home: the folder of the registry; looked up when None.
        once: do everything once and return.
        database_url: where the database is; looked up when None.
        ending: is set to end it; None: only an interrupt does.
        clock: the time; the machine's when None.

    Raises:
        FileMissing: there is no such home.
        StorageFailed: it cannot be opened.
    """
    settings, clock = load_settings({"home": home, "database_url": database_url}), clock or SystemClock()
    with open_home(
        settings.home,
        create=False,
        database_url=settings.database_url or None,
        blob_url=settings.blob_url,
        clock=clock,
    ) as place:
        watcher = Watcher(place, clock)
        try:
            return watcher.once() if once else _until(watcher, ending or threading.Event())
        finally:
            _ended(watcher)


def _until(watcher: Watcher, ending: threading.Event) -> WatchOutcome:
    failing, had = False, False
    while not ending.is_set():
        began = time.monotonic()
        try:
            had = watcher.look()
            failing = False
        except ServableError as error:
            if not failing:
                _log.warning("the registry does not answer", extra=fields(reason=error.message))
            failing = True
        ending.wait(max(LOOK_S - (time.monotonic() - began), 0.1))
    return WatchOutcome(acted=had)


def _ended(watcher: Watcher) -> None:
    try:
        watcher.close()
    except ServableError as error:
        # The lease runs out by itself.
        _log.warning("the lease was not given back", extra=fields(reason=error.message))
