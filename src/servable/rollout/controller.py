"""Applies what plans decide: the only one that changes desired state for a rollout.

``follow`` looks at every rollout that goes on. Whatever follows is written in one transaction with the
rollout's record: the division of the requests, the deployment, the step, the story. So it may be killed
anywhere and run again, by anybody, any number of times at once: either all of a decision is there or nothing,
and a decision that was taken meanwhile is not taken twice.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection

from servable.clock import Clock, timestamp
from servable.errors import ConflictError, ServableError
from servable.logs import fields, logger
from servable.registry.home import Home
from servable.registry.records import WHOLE, DeploymentRecord
from servable.registry.rollout_records import (
    CANCELLED,
    HELD,
    PROMOTED,
    ROLLED_BACK,
    RUNNING,
    Event,
    RolloutRecord,
    summed,
)
from servable.rollout.evidence import Evidence
from servable.rollout.gathering import gather, moment
from servable.rollout.looks import due, with_look
from servable.rollout.outcomes import Finding, Outcomes, captured
from servable.rollout.plan import Advance, Decision, Hold, Promote, RollBack, Step, plan
from servable.rollout.spec import read_spec
from servable.rollout.starting import BANDIT, canary_weights, traffic_of
from servable.rollout.weighing import weigh

_log = logger("rollout")


def follow(home: Home, clock: Clock, outcomes: Finding = captured) -> int:
    """Look at every rollout that goes on and do what follows; cheap when nothing does.

    What goes wrong with one is logged and leaves it as it was.

    Args:
        home: an open home.
        clock: the time.
        outcomes: finds labels and rewards.

    Returns:
        How many go on.

    Raises:
        StorageFailed: the database does not answer.
    """
    going_on = home.rollouts.going_on()
    for record in going_on:
        try:
            _turn(home, clock, record, outcomes)
        except ServableError as error:
            _log.warning(
                "a rollout cannot be followed", extra=fields(model=record.model, reason=error.message)
            )
    return len(going_on)


def known(home: Home, clock: Clock, record: RolloutRecord, outcomes: Finding = captured) -> Evidence:
    """What is known of a rollout now.

    Raises:
        StorageFailed: the database or what was captured cannot be read.
    """
    found = _outcomes(home, record, outcomes)
    return gather(record, home.rollouts.evidence(record.id), found, clock.now())


def decide(record: RolloutRecord, evidence: Evidence, now: float) -> Decision:
    """What follows for a canary or a shadow. Pure."""
    course = record.course
    step = Step(course.step, course.step_since, record.state == HELD)
    return plan(read_spec(course.spec), step, evidence, now)


def _outcomes(home: Home, record: RolloutRecord, outcomes: Finding) -> Mapping[int, Outcomes]:
    deployment = home.deployments.get(record.model)
    return {} if deployment is None else outcomes(home, deployment, moment(record.started_at))


def _turn(home: Home, clock: Clock, record: RolloutRecord, outcomes: Finding) -> None:
    if record.kind == BANDIT:
        weigh(home, clock, record, _outcomes(home, record, outcomes))
        return
    evidence = known(home, clock, record, outcomes)
    decision = decide(record, evidence, clock.now().timestamp())
    if isinstance(decision, Hold):
        _wait(home, clock, record, decision, evidence)
        return
    with home.state.writing() as connection:
        present = home.rollouts.get(record.id, connection)
        if present == record:
            apply(home, clock, present, decision, connection, evidence)


def _wait(home: Home, clock: Clock, record: RolloutRecord, hold: Hold, evidence: Evidence) -> None:
    """Keep what is known and tell in the story why nothing is changed, each when it is time.

    After the patience a person is waited for.
    """
    course, now, state = record.course, clock.now().timestamp(), record.state
    if due(course, read_spec(course.spec).every_s, now):
        course = with_look(course, hold.comparisons, now)
    told = hold.cause not in ("held", record.course.events[-1].cause)
    if told:
        event = _event(clock, record, "hold", hold.reason, shown(hold, evidence), cause=hold.cause)
        course = course.told(event)
        state = HELD if hold.cause == "patience" else state
    if course is record.course:
        return
    with home.state.aside() as connection:
        if home.rollouts.get(record.id, connection) != record:
            return
        home.rollouts.save(msgspec.structs.replace(record, state=state, course=course), connection)
    if told:
        _log.info("a rollout waits", extra=fields(model=record.model, reason=hold.reason))


def apply(
    home: Home,
    clock: Clock,
    record: RolloutRecord,
    decision: Advance | Promote | RollBack,
    connection: Connection,
    evidence: Evidence | None = None,
) -> RolloutRecord:
    """Do what was decided, in a transaction that is open for writing.

    Args:
        home: an open home.
        clock: what dates it.
        record: as this transaction sees it.
        decision: of a plan or of a person.
        connection: from ``State.writing``.
        evidence: on which it was decided, for the story.

    Returns:
        The rollout afterwards.
    """
    deployment = home.deployments.get(record.model, connection)
    if deployment is None or deployment.version != record.champion:
        return _cancelled(home, clock, record, deployment, connection)
    replace, now = msgspec.structs.replace, clock.now()
    name = {Advance: "advance", Promote: "promote", RollBack: "roll_back"}[type(decision)]
    told = record.course.told(_event(clock, record, name, decision.reason, shown(decision, evidence)))
    told = with_look(told, decision.comparisons, now.timestamp())
    if isinstance(decision, Advance):
        share = read_spec(told.spec).steps[told.step + 1]
        weights = canary_weights(record.champion, record.challenger, share)
        course = replace(
            told,
            step=told.step + 1,
            step_since=now.timestamp(),
            weights=weights,
            begun=summed(home.rollouts.evidence(record.id, connection)),
        )
        after = replace(record, state=RUNNING, course=course)
        home.deployments.divide(record.model, traffic_of(weights), rollout=record.id, connection=connection)
        home.rollouts.save(after, connection)
    else:
        state = PROMOTED if isinstance(decision, Promote) else ROLLED_BACK
        after = replace(record, state=state, ended_at=timestamp(now), course=replace(told, weights={}))
        # Ended first, so that the deployment finds no rollout to cancel.
        home.rollouts.save(after, connection)
        if isinstance(decision, Promote):
            home.deployments.deploy(record.model, record.challenger, connection=connection)
        else:
            home.deployments.divide(record.model, WHOLE, connection=connection)
    _log.info(
        "a rollout moves",
        extra=fields(model=record.model, version=record.challenger, does=name, reason=decision.reason),
    )
    return after


def _cancelled(
    home: Home,
    clock: Clock,
    record: RolloutRecord,
    deployment: DeploymentRecord | None,
    connection: Connection,
) -> RolloutRecord:
    """End a rollout whose champion is deployed no longer."""
    found = "nothing is" if deployment is None else f"version {deployment.version} is"
    reason = f"Version {record.champion} is deployed no longer, {found}."
    told = record.course.told(_event(clock, record, "cancel", reason, {}))
    after = msgspec.structs.replace(
        record,
        state=CANCELLED,
        ended_at=timestamp(clock.now()),
        course=msgspec.structs.replace(told, weights={}),
    )
    home.rollouts.save(after, connection)
    return after


def shown(decision: Decision, evidence: Evidence | None) -> dict[str, Any]:
    """What was known, as the story keeps it."""
    if evidence is None:
        return {}
    step, whole = evidence.step, evidence.whole
    return {
        "champion_requests": step.champion.requests,
        "champion_errors": step.champion.errors,
        "challenger_requests": step.challenger.requests,
        "challenger_errors": step.challenger.errors,
        "touched": whole.challenger.requests,
        "comparisons": msgspec.to_builtins(decision.comparisons),
    }


def _event(
    clock: Clock, record: RolloutRecord, decision: str, reason: str, evidence: dict[str, Any], cause: str = ""
) -> Event:
    return Event(
        at=timestamp(clock.now()),
        decision=decision,
        step=record.course.step,
        reason=reason,
        cause=cause,
        evidence=evidence,
    )


def steer(home: Home, clock: Clock, model: str, action: str) -> RolloutRecord:
    """Let a person decide.

    Args:
        home: an open home.
        clock: what dates it.
        model: whose rollout.
        action: ``advance`` to the next step or the end, ``hold``, ``resume``, or ``abort``.

    Returns:
        The rollout afterwards.

    Raises:
        ConflictError: none goes on, or it cannot do that.
    """
    with home.state.writing() as connection:
        record = home.rollouts.goes_on(model, connection)
        if record is None:
            raise ConflictError(
                f"No rollout of {model} goes on; begin one with: "
                f"servable deploy {model}:VERSION --canary 1,5,25,100"
            )
        if action == "abort":
            return apply(home, clock, record, RollBack("A person ended it."), connection)
        if action == "advance":
            return apply(home, clock, *following(record), connection)
        state, reason = {
            "hold": (HELD, "A person holds it."),
            "resume": (RUNNING, "A person lets it go on."),
        }[action]
        course = record.course.told(_event(clock, record, action, reason, {}, cause=action))
        if action == "resume":
            course = msgspec.structs.replace(course, step_since=clock.now().timestamp())
        after = msgspec.structs.replace(record, state=state, course=course)
        home.rollouts.save(after, connection)
        return after


def following(record: RolloutRecord) -> tuple[RolloutRecord, Advance | Promote]:
    """What a person who lets it go on means; of a bandit the best version so far takes the place. Pure."""
    course = record.course
    if record.kind == BANDIT:
        best = max(course.weights, key=lambda version: course.weights[version])
        record = msgspec.structs.replace(record, challenger=best)
        return record, Promote(f"A person deploys version {best}, which had the largest share.")
    if course.step + 1 < len(read_spec(course.spec).steps):
        return record, Advance("A person lets the next step begin.")
    return record, Promote("A person deploys it.")
