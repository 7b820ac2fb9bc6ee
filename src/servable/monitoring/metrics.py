"""The figures of a server, in the Prometheus text format.

A live model counts into a ``Meter``: plain numbers, changed only from the event loop, read when
somebody scrapes. That keeps the cost of a request well under a microsecond. Labels are names and
versions of models that are or were live, and our own code words, so their number is bounded:
whatever a caller makes up never becomes a label.
"""

import os
import platform
from bisect import bisect_left
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

#: Upper bounds of the duration histogram, in seconds.
BOUNDS = (
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
#: Upper bounds of the batch-size histogram, in rows.
BATCH_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
#: The code of an answer that was no error.
OK = "ok"


class Meter:
    """Counts the requests of one model and version. Belongs to one event loop."""

    __slots__ = (
        "abandoned",
        "batch_buckets",
        "batch_rows",
        "batch_seconds",
        "batches",
        "buckets",
        "cache_bytes",
        "cache_hits",
        "cache_misses",
        "codes",
        "expired",
        "load_seconds",
        "model",
        "queued",
        "replacements",
        "rows",
        "seconds",
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
        self.rows = 0
        self.load_seconds = 0.0
        self.batches = 0
        self.batch_buckets = [0] * (len(BATCH_BOUNDS) + 1)
        self.batch_rows = 0
        self.batch_seconds = 0.0
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
        self.cache_hits = 0
        self.cache_misses = 0
        self.cache_bytes = 0

    def batch(self, rows: int, seconds: float) -> None:
        """A batch of so many rows ran for so long."""
        self.batches += 1
        self.batch_rows += rows
        self.batch_seconds += seconds
        self.batch_buckets[bisect_left(BATCH_BOUNDS, rows)] += 1

    def waited(self, seconds: float) -> None:
        """A request was started after so long in the queue."""
        self.wait_seconds += seconds
        self.wait_buckets[bisect_left(BOUNDS, seconds)] += 1

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


class Metrics(Collector):
    """All figures of one server, in a registry of their own.

    Args:
        version: of Servable, for the build information.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, version: str) -> None:
        self._version = version
        self._meters: dict[tuple[str, int], Meter] = {}
        self._rejected: dict[str, int] = {}
        self._loaded = 0
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        if os.path.exists("/proc/self/stat"):  # noqa: PTH110 - a str path costs no import of pathlib here
            ProcessCollector(registry=self._registry)

    def meter(self, model: str, version: int) -> Meter:
        """The meter of a live version; the same one when a version comes back, so counts never fall."""
        key = (model, version)
        if key not in self._meters:
            self._meters[key] = Meter(model, version)
        return self._meters[key]

    def reject(self, code: str) -> None:
        """A request that reached no model ended with this code word."""
        self._rejected[code] = self._rejected.get(code, 0) + 1

    def set_loaded(self, count: int) -> None:
        """How many versions are live now."""
        self._loaded = count

    def render(self) -> bytes:
        """Everything in the Prometheus text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """The families that Prometheus reads; called by the registry."""
        labels = ["model", "version"]
        requests = CounterMetricFamily("servable_requests", "Requests by outcome.", labels=[*labels, "code"])
        rows = CounterMetricFamily("servable_rows", "Rows answered.", labels=labels)
        seconds = HistogramMetricFamily(
            "servable_request_duration_seconds", "From body received to answer ready.", labels=labels
        )
        load = GaugeMetricFamily("servable_model_load_seconds", "How long the last load took.", labels=labels)
        for meter in self._meters.values():
            key = [meter.model, str(meter.version)]
            for code, count in meter.codes.items():
                requests.add_metric([*key, code], count)
            rows.add_metric(key, meter.rows)
            load.add_metric(key, meter.load_seconds)
            seconds.add_metric(key, _cumulative(meter), meter.seconds)
        rejected = CounterMetricFamily(
            "servable_rejected_requests", "Requests that reached no model.", labels=["code"]
        )
        for code, count in self._rejected.items():
            rejected.add_metric([code], count)
        loaded = GaugeMetricFamily("servable_models_loaded", "Versions that are live.", value=self._loaded)
        build = InfoMetricFamily(
            "servable_build",
            "What runs.",
            value={"version": self._version, "python": platform.python_version()},
        )
        yield from (requests, rejected, rows, seconds, load, loaded, build)


def _cumulative(meter: Meter) -> list[tuple[str, float]]:
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip([*map(str, BOUNDS), "+Inf"], meter.buckets, strict=True):
        total += count
        buckets.append((bound, total))
    return buckets
