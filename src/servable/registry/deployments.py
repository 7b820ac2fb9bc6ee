"""Desired state: which version of which model should be served. Servers read it and make themselves so."""

import math
from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, insert, select, update

from servable.clock import Clock, timestamp
from servable.errors import ConflictError, SettingInvalid
from servable.registry import tables
from servable.registry.audit import written
from servable.registry.models import missing_model, resolve_version
from servable.registry.policy import changed, read_policy, stored_policy
from servable.registry.records import WHOLE, DeploymentRecord, Traffic
from servable.registry.rollouts import cancel
from servable.registry.state import State, current_change

#: How many versions a deployment remembers to roll back to.
REMEMBERED = 20
#: Why a rollout ended that a division took the place of.
_DIVIDED = "Its requests were divided by hand."


class Deployments:
    """The deployments of one registry. Safe to share between threads and processes.

    Every method is one transaction. All of them raise ``StorageFailed`` or ``StorageFull`` when the
    database does.
    """

    def __init__(self, state: State, clock: Clock) -> None:
        self._state = state
        self._clock = clock

    def all(self) -> tuple[DeploymentRecord, ...]:
        """Every deployment, by model."""
        with self._state.reading() as connection:
            return _deployments(connection)

    def get(self, model: str, connection: Connection | None = None) -> DeploymentRecord | None:
        """The deployment of a model; None if it is not deployed.

        Args:
            model: the name.
            connection: a transaction to read it in; None for one of its own.
        """
        if connection is None:
            with self._state.reading() as own:
                return _deployment(own, model)
        return _deployment(connection, model)

    def existing(self, model: str, connection: Connection) -> DeploymentRecord:
        """The deployment of a deployed model, as a transaction sees it.

        Raises:
            ModelNotFound: there is no such model.
            ConflictError: it is not deployed.
        """
        return _existing(connection, model)

    def default(self) -> DeploymentRecord | None:
        """The deployment that ``POST /predict`` means: the only one, else the one marked, else None."""
        for record in self.all():
            if record.default:
                return record
        return None

    def deploy(
        self,
        model: str,
        version: int,
        *,
        default: bool | None = None,
        policy: dict[str, Any] | None = None,
        wishes: Mapping[str, Any] | None = None,
        traffic: Traffic = WHOLE,
        connection: Connection | None = None,
    ) -> DeploymentRecord:
        """Let a version answer every request from now on. Doing it twice is the same as doing it once.

        A rollout of the model that goes on is cancelled.

        Args:
            model: the name.
            version: the number.
            default: True marks the model as the default and no other; False takes the mark away; None
                leaves it as it is.
            policy: replaces the policy; None leaves it as it is.
            wishes: changes the policy, as ``policy.changed`` does; the rest of it stays.
            traffic: leaves a part of the requests to other versions, as ``divide`` does.
            connection: a transaction from ``State.writing`` to do it in; None for one of its own.

        Raises:
            ModelNotFound: there is no such model.
            VersionNotFound: it has no such version.
            SettingInvalid: a wish or a share that cannot be used; nothing was changed.
        """
        if connection is None:
            with self._state.writing() as own:
                return self.deploy(
                    model, version,
                    default=default, policy=policy, wishes=wishes, traffic=traffic, connection=own,
                )  # fmt: skip
        _check(traffic)
        now = timestamp(self._clock.now())
        for named in (version, *traffic.versions):
            resolve_version(connection, model, named)
        present = _deployment(connection, model)
        stored = msgspec.to_builtins(traffic)
        values: dict[str, Any] = {"generation": current_change(connection), "traffic": stored}
        if policy is not None or wishes:
            values["policy"] = _policy(present, policy, wishes or {})
        if default is not None:
            values["is_default"] = default
        if default:
            connection.execute(update(tables.deployments).values(is_default=False))
        by_hand = f"Version {version} was deployed by hand."
        cancel(connection, model, by_hand if traffic == WHOLE else _DIVIDED, self._clock)
        if present is None:
            _begin(connection, values | {"model": model, "version": version, "since": now})
        else:
            _change(connection, model, values | _switched(present, version, now))
        after = _existing(connection, model)
        before = 0 if present is None else present.version
        written(connection, self._clock, "deploy", **_told(after), policy=after.policy, before=before)
        return after

    def divide(
        self, model: str, traffic: Traffic, *, rollout: int = 0, connection: Connection | None = None
    ) -> DeploymentRecord:
        """Let several versions answer, or one be compared in the shadow; ``WHOLE`` ends both.

        Args:
            model: a deployed model.
            traffic: who gets which share.
            rollout: the number of the rollout that wants it; any other one of the model is cancelled.
            connection: a transaction from ``State.writing`` to do it in; None for one of its own.

        Raises:
            ModelNotFound: there is no such model.
            VersionNotFound: it has not all of these versions.
            ConflictError: it is not deployed.
            SettingInvalid: a weight that is not above 0, a version named twice, or a share of copies that
                is not above 0 and at most 1.
        """
        _check(traffic)
        if connection is None:
            with self._state.writing() as own:
                return self.divide(model, traffic, rollout=rollout, connection=own)
        _existing(connection, model)
        for version in traffic.versions:
            resolve_version(connection, model, version)
        cancel(connection, model, _DIVIDED, self._clock, but=rollout)
        stored = msgspec.to_builtins(traffic)
        _change(connection, model, {"traffic": stored, "generation": current_change(connection)})
        after = _existing(connection, model)
        written(connection, self._clock, "traffic.divide", **_told(after), rollout=rollout)
        return after

    def rollback(self, model: str) -> DeploymentRecord:
        """Go back to the version that was served before; a second time goes back one more.

        While requests are divided, this ends the division, and the deployment's version answers all.
        A rollout of the model that goes on is cancelled.

        Raises:
            ModelNotFound: there is no such model.
            ConflictError: it is not deployed, or nothing was served before.
        """
        with self._state.writing() as connection:
            present = _existing(connection, model)
            cancel(connection, model, "It was rolled back by hand.", self._clock)
            if present.traffic != WHOLE:
                _change(connection, model, {"traffic": {}, "generation": current_change(connection)})
                return self._rolled_back(connection, present)
            if not present.previous:
                raise ConflictError(
                    f"Nothing was deployed as {model} before version {present.version}, so there is nothing "
                    "to roll back to."
                )
            values = {
                "version": present.previous[-1],
                "previous": list(present.previous[:-1]),
                "since": timestamp(self._clock.now()),
                "generation": current_change(connection),
            }
            _change(connection, model, values)
            return self._rolled_back(connection, present)

    def _rolled_back(self, connection: Connection, before: DeploymentRecord) -> DeploymentRecord:
        after = _existing(connection, before.model)
        written(connection, self._clock, "rollback", **_told(after), before=before.version)
        return after

    def undeploy(self, model: str) -> DeploymentRecord:
        """Serve a model no longer. A rollout of it that goes on is cancelled.

        Returns:
            What was deployed.

        Raises:
            ModelNotFound: there is no such model.
            ConflictError: it is not deployed.
        """
        with self._state.writing() as connection:
            present = _existing(connection, model)
            cancel(connection, model, "The model is served no longer.", self._clock)
            connection.execute(delete(tables.deployments).where(tables.deployments.c.model == model))
            written(connection, self._clock, "undeploy", **_told(present))
            return present

    def set_default(self, model: str | None) -> None:
        """Mark the model that ``POST /predict`` means; None takes every mark away.

        Raises:
            ModelNotFound: there is no such model.
            ConflictError: it is not deployed.
        """
        with self._state.writing() as connection:
            connection.execute(update(tables.deployments).values(is_default=False))
            if model is not None:
                _existing(connection, model)
                _change(connection, model, {"is_default": True, "generation": current_change(connection)})
            written(connection, self._clock, "default.set", model=model or "")


