"""Captures requests and their answers while they are served, and keeps feedback.

What the event loop does for a captured request is to copy its small arrays and to append them to a queue: a
few microseconds, nothing that waits. A thread turns what is there into segments at intervals. Memory is
bounded in rows and bytes; what does not fit, and what the disk does not take, is dropped and counted, and
serving goes on. Feedback is different: it is acknowledged only when it is durable (``monitoring.journal``).
"""

import asyncio
import math
import os
import socket
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from servable.artifact.signature import STRING_DTYPES, Signature
from servable.clock import Clock
from servable.errors import ServableError, StorageFailed, UnavailableError
from servable.logs import fields, logger
from servable.monitoring.capture import MOST_ROW_BYTES, PredictionTable, Taken
from servable.monitoring.feedback import FeedbackRow
from servable.monitoring.journal import Journal, settle_orphans
from servable.monitoring.metrics import Meter
from servable.monitoring.segments import TrafficStore, need_pyarrow
from servable.runtime.waiting import Waiting
from servable.serving.live import Live, Tap
from servable.settings import ServerSettings
from servable.tensors import NUMBERS, STRINGS, Arrays

_log = logger("capture")
#: What a captured request takes besides its arrays, and a text besides its letters, in bytes.
_REQUEST_BYTES = 600
_TEXT_BYTES = 56
#: Most requests of which a table is made at once, so that the interpreter is given back in between.
_MOST_AT_ONCE = 2_000
#: Seconds between two log lines about rows that were dropped.
_QUIET_S = 60.0
_WHOLE = 2**32
_wall = time.time


def chosen(request_id: str, share: float) -> bool:
    """Whether a request belongs to the captured share; by its id, so that a repeated one falls alike."""
    return share >= 1.0 or crc32(request_id.encode("utf-8", "replace")) < share * _WHOLE


