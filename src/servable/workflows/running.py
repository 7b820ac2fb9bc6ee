"""Asks a running server how it is, over its public addresses."""

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from servable.client.credentials import KEY_VARIABLE, key_of, trust_of
from servable.errors import RemoteError
from servable.monitoring.intervals import Estimate
from servable.workflows.running_outcomes import RunningModel, RunningServer, RunningShadow

#: Seconds within which a server that is asked has to answer.
ASK_TIMEOUT_S = 2.0

#: Statuses of a server that wants another key, and their codes.
_REFUSED = {401: "unauthenticated", 403: "forbidden"}

#: A metric's labels and value, as they stand in the text format.
Sample = tuple[Mapping[str, str], float]
Samples = Mapping[str, Sequence[Sample]]


def ask(url: str) -> RunningServer | None:
    """What the server at an address says about itself; None when no server of ours answers there.

    Raises:
        RemoteError: it wants another API key.
    """
    import httpx  # Here, because it takes longer to import than the other verbs take to answer.

    base = url.rstrip("/")
    try:
        with httpx.Client(timeout=ASK_TIMEOUT_S, headers=_key(), verify=trust_of(None)) as client:
            listed, figures, ready = (client.get(base + path) for path in ("/models", "/metrics", "/readyz"))
        refused = next((each for each in (listed, figures) if each.status_code in _REFUSED), None)
        if refused is not None:
            raise _closed(refused.status_code, base)
        if not listed.is_success or not figures.is_success:
            return None
        models = msgspec.json.decode(listed.content, type=_Listed).models
        return read(models, samples(figures.text), ready=ready.is_success, now=time.time())
    except (httpx.HTTPError, httpx.InvalidURL, msgspec.MsgspecError, ValueError):
        # Anything but proper answers means the same to the person who asks: no server of ours is there.
        return None


def _key() -> dict[str, str]:
    key = key_of(None)
    return {} if key is None else {"authorization": f"Bearer {key}"}


def _closed(status: int, url: str) -> RemoteError:
    return RemoteError(
        f"{url} shows how it is only to a key with the scope read; put one into {KEY_VARIABLE}.",
        status=status,
        remote_code=_REFUSED[status],
    )


class _Listed(msgspec.Struct):
    """The part of ``GET /models`` that is needed."""

    models: list[dict[str, Any]]


