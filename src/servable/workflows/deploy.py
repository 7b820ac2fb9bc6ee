"""``deploy``, ``rollback``, ``undeploy``: what should be served. Running servers follow by themselves."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from servable.artifact.personal import HEADER, subject_header
from servable.artifact.signature import Signature
from servable.errors import ConflictError, SettingInvalid
from servable.monitoring.segments import need_pyarrow
from servable.registry.home import Home
from servable.registry.policy import Placement
from servable.registry.records import WHOLE, DeploymentRecord, Share, Traffic, VersionRecord
from servable.registry.references import parse_reference
from servable.workflows.homes import opened
from servable.workflows.outcomes import DeployOutcome
from servable.workflows.signers import check_signature

if TYPE_CHECKING:
    from servable.workflows.rollouts import Wish

#: A token of HTTP, in small letters.
_HEADER_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,128}")


class Change(NamedTuple):
    """What a deployment changes besides the version; see ``deploy``.

    Attributes:
        wishes: how it is served, by the names of the policy.
        default: whether ``POST /predict`` means this model.
        reset_policy: whether what was said before is forgotten.
        split: version to weight; empty ends a division, None lets one version answer all. Where the reference
            names no version the deployed one stays, and answers for any that cannot.
    """

    wishes: Mapping[str, object]
    default: bool
    reset_policy: bool
    split: Mapping[int, float] | None

    @property
    def said(self) -> bool:
        """Whether it changes anything."""
        return bool(self.wishes or self.default or self.reset_policy or self.split)


def deploy(  # noqa: D417 - what is said of a rollout is told where it is kept
    reference: str, *, default: bool = False, executor: Placement | None = None, device: str | None = None,
    processes: int | None = None, share: bool | None = None, spares: int | None = None,
    threads: int | None = None, run_limit_s: float | None = None, max_batch: int | None = None,
    cache: str | int | None = None, cache_age_s: float | None = None, pin: bool | None = None,
    split: Mapping[int, float] | None = None, sticky: str | None = None,
    capture: float | Literal["off"] | None = None, capture_subject: str | None = None,
    reset_policy: bool = False, canary: str | Sequence[float] | None = None, every: str | float | None = None,
    min_requests: int | None = None, max_error_rate: float | None = None, patience: str | float | None = None,
    shadow: bool = False, mirror: float | None = None, bandit: Sequence[int] | None = None,
    network: bool | None = None, programs: bool | None = None, home: str | Path | None = None,
) -> DeployOutcome:  # fmt: skip
    """Let a version be served. Every file of its package is verified first.

    What is said stays for the model's later versions, what is not said (None) stays as it was; without any of
    it, measurement at load decides. ``registry.policy.Policy`` tells more of each.

    Args:
        reference: ``name`` (the newest version), ``name:3`` or ``name@alias``.
        default: whether ``POST /predict`` means this model from now on.
        executor: where it runs: ``inline``, ``thread``, ``process``, or ``auto`` for by measurement.
        device: what computes it: ``cpu``, ``cuda:1``, or ``auto``; one that is not there means the processor.
        processes: child processes, for each HTTP process or for all that share.
        share: whether all HTTP processes use the same child processes; on a GPU they do unless it is said.
        spares: processes more that are kept ready to stand in at once for one that died.
        threads: batches at once, where it runs in threads; 0 for by measurement.
        run_limit_s: seconds after which a run in a child counts as hung and the child is replaced.
        max_batch: most rows in one batch; 0 for by measurement, 1 for no batching.
        cache: size of the cache of answers, in bytes or such as ``64MiB``; 0 for none.
        cache_age_s: seconds for which a kept answer is given.
        pin: whether it is never unloaded to make room for others.
        split: version to weight, such as ``{3: 95, 4: 5}``; see ``Change``.
        sticky: the header whose value keeps a caller with one version; empty for ``X-Servable-Key``.
        capture: share of the requests that are recorded in the home with their answers; ``off`` for none.
        capture_subject: the input, or ``header:NAME`` (gRPC: metadata), that says whom a request is about,
            and whose key seals it; ``none`` for nobody.
        reset_policy: forget first whatever was said in earlier deployments.
        canary, shadow, bandit: let it take over by a rollout; see ``workflows.rollouts.Wish``.
        every, min_requests, max_error_rate, patience, mirror: of the rollout; see the same.
        network, programs: whether its processes may connect to others and start programs; else as declared.
        home: the folder of the registry; looked up when None.

    Raises:
        InputError, NotFoundError: the reference is none, or there is no such model, version or alias.
        SettingInvalid: a value that cannot be used; nothing was changed, here and below.
        DependencyMissing: capturing without pyarrow.
        ConflictError: a rollout of a model that is not deployed, or of which another one goes on.
        ArtifactTampered: a file of the package differs from its digest.
        SignatureRefused: only signed versions are served here, and this is none.
    """
    from servable.workflows.rollouts import Wish  # Lazily: who serves or looks needs no rollouts.

    wish = Wish(canary, shadow, bandit, every, min_requests, max_error_rate, patience, mirror)
    change = Change(_said(
        executor=executor, device=device, processes=processes, share=share, spares=spares, threads=threads,
        run_limit_s=run_limit_s, max_batch=max_batch, cache_bytes=cache, cache_age_s=cache_age_s, pinned=pin,
        sticky=sticky, network=network, programs=programs, **_captured(capture, capture_subject),
    ), default, reset_policy, split)  # fmt: skip
    return _rollout(reference, wish, change, home) if wish.said else _deployed(reference, change, home)


def _captured(share: float | Literal["off"] | None, subject: str | None) -> dict[str, float | str | None]:
    """The wishes about captured traffic; the words for none become what the policy keeps."""
    return {
        "capture": 0.0 if share == "off" else share,
        "capture_subject": "" if subject == "none" else subject,
    }


def _deployed(reference: str, change: Change, home: str | Path | None) -> DeployOutcome:
    """See ``deploy``."""
    if change.wishes.get("capture"):
        need_pyarrow()
    with opened(home) as place:
        record, traffic = _meant(place, reference, change.split)
        for version in {record.version, *traffic.versions}:
            package = check_signature(place, place.models.resolve(f"{record.model}:{version}"))
            _check_subject(package.signature, change.wishes)
        before, ended = place.deployments.get(record.model), _going_on(place, record.model, traffic)
        after = place.deployments.deploy(
            record.model, record.version,
            default=True if change.default else None, policy={} if change.reset_policy else None,
            wishes=change.wishes, traffic=traffic,
        )  # fmt: skip
        return _outcome(after, before, ended)


def _check_subject(signature: Signature, wishes: Mapping[str, object]) -> None:
    """See to it that the input is there that says whom a request is about, or that a header could be.

    Raises:
        SettingInvalid: it is not, or it is no column.
    """
    name = str(wishes.get("capture_subject") or "")
    if name.startswith(HEADER):
        if not _HEADER_NAME.fullmatch(subject_header(name)):
            raise SettingInvalid(
                f"{name[:60]!r} names no header of HTTP; write one such as header:X-Customer."
            )
        return
    columns = [field.name for field in signature.inputs if not field.is_tensor]
    if name and name not in columns:
        known = f"its columns are {', '.join(columns[:20])}" if columns else "it takes no columns"
        raise SettingInvalid(
            f"The model has no column {name[:60]!r} that could say whom a request is about; {known}."
        )


def _going_on(place: Home, model: str, traffic: Traffic = WHOLE) -> str:
    """What an end is put to when a person decides about a model's requests; empty for nothing.

    Args:
        place: an open home.
        model: its name.
        traffic: how the requests are divided from then on.
    """
    for record in place.rollouts.going_on():
        if record.model == model:
            return f"the {record.kind} of {model}:{record.challenger}"
    present = place.deployments.get(model)
    if present is None or not present.traffic.shares or traffic.shares:
        return ""
    versions = sorted(share.version for share in present.traffic.shares)
    return f"the division of the requests among versions {' and '.join(map(str, versions))}"


def shares_of(traffic: Traffic) -> dict[int, float]:
    """What part of the requests each version gets, together 1; nothing while they are not divided."""
    total = math.fsum(share.weight for share in traffic.shares)
    return {share.version: share.weight / total for share in traffic.shares}


def _meant(place: Home, reference: str, split: Mapping[int, float] | None) -> tuple[VersionRecord, Traffic]:
    """The version that is to be deployed, and how the requests are to be divided.

    Raises:
        NotFoundError: there is no such model, version or alias.
    """
    if split is None:
        return place.models.resolve(reference), WHOLE
    shares = tuple(Share(version=version, weight=weight) for version, weight in split.items())
    asked = parse_reference(reference)
    present = place.deployments.get(asked.model)
    if asked.version is None and asked.alias is None:
        if present is not None:
            reference = f"{asked.model}:{present.version}"
        elif shares:
            reference = f"{asked.model}:{max(shares, key=lambda share: share.weight).version}"
    traffic = WHOLE if present is None else present.traffic
    shadow = 0 if traffic.shadow in split else traffic.shadow
    return place.models.resolve(reference), msgspec.structs.replace(traffic, shares=shares, shadow=shadow)


def _rollout(reference: str, wish: "Wish", change: Change, home: str | Path | None) -> DeployOutcome:
    """Begin a rollout; the deployment stays as it is.

    Raises:
        SettingInvalid: something was said about how the model is served as well.
    """
    if change.said:
        raise SettingInvalid(
            "How a model is served holds for all of its versions, so it cannot be changed by a rollout; "
            "deploy the present version with it first."
        )
    from servable.workflows.rollouts import begin

    with opened(home) as place:
        begun = begin(place, reference, wish)
        present = place.deployments.get(begun.model)
        if present is None:
            raise ConflictError(f"{begun.model} was undeployed meanwhile; deploy it again.")
        return msgspec.structs.replace(_outcome(present), rollout=begun)


def rollback(name: str, *, home: str | Path | None = None) -> DeployOutcome:
    """Go back to the version deployed before; a second time goes back one more.

    While requests are divided, or a rollout goes on, only that is ended: the deployed version answers all.

    Args:
        name: a deployed model.
        home: the folder of the registry; looked up when None.

    Raises:
        ModelNotFound: there is no such model.
        ConflictError: it is not deployed, or there is nothing to go back to.
        SignatureRefused: only signed versions are served here, and nobody signed a rollback to this one.
    """
    with opened(home) as place:
        before, ended = place.deployments.get(name), _going_on(place, name)
        if before is not None and before.previous and before.traffic == WHOLE:
            check_signature(place, place.models.resolve(f"{name}:{before.previous[-1]}"))
        after = place.deployments.rollback(name)
        left = before.version if before is not None and before.version != after.version else None
        return msgspec.structs.replace(_outcome(after, ended=ended), previous=left)


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
        ended = _going_on(place, name)
        record = place.deployments.undeploy(name)
        return DeployOutcome(model=name, version=None, previous=record.version, default=False, ended=ended)


def _said(**wishes: object) -> dict[str, object]:
    """The wishes, under the names of the policy, that somebody has."""
    return {name: value for name, value in wishes.items() if value is not None}


def _outcome(
    record: DeploymentRecord, before: DeploymentRecord | None = None, ended: str = ""
) -> DeployOutcome:
    previous = record.previous[-1] if record.previous else None
    # Where only a division ended, the version took nobody's place.
    stayed = bool(ended) and before is not None and before.version == record.version
    return DeployOutcome(
        model=record.model,
        version=record.version,
        previous=None if stayed else previous,
        default=record.default,
        policy=record.policy,
        shares=shares_of(record.traffic),
        ended=ended,
    )
