from servable.registry.rollout_records import Counts, Course, Evidence, RolloutRecord
from servable.rollout.evidence import compare
from servable.rollout.gathering import gather, moment
from servable.rollout.spec import made_spec

AT = "2026-01-31T12:00:00Z"
SPEC = made_spec((50, 100), every_s=60, min_requests=100)
FAST, SLOW = -50, -20


def record(share: float) -> RolloutRecord:
    course = Course(weights={1: 100.0 - share, 2: share} if share < 100 else {2: 100.0})
    return RolloutRecord(
        id=1,
        model="churn",
        kind="canary",
        champion=1,
        challenger=2,
        state="running",
        started_at=AT,
        course=course,
    )


def counted(version: int, step: int, *, failed: int = 0) -> Evidence:
    counts = Counts(codes={"ok": 10_000, "model_failed": failed}, latencies={step: 10_000})
    return Evidence(server="s", version=version, updated_at=AT, counts=counts)


def worse(share: float, *evidence: Evidence) -> set[str]:
    found = compare(SPEC, gather(record(share), evidence, {}, moment(AT)))
    return {each.measure for each in found if each.worse}


def test_a_slower_version_is_told_from_a_slower_hour() -> None:
    both = counted(1, FAST), counted(2, SLOW)
    assert worse(50.0, *both) == {"median latency", "95 % latency"}
    # Nobody asks the champion any more, and what it took before says nothing about now.
    assert worse(100.0, *both) == set()


def test_failures_are_still_compared_with_what_the_champion_showed_before() -> None:
    assert worse(100.0, counted(1, FAST), counted(2, FAST, failed=5_000)) == {"error rate"}
