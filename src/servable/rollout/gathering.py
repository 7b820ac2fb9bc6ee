"""From what servers counted and callers fed back to the evidence on which a plan decides. Pure."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

import msgspec

from servable.registry.rollout_records import NO_COUNTS, Counts, Evidence, RolloutRecord, summed
from servable.rollout.evidence import NOTHING_SEEN, Pair, Seen
from servable.rollout.evidence import Evidence as Known
from servable.rollout.outcomes import Outcomes
from servable.rollout.spec import ALL

#: A server that has not written for so long is not there any more, and what it could not load is no evidence.
FRESH_S = 30.0
_NO_OUTCOMES = Outcomes()


def gather(
    record: RolloutRecord,
    evidence: Iterable[Evidence],
    outcomes: Mapping[int, Outcomes],
    now: datetime,
) -> Known:
    """What is known of a rollout.

    Args:
        record: the rollout.
        evidence: what every server counted.
        outcomes: by version, since it began.
        now: the present moment, aware.
    """
    given = tuple(evidence)
    total = summed(given)
    begun = record.course.begun
    both = (record.champion, record.challenger)
    whole = Pair(*(seen(total.get(version, NO_COUNTS), outcomes.get(version)) for version in both))
    step = Pair(*(seen(total.get(each, NO_COUNTS).less(begun.get(each, NO_COUNTS))) for each in both))
    if record.course.weights.get(record.challenger, 0.0) >= ALL:
        # Nobody asks the champion in such a step, so what it showed before stands in. How long it took then
        # says nothing about now: the machine and the number of callers may have changed since.
        step = Pair(msgspec.structs.replace(whole.champion, latencies={}), step.challenger)
    of_challenger = [each for each in given if each.version == record.challenger and _is_fresh(each, now)]
    return Known(
        step=step,
        whole=whole,
        failures={each.server: each.counts.failure for each in of_challenger if each.counts.failure},
        loaded=sum(not each.counts.failure for each in of_challenger),
    )


def seen(counts: Counts, outcomes: Outcomes | None = None) -> Seen:
    """What was counted and fed back for one version."""
    known = outcomes or _NO_OUTCOMES
    if counts is NO_COUNTS and outcomes is None:
        return NOTHING_SEEN
    return Seen(
        codes=counts.codes,
        latencies=counts.latencies,
        labels=known.labels,
        right=known.right,
        losses=known.losses,
        rewards=known.rewards,
        outputs=known.outputs,
    )


def moment(text: str) -> datetime:
    """The moment of a record's timestamp."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def _is_fresh(evidence: Evidence, now: datetime) -> bool:
    return now - moment(evidence.updated_at) <= timedelta(seconds=FRESH_S)
