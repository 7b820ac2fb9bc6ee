"""What is known of served versions in the Prometheus text format. Pure."""

from collections.abc import Iterator, Mapping

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from servable.monitoring.quality import VersionQuality
from servable.monitoring.standing import Known, ModelAlerts, VersionDrift

_WINDOW = ("model", "version", "window")
_COLUMN = ("model", "version", "column", "side")
_ALERT = ("model", "version", "alert")
_FIGURES = {
    "value": ("servable_quality", "How good served answers were, by metric."),
    "low": ("servable_quality_low", "Lower end of its 95 % interval."),
    "high": ("servable_quality_high", "Upper end of its 95 % interval."),
}


def standing_metrics(known: Known) -> Iterator[Metric]:
    """Live quality, drift and alerts."""
    yield from _quality(known.quality)
    yield from _drift(known.drift)
    yield _alerts(known.alerts)


def _quality(known: Mapping[tuple[str, int], VersionQuality]) -> Iterator[Metric]:
    """Live quality, with the ends of its intervals and the count of labels behind it."""
    count = GaugeMetricFamily(
        "servable_quality_labels", "Outcomes and rewards that live quality rests on.", labels=_WINDOW
    )
    gauges = {
        name: GaugeMetricFamily(full, help_text, labels=[*_WINDOW, "metric"])
        for name, (full, help_text) in _FIGURES.items()
    }
    for (model, version), quality in known.items():
        for window, found in (("all", quality.whole), ("recent", quality.recent)):
            key = [model, str(version), window]
            count.add_metric(key, max(found.labels, found.rewards))
            for metric, estimate in sorted(found.metrics.items()):
                for name, gauge in gauges.items():
                    value = getattr(estimate, name)
                    if value is not None:
                        gauge.add_metric([*key, metric], value)
    yield from (count, *gauges.values())


def _drift(known: Mapping[tuple[str, int], VersionDrift]) -> Iterator[Metric]:
    """How far each column is off, and whether that is drift."""
    effect = GaugeMetricFamily(
        "servable_drift",
        "How far the newest window is off: stability index less chance, or by how much answers are worse.",
        labels=_COLUMN,
    )
    verdict = GaugeMetricFamily("servable_drifting", "Whether the column is in drift.", labels=_COLUMN)
    for (model, version), drift in known.items():
        for column in drift.columns:
            key = [model, str(version), column.name, column.side]
            effect.add_metric(key, column.effect)
            verdict.add_metric(key, column.drifting)
    yield from (effect, verdict)


def _alerts(known: Mapping[tuple[str, int], ModelAlerts]) -> Metric:
    """Which alerts fire."""
    firing = GaugeMetricFamily("servable_alert_firing", "Whether the alert fires.", labels=_ALERT)
    for alerts in known.values():
        for state in alerts.states:
            firing.add_metric([state.model, str(state.version), state.alert], state.status == "firing")
    return firing
