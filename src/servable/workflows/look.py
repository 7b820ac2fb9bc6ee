"""``models``, ``status``, ``describe``: what a home holds. These only read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from servable.artifact.manifest import REPORT_FILE, TRAINED, Manifest, Variant
from servable.errors import FileMissing
from servable.monitoring.standing import known
from servable.registry.home import Home
from servable.registry.policy import read_policy
from servable.registry.records import DeploymentRecord, ModelRecord
from servable.registry.rollout_records import HELD, RolloutRecord
from servable.registry.schedules import schedules
from servable.runtime.placement import found_here, place
from servable.workflows.deploy import shares_of
from servable.workflows.homes import opened
from servable.workflows.monitored import firing_rows
from servable.workflows.outcomes import DeploymentRow, Description, ModelRow, Status, VariantRow
from servable.workflows.running import ask


def variant_rows(manifest: Manifest) -> tuple[VariantRow, ...]:
    """The forms of a package as the ``optimize`` table shows them: trained first, refused ones last."""
    trained = {timing.rows: timing.seconds for timing in manifest.variant(TRAINED).timings}
    ordered = sorted(manifest.variants, key=lambda variant: variant.name != TRAINED)
    shown = [_variant_row(variant, variant.name == manifest.serving, trained) for variant in ordered]
    gone = (_variant_row(variant, False, trained) for variant in manifest.refused)
    return (*shown, *(msgspec.structs.replace(row, kept=False) for row in gone))


def models(*, home: str | Path | None = None) -> tuple[ModelRow, ...]:
    """Every model of a home, by name.

    Raises:
        FileMissing: there is no such home.
    """
    with opened(home) as place:
        deployed = {record.model: record for record in place.deployments.all()}
        return tuple(_model_row(place, record, deployed.get(record.name)) for record in place.models.all())


def status(*, home: str | Path | None = None, url: str | None = None) -> Status:
    """What should be served, and what a running server says that it serves.

    Args:
        home: the folder of the registry; looked up when None.
        url: a server to ask; None asks nobody.

    Raises:
        FileMissing: there is no such home, and no server to ask instead.
    """
    try:
        wanted = _desired(home)
    except FileMissing:
        # A server is asked from machines that have no home.
        if not url or home is not None:
            raise
        wanted = Status(home="", deployments=())
    if not url:
        return wanted
    running = ask(url)
    return msgspec.structs.replace(wanted, url=url, reachable=running is not None, server=running)


def _desired(home: str | Path | None) -> Status:
    with opened(home) as place:
        found, planned = known(place.findings.of), schedules(place.findings)
        rollouts = {record.model: _rollout(record) for record in place.rollouts.going_on()}
        rows = tuple(
            DeploymentRow(
                model=record.model,
                version=record.version,
                default=record.default,
                previous=record.previous[-1] if record.previous else None,
                since=record.since,
                serving=record.serving,
                policy=record.policy,
                shares=shares_of(record.traffic),
                shadow=record.traffic.shadow or None,
                rollout=rollouts.get(record.model, ""),
                quality=found.quality.get((record.model, record.version)),
                drift=found.drift.get((record.model, record.version)),
                firing=firing_rows(found.alerts, record.model),
                schedule=planned.get(record.model),
            )
            for record in place.deployments.all()
        )
        return Status(home=str(place.path), deployments=rows)


def _rollout(record: RolloutRecord) -> str:
    """A rollout that goes on, in a few words."""
    steps = len(record.course.spec.get("steps", ()))
    step = f", step {record.course.step + 1} of {steps}" if steps else ""
    return f"{record.kind}{step}" + (", held" if record.state == HELD else "")


def describe(reference: str, *, home: str | Path | None = None) -> Description:
    """Everything known about one version; every file of its package is verified on the way.

    Args:
        reference: ``name`` (the newest version), ``name:3`` or ``name@alias``.
        home: the folder of the registry; looked up when None.

    Raises:
        InputError: the reference is none.
        ModelNotFound: there is no such model.
        VersionNotFound: it has no such version or alias.
        ArtifactTampered: a file of the package differs from its digest.
    """
    with opened(home) as place:
        record = place.models.resolve(reference)
        package = place.package(record)
        manifest = package.manifest
        deployment = place.deployments.get(record.model)
        policy = {} if deployment is None else deployment.policy
        report = package.folder / REPORT_FILE
        found = known(place.findings.of)
        firing = firing_rows(found.alerts, record.model)
        return Description(
            model=record.model,
            version=record.version,
            versions=tuple(version.version for version in place.models.versions(record.model)),
            aliases=tuple(
                alias.alias for alias in place.models.aliases(record.model) if alias.version == record.version
            ),
            deployed=deployment is not None and deployment.version == record.version,
            framework=manifest.framework,
            task=package.signature.task,
            created_at=record.created_at,
            signature=package.signature,
            serving=manifest.serving,
            variants=_placed(manifest, policy),
            metrics=manifest.metrics,
            recipe=manifest.recipe,
            source=manifest.source,
            libraries=manifest.libraries,
            machine=manifest.machine,
            package=str(package.folder),
            report=str(report) if report.is_file() else "",
            policy=policy,
            share=_share(deployment, record.version),
            quality=found.quality.get((record.model, record.version)),
            drift=found.drift.get((record.model, record.version)),
            firing=tuple(row for row in firing if row.version == record.version),
            schedule=schedules(place.findings).get(record.model),
        )


def _share(deployment: DeploymentRecord | None, version: int) -> float:
    """What part of the requests of its model a version is to answer."""
    if deployment is None:
        return 0.0
    shares = shares_of(deployment.traffic) or {deployment.version: 1.0}
    return shares.get(version, 0.0)


def _placed(manifest: Manifest, stored: Mapping[str, Any]) -> tuple[VariantRow, ...]:
    """The forms of a package, with where each that it holds would run on this machine."""
    # Lazily: only describe needs to know this machine, and onnxruntime takes its time to import.
    from servable.frameworks.onnx_session import SessionChoice, in_words, usable_cores
    from servable.optimization.measure import machine

    policy, here = read_policy(stored), manifest.machine == machine()
    held = {variant.name: variant for variant in manifest.variants}
    rows = []
    for row in variant_rows(manifest):
        variant = held.get(row.name)
        if variant is None:
            rows.append(row)
            continue
        found = found_here(variant)
        seconds = row.timings.get("1") if here else None
        placed = place(
            format=variant.format,
            example_seconds=seconds,
            policy=policy,
            options=found,
            cores=usable_cores(),
        )
        unknown = seconds is None and policy.executor == "auto" and placed.kind != "process"
        why = "one row is timed when it is loaded here" if unknown else placed.reason
        runs = "" if unknown else placed.kind
        said = in_words(SessionChoice(**found)) if found else ""
        rows.append(
            msgspec.structs.replace(row, runs=runs, runs_why=why, session=dict(found), session_said=said)
        )
    return tuple(rows)


def _variant_row(variant: Variant, chosen: bool, trained: dict[int, float]) -> VariantRow:
    timings = {timing.rows: timing.seconds for timing in variant.timings}
    known = variant.name != TRAINED and 1 in timings and 1 in trained and timings[1] > 0
    proof = variant.proof
    return VariantRow(
        name=variant.name,
        chosen=chosen,
        equal=None if proof is None else proof.equal,
        rows_compared=0 if proof is None else proof.rows,
        label_differences=0 if proof is None else proof.label_differences,
        worst_difference=0.0 if proof is None else proof.worst_difference,
        timings={str(rows): seconds for rows, seconds in timings.items()},
        speedup=trained[1] / timings[1] if known else None,
        note=variant.note,
        unchecked=variant.unchecked,
        loss=None if proof is None else proof.loss,
    )


def _model_row(place: Home, record: ModelRecord, deployment: DeploymentRecord | None) -> ModelRow:
    latest = place.models.resolve(record.name)
    return ModelRow(
        model=record.name,
        versions=record.versions,
        latest=record.latest,
        deployed=None if deployment is None else deployment.version,
        default=deployment is not None and deployment.default,
        task=latest.task,
        framework=latest.framework,
        metrics=latest.metrics,
        created_at=latest.created_at,
        aliases=record.aliases,
        policy={} if deployment is None else deployment.policy,
    )
