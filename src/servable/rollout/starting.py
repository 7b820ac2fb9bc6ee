"""Begins rollouts: the record and the first division of requests in one transaction."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection

from servable.clock import Clock, timestamp
from servable.errors import ConflictError, SettingInvalid
from servable.registry.home import Home
from servable.registry.models import resolve_version
from servable.registry.records import WHOLE, DeploymentRecord, Share, Traffic
from servable.registry.rollout_records import Course, Event, RolloutRecord
from servable.rollout.spec import ALL, Spec

CANARY, SHADOW, BANDIT = "canary", "shadow", "bandit"


def start_canary(home: Home, clock: Clock, model: str, version: int, spec: Spec) -> RolloutRecord:
    """Let a version answer a share of the requests that grows step by step.

    Args:
        home: an open home.
        clock: what dates it.
        model: a deployed model.
        version: another one than is deployed.
        spec: with at least one step.

    Raises:
        ModelNotFound: there is no such model.
        VersionNotFound: it has no such version.
        ConflictError: it is not deployed, this version is deployed already, or its requests are divided.
        SettingInvalid: no step.
    """
    if not spec.steps:
        raise SettingInvalid("A canary needs steps; write for instance --canary 1,5,25,100.")
    with home.state.writing() as connection:
        present = _whole(home, connection, model)
        _other(connection, present, version)
        weights = canary_weights(present.version, version, spec.steps[0])
        reason = f"Version {version} gets {spec.steps[0]:g} % of the requests."
        return _begin(home, clock, connection, present, CANARY, (version,), spec, weights, reason)


def start_shadow(
    home: Home, clock: Clock, model: str, version: int, mirrored: float, spec: Spec
) -> RolloutRecord:
    """Let a version get copies of requests; nobody sees its answers.

    Args:
        home: an open home.
        clock: what dates it.
        model: a deployed model.
        version: another one than is deployed.
        mirrored: share of the requests, above 0 and up to 1.
        spec: its steps are not heeded.

    Raises:
        ServableError: as ``start_canary``.
    """
    compared = msgspec.structs.replace(spec, steps=())
    with home.state.writing() as connection:
        present = _whole(home, connection, model)
        _other(connection, present, version)
        reason = f"Version {version} gets copies of {mirrored * 100:g} % of the requests."
        record = _begin(home, clock, connection, present, SHADOW, (version,), compared, {}, reason)
        home.deployments.divide(
            model, Traffic(shadow=version, mirrored=mirrored), rollout=record.id, connection=connection
        )
        return record


def start_bandit(home: Home, clock: Clock, model: str, versions: Sequence[int], spec: Spec) -> RolloutRecord:
    """Let versions share the requests by what their answers are worth; the deployed one takes part.

    Args:
        home: an open home.
        clock: what dates it.
        model: a deployed model.
        versions: at least one besides the deployed one.
        spec: ``every_s`` lies between two changes; its steps are not heeded.

    Raises:
        ServableError: as ``start_canary``.
    """
    plain = msgspec.structs.replace(spec, steps=())
    with home.state.writing() as connection:
        present = _whole(home, connection, model)
        others = tuple(dict.fromkeys(version for version in versions if version != present.version))
        if not others:
            raise ConflictError(
                f"Version {present.version} of {model} is deployed; name another one for it to compete with."
            )
        for version in others:
            _other(connection, present, version)
        each = ALL / (len(others) + 1)
        weights = dict.fromkeys((present.version, *others), each)
        names = ", ".join(map(str, sorted(weights)))
        reason = f"The versions {names} get equal shares until rewards come."
        return _begin(home, clock, connection, present, BANDIT, others, plain, weights, reason)


def canary_weights(champion: int, challenger: int, share: float) -> dict[int, float]:
    """Shares in percent, by version; who gets nothing is left out."""
    return {challenger: ALL} if share >= ALL else {champion: ALL - share, challenger: share}


def traffic_of(weights: dict[int, float]) -> Traffic:
    """The division that gives every version its weight."""
    return Traffic(
        shares=tuple(Share(version=version, weight=weight) for version, weight in sorted(weights.items()))
    )


def _whole(home: Home, connection: Connection, model: str) -> DeploymentRecord:
    """The deployment, of which no requests are divided.

    Raises:
        ModelNotFound: there is no such model.
        ConflictError: it is not deployed, or its requests are divided by hand.
    """
    present = home.deployments.existing(model, connection)
    # A rollout that goes on is told about when the new one is begun.
    if present.traffic != WHOLE and not home.rollouts.goes_on(model, connection):
        raise ConflictError(
            f"The requests of {model} are divided by hand; end that with: "
            f"servable deploy {model} --split none"
        )
    return present


def _other(connection: Connection, present: DeploymentRecord, version: int) -> None:
    resolve_version(connection, present.model, version)
    if version == present.version:
        raise ConflictError(
            f"Version {version} of {present.model} is deployed already and answers every request; "
            "name another one."
        )


def _begin(
    home: Home,
    clock: Clock,
    connection: Connection,
    present: DeploymentRecord,
    kind: str,
    others: tuple[int, ...],
    spec: Spec,
    weights: dict[int, float],
    reason: str,
) -> RolloutRecord:
    now = clock.now()
    course = Course(
        spec=msgspec.to_builtins(spec),
        versions=(present.version, *others),
        weights=weights,
        step_since=now.timestamp(),
        looked_at=now.timestamp(),
    ).told(Event(at=timestamp(now), decision="start", step=0, reason=reason))
    record = home.rollouts.start(
        RolloutRecord(
            id=0,
            model=present.model,
            kind=kind,
            champion=present.version,
            challenger=others[0],
            state="",
            started_at="",
            course=course,
        ),
        connection,
    )
    if weights:
        home.deployments.divide(present.model, traffic_of(weights), rollout=record.id, connection=connection)
    return record
