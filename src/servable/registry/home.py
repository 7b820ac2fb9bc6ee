"""A home: the folder that holds a registry's database and packages, opened as one thing."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection

from servable.artifact.files import storage_error
from servable.artifact.manifest import Manifest
from servable.artifact.package import Package, digest_of, open_package, read_signature, seal
from servable.artifact.signature import Signature
from servable.clock import Clock, SystemClock
from servable.errors import ConflictError, FileMissing, ServableError, StorageFailed
from servable.registry.audit import Audit
from servable.registry.blobs import PackageStore
from servable.registry.deployments import Deployments
from servable.registry.findings import Findings
from servable.registry.keys import Keys
from servable.registry.leases import Leases
from servable.registry.models import Models, packages_in_use, resolve_version
from servable.registry.quotas import Quotas
from servable.registry.records import DATABASE, DeploymentRecord, VersionRecord
from servable.registry.references import checked_name
from servable.registry.rollouts import Rollouts
from servable.registry.state import State, open_state
from servable.registry.subjects import Subjects


class Home:
    """An open home. Safe to share between threads; two processes may have the same one open.

    Attributes:
        path: the folder.
        state: the database.
        packages: the package store.
        models: models, versions, aliases.
        deployments: desired state.
        findings: what is known of served versions.
        rollouts: changes of versions in steps.
        leases: who may act alone.
        keys: API keys.
        audit: who changed what.
        subjects: data keys of those whom captured rows are about.
        quotas: what was taken out of those of the keys.
    """

    def __init__(self, path: Path, state: State, packages: PackageStore, clock: Clock) -> None:
        self.path = path
        self.state = state
        self.packages = packages
        self.models = Models(state, clock)
        self.deployments = Deployments(state, clock)
        self.findings = Findings(state, clock)
        self.rollouts = Rollouts(state, clock)
        self.leases = Leases(state, clock)
        self.keys = Keys(state, clock)
        self.audit = Audit(state, clock, path)
        self.subjects = Subjects(state, clock)
        self.quotas = Quotas(state)

    def __repr__(self) -> str:
        return f"Home({self.path})"

    def __enter__(self) -> "Home":
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def package(self, record: VersionRecord | DeploymentRecord) -> Package:
        """Open the package of a version or deployment; every file of it is verified.

        Raises:
            ArtifactTampered: a file differs from its recorded digest.
            ArtifactUnreadable: the package is not here, or damaged.
            ArtifactUnsupported: it was written by a newer Servable.
        """
        return open_package(self.packages.folder(record.package), digest=record.package)

    def change_token(self) -> int:
        """A number that differs after any change by anybody."""
        return self.state.change_token()

    def sweep(self) -> None:
        """Clear what killed processes left: old staging folders, and packages that no version names."""
        self.packages.sweep()
        # Publishing moves its folder while it holds the turn to write, so none is unnamed for a moment.
        with self.state.writing() as connection:
            for digest in self.packages.digests() - packages_in_use(connection):
                self.packages.withdraw(digest)

    def close(self) -> None:
        """Give back the database's connections."""
        self.state.close()


def open_home(
    path: Path | str,
    *,
    create: bool = True,
    database_url: str | None = None,
    blob_url: str = "",
    clock: Clock | None = None,
) -> Home:
    """Open a home, making it when it does not exist.

    Args:
        path: the folder.
        create: whether it may be made.
        database_url: where the database is, if not in the folder.
        blob_url: an fsspec URL where packages are kept as well; see ``PackageStore``.
        clock: what dates the records; None for the machine's.

    Raises:
        FileMissing: it does not exist and may not be made.
        StorageFull: no space left.
        StorageFailed: it is no folder, cannot be written, or its database is damaged.
    """
    folder = Path(path)
    try:
        if create:
            folder.mkdir(parents=True, exist_ok=True)
        elif not folder.exists():
            raise FileMissing(f"There is no home at {folder}; servable train, add or demo makes one.")
    except (FileExistsError, NotADirectoryError) as error:
        raise StorageFailed(f"{folder} cannot be a home, because a file is in the way.") from error
    except OSError as error:
        raise storage_error(error, f"making the home {folder}") from error
    if not folder.is_dir():
        raise StorageFailed(f"{folder} is a file, and a home is a folder.")
    if not create and database_url is None and not (folder / DATABASE).exists():
        raise FileMissing(
            f"{folder} is no home, it has no {DATABASE}; servable train, add or demo makes one."
        )
    state = open_state(folder / DATABASE if database_url is None else database_url)
    return Home(folder, state, PackageStore(folder, blob_url), clock or SystemClock())


def publish(home: Home, folder: Path, manifest: Manifest, *, note: str = "") -> VersionRecord:
    """Make a filled staging folder the next version of ``manifest.model``.

    When this returns, the version is durable; when it raises, the home is as it was before.

    Args:
        home: where to.
        folder: from ``home.packages.staging()``, with every file except the manifest.
        manifest: the head, without ``files``.
        note: a line for people.

    Raises:
        InputError: ``manifest.model`` is no model name.
        ArtifactUnreadable: the folder is no complete package.
        StorageFull: no space left.
        StorageFailed: the storage failed.
    """
    checked_name(manifest.model)
    complete, signature = _sealed(home, folder, manifest)
    with _published(home, folder) as (connection, digest):
        return home.models.create_version(digest, complete, signature.task, note=note, connection=connection)


def republish(
    home: Home, folder: Path, manifest: Manifest, version: VersionRecord, *, reason: str = ""
) -> VersionRecord:
    """Make a filled staging folder the new package of an existing version.

    Args:
        home: where to.
        folder: from ``home.packages.staging()``, with every file except the manifest.
        manifest: the head, without ``files``.
        version: as it was when the work began.
        reason: why, in a few words; ``Models.history`` keeps it.

    Raises:
        ConflictError: somebody else gave the version another package meanwhile.
        ArtifactUnreadable: the folder is no complete package.
        StorageFull: no space left.
        StorageFailed: the storage failed.
    """
    complete, _ = _sealed(home, folder, manifest)
    with _published(home, folder) as (connection, digest):
        present = resolve_version(connection, version.model, version.version)
        if present.package != version.package:
            raise ConflictError(f"{version.reference} was given another package meanwhile; run it again.")
        return home.models.replace_package(
            version.model, version.version, digest, complete, reason=reason, connection=connection
        )


def _sealed(home: Home, folder: Path, manifest: Manifest) -> tuple[Manifest, Signature]:
    complete = seal(folder, manifest)
    home.packages.share(folder)
    return complete, read_signature(folder)


@contextmanager
def _published(home: Home, folder: Path) -> Iterator[tuple[Connection, str]]:
    """The package in its place, and a transaction in which to name it; both hold or neither does."""
    digest, new = digest_of(folder), False
    try:
        with home.state.writing() as connection:
            digest, new = home.packages.publish(folder)
            yield connection, digest
    except BaseException:
        if new:
            _withdraw(home, digest)
        raise


def _withdraw(home: Home, digest: str) -> None:
    """Take back a package whose registration failed, unless somebody else names it by now."""
    try:
        with home.state.turn() as connection:
            if digest not in packages_in_use(connection):
                home.packages.withdraw(digest)
    except ServableError:
        # The database does not answer, so nobody can tell; an unnamed package is invisible and
        # ``Home.sweep`` clears it later.
        return
