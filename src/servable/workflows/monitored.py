"""The outcomes of the verbs about traffic: frozen records, alike for Python, the terminal and ``--json``."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from servable.clock import timestamp
from servable.monitoring.alerts import AlertState, Status
from servable.monitoring.quality import VersionQuality
from servable.monitoring.standing import ModelAlerts


class FeedbackOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of ``feedback``.

    Attributes:
        model: its name.
        accepted: rows that are kept now.
        where: the server that took them, or the folder of the home.
    """

    model: str
    accepted: int
    where: str


class TrafficVersion(msgspec.Struct, frozen=True, kw_only=True):
    """Captured rows of one version.

    Attributes:
        version: which one.
        rows: captured.
        errors: those of requests that failed.
        labelled: those with an outcome or a reward.
        since: when the first was answered, ISO 8601 in UTC.
        until: when the last was.
    """

    version: int
    rows: int
    errors: int
    labelled: int
    since: str
    until: str


class TrafficOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of ``traffic``.

    Attributes:
        model: its name.
        versions: what was captured of each.
        unknown: rows of feedback that belong to no captured prediction of this span.
        newest: the last few rows: request id, row, time, version, prediction, outcome and reward.
        output: the file that holds all of them; empty when none was asked for.
        written_every_s: seconds after which captured requests are written and can be seen here; 0 where the
            deployment captures none.
    """

    model: str
    versions: tuple[TrafficVersion, ...]
    unknown: int
    newest: tuple[dict[str, Any], ...] = ()
    output: str = ""
    written_every_s: float = 0.0


class QualityRow(msgspec.Struct, frozen=True, kw_only=True):
    """One version and how good its answers were."""

    version: int
    quality: VersionQuality


class QualityOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of ``quality``.

    Attributes:
        model: its name.
        versions: those of which traffic was captured.
        unknown: rows of feedback that belong to no captured prediction.
        damaged: segments that were passed over, because nobody can read them.
        written_every_s: as in ``TrafficOutcome``.
    """

    model: str
    versions: tuple[QualityRow, ...]
    unknown: int
    damaged: tuple[str, ...] = ()
    written_every_s: float = 0.0


class AlertRow(msgspec.Struct, frozen=True, kw_only=True):
    """One rule for one version, for people; ``since`` is ISO 8601 or empty."""

    alert: str
    model: str
    version: int
    status: Status
    value: float | None = None
    since: str = ""


def alert_row(state: AlertState) -> AlertRow:
    """An alert's state for people."""
    return AlertRow(
        alert=state.alert,
        model=state.model,
        version=state.version,
        status=state.status,
        value=state.value,
        since=timestamp(datetime.fromtimestamp(state.since, UTC)) if state.since else "",
    )


def firing_rows(alerts: Mapping[tuple[str, int], ModelAlerts], model: str) -> tuple[AlertRow, ...]:
    """The alerts that fire for any version of a model."""
    # What concerns a model as a whole stands under version 0.
    return tuple(alert_row(state) for state in alerts.get((model, 0), ModelAlerts()).firing)
