"""When a turn is due: examples of each reason, and properties of all."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.errors import SettingInvalid
from servable.updating.plan import STEPS, Seen, Triggers, due, left, next_turn, rest_s, seconds_of, spell

SEEN = st.builds(
    Seen,
    fresh=st.integers(0, 10_000),
    since_s=st.none() | st.floats(0, 1e7),
    failures=st.integers(0, 50),
    drift=st.sampled_from(["", "price"]),
    quality=st.sampled_from(["", "accuracy 0.6"]),
)
TRIGGERS = st.builds(
    Triggers,
    every_s=st.sampled_from([0.0, 60.0, 86_400.0]),
    labels=st.sampled_from([0, 10, 480]),
    drift=st.booleans(),
    quality=st.booleans(),
    fewest=st.integers(1, 500),
)


NIGHTLY = Triggers(cron="0 3 * * *", timezone="Europe/Berlin", fewest=10)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("hours", "since_h", "fresh", "now"),
    [
        (13.9, None, 10, False),
        (14.1, None, 10, True),
        (14.1, None, 9, False),
        # Made at three already, and not again before the next night.
        (20, 5.9, 10, False),
        (38.1, 24, 10, True),
        # The machine was off for days, which is made up for by one turn.
        (200, 150, 10, True),
        (200, 0.01, 10, False),
    ],
)
def test_a_schedule_makes_a_turn_due(hours: float, since_h: float | None, fresh: int, now: bool) -> None:
    seen = Seen(
        fresh=fresh, now=NOON + timedelta(hours=hours),
        after=NOON if since_h is None else NOON + timedelta(hours=hours - since_h),
        since_s=None if since_h is None else since_h * 3600,
    )  # fmt: skip
    found = due(NIGHTLY, seen)
    assert found.now is now
    if now:
        assert found.reason.startswith("0 3 * * * came at 2026-01-")
        assert found.reason.endswith(" 03:00 Europe/Berlin")
    elif fresh >= 10:
        assert "03:00 Europe/Berlin" in found.reason


def test_the_next_turn_is_the_first_that_time_makes_due() -> None:
    seen = Seen(fresh=0, now=NOON + timedelta(hours=1), after=NOON, since_s=3600)
    assert next_turn(NIGHTLY, seen) == datetime(2026, 1, 2, 2, tzinfo=UTC)
    assert next_turn(Triggers(every_s=7200), seen) == NOON + timedelta(hours=2)
    both = Triggers(every_s=7200, cron=NIGHTLY.cron, timezone=NIGHTLY.timezone)
    assert next_turn(both, seen) == NOON + timedelta(hours=2)
    assert next_turn(Triggers(labels=5, drift=True), seen) is None
    # Nothing was ever made by it, so it is due at once, and stays due from then on.
    first = Seen(fresh=0, now=NOON + timedelta(hours=9), after=NOON)
    assert next_turn(Triggers(every_s=7200), first) == NOON


def test_a_turn_that_began_at_the_very_moment_is_that_of_the_moment() -> None:
    three = datetime(2026, 1, 2, 2, tzinfo=UTC)
    seen = Seen(fresh=10, now=three + timedelta(minutes=5), after=three, since_s=300)
    assert not due(NIGHTLY, seen).now
    assert next_turn(NIGHTLY, seen) == three + timedelta(days=1)


def test_a_turn_asked_for_by_hand_is_due_at_once() -> None:
    assert due(Triggers(), Seen(fresh=0)).now


@pytest.mark.parametrize(
    ("triggers", "seen", "word"),
    [
        (Triggers(labels=480), Seen(fresh=480), "480 rows"),
        (Triggers(drift=True), Seen(fresh=100, drift="vicprice since row 17424"), "vicprice since row 17424"),
        (Triggers(quality=True), Seen(fresh=100, quality="accuracy 0.6"), "accuracy 0.6"),
        (Triggers(every_s=86_400), Seen(fresh=100, since_s=90_000), "1.04d"),
        (Triggers(every_s=86_400), Seen(fresh=100), "no turn before"),
    ],
)
def test_each_trigger_says_why(triggers: Triggers, seen: Seen, word: str) -> None:
    found = due(triggers, seen)
    assert found.now
    assert word in found.reason


@pytest.mark.parametrize(
    ("triggers", "seen", "word"),
    [
        (Triggers(labels=480), Seen(fresh=479), "1 more labelled rows"),
        (Triggers(drift=True), Seen(fresh=99, drift="price"), "100 are needed"),
        (Triggers(drift=True, quality=True), Seen(fresh=100), "drift or worse quality"),
        (Triggers(every_s=86_400), Seen(fresh=100, since_s=80_000), "1.78h"),
        (Triggers(labels=10, fewest=1), Seen(fresh=10, since_s=10, failures=1), "tried in 50s"),
    ],
)
def test_what_is_waited_for_is_said(triggers: Triggers, seen: Seen, word: str) -> None:
    found = due(triggers, seen)
    assert not found.now
    assert word in found.reason


@given(TRIGGERS, SEEN)
def test_no_trigger_makes_a_turn_out_of_the_same_rows(triggers: Triggers, seen: Seen) -> None:
    found = due(triggers, seen)
    assert found.reason
    if found.now and not triggers.always:
        assert seen.fresh >= triggers.fewest


@given(TRIGGERS, SEEN, st.integers(0, 1000), st.floats(0, 1e6))
def test_more_labels_and_more_time_never_make_a_due_turn_wait(
    triggers: Triggers, seen: Seen, rows: int, seconds: float
) -> None:
    later = Seen(
        fresh=seen.fresh + rows,
        since_s=None if seen.since_s is None else seen.since_s + seconds,
        failures=seen.failures,
        drift=seen.drift,
        quality=seen.quality,
    )
    assert due(triggers, later).now >= due(triggers, seen).now


@given(st.integers(0, 400))
def test_failures_make_pauses_longer_up_to_a_day(count: int) -> None:
    assert rest_s(count) <= rest_s(count + 1) <= 86_400
    assert rest_s(0) == 0


def test_spans_of_time() -> None:
    assert [seconds_of(text) for text in ("90s", "10m", "1.5h", "1d", "2w")] == [
        90,
        600,
        5400,
        86400,
        1209600,
    ]
    assert spell(90_000) == "1.04d"
    assert spell(0) == "0s"
    for text in ("", "1", "d", "0d", "1 day", "-1d"):
        with pytest.raises(SettingInvalid, match="span of time"):
            seconds_of(text)


def test_steps_that_are_left() -> None:
    assert left("") == STEPS
    assert left("gate") == ("optimise", "register", "deploy")
    assert left("deploy") == ()
