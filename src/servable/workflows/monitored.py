"""The outcomes of the verbs about traffic: frozen records, alike for Python, the terminal and ``--json``."""

from typing import Any

import msgspec

from servable.monitoring.quality import VersionQuality


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
    """

    model: str
    versions: tuple[TrafficVersion, ...]
    unknown: int
    newest: tuple[dict[str, Any], ...] = ()
    output: str = ""


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
    """

    model: str
    versions: tuple[QualityRow, ...]
    unknown: int
