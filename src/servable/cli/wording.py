"""Values in the words that a person reads best. Pure; nothing is imported for it."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from servable.monitoring.standing import VersionDrift
    from servable.registry.schedules import ScheduleRecord
    from servable.workflows.monitored import AlertRow

#: Columns that are named in a line.
_NAMED = 5


def wishes(policy: Mapping[str, Any]) -> str:
    """A deployment's policy in words; ``by measurement`` where it says nothing.

    It is shown as it is kept, so values that no policy may have are shown too.
    """
    words = {
        "executor": "executor {}",
        "device": "device {}",
        "processes": "{} processes",
        "spares": "{} spare",
        "threads": "{} batches at once",
        "run_limit_s": "runs of at most {} s",
        "max_batch": "at most {} rows in a batch",
        "cache_bytes": "a cache of {}",
        "cache_age_s": "answers kept for {} s",
        "sticky": "callers kept with a version by {}",
        "capture_subject": "captured under a key for each {}",
    }
    said = []
    for name, value in policy.items():
        if name == "pinned":
            said += ["pinned"] if value else []
        elif name == "capture":
            part = "every request" if value == 1 else f"{percent(value)} of the requests"
            said.append(f"{part} captured")
        elif name == "network":
            said.append("with the network" if value else "without the network")
        elif name == "programs":
            said.append("with programs" if value else "without programs")
        elif name == "share":
            said.append("shared by all workers" if value else "not shared by workers")
        elif name in words:
            plain = f"{value:g}" if isinstance(value, float) else str(value)
            counted = name == "cache_bytes" and isinstance(value, int)
            said.append(words[name].format(size(value) if counted else plain))
    return ", ".join(said) or "by measurement"


def shares(parts: Mapping[int, float]) -> str:
    """What part of the requests each version gets, such as ``v3 95 %  v4 5 %``."""
    return "  ".join(f"v{version} {percent(part)}" for version, part in sorted(parts.items()))


def percent(part: float) -> str:
    """A part of a whole, such as ``95 %`` or ``0.5 %``."""
    return f"{part * 100:.3g} %"


def size(count: int) -> str:
    """Bytes in the unit that a person reads best."""
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if count >= 1024**power:
            return f"{count / 1024**power:.3g} {unit}"
    return f"{count} bytes"


def planned(schedule: "ScheduleRecord | None") -> Iterator[str]:
    """A line on when a watch updates a model next; none where none does by time."""
    if schedule is None:
        return
    # Here, because nothing else needs to know time zones.
    from servable.updating.schedule import in_zone

    by = f" ({schedule.cron})" if schedule.cron else ""
    moment = datetime.fromisoformat(schedule.next_at)
    yield f"next turn from {in_zone(moment, schedule.timezone)} on{by}"


def alarms(drift: "VersionDrift | None", firing: "Sequence[AlertRow]") -> Iterator[str]:
    """A line on the columns in drift, and one on the alerts that fire; none where there are none."""
    columns = () if drift is None else drift.drifting
    if columns:
        names = [
            column.name if column.side == "input" else f"{column.name} ({column.side})" for column in columns
        ]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        began = min((column.since for column in columns if column.since), default="")
        yield f"drift: {', '.join(names[:_NAMED])}{more}" + (f" since {began}" if began else "")
    if firing:
        yield "alerts: " + ", ".join(
            f"{row.alert} for {row.model}:{row.version}" + (f" since {row.since}" if row.since else "")
            for row in firing
        )
