"""Who signs new versions, and whether a version may get requests by its signature.

``check_signature`` is the one place where commands ask: every road on which a version comes to requests goes
through it before it changes anything. Servers ask the same vetting once more, whenever they load a version.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from servable.artifact.bundles import hint_of, read_private_key, read_trusted_keys
from servable.artifact.package import Package
from servable.artifact.releases import Release, sign_release
from servable.errors import SignatureRefused
from servable.registry.home import Home
from servable.registry.records import VersionRecord
from servable.registry.signatures import SignatureStore
from servable.registry.vetting import vetting_of
from servable.settings import load_settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey


class Signer(Protocol):
    """Signs what was published."""

    def sign(self, place: Home, record: VersionRecord) -> None:
        """Sign a version.

        Raises:
            StorageFull: no space left.
            StorageFailed: the storage failed.
        """
        ...


class NoSigner:
    """Signs nothing."""

    def sign(self, place: Home, record: VersionRecord) -> None:
        """Nothing is signed."""


class KeySigner:
    """Signs with a private key.

    Args:
        key: from ``read_private_key``.
        blob_url: where signatures are kept besides the home.
    """

    def __init__(self, key: "EllipticCurvePrivateKey", blob_url: str) -> None:
        self._key = key
        self._blob_url = blob_url

    def sign(self, place: Home, record: VersionRecord) -> None:
        """Verify the package of a version and sign it."""
        package, release = place.package(record), Release(record.model, record.version)
        bundle = sign_release(self._key, release, package.manifest, package.digest)
        place.audit.record(
            "version.sign",
            model=record.model,
            version=record.version,
            package=package.digest,
            signer=hint_of(self._key),
        )
        SignatureStore(place.path, self._blob_url).keep_release(package.digest, release, bundle)


NO_SIGNER = NoSigner()


def signer_of(path: str | Path | None, home: str | Path | None, *, deploy: bool) -> Signer:
    """Who signs with the key of a file, else with that of the setting ``sign_key``; nobody without one.

    Args:
        path: a private key in PEM; None for the one of the settings.
        home: the folder of the registry; looked up when None.
        deploy: whether the version will be deployed, which may ask for a signature that counts.

    Raises:
        FileMissing: there is no such file.
        SettingInvalid: it holds no key that can be used.
        SignatureRefused: what is deployed must be signed, and there is no key, or one that is not trusted.
        DependencyMissing: the extra ``signing`` is not installed.
    """
    settings = load_settings({"home": home})
    required = deploy and settings.signatures == "require"
    path = path or settings.sign_key
    if not path:
        if required:
            raise SignatureRefused(
                "Only signed versions are deployed here, and there is no key to sign with; name its file in "
                "the setting sign_key (SERVABLE_SIGN_KEY), or with --sign-key where a command has it."
            )
        return NO_SIGNER
    key = read_private_key(Path(path))
    if required and hint_of(key) not in {each.hint for each in read_trusted_keys(settings.trusted_keys)}:
        raise SignatureRefused(
            f"The public key of {path} is not among trusted_keys, so that nothing signed with it is served; "
            "add it there."
        )
    return KeySigner(key, settings.blob_url)


def check_signature(place: Home, record: VersionRecord) -> Package:
    """The package of a version, verified, and its signature where the settings ask for one.

    Raises:
        ArtifactTampered: a file of the package differs from its digest.
        ArtifactUnreadable: the package is not here, or damaged.
        SignatureRefused: it is not signed, or older than what was served here.
    """
    package = place.package(record)
    vetting = vetting_of(load_settings({"home": place.path}))
    release = Release(record.model, record.version)
    # Only what is served is noted as served.
    vetting.check(release, package.manifest, package.digest, own=False)
    return package


def check_new(place: Home, record: VersionRecord) -> None:
    """As ``check_signature``, for a version that was published just now, whose files were verified then.

    Raises:
        ServableError: as ``check_signature``, where the settings ask for signatures.
    """
    # A large package is read a second time only where its signature needs that.
    if load_settings({"home": place.path}).signatures != "off":
        check_signature(place, record)
