"""``deploy``, ``rollback``, ``undeploy``: what should be served. Running servers follow by themselves."""

from pathlib import Path

from servable.registry.records import DeploymentRecord
from servable.workflows.homes import opened
from servable.workflows.outcomes import DeployOutcome


def deploy(reference: str, *, default: bool = False, home: str | Path | None = None) -> DeployOutcome:
    """Let a version be served. Every file of its package is verified first.

    Args:
        reference: ``name`` (the newest version), ``name:3`` or ``name@alias``.
        default: whether ``POST /predict`` means this model from now on.
        home: the folder of the registry; looked up when None.

    Raises:
        InputError: the reference is none.
        ModelNotFound: there is no such model.
        VersionNotFound: it has no such version or alias.
        ArtifactTampered: a file of the package differs from its digest; nothing was changed.
    """
    with opened(home) as place:
        record = place.models.resolve(reference)
        place.package(record)
        deployed = place.deployments.deploy(record.model, record.version, default=True if default else None)
        return _outcome(deployed)


def rollback(name: str, *, home: str | Path | None = None) -> DeployOutcome:
    """Go back to the version deployed before; a second time goes back one more.

    Args:
        name: a deployed model.
        home: the folder of the registry; looked up when None.

    Raises:
        ModelNotFound: there is no such model.
        ConflictError: it is not deployed, or there is nothing to go back to.
    """
    with opened(home) as place:
        before = place.deployments.get(name)
        after = place.deployments.rollback(name)
        return DeployOutcome(
            model=name,
            version=after.version,
            previous=before.version if before is not None else None,
            default=after.default,
        )


def undeploy(name: str, *, home: str | Path | None = None) -> DeployOutcome:
    """Serve a model no longer; its versions stay in the registry.

    Args:
        name: a deployed model.
        home: the folder of the registry; looked up when None.

    Raises:
        ModelNotFound: there is no such model.
        ConflictError: it is not deployed.
    """
    with opened(home) as place:
        record = place.deployments.undeploy(name)
        return DeployOutcome(model=name, version=None, previous=record.version, default=False)


def _outcome(record: DeploymentRecord) -> DeployOutcome:
    return DeployOutcome(
        model=record.model,
        version=record.version,
        previous=record.previous[-1] if record.previous else None,
        default=record.default,
    )