class Recorder:
    """Captures for all models of one server process. Its taps belong to one event loop.

    Nothing is made, no folder and no thread, before a first request is captured or a first feedback comes.

    Args:
        settings: the home, the bounds of memory and the intervals.
        clock: dates feedback.
    """

    def __init__(self, settings: ServerSettings, clock: Clock) -> None:
        self._store = TrafficStore(Path(settings.home))
        self._interval_s = settings.capture_interval_s
        self._most_rows = settings.capture_rows
        self._most_bytes = settings.capture_memory
        self._segment_rows = min(settings.capture_segment_rows, max(1, settings.capture_rows // 2))
        #: Names this process among all that write into the home.
        self._server = f"{socket.gethostname().partition('.')[0]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._journal = Journal(self._store, self._server, clock)
        self._taps: list[CaptureTap] = []
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._patience_s = settings.shutdown_s
        self._number = 0
        #: Whether pyarrow is there and the thread runs, so that feedback can become segments.
        self._ready = False
        self._said = -math.inf
        #: Counted up by the event loop alone, and by the thread alone; the differences are what is held now.
        self._taken_rows = self._taken_bytes = 0
        self._gone_rows = self._gone_bytes = 0

    def tap(self, live: Live) -> Tap:
        """What captures the requests of a live model as its deployment wishes at that moment."""
        return CaptureTap(self, live)

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

    def take(self, tap: "CaptureTap", taken: Taken) -> bool:
        """Put a request into a queue; False when it does not fit."""
        rows, size = taken[1], taken[8]
        held = self._taken_rows - self._gone_rows + rows
        if held > self._most_rows or self._taken_bytes - self._gone_bytes + size > self._most_bytes:
            self._wake.set()
            return False
        # First the queue and then the look whether it is attended: see ``_forget``.
        tap.queue.append(taken)
        if not tap.known:
            self._attend(tap)
        self._taken_rows += rows
        self._taken_bytes += size
        if held >= self._segment_rows > held - rows:
            self._wake.set()
        return True

    def _attend(self, tap: "CaptureTap") -> None:
        """Let the thread look at a tap; twice does no harm."""
        tap.known = True
        self._taps.append(tap)
        self._begin()

    def _begin(self) -> None:
        """Start the thread, unless it runs."""
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._work, name="servable-capture", daemon=True)
                    self._thread.start()

    # ------------------------------------------------------------------ in the thread

    def _work(self) -> None:
        """Write what is there, at intervals and when there is enough, until closed."""
        while True:
            self._wake.wait(self._interval_s)
            self._wake.clear()
            ending = self._ending.is_set()
            for tap in list(self._taps):
                self._flush(tap)
                if tap.retired:
                    self._forget(tap)
            self._settle()
            if ending:
                return

    def _forget(self, tap: "CaptureTap") -> None:
        """Look no more at the tap of a model that goes; its last request may come at this very moment."""
        tap.known = False
        self._taps.remove(tap)
        if tap.queue:
            self._attend(tap)

    def _flush(self, tap: "CaptureTap") -> None:
        """Write what one tap took as segments."""
        while tap.queue:
            batch = list(_some(tap.queue, self._segment_rows))
            rows = sum(taken[1] for taken in batch)
            try:
                self._write(tap, batch)
            except Exception as error:  # noqa: BLE001 - whatever a library or a disk raises, serving goes on
                tap.meter.capture_lost += rows
                self._dropped(tap.reference, error)
            else:
                tap.meter.captured += rows
            self._gone_rows += rows
            self._gone_bytes += sum(taken[8] for taken in batch)

    def _write(self, tap: "CaptureTap", taken: list[Taken]) -> None:
        need_pyarrow()
        import pyarrow as pa

        parts = []
        made = tap.table(self._store.key)
        for start in range(0, len(taken), _MOST_AT_ONCE):
            parts.append(made.of(taken[start : start + _MOST_AT_ONCE]))
            # Requests that wait for the interpreter come first.
            time.sleep(0)
        self._number += 1
        table = pa.concat_tables(parts, promote_options="permissive")
        first = _moment(taken[0][6])
        self._store.write(tap.model, "predictions", f"{self._server}-{self._number}", table, first)

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

    def full(self, reference: str) -> None:
        """Say that memory is full; from the event loop."""
        now = time.monotonic()
        if now - self._said >= _QUIET_S:
            self._said = now
            reason = "more rows come than the disk takes; see capture_memory and capture_rows"
            _log.error("captured rows were dropped", extra=fields(model=reference, reason=reason))


class CaptureTap:
    """Captures the requests of one live model; implements ``Tap``.

    Attributes:
        queue: what was taken and not written yet.
        known: whether the recorder looks at it.
        meter: counts what was captured and dropped.
    """

    __slots__ = ("_live", "_made", "_recorder", "_small", "_tables", "known", "meter", "queue")

    def __init__(self, recorder: Recorder, live: Live) -> None:
        self._recorder = recorder
        self._live = live
        self._tables, self._small = _wanted(live.signature)
        self._made: PredictionTable | None = None
        self.queue: deque[Taken] = deque()
        self.known = False
        self.meter: Meter = live.meter

    @property
    def model(self) -> str:
        """Its name."""
        return self._live.model

    @property
    def reference(self) -> str:
        """``name:version``."""
        return self._live.wanted.reference

    @property
    def retired(self) -> bool:
        """Whether no request comes any more."""
        return self._live.retired

    def table(self, key: Callable[[], bytes]) -> PredictionTable:
        """What makes tables of it; in the thread alone."""
        if self._made is None:
            self._made = PredictionTable(self._live.signature, self._live.version, key())
        return self._made

    def took(
        self, asked: Waiting, request_id: str, answers: Arrays | None, code: str, seconds: float
    ) -> None:
        """See ``Tap``."""
        share = self._live.wanted.policy.capture
        rows = asked.rows
        # Without rows nothing was decoded: the caller's bytes were no request.
        if not share or not rows or not chosen(request_id, share):
            return
        size, most = _REQUEST_BYTES, MOST_ROW_BYTES * rows
        arrays: dict[str, Any] = {}
        given = asked.arrays
        for name in self._tables:
            array = given.get(name)
            if array is not None:
                arrays[name] = copy = array.copy()
                size += copy.nbytes if name is NUMBERS else _held(copy)
        for name, dtype in self._small:
            array = given.get(name)
            # Files that were never opened are no tensors of the field's type.
            if array is not None and array.dtype == dtype and array.nbytes <= most:
                arrays[name] = copy = array.copy()
                size += _held(copy)
        kept: dict[str, Any] | None = None
        if answers is not None:
            kept = {}
            for name, array in answers.items():
                length = array.nbytes
                if length <= most:
                    kept[name] = copy = array.copy()
                    size += _held(copy) if copy.dtype.hasobject else length
        taken = (arrays, rows, request_id, kept, code, seconds, _wall(), share, size, asked.places)
        if not self._recorder.take(self, taken):
            self.meter.capture_dropped += rows
            self._recorder.full(self.reference)


def _held(array: NDArray[Any]) -> int:
    """About how many bytes an array holds, with its texts."""
    size = int(array.nbytes)
    if array.dtype.hasobject:
        size += array.size * _TEXT_BYTES + sum(map(len, array.ravel().tolist()))
    return size


def _wanted(signature: Signature) -> tuple[tuple[str, ...], tuple[tuple[str, np.dtype[Any]], ...]]:
    """The packed arrays of which something is captured, and the tensors with their types."""
    packed = tuple(name for name in (NUMBERS, STRINGS) if signature.packed(name))
    tensors = []
    for field in signature.inputs:
        if field.is_tensor and field.captured != "drop":
            dtype = np.dtype(object if field.dtype in STRING_DTYPES else field.dtype)
            # A free size is 1 here; each request is measured again.
            if math.prod(max(1, size) for size in field.shape) * dtype.itemsize <= MOST_ROW_BYTES:
                tensors.append((field.name, dtype))
    return packed, tuple(tensors)


def _some(queue: deque[Taken], rows: int) -> Iterator[Taken]:
    """Take requests from the front, until they hold so many rows."""
    while queue and rows > 0:
        each = queue.popleft()
        rows -= each[1]
        yield each


def _not_kept() -> UnavailableError:
    return UnavailableError("The feedback could not be kept; send it again later.")


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
