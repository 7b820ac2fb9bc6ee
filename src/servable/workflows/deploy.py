"""``deploy``, ``rollback``, ``undeploy``: what should be served. Running servers follow by themselves."""

from pathlib import Path

from servable.registry.policy import Placement
from servable.registry.records import DeploymentRecord
from servable.workflows.homes import opened
from servable.workflows.outcomes import DeployOutcome


def deploy(
    reference: str,
    *,
    default: bool = False,
    executor: Placement | None = None,
    device: str | None = None,
    processes: int | None = None,
    share: bool | None = None,
    spares: int | None = None,
    threads: int | None = None,
    run_limit_s: float | None = None,
    max_batch: int | None = None,
    cache: str | int | None = None,
    cache_age_s: float | None = None,
    pin: bool | None = None,
    reset_policy: bool = False,
    home: str | Path | None = None,
) -> DeployOutcome:
    """Let a version be served. Every file of its package is verified first.

    What is said about how it is served stays for the model's later versions; what is not said (None)
    stays as it was. Without any of it, measurement at load decides.

    Args:
        reference: ``name`` (the newest version), ``name:3`` or ``name@alias``.
        default: whether ``POST /predict`` means this model from now on.
        executor: where it runs: ``inline``, ``thread``, ``process``, or ``auto`` for by measurement.
        device: what computes it: ``cpu``, ``cuda``, ``cuda:1``, or ``auto`` for the fastest that is there.
            One that is not there means the processor, and ``servable status`` says so.
        processes: child processes, where it runs in processes: for each HTTP process, or for all that share.
        share: whether all HTTP processes use the same child processes; those on a GPU do unless it is said.
        spares: processes more that are kept ready to stand in at once for one that died.
        threads: batches at once, where it runs in threads; 0 for by measurement.
        run_limit_s: seconds after which a run in a child counts as hung and the child is replaced.
        max_batch: most rows in one batch; 0 for by measurement, 1 for no batching.
        cache: size of the cache of answers, in bytes or such as ``64MiB``; 0 for none.
        cache_age_s: seconds for which a kept answer is given.
        pin: whether it is never unloaded to make room for others.
        reset_policy: forget first whatever was said in earlier deployments.
        home: the folder of the registry; looked up when None.

    Raises:
        InputError: the reference is none.
        ModelNotFound: there is no such model.
        VersionNotFound: it has no such version or alias.
        SettingInvalid: a value that cannot be used; nothing was changed.
        ArtifactTampered: a file of the package differs from its digest; nothing was changed.
    """
    wishes = _said(
        executor=executor, device=device, processes=processes, share=share, spares=spares, threads=threads,
        run_limit_s=run_limit_s, max_batch=max_batch, cache_bytes=cache, cache_age_s=cache_age_s, pinned=pin,
    )  # fmt: skip
    with opened(home) as place:
        record = place.models.resolve(reference)
        place.package(record)
        return _outcome(place.deployments.deploy(
            record.model, record.version,
            default=True if default else None, policy={} if reset_policy else None,
            wishes=wishes,
        ))  # fmt: skip


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
            policy=after.policy,
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


def _said(**wishes: object) -> dict[str, object]:
    """The wishes, under the names of the policy, that somebody has."""
    return {name: value for name, value in wishes.items() if value is not None}


def _outcome(record: DeploymentRecord) -> DeployOutcome:
    return DeployOutcome(
        model=record.model,
        version=record.version,
        previous=record.previous[-1] if record.previous else None,
        default=record.default,
        policy=record.policy,
    )