def _told(record: DeploymentRecord) -> dict[str, Any]:
    """What the audit log says of a deployment."""
    told = {"model": record.model, "version": record.version, "default": record.default}
    return told if record.traffic == WHOLE else {**told, "traffic": msgspec.to_builtins(record.traffic)}


def _check(traffic: Traffic) -> None:
    """Refuse what cannot be followed.

    Raises:
        SettingInvalid: see ``Deployments.divide``.
    """
    versions = [share.version for share in traffic.shares]
    for share in traffic.shares:
        if not (math.isfinite(share.weight) and share.weight > 0):
            raise SettingInvalid(
                f"The weight of version {share.version} must be above 0, not {share.weight:g}; "
                "leave the version out to send it nothing."
            )
        if versions.count(share.version) > 1:
            raise SettingInvalid(f"Version {share.version} is named twice among the shares; name it once.")
    if traffic.shadow in versions:
        raise SettingInvalid(f"Version {traffic.shadow} answers already, so it cannot be the shadow as well.")
    if not 0 < traffic.mirrored <= 1:
        raise SettingInvalid(
            "The share of requests that are mirrored must be above 0 and at most 1, "
            f"not {traffic.mirrored:g}."
        )


def _policy(
    present: DeploymentRecord | None, policy: dict[str, Any] | None, wishes: Mapping[str, Any]
) -> dict[str, Any]:
    """What the row keeps: the policy there is, or the one that replaces it, with the wishes changed."""
    before = policy if policy is not None else {} if present is None else present.policy
    return stored_policy(changed(read_policy(before), **wishes), before) if wishes else before


