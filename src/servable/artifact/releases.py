"""What is signed of a package: every file of it, and which version of which model it is.

The statement is that of ``model-signing``, so that its tools verify it. It says one thing more, which they
pass over: the model and the version. Without that a package of one version, rightly signed, could stand in
for another one.
"""

import hashlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from servable.artifact.bundles import Opened, TrustedKey, opened, signed
from servable.artifact.manifest import MANIFEST_FILE, Manifest
from servable.errors import SignatureRefused

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

#: What ``model-signing`` calls its statement.
PREDICATE = "https://model_signing/signature/v1.0"
#: The statement that an older version may be served again.
ROLLBACK = "urn:servable:rollback:v1"
_OWN = "servable"


class Release(NamedTuple):
    """What a package is, as whoever signs it says."""

    model: str
    version: int

    @property
    def reference(self) -> str:
        """``name:version``."""
        return f"{self.model}:{self.version}"


class Return(msgspec.Struct, frozen=True):
    """That an older version may be served again.

    Attributes:
        model: its name.
        version: the older version.
        package: the digest of its package.
        at: when that was signed, in seconds since 1970.
    """

    model: str
    version: int
    package: str
    at: float


def sign_release(key: "EllipticCurvePrivateKey", release: Release, manifest: Manifest, digest: str) -> bytes:
    """A bundle that says that a package is this version.

    Args:
        key: to sign with.
        release: what it is.
        manifest: of the package, which was verified.
        digest: of the package.
    """
    resources = _resources(manifest, digest)
    root = hashlib.sha256(b"".join(bytes.fromhex(each["digest"]) for each in resources)).hexdigest()
    predicate = {
        "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False},
        "resources": resources,
        _OWN: {"model": release.model, "version": release.version},
    }
    return signed(key, PREDICATE, [{"name": digest, "digest": {"sha256": root}}], predicate)


def check_release(
    data: bytes, release: Release, manifest: Manifest, digest: str, trusted: tuple[TrustedKey, ...]
) -> str:
    """Verify that somebody trusted signed this package as this version.

    Args:
        data: the bundle.
        release: what the package is served as.
        manifest: of the package.
        digest: of the package.
        trusted: whose signatures count.

    Returns:
        The name of the key.

    Raises:
        SignatureRefused: nobody did.
    """
    what = release.reference
    found = opened(data, trusted, what)
    _check_files(found, manifest, digest, what)
    said = found.predicate.get(_OWN)
    if not isinstance(said, dict):
        raise SignatureRefused(
            f"The signature of {what} does not say which version it is of; sign it with: servable sign {what}"
        )
    if (said.get("model"), said.get("version")) != release:
        raise SignatureRefused(
            f"The package of {what} was signed as {str(said.get('model'))[:128]}:"
            f"{str(said.get('version'))[:20]}; publish {what} again."
        )
    return found.key


def _check_files(found: Opened, manifest: Manifest, digest: str, what: str) -> None:
    """Whether a statement names exactly the files of a package, each with its digest.

    Raises:
        SignatureRefused: it does not.
    """
    serialization, resources = found.predicate.get("serialization"), found.predicate.get("resources")
    by_file = isinstance(serialization, dict) and serialization.get("method") == "files"
    if found.predicate_type != PREDICATE or not by_file or not isinstance(resources, list):
        raise SignatureRefused(f"The signature of {what} says nothing of whole files; sign it again.")
    said = [
        (each.get("name"), each.get("algorithm"), each.get("digest"))
        for each in resources
        if isinstance(each, dict)
    ]
    held = [(each["name"], each["algorithm"], each["digest"]) for each in _resources(manifest, digest)]
    if sorted(map(str, said)) != sorted(map(str, held)):
        raise SignatureRefused(
            f"The signature of {what} is of other files than its package holds; sign it again, or restore it."
        )


def sign_return(key: "EllipticCurvePrivateKey", allowed: Return) -> bytes:
    """A bundle that allows an older version to be served again."""
    subject = [{"name": allowed.model, "digest": {"sha256": allowed.package}}]
    return signed(key, ROLLBACK, subject, msgspec.to_builtins(allowed))


def read_return(data: bytes, model: str, trusted: tuple[TrustedKey, ...]) -> Return:
    """What a bundle allows.

    Raises:
        SignatureRefused: nobody trusted signed it, or it is no such statement.
    """
    what = f"the rollback of {model}"
    found = opened(data, trusted, what)
    try:
        if found.predicate_type == ROLLBACK:
            return msgspec.convert(found.predicate, type=Return)
    except msgspec.ValidationError as error:
        raise SignatureRefused(f"The signature of {what} is damaged; sign it again.") from error
    raise SignatureRefused(f"The signature of {what} is one of something else; sign the rollback again.")


def _resources(manifest: Manifest, digest: str) -> list[dict[str, Any]]:
    """Every file of a package with its digest, in the order of ``model-signing``."""
    files = [(entry.path, entry.sha256) for entry in manifest.files]
    files.append((MANIFEST_FILE, digest))
    return [
        {"name": path, "algorithm": "sha256", "digest": sha256}
        for path, sha256 in sorted(files, key=lambda file: PurePosixPath(file[0]))
    ]
