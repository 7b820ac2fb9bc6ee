"""Gives the versions of a bandit their shares from time to time."""

from collections.abc import Mapping

import msgspec

from servable.clock import Clock, timestamp
from servable.registry.home import Home
from servable.registry.rollout_records import HELD, NO_COUNTS, Counts, Event, RolloutRecord, summed
from servable.rollout.bandit import weights
from servable.rollout.gathering import seen
from servable.rollout.outcomes import Outcomes
from servable.rollout.sequential import Moments
from servable.rollout.spec import ALL, read_spec
from servable.rollout.starting import traffic_of

#: Changes of shares below this many points are not worth a change of desired state.
_WORTH = 1.0


def weigh(home: Home, clock: Clock, record: RolloutRecord, outcomes: Mapping[int, Outcomes]) -> None:
    """Change the shares when it is time and rewards say so.

    Args:
        home: an open home.
        clock: the time.
        record: a bandit that goes on.
        outcomes: by version.
    """
    now, course = clock.now(), record.course
    if record.state == HELD or now.timestamp() - course.looked_at < read_spec(course.spec).every_s:
        return
    counted = summed(home.rollouts.evidence(record.id))
    rewards = {
        version: worth(counted.get(version, NO_COUNTS), outcomes.get(version)) for version in course.versions
    }
    if not any(each.rewards.count for each in outcomes.values()):
        return
    # Nothing but what is kept decides the draws, so that two who look at once come to the same.
    fresh = weights(rewards, seed=record.id * 1_000_003 + len(course.events))
    shares = {version: round(weight * ALL, 1) for version, weight in fresh.items()}
    changed = max(abs(shares[version] - course.weights.get(version, 0.0)) for version in shares) >= _WORTH
    replace = msgspec.structs.replace
    after = replace(course, looked_at=now.timestamp())
    if changed:
        said = ", ".join(f"version {version} {share:g} %" for version, share in shares.items())
        event = Event(
            at=timestamp(now),
            decision="weights",
            step=0,
            reason=f"By the rewards so far: {said}.",
            evidence={
                "rewards": {str(version): [each.count, each.mean] for version, each in rewards.items()},
                "shares": {str(version): share for version, share in shares.items()},
            },
        )
        after = replace(after.told(event), weights=shares)
    with home.state.writing() if changed else home.state.aside() as connection:
        if home.rollouts.get(record.id, connection) != record:
            return
        home.rollouts.save(replace(record, course=after), connection)
        if changed:
            home.deployments.divide(
                record.model, traffic_of(shares), rollout=record.id, connection=connection
            )


def worth(counts: Counts, outcomes: Outcomes | None) -> Moments:
    """The rewards of a version; a failed request was worth nothing."""
    known = Moments() if outcomes is None else outcomes.rewards
    return Moments(known.count + seen(counts).errors, known.total, known.squares)
