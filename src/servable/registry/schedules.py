"""When a watched model is updated next, as the one that watches keeps it among the findings."""

import msgspec

from servable.registry.findings import Findings

#: The kind under which findings keep it, for the model as a whole.
SCHEDULE = "schedule"
#: What of it the audit log tells; the next moment changes with every turn.
_PLAN = ("cron", "timezone", "every_s")


class ScheduleRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a watch goes by, as far as it is a matter of time.

    Attributes:
        next_at: when the next turn is due, ISO 8601 in UTC; in the past while it waits for labels.
        cron: the expression; empty without one.
        timezone: in which it is read, by its name in the IANA database.
        every_s: seconds from turn to turn; 0 for none.
    """

    next_at: str
    cron: str = ""
    timezone: str = "UTC"
    every_s: float = 0.0


def keep_schedule(findings: Findings, model: str, record: ScheduleRecord | None) -> None:
    """Replace what is known of a model's schedule; None for a model that nobody watches.

    Raises:
        StorageFailed: the database does not answer.
        StorageFull: no space left.
    """
    findings.put(model, SCHEDULE, {} if record is None else {0: msgspec.to_builtins(record)}, told=_PLAN)


def schedules(findings: Findings) -> dict[str, ScheduleRecord]:
    """The schedules of all models, by name.

    Raises:
        StorageFailed: the database does not answer.
    """
    return {
        found.model: msgspec.convert(found.value, ScheduleRecord)
        for found in findings.of(SCHEDULE)
        if found.version == 0
    }
