"""Cron expressions: the next moment, in a time zone, over the nights in which clocks are changed."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.errors import SettingInvalid
from servable.updating.schedule import check_schedule, in_zone, next_moment

BERLIN = "Europe/Berlin"


def moments(cron: str, timezone: str, after: str, count: int) -> list[str]:
    """The next moments, as the clocks there show them with their distance from UTC."""
    found, moment = [], datetime.fromisoformat(after)
    for _ in range(count):
        moment = next_moment(cron, timezone, moment)
        assert moment.tzinfo is UTC
        found.append(moment.astimezone(ZoneInfo(timezone)).strftime("%m-%d %H:%M%z"))
    return found


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("0 3 * * 1", ["01-05 03:00+0000", "01-12 03:00+0000"]),
        ("*/15 * * * *", ["01-01 00:15+0000", "01-01 00:30+0000"]),
        ("0 0 1 * *", ["02-01 00:00+0000", "03-01 00:00+0000"]),
        ("0 12 * * MON-FRI", ["01-01 12:00+0000", "01-02 12:00+0000"]),
        ("0 3 L * *", ["01-31 03:00+0000", "02-28 03:00+0000"]),
    ],
)
def test_the_next_moments_in_utc(cron: str, expected: list[str]) -> None:
    assert moments(cron, "UTC", "2026-01-01T00:00:00+00:00", 2) == expected


def test_the_time_zone_decides_what_three_o_clock_is() -> None:
    after = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert next_moment("0 3 * * *", BERLIN, after) == datetime(2026, 1, 2, 2, tzinfo=UTC)
    assert next_moment("0 3 * * *", "Asia/Tokyo", after) == datetime(2026, 1, 1, 18, tzinfo=UTC)
    summer = datetime(2026, 7, 1, 12, tzinfo=UTC)
    assert next_moment("0 3 * * *", BERLIN, summer) == datetime(2026, 7, 2, 1, tzinfo=UTC)


def test_a_moment_that_the_clock_leaps_over_comes_right_after_the_leap() -> None:
    assert moments("30 2 * * *", BERLIN, "2026-03-28T12:00:00+00:00", 2) == [
        "03-29 03:00+0200",
        "03-30 02:30+0200",
    ]


def test_a_moment_that_the_clock_shows_twice_comes_once() -> None:
    assert moments("30 2 * * *", BERLIN, "2026-10-24T12:00:00+00:00", 2) == [
        "10-25 02:30+0200",
        "10-26 02:30+0100",
    ]
    # Also for who asks between the two.
    assert moments("30 2 * * *", BERLIN, "2026-10-25T00:45:00+00:00", 1) == ["10-26 02:30+0100"]


def test_every_hour_is_every_hour_of_both_days() -> None:
    assert moments("0 * * * *", BERLIN, "2026-10-24T23:30:00+00:00", 4) == [
        "10-25 02:00+0200",
        "10-25 02:00+0100",
        "10-25 03:00+0100",
        "10-25 04:00+0100",
    ]
    assert moments("0 * * * *", BERLIN, "2026-03-29T00:30:00+00:00", 2) == [
        "03-29 03:00+0200",
        "03-29 04:00+0200",
    ]


@given(
    st.sampled_from(["0 3 * * 1", "30 2 * * *", "*/7 * * * *", "0 */6 * * *", "15 1 1 * *"]),
    st.sampled_from(["UTC", BERLIN, "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]),
    st.datetimes(datetime(2024, 1, 1), datetime(2029, 1, 1)),
    st.integers(0, 40 * 86_400),
)
def test_the_next_moment_is_later_and_nothing_lies_between(
    cron: str, timezone: str, after: datetime, seconds: int
) -> None:
    asked = after.replace(tzinfo=UTC)
    found = next_moment(cron, timezone, asked)
    assert found > asked
    later = asked + timedelta(seconds=seconds)
    if later < found:
        assert next_moment(cron, timezone, later) == found
    else:
        assert next_moment(cron, timezone, later) > found


@pytest.mark.parametrize(
    ("cron", "timezone", "word"),
    [
        ("", "UTC", "has 0 fields instead of 5"),
        ("0 3 * *", "UTC", "has 4 fields"),
        ("0 0 3 * * 1", "UTC", "has 6 fields"),
        ("61 3 * * *", "UTC", "The minute of '61 3"),
        ("0 25 * * *", "UTC", "The hour"),
        ("0 3 32 * *", "UTC", "The day-of-month"),
        ("0 3 30 2 *", "UTC", "The day-of-month"),
        ("0 3 * 13 *", "UTC", "The month"),
        ("0 3 * * monday", "UTC", "The day-of-week"),
        ("0 3 * * *", "Berlin", "'Berlin' is no time zone"),
        ("0 3 * * *", "", "'' is no time zone"),
        ("0 3 * * *", "../../etc/passwd", "is no time zone"),
        ("0 3 * * *", "Europe", "'Europe' is no time zone"),
    ],
)
def test_what_is_no_schedule_is_said(cron: str, timezone: str, word: str) -> None:
    with pytest.raises(SettingInvalid, match=word):
        check_schedule(cron, timezone)


def test_moments_are_shown_as_the_clocks_there_show_them() -> None:
    moment = datetime(2026, 7, 1, 1, tzinfo=UTC)
    assert in_zone(moment, BERLIN) == "2026-07-01 03:00 Europe/Berlin"
    assert in_zone(moment, "UTC") == "2026-07-01 01:00 UTC"