def samples(text: str) -> dict[str, list[Sample]]:
    """The samples of the Prometheus text format by name.

    Raises:
        ValueError: the text is something else.
    """
    from prometheus_client.parser import text_string_to_metric_families  # Here, as in ``ask``.

    found: dict[str, list[Sample]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def read(models: Iterable[Mapping[str, Any]], figures: Samples, *, ready: bool, now: float) -> RunningServer:
    """The answers of a server as a record. Pure.

    Args:
        models: the entries of ``GET /models``.
        figures: of ``GET /metrics``.
        ready: whether ``GET /readyz`` said so.
        now: seconds since 1970.
    """
    began = _sum(figures, "process_start_time_seconds")
    return RunningServer(
        ready=ready,
        workers=round(_sum(figures, "servable_workers")),
        replacements=round(_sum(figures, "servable_worker_replacements_total")),
        connections=round(_sum(figures, "servable_connections")),
        rejected=round(_sum(figures, "servable_rejected_requests_total")),
        resident_bytes=round(_sum(figures, "process_resident_memory_bytes")),
        uptime_s=max(now - began, 0.0) if began else None,
        models=tuple(_model(entry, figures) for entry in models),
        shadows=tuple(_shadows(figures)),
    )


def quantile(buckets: Sequence[tuple[float, float]], share: float) -> float | None:
    """The value that this share of the observations does not pass, by interpolation within a bucket.

    Args:
        buckets: upper bound and how many observations do not pass it, ascending; the last bound is infinite.
        share: between 0 and 1.

    Returns:
        None without observations. What lies above the last finite bound counts as that bound.
    """
    total = buckets[-1][1] if buckets else 0.0
    if not total:
        return None
    wanted = share * total
    low, below = 0.0, 0.0
    for bound, upto in buckets:
        if upto >= wanted and upto > below:
            return low if math.isinf(bound) else low + (bound - low) * (wanted - below) / (upto - below)
        low, below = (low if math.isinf(bound) else bound), upto
    return low


def _model(entry: Mapping[str, Any], figures: Samples) -> RunningModel:
    labels = {"model": str(entry.get("name", "")), "version": str(entry.get("version", 0))}
    serving = entry.get("serving") or {}
    requests = _sum(figures, "servable_requests_total", labels)
    good = _sum(figures, "servable_requests_total", {**labels, "code": "ok"})
    buckets = sorted(
        (float(found["le"]), value)
        for found, value in figures.get("servable_request_duration_seconds_bucket", ())
        if labels.items() <= found.items()
    )
    batches = _sum(figures, "servable_batch_rows_count", labels)
    hits = _sum(figures, "servable_cache_hits_total", labels)
    looked_up = hits + _sum(figures, "servable_cache_misses_total", labels)
    return RunningModel(
        model=labels["model"],
        version=int(labels["version"]),
        state=str(entry.get("state", "")),
        share=float(entry.get("share") or 0.0),
        mirrored=float(entry.get("mirrored") or 0.0),
        reason=str(entry.get("reason") or serving.get("reason", "")),
        variant=str(serving.get("variant", "")),
        executor=str(serving.get("executor", "")),
        device=str(serving.get("device", "")),
        device_reason=str(serving.get("device_reason", "")),
        processes=round(_sum(figures, "servable_model_processes", labels)),
        requests=round(requests),
        errors=round(requests - good),
        p50_s=quantile(buckets, 0.5),
        p99_s=quantile(buckets, 0.99),
        mean_batch=_sum(figures, "servable_batch_rows_sum", labels) / batches if batches else None,
        queued=round(_sum(figures, "servable_queued_requests", labels)),
        cache_hit_rate=hits / looked_up if looked_up else None,
        confinement=str(serving.get("confinement", "")),
        memory_bytes=round(_sum(figures, "servable_model_memory_bytes", labels)),
        accelerator_bytes=round(_sum(figures, "servable_model_accelerator_memory_bytes", labels)),
    )


#: Fields of ``RunningShadow`` by the metric that tells them.
_ESTIMATES = {
    "agreement": "servable_shadow_agreement",
    "score_difference": "servable_shadow_score_difference",
    "latency_difference": "servable_shadow_latency_difference_seconds",
    "error_difference": "servable_shadow_error_difference",
}


def _shadows(figures: Samples) -> Iterator[RunningShadow]:
    """Every version that is or was compared with a shadow."""
    dropped = "servable_shadow_dropped_requests_total"
    for labels, count in figures.get(dropped, ()):
        pair = {name: labels[name] for name in ("model", "version", "shadow")}
        yield RunningShadow(
            model=pair["model"],
            version=int(pair["version"]),
            shadow=int(pair["shadow"]),
            requests=round(_sum(figures, "servable_shadow_requests_total", pair)),
            dropped=round(count),
            **{name: _bounded(figures, metric, pair) for name, metric in _ESTIMATES.items()},
        )


def _bounded(figures: Samples, metric: str, labels: Mapping[str, str]) -> Estimate | None:
    """An estimate as it stands in the figures."""
    bounds = {
        found["bound"]: value for found, value in figures.get(metric, ()) if labels.items() <= found.items()
    }
    return Estimate(**bounds) if "value" in bounds else None


def _sum(figures: Samples, name: str, labels: Mapping[str, str] | None = None) -> float:
    """The sum of a metric's samples that carry these labels."""
    wanted = (labels or {}).items()
    return sum(value for found, value in figures.get(name, ()) if wanted <= found.items())
