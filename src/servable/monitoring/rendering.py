"""A snapshot in the Prometheus text format. Pure: one process and eight render alike."""

import math
import platform
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from servable.monitoring.intervals import Estimate
from servable.monitoring.shadow_comparison import LEVELS, Compared, findings
from servable.monitoring.standing import UNKNOWN, Known
from servable.monitoring.standing_metrics import standing_metrics
from servable.monitoring.totals import BATCH_BOUNDS, BOUNDS, ModelFigures, Snapshot

#: What ``render`` returns, as a media type.
CONTENT_TYPE = CONTENT_TYPE_LATEST

_LABELS = ("model", "version")
_MODEL_COUNTERS = {
    "rows": ("servable_rows", "Rows answered."),
    "batch_seconds": ("servable_batch_seconds", "Seconds that batches ran."),
    "expired": ("servable_expired_requests", "Requests whose time was over before they were started."),
    "abandoned": ("servable_abandoned_requests", "Requests whose caller left before they were started."),
    "pieces": ("servable_pieces", "Pieces of answers that were sent."),
    "replacements": ("servable_process_replacements", "Model processes that were replaced."),
    "cache_hits": ("servable_cache_hits", "Requests answered from the response cache."),
    "cache_misses": ("servable_cache_misses", "Requests that the response cache had no answer for."),
    "captured": ("servable_captured_rows", "Rows that were captured and written."),
    "capture_dropped": (
        "servable_capture_dropped_rows",
        "Rows that should have been captured, and for which there was no room in memory or storage.",
    ),
}
_MODEL_GAUGES = {
    "queued": ("servable_queued_requests", "Requests that wait."),
    "streams": ("servable_streams", "Answers in pieces that are open."),
    "cache_bytes": ("servable_cache_bytes", "Size of the response cache."),
    "memory_bytes": ("servable_model_memory_bytes", "Memory that the loaded model holds."),
    "accelerator_bytes": (
        "servable_model_accelerator_memory_bytes",
        "Memory of its GPU that the loaded model took.",
    ),
    "processes": ("servable_model_processes", "Living processes of the model."),
    "load_seconds": ("servable_model_load_seconds", "How long the last load took."),
}
_PAIR = ("model", "version", "shadow")
_OUTCOMES = ("both_ok", "shadow_failed", "real_failed", "both_failed")
#: Each with a label ``bound``: the value, and the lower and upper end of its 95 % interval.
_FINDINGS = {
    "agreement": ("servable_shadow_agreement", "Share of rows with the same prediction."),
    "score_difference": ("servable_shadow_score_difference", "Mean of the shadow's score less the real one."),
    "latency_difference": (
        "servable_shadow_latency_difference_seconds",
        "Mean of the shadow's time from queue to answer less the real one.",
    ),
    "error_difference": (
        "servable_shadow_error_difference",
        "Share of requests that the shadow failed to answer less that of the version itself.",
    ),
}
_QUANTILES = {
    "score_difference": (
        "servable_shadow_score_difference_size",
        "What a share of the rows' differences of scores, without their signs, do not pass.",
    ),
    "latency": ("servable_shadow_latency_seconds", "Time of the shadow from queue to answer."),
    "real_latency": ("servable_shadow_real_latency_seconds", "Time of the version itself, same requests."),
}
_SERVER_GAUGES = {
    "loaded": ("servable_models_loaded", "Versions that are live."),
    "connections": ("servable_connections", "Open connections."),
    "workers": ("servable_workers", "HTTP processes that answer."),
}
_SERVER_COUNTERS = {
    "accepted": ("servable_accepted_connections", "Connections accepted."),
    "worker_replacements": (
        "servable_worker_replacements",
        "HTTP processes that were replaced because they ended by themselves.",
    ),
}
_PROCESS_GAUGES = {
    "resident_bytes": ("process_resident_memory_bytes", "Resident memory, all workers together."),
    "virtual_bytes": ("process_virtual_memory_bytes", "Address space, all workers together."),
    "open_fds": ("process_open_fds", "Open file descriptors, all workers together."),
    "max_fds": ("process_max_fds", "Most open file descriptors, all workers together."),
    "started_at": ("process_start_time_seconds", "When the server began, in seconds since 1970."),
}


