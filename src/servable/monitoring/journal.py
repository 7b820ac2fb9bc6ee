"""A server's journal of feedback: a small file to which many callers' rows are appended and synced together.

Whoever is told that feedback was kept can rely on it: the rows were synced to the disk before. At intervals
the journal becomes segments, one for each model, and is removed only when those are durable. A server that is
killed in between leaves its journal behind; the next one that looks finds that nobody holds it any more and
makes segments of it. The names of these follow from the journal's, so that doing it twice changes nothing.
"""

import fcntl
import os
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from servable.artifact.files import storage_error, storage_errors, sync_folder
from servable.clock import Clock
from servable.errors import Overloaded, ServableError, StorageFailed
from servable.logs import fields, logger
from servable.monitoring.feedback import FeedbackRow
from servable.monitoring.sealed_traffic import FeedbackKeeper
from servable.monitoring.segments import TrafficStore, need_pyarrow

_log = logger("feedback")
#: The folder below ``traffic`` that holds the journals.
JOURNALS = ".journals"
#: Rows that may wait for the disk.
MOST_WAITING = 1_000_000
_SUFFIX = ".jsonl"


class Line(NamedTuple):
    """One row of a journal; written as a JSON array."""

    model: str
    request_id: str
    row: int
    outcome: str | None
    reward: float | None
    at: int
    observed_at: int | None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Line)


class _Batch(NamedTuple):
    """The rows of one caller, and who waits for them."""

    model: str
    rows: Sequence[FeedbackRow]
    told: "Future[None]"


class Journal:
    """The journal of one server process. Safe to share between threads.

    Its thread begins with the first row and ends with ``close``.

    Args:
        store: of the home.
        server: names this process among all servers.
        clock: says when a row came.
        most: rows that may wait for the disk.
    """

    def __init__(self, store: TrafficStore, server: str, clock: Clock, most: int = MOST_WAITING) -> None:
        self._store = store
        self._keeper = FeedbackKeeper(store)
        self._server = server
        self._clock = clock
        self._most = most
        self._changed = threading.Condition()
        self._waiting: list[_Batch] = []
        self._rows = 0
        self._thread: threading.Thread | None = None
        self._closed = False
        #: Held while the file is written, and while it is taken away to become segments.
        self._writing = threading.Lock()
        self._file: _File | None = None
        self._number = 0
        self._last = 0

    def append(self, model: str, rows: Sequence[FeedbackRow]) -> "Future[None]":
        """Keep rows; the future is done when they are durable, and fails with ``StorageFailed`` otherwise.

        Raises:
            Overloaded: too many rows wait for the disk.
            StorageFailed: the journal was closed.
        """
        told: Future[None] = Future()
        with self._changed:
            if self._closed:
                raise StorageFailed("The server is stopping and takes no more feedback.")
            if self._rows and self._rows + len(rows) > self._most:
                raise Overloaded(f"{self._rows} rows of feedback wait for the disk; send these again later.")
            self._waiting.append(_Batch(model, rows, told))
            self._rows += len(rows)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="servable-feedback", daemon=True)
                self._thread.start()
            self._changed.notify()
        return told

    def settle(self) -> int:
        """Make segments of what was written so far; how many rows.

        Raises:
            StorageFull: no space left; the journal stays and is tried again.
            StorageFailed: the storage refuses them; the same.
            DependencyMissing: pyarrow is not installed; the same.
        """
        with self._writing:
            file, self._file = self._file, None
        if file is None:
            return 0
        try:
            return file.settled(self._keeper)
        except BaseException:
            # It is found again with the orphans, by this server or another one.
            file.release()
            raise

    def close(self) -> None:
        """Write what waits, then end the thread. Nothing may be appended any more."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        """Write what waits, all of it with one sync, until closed."""
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                batches, self._waiting = self._waiting, []
                self._rows = 0
            if not batches:
                return
            failure: ServableError | None = None
            try:
                self._write(self._lines(batches))
            except OSError as error:
                failure = storage_error(error, "keeping feedback")
                _log.error("feedback was not kept", extra=fields(reason=failure.message))
            except Exception as error:  # noqa: BLE001 - whoever waits must be told, and the thread go on
                failure = StorageFailed("Keeping feedback failed inside; the log says why.")
                _log.error("feedback was not kept", exc_info=error)
            for batch in batches:
                # A caller who left meanwhile has cancelled it.
                if batch.told.set_running_or_notify_cancel():
                    if failure is None:
                        batch.told.set_result(None)
                    else:
                        batch.told.set_exception(failure)

    def _lines(self, batches: Iterable[_Batch]) -> bytes:
        """The rows as lines, each with a moment of its own: of two labels of one row the later holds."""
        at = max(self._last + 1, round(self._clock.now().timestamp() * 1e6))
        parts: list[bytes] = []
        for batch in batches:
            for row in batch.rows:
                line = Line(
                    batch.model, row.request_id, row.row, row.outcome, row.reward, at, row.observed_at
                )
                parts.append(_encoder.encode(line))
                at += 1
        self._last = at - 1
        return b"\n".join(parts) + b"\n"

    def _write(self, lines: bytes) -> None:
        with self._writing:
            if self._file is None:
                self._number += 1
                self._file = _File.made(self._store.root / JOURNALS, f"{self._server}-{self._number}")
            try:
                self._file.append(lines)
            except OSError:
                # Whatever is in it was synced before; nothing more is written behind a line that may be torn.
                self._file.release()
                self._file = None
                raise


class _File:
    """An open journal file, locked for as long as it is."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    @classmethod
    def made(cls, folder: Path, name: str) -> "_File":
        """A new file; raises ``OSError``."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}{_SUFFIX}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            sync_folder(folder)
        except OSError:
            os.close(descriptor)
            raise
        return cls(path, descriptor)

    @classmethod
    def orphaned(cls, path: Path) -> "_File | None":
        """A file that nobody holds any more; None when somebody does, or it is gone."""
        try:
            descriptor = os.open(path, os.O_RDWR)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink:
                return cls(path, descriptor)
        except OSError:
            os.close(descriptor)
            return None
        os.close(descriptor)
        return None

    def append(self, lines: bytes) -> None:
        """Write and sync; raises ``OSError``, and then the file is as it was before, if that can be."""
        end = os.fstat(self._descriptor).st_size
        try:
            left = memoryview(lines)
            while left:
                left = left[os.write(self._descriptor, left) :]
            os.fsync(self._descriptor)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._descriptor, end)
            raise

    def settled(self, keeper: FeedbackKeeper) -> int:
        """Make segments of it and remove it; how many rows there were."""
        rows = _read(self.path)
        by_model: dict[str, list[Line]] = {}
        for row in rows:
            by_model.setdefault(row.model, []).append(row)
        for model, lines in by_model.items():
            first = datetime.fromtimestamp(lines[0].at / 1e6, UTC)
            keeper.keep(model, self.path.name.removesuffix(_SUFFIX), table_of(lines), first)
        self.path.unlink(missing_ok=True)
        self.release()
        return len(rows)

    def release(self) -> None:
        """Close it; whoever finds it later may have it."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def settle_orphans(store: TrafficStore) -> int:
    """Make segments of the journals that ended servers left; how many rows. Several may do this at once.

    Raises:
        StorageFull: no space left.
        StorageFailed: the storage refuses them.
        DependencyMissing: pyarrow is not installed.
    """
    settled, keeper = 0, FeedbackKeeper(store)
    for path in sorted((store.root / JOURNALS).glob(f"*{_SUFFIX}")):
        file = _File.orphaned(path)
        if file is None:
            continue
        try:
            settled += file.settled(keeper)
        finally:
            file.release()
    return settled


