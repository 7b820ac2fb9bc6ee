"""The controller on a real registry: what it decides is applied once, whole, and told."""

import json
from collections.abc import Callable
from datetime import datetime

import pytest

from servable.errors import ConflictError, StorageFailed
from servable.registry.home import Home
from servable.registry.records import WHOLE, DeploymentRecord, Share, Traffic
from servable.registry.rollout_records import Counts, RolloutRecord
from servable.rollout.controller import follow, steer
from servable.rollout.outcomes import Outcomes, nothing
from servable.rollout.pacing import Paced
from servable.rollout.sequential import Moments
from servable.rollout.spec import made_spec
from servable.rollout.starting import start_bandit, start_canary, start_shadow
from servable.testing import FakeClock

SPEC = made_spec((5, 100), every_s=60, min_requests=100)


def newest(home: Home) -> RolloutRecord:
    return home.rollouts.of("churn")[0]


def shares(home: Home) -> dict[int, float]:
    deployment = home.deployments.get("churn")
    assert deployment is not None
    return {share.version: share.weight for share in deployment.traffic.shares}


def deployed(home: Home) -> DeploymentRecord:
    found = home.deployments.get("churn")
    assert found is not None
    return found


def count(home: Home, server: str = "a", **versions: tuple[int, int]) -> None:
    """What a server counted since the rollout began, as ``v2=(ok, failed)``."""
    counts = {
        int(name[1:]): Counts(codes={"ok": ok, "model_failed": failed}, latencies={-50: ok})
        for name, (ok, failed) in versions.items()
    }
    home.rollouts.count(newest(home).id, server, counts)


def test_a_good_version_is_promoted_step_by_step(opened: Home, clock: FakeClock) -> None:
    start_canary(opened, clock, "churn", 2, SPEC)
    assert shares(opened) == {1: 95, 2: 5}
    count(opened, v1=(9500, 10), v2=(500, 0))
    follow(opened, clock, nothing)
    assert newest(opened).course.step == 0
    clock.advance(61)
    token = opened.change_token()
    follow(opened, clock, nothing)
    assert shares(opened) == {2: 100}
    assert opened.change_token() != token
    # The evidence of the step before is no evidence of this one.
    clock.advance(61)
    follow(opened, clock, nothing)
    assert newest(opened).state == "running"
    count(opened, v1=(9500, 10), v2=(800, 0))
    follow(opened, clock, nothing)
    record, after = newest(opened), deployed(opened)
    assert (record.state, record.ended_at) == ("promoted", "2026-01-31T12:02:02Z")
    assert (after.version, after.previous, after.traffic) == (2, (1,), WHOLE)
    told = [event.decision for event in record.course.events]
    assert told == ["start", "hold", "advance", "hold", "promote"]
    assert record.course.events[-1].evidence["touched"] == 800
    # Each decision is in the audit log, once, and looks without one are not.
    contents = [json.loads(row.record) for row in opened.audit.rows()]
    decided = [each["what"] for each in contents if each["what"].startswith("rollout.")]
    assert decided == [f"rollout.{decision}" for decision in told]
    assert contents[-2]["details"]["reason"] == record.course.events[-1].reason
    follow(opened, clock, nothing)
    assert newest(opened) == record


def test_a_worse_version_goes_back_with_the_reason_and_what_it_touched(
    opened: Home, clock: FakeClock
) -> None:
    start_canary(opened, clock, "churn", 2, SPEC)
    count(opened, "a", v1=(4000, 4), v2=(60, 40))
    count(opened, "b", v1=(5000, 5), v2=(50, 50))
    follow(opened, clock, nothing)
    record = newest(opened)
    assert record.state == "rolled_back"
    event = record.course.events[-1]
    assert event.reason.startswith("Error rate 45 %")
    assert (event.evidence["touched"], event.evidence["challenger_errors"]) == (200, 90)
    assert (deployed(opened).version, deployed(opened).traffic) == (1, WHOLE)


def test_looking_again_and_again_changes_nothing_and_tells_nothing(opened: Home, clock: FakeClock) -> None:
    start_canary(opened, clock, "churn", 2, SPEC)
    follow(opened, clock, nothing)
    record, token = newest(opened), opened.change_token()
    for _ in range(5):
        clock.advance(1)
        follow(opened, clock, nothing)
    assert newest(opened) == record
    assert opened.change_token() == token


