"""Drift and alerts in the Prometheus text format, from what the registry keeps. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

_COLUMN = ("model", "version", "column", "side")
_ALERT = ("model", "version", "alert")

#: Model, version, and what is kept of it.
Kept = tuple[str, int, Mapping[str, Any]]


def drift_metrics(findings: Iterable[Kept]) -> Iterator[Metric]:
    """How far each column moved and whether that is drift, by findings of the kind ``drift``."""
    effect = GaugeMetricFamily(
        "servable_drift", "Stability index of the newest window, less chance.", labels=_COLUMN
    )
    verdict = GaugeMetricFamily("servable_drifting", "Whether the column is in drift.", labels=_COLUMN)
    for model, version, value in findings:
        for column in value.get("columns", ()):
            labels = [model, str(version), str(column["name"]), str(column["side"])]
            effect.add_metric(labels, float(column["effect"]))
            verdict.add_metric(labels, float(column["drift"]))
    yield from (effect, verdict)


def alert_metrics(findings: Iterable[Kept]) -> Iterator[Metric]:
    """Which alerts fire, by findings of the kind ``alerts``."""
    firing = GaugeMetricFamily("servable_alert_firing", "Whether the alert fires.", labels=_ALERT)
    for model, _, value in findings:
        for state in value.get("states", ()):
            labels = [model, str(state["version"]), str(state["alert"])]
            firing.add_metric(labels, float(state["status"] == "firing"))
    yield firing
