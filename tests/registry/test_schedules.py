"""When watched models are updated next, kept for others to see."""

from pathlib import Path

from servable.registry.home import open_home
from servable.registry.schedules import ScheduleRecord, keep_schedule, schedules


def test_a_schedule_is_kept_replaced_and_taken_down(home: Path) -> None:
    with open_home(home) as place:
        assert schedules(place.findings) == {}
        first = ScheduleRecord(next_at="2026-03-30T01:00:00Z", cron="0 3 * * *", timezone="Europe/Berlin")
        keep_schedule(place.findings, "shops", first)
        other = ScheduleRecord(next_at="2026-03-30T01:00:00Z", every_s=3600.0)
        keep_schedule(place.findings, "tools", other)
        assert schedules(place.findings) == {"shops": first, "tools": other}
        second = ScheduleRecord(next_at="2026-03-31T01:00:00Z", cron="0 3 * * *", timezone="Europe/Berlin")
        keep_schedule(place.findings, "shops", second)
        keep_schedule(place.findings, "tools", None)
    with open_home(home) as place:
        assert schedules(place.findings) == {"shops": second}