def test_a_decision_that_somebody_else_took_is_not_taken_twice(opened: Home, clock: FakeClock) -> None:
    start_canary(opened, clock, "churn", 2, SPEC)
    count(opened, v1=(9500, 10), v2=(500, 0))
    clock.advance(61)

    def meanwhile(home: Home, deployment: DeploymentRecord, since: datetime) -> dict[int, Outcomes]:
        follow(opened, clock, nothing)
        return {}

    follow(opened, clock, meanwhile)
    assert newest(opened).course.step == 1
    assert [event.decision for event in newest(opened).course.events] == ["start", "advance"]


def test_a_failure_in_the_middle_leaves_everything_as_it_was(
    opened: Home, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_canary(opened, clock, "churn", 2, SPEC)
    count(opened, v1=(9500, 10), v2=(500, 0))
    clock.advance(61)
    before, present = newest(opened), deployed(opened)
    real = opened.rollouts.save

    def fails(*arguments: object) -> None:
        real(*arguments)
        raise StorageFailed("The disk is gone.")

    monkeypatch.setattr(opened.rollouts, "save", fails)
    follow(opened, clock, nothing)
    assert newest(opened) == before
    assert deployed(opened) == present
    monkeypatch.undo()
    follow(opened, clock, nothing)
    assert newest(opened).course.step == 1


@pytest.mark.parametrize(
    ("act", "version"),
    [
        (lambda home: home.deployments.deploy("churn", 3), 3),
        (lambda home: home.deployments.rollback("churn"), 1),
        (lambda home: home.deployments.undeploy("churn"), None),
        (lambda home: home.deployments.divide("churn", Traffic(shares=(Share(version=3, weight=1),))), 1),
    ],
    ids=["deploy", "rollback", "undeploy", "split"],
)
def test_what_a_person_does_ends_the_rollout(
    opened: Home, clock: FakeClock, act: Callable[[Home], object], version: int | None
) -> None:
    start_canary(opened, clock, "churn", 2, SPEC)
    act(opened)
    record = newest(opened)
    assert (record.state, record.course.events[-1].decision) == ("cancelled", "cancel")
    clock.advance(1000)
    assert follow(opened, clock, nothing) == 0
    found = opened.deployments.get("churn")
    assert (None if found is None else found.version) == version


def test_one_rollout_of_a_model_goes_on_at_a_time(opened: Home, clock: FakeClock) -> None:
    first = start_canary(opened, clock, "churn", 2, SPEC)
    with pytest.raises(ConflictError, match="--abort"):
        start_canary(opened, clock, "churn", 3, SPEC)
    steer(opened, clock, "churn", "abort")
    second = start_canary(opened, clock, "churn", 3, SPEC)
    assert second.id > first.id
    assert shares(opened) == {1: 95, 3: 5}


def test_what_cannot_begin_changes_nothing(opened: Home, clock: FakeClock) -> None:
    with pytest.raises(ConflictError, match="is deployed already"):
        start_canary(opened, clock, "churn", 1, SPEC)
    with pytest.raises(ConflictError, match="name another one"):
        start_bandit(opened, clock, "churn", (1,), SPEC)
    opened.deployments.divide("churn", Traffic(shares=(Share(version=2, weight=1),)))
    with pytest.raises(ConflictError, match="divided by hand"):
        start_canary(opened, clock, "churn", 2, SPEC)
    opened.deployments.undeploy("churn")
    with pytest.raises(ConflictError, match="not deployed"):
        start_shadow(opened, clock, "churn", 2, 1.0, SPEC)
    assert opened.rollouts.of("churn") == ()


def test_a_person_may_decide(opened: Home, clock: FakeClock) -> None:
    start_canary(opened, clock, "churn", 2, SPEC)
    assert steer(opened, clock, "churn", "hold").state == "held"
    count(opened, v1=(9500, 10), v2=(500, 0))
    clock.advance(61)
    follow(opened, clock, nothing)
    assert newest(opened).course.step == 0
    assert steer(opened, clock, "churn", "resume").state == "running"
    assert steer(opened, clock, "churn", "advance").course.step == 1
    assert shares(opened) == {2: 100}
    assert steer(opened, clock, "churn", "advance").state == "promoted"
    assert deployed(opened).version == 2
    with pytest.raises(ConflictError, match="No rollout of churn goes on"):
        steer(opened, clock, "churn", "abort")


def test_a_step_without_progress_waits_for_a_person(opened: Home, clock: FakeClock) -> None:
    start_canary(opened, clock, "churn", 2, SPEC)
    clock.advance(SPEC.patience_s + 1)
    follow(opened, clock, nothing)
    record = newest(opened)
    assert record.state == "held"
    assert "No progress within 3,600 seconds" in record.course.events[-1].reason
    follow(opened, clock, nothing)
    assert newest(opened) == record


def test_what_no_server_can_load_goes_back(opened: Home, clock: FakeClock) -> None:
    start_canary(opened, clock, "churn", 2, SPEC)
    number = newest(opened).id
    opened.rollouts.count(number, "a", {2: Counts(failure="The file is damaged.")})
    opened.rollouts.count(number, "b", {1: Counts(codes={"ok": 5})})
    follow(opened, clock, nothing)
    assert newest(opened).state == "rolled_back"
    assert "could not be loaded anywhere: The file is damaged." in newest(opened).course.events[-1].reason


def test_a_server_that_is_gone_is_not_asked(opened: Home, clock: FakeClock) -> None:
    start_canary(opened, clock, "churn", 2, SPEC)
    opened.rollouts.count(newest(opened).id, "a", {2: Counts(failure="No memory.")})
    clock.advance(40)
    follow(opened, clock, nothing)
    assert newest(opened).state == "running"


def test_worse_labels_send_it_back(opened: Home, clock: FakeClock) -> None:
    start_canary(opened, clock, "churn", 2, SPEC)
    count(opened, v1=(9500, 10), v2=(900, 0))

    def labelled(home: Home, deployment: DeploymentRecord, since: datetime) -> dict[int, Outcomes]:
        assert since == clock.now()
        return {1: Outcomes(labels=2000, right=1800), 2: Outcomes(labels=500, right=350)}

    follow(opened, clock, labelled)
    assert newest(opened).state == "rolled_back"
    assert "Accuracy 70 %" in newest(opened).course.events[-1].reason


def test_a_shadow_is_compared_and_nothing_follows(opened: Home, clock: FakeClock) -> None:
    start_shadow(opened, clock, "churn", 2, 0.5, SPEC)
    assert (deployed(opened).traffic.shadow, deployed(opened).traffic.mirrored) == (2, 0.5)
    count(opened, v1=(9500, 10), v2=(0, 900))
    clock.advance(1e5)
    follow(opened, clock, nothing)
    assert newest(opened).state == "running"
    assert steer(opened, clock, "churn", "abort").state == "rolled_back"
    assert deployed(opened).traffic == WHOLE


def test_a_bandit_follows_the_rewards(opened: Home, clock: FakeClock) -> None:
    start_bandit(opened, clock, "churn", (1, 2, 3), SPEC)
    assert set(shares(opened)) == {1, 2, 3}

    def paid(home: Home, deployment: DeploymentRecord, since: datetime) -> dict[int, Outcomes]:
        return {
            version: Outcomes(rewards=Moments(1000, good, good))
            for version, good in ((1, 100.0), (2, 200.0), (3, 100.0))
        }

    follow(opened, clock, paid)
    assert shares(opened)[2] < 50
    clock.advance(61)
    follow(opened, clock, paid)
    assert shares(opened)[2] > 95
    assert sum(shares(opened).values()) == pytest.approx(100, abs=0.2)
    token = opened.change_token()
    clock.advance(61)
    follow(opened, clock, paid)
    assert opened.change_token() == token
    # A failed request was worth nothing.
    count(opened, v1=(1000, 0), v2=(1000, 50_000), v3=(1000, 0))
    clock.advance(61)
    follow(opened, clock, paid)
    assert shares(opened)[2] < 5
    best = max(shares(opened), key=shares(opened).__getitem__)
    assert steer(opened, clock, "churn", "advance").state == "promoted"
    assert deployed(opened).version == best


def test_outcomes_are_read_no_more_often_than_reading_allows(opened: Home, clock: FakeClock) -> None:
    asked = []

    def slow(home: Home, deployment: DeploymentRecord, since: datetime) -> dict[int, Outcomes]:
        asked.append(clock.monotonic())
        clock.advance(3)
        if len(asked) == 2:
            raise StorageFailed("The store is gone.")
        return {1: Outcomes(labels=len(asked))}

    paced, since = Paced(clock, slow), clock.now()
    assert paced(opened, deployed(opened), since)[1].labels == 1
    clock.advance(20)
    assert paced(opened, deployed(opened), since)[1].labels == 1
    assert len(asked) == 1
    clock.advance(20)
    # What cannot be read leaves what was known.
    assert paced(opened, deployed(opened), since)[1].labels == 1
    assert len(asked) == 2