def render(snapshot: Snapshot, version: str, known: Known = UNKNOWN) -> bytes:
    """The figures in the Prometheus text format.

    Args:
        snapshot: of one process or of all together.
        version: of Servable, for the build information.
        known: what is known of versions beyond this server.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(
        _Once(
            [
                *_models(snapshot.models),
                *_shadows(snapshot.comparisons),
                *standing_metrics(known),
                *_server(snapshot, version),
            ]
        )
    )
    return generate_latest(registry)


class _Once(Collector):
    """Hands out families that are made already."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """The families."""
        yield from self._families


def _models(models: Sequence[ModelFigures]) -> Iterator[Metric]:
    requests = CounterMetricFamily("servable_requests", "Requests by outcome.", labels=[*_LABELS, "code"])
    seconds = HistogramMetricFamily(
        "servable_request_duration_seconds", "From body received to answer ready.", labels=_LABELS
    )
    sizes = HistogramMetricFamily("servable_batch_rows", "Rows of a batch.", labels=_LABELS)
    waits = HistogramMetricFamily(
        "servable_queue_seconds", "Time of a request in the queue before it was started.", labels=_LABELS
    )
    firsts = HistogramMetricFamily(
        "servable_first_piece_seconds",
        "From body received to the first piece of an answer in pieces.",
        labels=_LABELS,
    )
    for each in models:
        key = _key(each)
        for code, count in sorted(each.codes.items()):
            requests.add_metric([*key, code], count)
        seconds.add_metric(key, _cumulative(BOUNDS, each.buckets), each.seconds)
        sizes.add_metric(key, _cumulative(BATCH_BOUNDS, each.batch_buckets), each.batch_rows)
        waits.add_metric(key, _cumulative(BOUNDS, each.wait_buckets), each.wait_seconds)
        firsts.add_metric(key, _cumulative(BOUNDS, each.first_buckets), each.first_seconds)
    yield from (requests, seconds, sizes, waits, firsts)
    for name, (full, help_text) in _MODEL_COUNTERS.items():
        counter = CounterMetricFamily(full, help_text, labels=_LABELS)
        for each in models:
            counter.add_metric(_key(each), getattr(each, name))
        yield counter
    for name, (full, help_text) in _MODEL_GAUGES.items():
        gauge = GaugeMetricFamily(full, help_text, labels=_LABELS)
        for each in models:
            value = getattr(each, name)
            gauge.add_metric(_key(each), value + each.shared_processes if name == "processes" else value)
        yield gauge


def _shadows(comparisons: Sequence[Compared]) -> Iterator[Metric]:
    """What is known of versions and their shadows; nothing where there are none."""
    if not comparisons:
        return
    copies = CounterMetricFamily(
        "servable_shadow_requests",
        "Requests that were copied to a shadow, by what both made of them.",
        labels=[*_PAIR, "outcome"],
    )
    dropped = CounterMetricFamily(
        "servable_shadow_dropped_requests",
        "Copies that were dropped because the shadow had too much to do.",
        labels=_PAIR,
    )
    found = {tuple(_pair(each)): findings(each) for each in comparisons}
    for each in comparisons:
        for outcome in _OUTCOMES:
            copies.add_metric([*_pair(each), outcome], getattr(each, outcome))
        dropped.add_metric(_pair(each), each.dropped)
    yield from (copies, dropped)
    for name, (full, help_text) in _FINDINGS.items():
        gauge = GaugeMetricFamily(full, help_text, labels=[*_PAIR, "bound"])
        for pair, estimates in found.items():
            _bounds(gauge, list(pair), estimates.get(name))
        yield gauge
    for name, (full, help_text) in _QUANTILES.items():
        gauge = GaugeMetricFamily(full, help_text, labels=[*_PAIR, "quantile", "bound"])
        for pair, estimates in found.items():
            for level in LEVELS:
                _bounds(gauge, [*pair, str(level)], estimates.get(f"{name}_p{level * 100:.0f}"))
        yield gauge


def _bounds(gauge: GaugeMetricFamily, key: list[str], estimate: Estimate | None) -> None:
    """A value with its 95 % interval, as far as they are finite."""
    if estimate is None:
        return
    for bound in ("value", "low", "high"):
        value = getattr(estimate, bound)
        if value is not None and math.isfinite(value):
            gauge.add_metric([*key, bound], value)


def _pair(compared: Compared) -> list[str]:
    return [compared.model, str(compared.version), str(compared.shadow)]


def _server(snapshot: Snapshot, version: str) -> Iterator[Metric]:
    rejected = CounterMetricFamily(
        "servable_rejected_requests", "Requests that reached no model.", labels=["code"]
    )
    for code, count in sorted(snapshot.rejected.items()):
        rejected.add_metric([code], count)
    yield rejected
    for name, (full, help_text) in _SERVER_COUNTERS.items():
        yield CounterMetricFamily(full, help_text, value=getattr(snapshot, name))
    for name, (full, help_text) in _SERVER_GAUGES.items():
        yield GaugeMetricFamily(full, help_text, value=getattr(snapshot, name))
    process = snapshot.process
    # Where the operating system says nothing, nothing is said.
    if process.started_at:
        for name, (full, help_text) in _PROCESS_GAUGES.items():
            yield GaugeMetricFamily(full, help_text, value=getattr(process, name))
        yield CounterMetricFamily(
            "process_cpu_seconds", "Processor time, all workers together.", value=process.cpu_seconds
        )
    yield InfoMetricFamily(
        "servable_build", "What runs.", value={"version": version, "python": platform.python_version()}
    )


def _key(figures: ModelFigures) -> list[str]:
    return [figures.model, str(figures.version)]


def _cumulative(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    total = 0
    buckets: list[tuple[str, float]] = []
    for index, bound in enumerate([*map(str, bounds), "+Inf"]):
        total += counts[index] if index < len(counts) else 0
        buckets.append((bound, total))
    return buckets
