"""What monitoring found about the present version, as the loop understands it.

Those who look for drift and for worse answers keep what they find in the registry; here it is read, and
nothing is measured.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from servable.registry.home import Home
from servable.registry.records import VersionRecord

#: How much worse than on the held-out rows answers may be, as a share of what is lost there.
_WORSE = 0.25
#: Columns that are named in a sentence.
_SHOWN = 5


class Signs(NamedTuple):
    """One sentence for each kind of alarm; empty for none.

    Attributes:
        drift: what callers send, or what is answered, differs from what was learned from.
        quality: answers are less often right than they were.
    """

    drift: str = ""
    quality: str = ""


def signs(home: Home, version: VersionRecord) -> Signs:
    """What was found about a version last.

    Raises:
        StorageFailed: the database does not answer.
    """
    drift, quality = (_found(home, version, kind) for kind in ("drift", "quality"))
    return Signs(drifted(drift), worse(quality, version.metrics))


def drifting(home: Home, version: VersionRecord) -> list[dict[str, Any]]:
    """The columns that were found in drift, as a turn's record keeps them.

    Raises:
        StorageFailed: the database does not answer.
    """
    kept = ("name", "side", "since", "since_row", "effect")
    return [
        {key: column[key] for key in kept if key in column}
        for column in _found(home, version, "drift").get("columns", ())
        if column.get("state") == "drift"
    ]


def _found(home: Home, version: VersionRecord, kind: str) -> Mapping[str, Any]:
    """The finding of a kind about a version; nothing where there is none."""
    findings = home.findings.of(kind, version.model)
    return next((each.value for each in findings if each.version == version.version), {})


def drifted(found: Mapping[str, Any]) -> str:
    """Which columns are in drift, in one sentence; empty for none. Pure.

    Args:
        found: a ``monitoring.drift_records.DriftReport`` in plain types.
    """
    names = [
        f"{column['name']} since row {column['since_row']}"
        if column.get("since_row") is not None
        else str(column["name"])
        for column in found.get("columns", ())
        if column.get("state") == "drift"
    ]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def worse(found: Mapping[str, Any], evaluated: Mapping[str, float]) -> str:
    """Whether live answers are worse than those to the held-out rows, in one sentence; empty if not. Pure.

    They are when even the good end of the interval of the newest labels lies beyond what was lost on the
    held-out rows and a quarter more.

    Args:
        found: a ``monitoring.quality.VersionQuality`` in plain types.
        evaluated: the metrics of the version's evaluation.
    """
    live = found.get("recent", {}).get("metrics", {})
    for metric, better in (("accuracy", True), ("rmse", False)):
        if metric not in live or metric not in evaluated:
            continue
        value, low, high = (live[metric].get(name) for name in ("value", "low", "high"))
        before = evaluated[metric]
        if better:
            bad = high is not None and high < before - _WORSE * (1 - before)
        else:
            bad = low is not None and low > before * (1 + _WORSE)
        if bad:
            return f"{metric} {value:.4g}, on held-out rows {before:.4g}"
    return ""
