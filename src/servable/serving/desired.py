"""Desired state read from a home: every deployment, or only what was named."""

from collections.abc import Sequence
from pathlib import Path

from servable.artifact.package import Package, open_package
from servable.errors import ConflictError
from servable.registry.home import Home, open_home
from servable.registry.records import DeploymentRecord, VersionRecord
from servable.registry.references import parse_reference
from servable.serving.live import Wanted


class RegistrySource:
    """What the registry of a home wants to be served. Not safe for concurrent calls.

    Args:
        home: the folder.
        database_url: where the database is, if not in the folder.
        only: references; when there are any, nothing else is served. A bare name means its
            deployment, or its newest version when it is not deployed; ``name:3`` and ``name@alias``
            mean that version, deployed or not.
        create: whether a home may be made where there is none.
    """

    def __init__(
        self, home: Path, *, database_url: str = "", only: Sequence[str] = (), create: bool = True
    ) -> None:
        self._home: Home = open_home(home, create=create, database_url=database_url or None)
        self._only = tuple(parse_reference(reference) for reference in only)
        try:
            self.wanted()
        except BaseException:
            self._home.close()
            raise

    def token(self) -> object:
        """The registry's change token."""
        return self._home.change_token()

    def wanted(self) -> tuple[Wanted, ...]:
        """Every version that should be live.

        Raises:
            NotFoundError: a reference names a model, version or alias that does not exist.
            ConflictError: two references name two versions of one model.
            StorageFailed: the registry cannot be read.
        """
        aliases = {model.name: model.aliases for model in self._home.models.all()}
        deployments = {record.model: record for record in self._home.deployments.all()}
        if not self._only:
            return tuple(_wanted(record, aliases) for record in deployments.values())
        chosen: dict[str, VersionRecord | DeploymentRecord] = {}
        for reference in self._only:
            bare = reference.version is None and reference.alias is None
            deployed = deployments.get(reference.model) if bare else None
            record = deployed or self._home.models.resolve(reference)
            other = chosen.setdefault(record.model, record)
            if other.version != record.version:
                raise ConflictError(
                    f"Versions {other.version} and {record.version} of {record.model} cannot be served under "
                    "one name at once; name one of them."
                )
        return tuple(_wanted(record, aliases) for record in chosen.values())

    def open(self, wanted: Wanted) -> Package:
        """The verified package of a wanted version.

        Raises:
            ArtifactError: it is not there, damaged, or was changed.
        """
        return open_package(self._home.packages.folder(wanted.digest), digest=wanted.digest)

    def close(self) -> None:
        """Close the home."""
        self._home.close()


def _wanted(record: VersionRecord | DeploymentRecord, aliases: dict[str, dict[str, int]]) -> Wanted:
    pointing = sorted(
        alias for alias, version in aliases.get(record.model, {}).items() if version == record.version
    )
    default = isinstance(record, DeploymentRecord) and record.default
    return Wanted(record.model, record.version, record.package, default, tuple(pointing))
