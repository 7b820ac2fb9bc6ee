"""Schedules written as cron expressions: the next moment after another one, in a named time zone. Pure.

Daylight saving is treated as Debian's cron does: a moment that the clock leaps over comes right after the
leap, and one that the clock shows twice comes once. An expression whose minutes or hours begin with a star
goes by real time instead, so that ``0 * * * *`` comes every hour of both days.
"""

from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from servable.errors import DependencyMissing, SettingInvalid

if TYPE_CHECKING:
    from cronsim import CronSim

_FIELDS = 5
_EXAMPLE = 'write minute, hour, day, month and weekday, such as "0 3 * * 1" for Mondays at three'


def check_schedule(cron: str, timezone: str) -> None:
    """Whether an expression and a time zone can be gone by.

    Raises:
        SettingInvalid: they cannot; the sentence says what to write.
        DependencyMissing: the library that reads expressions is not installed.
    """
    next_moment(cron, timezone, datetime(2026, 1, 1, tzinfo=UTC))


def next_moment(cron: str, timezone: str, after: datetime) -> datetime:
    """The first moment of a schedule after another one.

    Args:
        cron: five fields: minute, hour, day of the month, month, weekday.
        timezone: in which they are read, by its name in the IANA database.
        after: an aware moment.

    Returns:
        An aware moment in UTC, later than ``after``.

    Raises:
        SettingInvalid: no expression, one that never comes, or no time zone.
        DependencyMissing: the library that reads expressions is not installed.
    """
    moments = _parsed(cron, after.astimezone(_zone(timezone)))
    try:
        return next(moments).astimezone(UTC)
    except StopIteration as never:
        raise SettingInvalid(f"The schedule {cron!r} never comes; {_EXAMPLE}.") from never


def in_zone(moment: datetime, timezone: str) -> str:
    """A moment as the clocks of a time zone show it: ``2026-03-30 03:00 Europe/Berlin``.

    Raises:
        SettingInvalid: no such time zone.
    """
    return f"{moment.astimezone(_zone(timezone)):%Y-%m-%d %H:%M} {timezone}"


def _parsed(cron: str, after: datetime) -> "CronSim":
    try:
        # Needed by a schedule alone.
        from cronsim import CronSim, CronSimError
    except ModuleNotFoundError as missing:
        raise DependencyMissing(
            f"--cron needs {missing.name}, which is not installed; run: pip install 'servable[train]'"
        ) from missing
    count = len(cron.split())
    if count != _FIELDS:
        raise SettingInvalid(f"{cron!r} has {count} fields instead of {_FIELDS}; {_EXAMPLE}.")
    try:
        return CronSim(cron, after)
    except CronSimError as wrong:
        what = str(wrong).removeprefix("Bad ") or "expression"
        raise SettingInvalid(f"The {what} of {cron!r} is none; {_EXAMPLE}.") from wrong


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        # Known without a database of time zones.
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as unknown:
        raise SettingInvalid(
            f"{name[:60]!r} is no time zone that this machine knows; write its name as in the IANA database, "
            "such as UTC or Europe/Berlin. Where none is known at all, run: pip install tzdata"
        ) from unknown