def _switched(present: DeploymentRecord, version: int, now: str) -> dict[str, Any]:
    """What a row gets when another version takes the place of its own; nothing when it is the same one."""
    if present.version == version:
        return {}
    previous = [*present.previous, present.version][-REMEMBERED:]
    return {"version": version, "previous": previous, "since": now}


def _begin(connection: Connection, values: Mapping[str, Any]) -> None:
    """Deploy a model that is not deployed."""
    # The first model stays the one that POST /predict means when a second one comes.
    first = not _deployments(connection)
    new = {"previous": [], "is_default": first, "policy": {}}
    connection.execute(insert(tables.deployments).values(new | dict(values)))


def _change(connection: Connection, model: str, values: dict[str, Any]) -> None:
    connection.execute(update(tables.deployments).where(tables.deployments.c.model == model).values(values))


def _deployments(connection: Connection) -> tuple[DeploymentRecord, ...]:
    table, versions = tables.deployments, tables.versions
    same = (versions.c.model == table.c.model) & (versions.c.version == table.c.version)
    rows = connection.execute(
        select(table, versions.c.package, versions.c.serving).join(versions, same).order_by(table.c.model)
    ).all()
    return tuple(
        DeploymentRecord(
            model=row.model,
            version=row.version,
            package=row.package,
            serving=row.serving,
            previous=tuple(row.previous),
            default=row.is_default or len(rows) == 1,
            since=row.since,
            generation=row.generation,
            policy=row.policy,
            traffic=msgspec.convert(row.traffic, Traffic) if row.traffic else WHOLE,
        )
        for row in rows
    )


def _deployment(connection: Connection, model: str) -> DeploymentRecord | None:
    for record in _deployments(connection):
        if record.model == model:
            return record
    return None


def _existing(connection: Connection, model: str) -> DeploymentRecord:
    record = _deployment(connection, model)
    if record is not None:
        return record
    if connection.execute(select(tables.models.c.name).where(tables.models.c.name == model)).first() is None:
        raise missing_model(connection, model)
    raise ConflictError(f"The model {model} is not deployed; run: servable deploy {model}")
