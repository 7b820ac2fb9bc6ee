"""What a server counts about itself.

A live model counts into a ``Meter``: plain numbers, changed only from the event loop, read when
somebody asks. That keeps the cost of a request well under a microsecond. Labels are names and
versions of models that are or were live, and our own code words, so their number is bounded:
whatever a caller makes up never becomes a label.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import NamedTuple

from servable.monitoring.rendering import CONTENT_TYPE, render
from servable.monitoring.shadow_counts import Comparing
from servable.monitoring.standing import UNKNOWN, Known
from servable.monitoring.steps import step_of
from servable.monitoring.totals import BATCH_BOUNDS, BOUNDS, ModelFigures, Snapshot, process_figures

#: The code of an answer that was no error.
OK = "ok"
#: Sizes of batches of which runs and seconds are kept apart, for each model.
MOST_SIZES = 64
_wall = time.time


class Held(NamedTuple):
    """What a live model holds.

    Attributes:
        memory_bytes: in the server and in processes of its own.
        processes: living ones of its own.
        shared_processes: living ones that it shares with other servers.
        accelerator_bytes: of the memory of its GPU.
    """

    memory_bytes: int = 0
    processes: int = 0
    shared_processes: int = 0
    accelerator_bytes: int = 0


#: What a model holds that is not live.
NOTHING = Held()


class Meter:
    """Counts the requests of one model and version. Belongs to one event loop."""

    __slots__ = (
        "abandoned",
        "batch_buckets",
        "batch_rows",
        "batch_seconds",
        "batch_sizes",
        "batches",
        "buckets",
        "cache_bytes",
        "cache_hits",
        "cache_misses",
        "capture_dropped",
        "capture_lost",
        "captured",
        "codes",
        "expired",
        "failed_seconds",
        "first_buckets",
        "first_seconds",
        "last_run",
        "latencies",
        "load_seconds",
        "model",
        "pieces",
        "queued",
        "replacements",
        "rows",
        "seconds",
        "shared_requests",
        "shared_seconds",
        "streams",
        "version",
        "wait_buckets",
        "wait_seconds",
    )

    def __init__(self, model: str, version: int) -> None:
        self.model = model
        self.version = version
        self.codes: dict[str, int] = {}
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0
        #: Successful requests by duration, in the steps of ``durations``.
        self.latencies: dict[int, int] = {}
        self.rows = 0
        self.load_seconds = 0.0
        self.batches = 0
        self.batch_buckets = [0] * (len(BATCH_BOUNDS) + 1)
        self.batch_rows = 0
        self.batch_seconds = 0.0
        #: Runs and seconds by rows; a size beyond ``MOST_SIZES`` of them is not kept apart.
        self.batch_sizes: dict[int, list[float]] = {}
        #: Requests in batches beyond the first of each, and what their batches' run times add up to.
        self.shared_requests = 0
        self.shared_seconds = 0.0
        self.last_run = 0.0
        self.failed_seconds = 0.0
        self.wait_buckets = [0] * (len(BOUNDS) + 1)
        self.wait_seconds = 0.0
        #: Requests that wait now.
        self.queued = 0
        #: Requests whose time was over before they were started.
        self.expired = 0
        #: Requests whose caller left before they were started.
        self.abandoned = 0
        #: Model processes that were replaced.
        self.replacements = 0
        #: Answers in pieces that are open now, pieces sent so far, and the time to the first of each answer.
        self.streams = 0
        self.pieces = 0
        self.first_buckets = [0] * (len(BOUNDS) + 1)
        self.first_seconds = 0.0
        self.cache_hits = 0
        self.cache_misses = 0
        self.cache_bytes = 0
        #: Rows that did not fit into memory, counted in the event loop; and rows that were written and that
        #: the storage did not take, counted in the thread that writes them.
        self.capture_dropped = 0
        self.captured = 0
        self.capture_lost = 0

    def batch(self, rows: int, seconds: float, requests: int = 1) -> None:
        """A batch of so many rows of so many requests ran for so long."""
        self.batches += 1
        self.batch_rows += rows
        self.batch_seconds += seconds
        self.batch_buckets[bisect_left(BATCH_BOUNDS, rows)] += 1
        if requests > 1:
            self.shared_requests += requests - 1
            self.shared_seconds += seconds * (requests - 1)
        self.last_run = _wall()
        size = self.batch_sizes.get(rows)
        if size is not None:
            size[0] += 1
            size[1] += seconds
        elif len(self.batch_sizes) < MOST_SIZES:
            self.batch_sizes[rows] = [1, seconds]

    def replaced(self) -> None:
        """A process of the model was replaced."""
        self.replacements += 1

    def waited(self, seconds: float) -> None:
        """A request was started after so long in the queue."""
        self.wait_seconds += seconds
        self.wait_buckets[bisect_left(BOUNDS, seconds)] += 1

    def first_piece(self, seconds: float) -> None:
        """The first piece of an answer was there after so long."""
        self.first_seconds += seconds
        self.first_buckets[bisect_left(BOUNDS, seconds)] += 1

    def count(self, code: str, rows: int, seconds: float) -> None:
        """One request ended.

        Args:
            code: ``ok`` or the code word of an error.
            rows: rows answered.
            seconds: from the whole body being there to the answer being ready.
        """
        self.codes[code] = self.codes.get(code, 0) + 1
        self.buckets[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds
        self.rows += rows
        if code != OK:
            self.failed_seconds += seconds
            return
        step = step_of(seconds)
        self.latencies[step] = self.latencies.get(step, 0) + 1

    def figures(self, held: Held = NOTHING) -> ModelFigures:
        """What was counted so far and what is held now, as a record of its own."""
        values = {name: getattr(self, name) for name in self.__slots__}
        for name in ("buckets", "batch_buckets", "wait_buckets", "first_buckets"):
            values[name] = tuple(values[name])
        values["codes"] = dict(self.codes)
        values["capture_dropped"] += values.pop("capture_lost")
        values["latencies"] = dict(self.latencies)
        values["run_requests"] = self.batches + values.pop("shared_requests")
        values["run_seconds"] = self.batch_seconds + values.pop("shared_seconds")
        values["batch_sizes"] = {
            rows: (int(count), seconds) for rows, (count, seconds) in self.batch_sizes.items()
        }
        return ModelFigures(**values, **held._asdict())


class Metrics:
    """All figures of one process. Belongs to one event loop.

    Args:
        version: of Servable, for the build information.
    """

    content_type = CONTENT_TYPE

    def __init__(self, version: str) -> None:
        self._version = version
        self._meters: dict[tuple[str, int], Meter] = {}
        self._comparisons: dict[tuple[str, int, int], Comparing] = {}
        self._rejected: dict[str, int] = {}
        self._loaded = 0
        #: Open connections; whoever accepts and loses them keeps it.
        self.connections = 0
        #: Connections accepted so far.
        self.accepted = 0
        #: Says what the live models hold now.
        self.held: Callable[[], Mapping[tuple[str, int], Held]] = dict
        #: Says which wanted versions could not be loaded, by reference, and why.
        self.failed: Callable[[], Mapping[str, str]] = dict

    def meter(self, model: str, version: int) -> Meter:
        """The meter of a live version; the same one when a version comes back, so counts never fall."""
        key = (model, version)
        if key not in self._meters:
            self._meters[key] = Meter(model, version)
        return self._meters[key]

    def comparing(self, model: str, version: int, shadow: int) -> Comparing:
        """What counts for a version and its shadow; the same one when both come back."""
        key = (model, version, shadow)
        if key not in self._comparisons:
            self._comparisons[key] = Comparing(*key)
        return self._comparisons[key]

    def reject(self, code: str) -> None:
        """A request that reached no model ended with this code word."""
        self._rejected[code] = self._rejected.get(code, 0) + 1

    def set_loaded(self, count: int) -> None:
        """How many versions are live now."""
        self._loaded = count

    def snapshot(self) -> Snapshot:
        """The present figures as a record that can travel and be added to others'."""
        held = self.held()
        return Snapshot(
            models=tuple(
                meter.figures(held.get(key, NOTHING)) for key, meter in sorted(self._meters.items())
            ),
            comparisons=tuple(each.compared() for _, each in sorted(self._comparisons.items())),
            rejected=dict(self._rejected),
            failed=dict(self.failed()),
            loaded=self._loaded,
            connections=self.connections,
            accepted=self.accepted,
            workers=1,
            process=process_figures(),
        )

    def render(self, snapshot: Snapshot | None = None, known: Known = UNKNOWN) -> bytes:
        """Figures in the Prometheus text format: this process's own, or those given.

        Args:
            snapshot: of all processes together; this one's when None.
            known: what is known of versions beyond this server.
        """
        return render(self.snapshot() if snapshot is None else snapshot, self._version, known)
