"""Captures requests and their answers while they are served, and keeps feedback.

What the event loop does for a captured request is to append its arrays to a page in memory: a few
microseconds, nothing that waits, and no object that stays (``monitoring.capture_pages``). A page that is
full, or as old as the interval, is handed over to a thread, which makes a segment of it. Memory is bounded
in rows and bytes; what does not fit, and what the disk does not take, is dropped and counted, and serving
goes on. Feedback is different: it is acknowledged only when it is durable (``monitoring.journal``).
"""

import asyncio
import math
import os
import socket
import threading
import time
import uuid
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from weakref import WeakSet

from servable.clock import Clock
from servable.errors import ServableError, StorageFailed, UnavailableError
from servable.logs import fields, logger
from servable.monitoring.capture_pages import Page
from servable.monitoring.feedback import FeedbackRow
from servable.monitoring.journal import Journal, settle_orphans
from servable.monitoring.sealed_traffic import sealed_predictions
from servable.monitoring.segments import TrafficStore, need_pyarrow
from servable.registry.reserve import Reserve
from servable.serving.capture_tap import CaptureTap, pause
from servable.serving.live import Live, Tap
from servable.serving.subjects import ServerSubjects
from servable.settings import ServerSettings

_log = logger("capture")
#: A page is handed over when it holds this part of the memory, so that there is room while it is written.
_PART_OF_MEMORY = 4
#: Seconds between two log lines about rows that were dropped.
_QUIET_S = 60.0