def journals(folder: Path) -> frozenset[str]:
    """The names of the journals of which no segments were made yet.

    Args:
        folder: the one in the home that holds the traffic.
    """
    return frozenset(path.name for path in (folder / JOURNALS).glob(f"*{_SUFFIX}"))


def unsettled(folder: Path, model: str) -> list[Line]:
    """The rows about a model that journals hold and no segment does, whoever writes to them at this moment.

    A journal may become a segment meanwhile: whoever lists segments afterwards misses no row, and may see
    some twice.

    Args:
        folder: the one in the home that holds the traffic.
        model: its name.

    Raises:
        StorageFailed: a journal cannot be read.
    """
    lines: list[Line] = []
    for path in sorted((folder / JOURNALS).glob(f"*{_SUFFIX}")):
        with storage_errors("reading a journal of feedback"), suppress(FileNotFoundError):
            lines += [line for line in _lines_of(path.read_bytes()) if line.model == model]
    return lines


def table_of(lines: Sequence[Line]) -> Any:
    """Rows of a journal as a ``pyarrow.Table`` of a segment."""
    need_pyarrow()
    import pyarrow as pa

    moment = pa.timestamp("us", "UTC")
    kinds: dict[str, Any] = {
        "request_id": pa.string(), "row": pa.int32(), "outcome": pa.string(), "reward": pa.float64(),
        "at": moment, "observed_at": moment,
    }  # fmt: skip
    return pa.table(
        {name: pa.array([getattr(line, name) for line in lines], kind) for name, kind in kinds.items()}
    )


def _read(path: Path) -> list[Line]:
    """The whole lines of a journal."""
    with storage_errors("reading a journal of feedback"):
        return _lines_of(path.read_bytes())


def _lines_of(content: bytes) -> list[Line]:
    """The whole lines; what a crash tore off was never acknowledged."""
    rows: list[Line] = []
    for line in content.split(b"\n")[:-1]:
        with suppress(msgspec.MsgspecError):
            rows.append(_decoder.decode(line))
    return rows
