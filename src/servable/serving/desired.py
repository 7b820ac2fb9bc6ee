"""Desired state read from a home: every deployment, or only what was named."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from servable.artifact.package import Outline, Package, open_package, read_outline
from servable.artifact.releases import Release
from servable.errors import ConflictError, SettingInvalid, SignatureRefused
from servable.logs import fields, logger
from servable.registry.blobs import PackageStore
from servable.registry.policy import Policy, read_policy
from servable.registry.pulse import pulse_of
from servable.registry.reader import Desired, open_reader
from servable.registry.references import parse_reference
from servable.registry.vetting import Noted, NoVetting, Refusals, Vetting, vetting_of
from servable.serving.live import NO_WISHES, Wanted
from servable.serving.shadow import shadow_policy
from servable.settings import ServerSettings

_log = logger("serving")


def source_of(settings: ServerSettings, only: Sequence[str] = ()) -> "RegistrySource":
    """What a server with these settings serves, and nothing that its policy of signatures refuses.

    Args:
        settings: the home, its database and blob store, and the policy.
        only: see ``RegistrySource``.

    Raises:
        ServableError: as ``RegistrySource``, or a trusted key cannot be read.
    """
    return RegistrySource(
        Path(settings.home),
        database_url=settings.database_url,
        only=only,
        blob_url=settings.blob_url,
        vetting=vetting_of(settings),
    )


class RegistrySource:
    """What the registry of a home wants to be served. Not safe for concurrent calls.

    Args:
        home: the folder.
        database_url: where the database is, if not in the folder.
        only: references; when there are any, nothing else is served. A bare name means its
            deployment, or its newest version when it is not deployed; ``name:3`` and ``name@alias``
            mean that version, deployed or not.
        create: whether a home may be made where there is none.
        blob_url: where packages are found that are not in the folder; empty for nowhere.
        vetting: says what may be served; None lets everything be.

    Attributes:
        refusals: what was not served for its signature, for whoever records it.
    """

    def __init__(
        self,
        home: Path,
        *,
        database_url: str = "",
        only: Sequence[str] = (),
        create: bool = True,
        blob_url: str = "",
        vetting: Vetting | None = None,
    ) -> None:
        self.refusals = Refusals()
        self._vetting = Noted(vetting or NoVetting(), self.refusals)
        #: Of each model what was last wanted and may be served.
        self._admitted: dict[str, tuple[Wanted, ...]] = {}
        self._reader = open_reader(home, create=create, database_url=database_url)
        self._pulse = pulse_of(home, database_url)
        self._packages = PackageStore(home, blob_url)
        self._only = tuple(parse_reference(reference) for reference in only)
        try:
            self.wanted()
        except BaseException:
            self._reader.close()
            raise

    def moved(self) -> bool:
        """Whether anybody may have written to the registry since the last call; does not wait."""
        return self._pulse.moved()

    def token(self) -> object:
        """The registry's change token."""
        return self._reader.token()

    def erasures(self) -> int:
        """A number that grows when somebody is erased; see ``registry.subjects``."""
        return self._reader.erasures()

    def wanted(self) -> tuple[Wanted, ...]:
        """Every version that should be live; of a model that wants an older one without leave, those before.

        Raises:
            NotFoundError: a reference names a model, version or alias that does not exist.
            ConflictError: two references name two versions of one model.
            StorageFailed: the registry cannot be read.
        """
        aliases = self._reader.aliases()
        deployments = {record.model: record for record in self._reader.deployments()}
        if not self._only:
            return self._vetted(_wanted(record, aliases) for record in deployments.values())
        chosen: dict[str, Desired] = {}
        for reference in self._only:
            bare = reference.version is None and reference.alias is None
            deployed = deployments.get(reference.model) if bare else None
            record = deployed or self._reader.resolve(reference)
            other = chosen.setdefault(record.model, record)
            if other.version != record.version:
                raise ConflictError(
                    f"Versions {other.version} and {record.version} of {record.model} cannot be served under "
                    "one name at once; name one of them."
                )
        return self._vetted(_wanted(record, aliases) for record in chosen.values())

    def _vetted(self, models: Iterable[list[Wanted]]) -> tuple[Wanted, ...]:
        """The versions of every model; where one may not be served, those that were wanted before.

        It is decided here and not where packages are opened, because a version that is kept loaded for a
        rollback is opened no more.
        """
        wanted: list[Wanted] = []
        admitted: dict[str, tuple[Wanted, ...]] = {}
        for found in models:
            model, versions = found[0].model, tuple(found)
            try:
                for each in versions:
                    self._vetting.admit(Release(*each.key), each.digest, own=each.own)
            except SignatureRefused as error:
                _log.error("a deployment is not followed", extra=fields(model=model, reason=error.message))
                if model in self._admitted:
                    versions = admitted[model] = self._admitted[model]
                # Without any before, opening it says no, and why.
            else:
                admitted[model] = versions
            wanted += versions
        self._admitted = admitted
        return tuple(wanted)

    def open(self, wanted: Wanted) -> Package:
        """The verified package of a wanted version.

        Raises:
            ArtifactError: it is not there, damaged, was changed, or its signature is not in order.
        """
        package = open_package(self._packages.folder(wanted.digest), digest=wanted.digest)
        self._vetting.check(Release(*wanted.key), package.manifest, package.digest, own=wanted.own)
        return package

    def outline(self, wanted: Wanted) -> Outline:
        """What the package of a wanted version says about itself, read without verifying it.

        Raises:
            ArtifactUnreadable: it is not there or damaged.
            ArtifactUnsupported: nobody here can read it.
        """
        return read_outline(self._packages.folder(wanted.digest))

    def close(self) -> None:
        """Close the registry."""
        self._pulse.close()
        self._reader.close()


def _wanted(record: Desired, aliases: dict[str, dict[str, int]]) -> list[Wanted]:
    """The deployment's own version, then every other that its traffic names."""
    policy = _policy(record.model, record.policy) if record.policy else NO_WISHES
    pointing: dict[int, list[str]] = {}
    for alias, version in sorted(aliases.get(record.model, {}).items()):
        pointing.setdefault(version, []).append(alias)
    packages = {record.version: record.package} | {
        version: package for version, package in record.packages.items() if version != record.version
    }
    found = [
        Wanted(
            record.model,
            version,
            package,
            record.default,
            tuple(pointing.get(version, ())),
            policy,
            own=version == record.version,
            traffic=record.traffic,
        )
        for version, package in packages.items()
    ]
    return [each._replace(policy=shadow_policy(each.policy)) if each.is_shadow else each for each in found]


def _policy(model: str, stored: Mapping[str, Any]) -> Policy:
    """A deployment's policy; the defaults where it cannot be used, because others must be served still."""
    try:
        return read_policy(stored)
    except SettingInvalid as error:
        _log.warning("the policy is not followed", extra=fields(model=model, reason=error.message))
        return NO_WISHES