class Recorder:
    """Captures for all models of one server process. Its taps belong to one event loop.

    Nothing is made, no folder and no thread, before a first request is captured or a first feedback comes.

    Args:
        settings: the home, the bounds of memory and the intervals.
        clock: dates feedback.
    """

    def __init__(self, settings: ServerSettings, clock: Clock) -> None:
        self._subjects = ServerSubjects(settings, self._declares)
        self._store = TrafficStore(Path(settings.home), settings.blob_url, self._subjects)
        #: Every tap that was made and is in use still.
        self._taps: WeakSet[CaptureTap] = WeakSet()
        self._reserve = Reserve(Path(settings.home))
        self._interval_s = settings.capture_interval_s
        self._page_rows = min(settings.capture_segment_rows, max(1, settings.capture_rows // 2))
        self._page_bytes = settings.capture_memory // _PART_OF_MEMORY
        #: Names this process among all that write into the home.
        self._server = f"{socket.gethostname().partition('.')[0]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._journal = Journal(self._store, self._server, clock)
        #: Taps with a page that is being filled, and when all of these are handed over; of the event loop.
        self._open: dict[CaptureTap, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        #: Pages that wait for the thread.
        self._pages: deque[tuple[CaptureTap, Page]] = deque()
        self._wake = threading.Event()
        #: Feedback is to be settled now.
        self._hurry = threading.Event()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._patience_s = settings.shutdown_s
        self._number = 0
        #: Whether pyarrow is there and the thread runs, so that feedback can become segments.
        self._ready = False
        self._said = -math.inf
        #: What may still be taken; of the event loop.
        self._free_rows = settings.capture_rows
        self._free_bytes = settings.capture_memory
        #: Rows and bytes of pages that the thread is done with, for the event loop to take back.
        self._done: deque[tuple[int, int]] = deque()

    def tap(self, live: Live) -> Tap:
        """What captures the requests of a live model as its deployment wishes at that moment."""
        tap = CaptureTap(self, live)
        with self._starting:
            self._taps.add(tap)
        return tap

    def settle_soon(self) -> None:
        """Write what was taken so far, captured rows and feedback, as soon as the thread can."""
        self._hand_over_all()
        self._hurry.set()
        self._wake.set()

    def _declares(self, model: str) -> bool | None:
        """Whether a live model says whom its rows are about; None where it is not live here."""
        with self._starting:
            subjects = [tap.subject for tap in self._taps if tap.model == model]
        return any(subjects) if subjects else None

    async def keep(self, model: str, rows: Sequence[FeedbackRow]) -> None:
        """Keep feedback; when this returns it is durable.

        Raises:
            Overloaded: too much waits for the disk.
            UnavailableError: the storage does not take it; the log says why.
            DependencyMissing: pyarrow is not installed.
        """
        if not self._ready:
            await asyncio.to_thread(need_pyarrow)
            self._ready = True
            self._begin()
        try:
            await asyncio.wrap_future(self._journal.append(model, rows))
        except StorageFailed as error:
            raise _not_kept() from error
        except ServableError as error:
            if isinstance(error, UnavailableError):
                raise
            raise _not_kept() from error

    async def close(self) -> None:
        """Write everything that was taken, then end the threads. Nothing may be taken any more."""
        self._hand_over_all()
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._journal.close()
        self._ending.set()
        self._wake.set()
        thread = self._thread
        if thread is not None:
            # A disk that hangs must not keep the server from ending.
            thread.join(max(1.0, self._patience_s))

    # ------------------------------------------------------------------ in the event loop

    def take(self, tap: CaptureTap, page: Page, rows: int, size: int) -> bool:
        """Count what was added to a page, and hand over the page that is full; False when it does not fit."""
        if (rows > self._free_rows or size > self._free_bytes) and not self._freed(rows, size):
            return False
        self._free_rows -= rows
        self._free_bytes -= size
        page.rows += rows
        page.size += size
        if page.rows >= self._page_rows or page.size >= self._page_bytes:
            self.hand_over(tap)
        return True

    def _freed(self, rows: int, size: int) -> bool:
        """Take back what pages took that are done with; whether there is room now."""
        while self._done:
            freed_rows, freed_bytes = self._done.popleft()
            self._free_rows += freed_rows
            self._free_bytes += freed_bytes
        return rows <= self._free_rows and size <= self._free_bytes

    def crowded(self, reference: str) -> None:
        """Memory is full: say so, and let the thread write what there is."""
        if not self._pages:
            # Many pages that are not full yet may hold all of it.
            self._hand_over_all()
        now = time.monotonic()
        if now - self._said >= _QUIET_S:
            self._said = now
            reason = "more rows come than the disk takes; see capture_memory and capture_rows"
            _log.error("captured rows were dropped", extra=fields(model=reference, reason=reason))

    def opened(self, tap: CaptureTap) -> None:
        """A tap begins a page; it is handed over when the interval is over, if not before."""
        self._open[tap] = None
        self._freed(0, 0)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._interval_s, self._hand_over_all)
        self._begin()

    def hand_over(self, tap: CaptureTap) -> None:
        """Give the page of a tap, which begins no other by itself, to the thread."""
        page = tap.page
        if page is not None:
            tap.page = None
            self._open.pop(tap, None)
        if page is not None and page.rows:
            self._pages.append((tap, page))
            self._wake.set()

    def _hand_over_all(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for tap in list(self._open):
            self.hand_over(tap)

    def _begin(self) -> None:
        """Start the thread, unless it runs."""
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._work, name="servable-capture", daemon=True)
                    self._thread.start()

    # ------------------------------------------------------------------ in the thread

    def _work(self) -> None:
        """Write the pages that come, and settle feedback at intervals, until closed."""
        settled = -math.inf
        # While there is room: somebody may have to be erased when there is none.
        self._reserve.keep()
        while True:
            woken = self._wake.wait(self._interval_s)
            self._wake.clear()
            ending = self._ending.is_set()
            while self._pages:
                self._flush(*self._pages.popleft())
            hurried = self._hurry.is_set()
            self._hurry.clear()
            if ending or hurried or not woken or time.monotonic() - settled >= self._interval_s:
                self._settle()
                settled = time.monotonic()
            if ending:
                self._subjects.close()
                return

    def _flush(self, tap: CaptureTap, page: Page) -> None:
        """Write a page as a segment."""
        try:
            self._write(tap, page)
        except Exception as error:  # noqa: BLE001 - whatever a library or a disk raises, serving goes on
            tap.meter.capture_lost += page.rows
            self._dropped(tap.reference, error)
        else:
            tap.meter.captured += page.rows
        self._done.append((page.rows, page.size))

    def _write(self, tap: CaptureTap, page: Page) -> None:
        need_pyarrow()
        made = tap.table(self._store.key)
        table = sealed_predictions(self._store, tap.model, tap.signature, made.of(page), pause)
        self._number += 1
        name = f"{self._server}-{self._number}"
        self._store.write(tap.model, "predictions", name, table, _moment(page.first))

    def _settle(self) -> None:
        """Make segments of feedback: this server's, and what ended ones left behind."""
        try:
            self._journal.settle()
            settle_orphans(self._store)
        except Exception as error:  # noqa: BLE001 - as above; the journals stay and are tried again
            self._complain("feedback waits for the storage", error)

    def _dropped(self, reference: str, error: BaseException) -> None:
        self._complain("captured rows were dropped", error, model=reference)

    def _complain(self, what: str, error: BaseException, **more: Any) -> None:
        """A line in the log, at most one a minute."""
        now = time.monotonic()
        if now - self._said < _QUIET_S:
            return
        self._said = now
        reason = error.message if isinstance(error, ServableError) else type(error).__name__
        known = isinstance(error, ServableError | OSError)
        _log.error(what, extra=fields(**more, reason=reason), exc_info=None if known else error)


def _not_kept() -> UnavailableError:
    return UnavailableError("The feedback could not be kept; send it again later.")


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
