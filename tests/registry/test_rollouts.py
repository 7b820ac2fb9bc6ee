from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.adding import add
from servable.errors import ConflictError, NotFoundError, StorageFailed
from servable.registry.home import Home
from servable.registry.reports import GoingOn, open_reports
from servable.registry.rollout_records import (
    MOST_EVENTS,
    NO_COUNTS,
    Counts,
    Course,
    Event,
    Evidence,
    RolloutRecord,
    read_counts,
    read_course,
    stored,
    summed,
)
from servable.registry.rollouts import KEPT
from servable.testing import FakeClock

counts = st.builds(
    Counts,
    codes=st.dictionaries(st.sampled_from(["ok", "model_failed"]), st.integers(1, 1000)),
    latencies=st.dictionaries(st.integers(-100, 10), st.integers(1, 1000), max_size=5),
)


def begin(home: Home) -> RolloutRecord:
    wanted = RolloutRecord(
        id=0,
        model="churn",
        kind="canary",
        champion=1,
        challenger=2,
        state="",
        started_at="",
        course=Course(versions=(1, 2), weights={1: 95.0, 2: 5.0}),
    )
    with home.state.writing() as connection:
        return home.rollouts.start(wanted, connection)


@pytest.fixture
def two(opened: Home) -> Home:
    add(opened)
    add(opened, content=b"another")
    return opened


def test_what_is_started_is_read_and_ends(two: Home, clock: FakeClock) -> None:
    begun = begin(two)
    assert two.rollouts.going_on() == two.rollouts.of("churn") == (begun,)
    assert begun.going_on
    with two.state.writing() as connection, pytest.raises(ConflictError, match="goes on already"):
        two.rollouts.start(begun, connection)
    two.deployments.deploy("churn", 1)
    (ended,) = two.rollouts.of("churn")
    assert (ended.state, ended.going_on) == ("cancelled", False)
    assert two.rollouts.going_on() == ()
    with two.state.reading() as connection, pytest.raises(NotFoundError):
        two.rollouts.get(999, connection)


def test_old_rollouts_are_forgotten_with_their_evidence(two: Home) -> None:
    first = begin(two)
    two.rollouts.count(first.id, "a", {1: Counts(codes={"ok": 1})})
    for _ in range(KEPT + 1):
        two.deployments.deploy("churn", 1)
        begin(two)
    found = two.rollouts.of("churn")
    assert len(found) == KEPT + 1
    assert first.id not in {record.id for record in found}
    assert two.rollouts.evidence(first.id) == ()


def test_a_server_that_writes_twice_counts_once(two: Home) -> None:
    number = begin(two).id
    for ok in (5, 9):
        two.rollouts.count(number, "a", {1: Counts(codes={"ok": ok}), 2: Counts(failure="No.")})
    two.rollouts.count(number, "b", {1: Counts(codes={"ok": 100, "overloaded": 1}, latencies={-3: 7})})
    total = summed(two.rollouts.evidence(number))
    assert total == {1: Counts(codes={"ok": 109, "overloaded": 1}, latencies={-3: 7}), 2: NO_COUNTS}


def test_servers_write_with_the_standard_library_alone_and_wake_nobody(
    two: Home, home: Path, clock: FakeClock
) -> None:
    reports = open_reports(home, clock=clock)
    assert (reports.going_on(), reports.capturing()) == ((), False)
    number = begin(two).id
    token = two.change_token()
    assert reports.going_on() == (GoingOn(number, "churn", (1, 2)),)
    said = {1: Counts(codes={"ok": 3}, latencies={-40: 3}), 2: Counts(failure="No memory.")}
    reports.count(number, "a", said)
    reports.count(number, "a", said)
    assert two.change_token() == token
    assert [(each.server, each.version, each.counts) for each in two.rollouts.evidence(number)] == [
        ("a", 1, said[1]),
        ("a", 2, said[2]),
    ]
    two.deployments.deploy("churn", 1, wishes={"capture": 0.5})
    assert reports.capturing()
    reports.close()


def test_a_database_by_its_address_takes_the_same_reports(two: Home, home: Path) -> None:
    number = begin(two).id
    reports = open_reports(home, database_url=f"sqlite:///{home / 'registry.db'}")
    assert reports.going_on() == (GoingOn(number, "churn", (1, 2)),)
    assert not reports.capturing()
    reports.count(number, "a", {1: Counts(codes={"ok": 3})})
    reports.close()
    assert len(two.rollouts.evidence(number)) == 1


def test_a_database_that_is_gone_is_said_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match=r"cannot be written|failed"):
        open_reports(tmp_path / "nowhere")


@given(counts, counts)
def test_what_came_since_is_the_difference(earlier: Counts, more: Counts) -> None:
    both = [
        Evidence(server=name, version=1, updated_at="", counts=each)
        for name, each in zip("ab", (earlier, more), strict=True)
    ]
    assert summed(both)[1].less(earlier) == more
    assert read_counts(stored(more)) == more
    assert more.less(more) == NO_COUNTS


def test_a_story_keeps_its_beginning_and_its_end() -> None:
    course = Course()
    for number in range(MOST_EVENTS + 50):
        course = course.told(Event(at="", decision="hold", step=number, reason=""))
    steps = [event.step for event in course.events]
    assert len(steps) == MOST_EVENTS
    assert steps[:3] == [0, 1, 2]
    assert steps[-1] == MOST_EVENTS + 49


def test_what_is_infinite_can_be_stored_and_damage_is_said() -> None:
    event = Event(at="", decision="hold", step=0, reason="", evidence={"high": float("inf")})
    assert read_course(stored(Course(events=(event,)))).events[0].evidence == {"high": None}
    with pytest.raises(StorageFailed, match="damaged record"):
        read_course({"step": "first"})
