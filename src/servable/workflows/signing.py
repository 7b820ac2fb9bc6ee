"""``sign``: says with a private key that a package is a version, or that an older one may be served again."""

from pathlib import Path

import msgspec

from servable.artifact.bundles import hint_of, make_keys, read_private_key
from servable.artifact.releases import Return, sign_return
from servable.clock import SystemClock
from servable.registry.signatures import SignatureStore
from servable.settings import load_settings
from servable.workflows.homes import opened
from servable.workflows.signers import KeySigner


class SignOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """A version that was signed now.

    Attributes:
        model: its name.
        version: its number.
        package: the digest of its package, which is as before.
        key: SHA-256 in hex of the public key.
        public_key: the file of the public key, when it was made now; else empty.
        rollback: whether it may be served again although a newer version was.
    """

    model: str
    version: int
    package: str
    key: str
    public_key: str = ""
    rollback: bool = False


def sign(
    reference: str,
    *,
    key: str | Path,
    new_key: bool = False,
    rollback: bool = False,
    home: str | Path | None = None,
) -> SignOutcome:
    """Sign a version. Every file of its package is verified first; the package stays as it is.

    Args:
        reference: ``name`` (the newest version), ``name:3`` or ``name@alias``.
        key: the file of a private key in PEM, of the curve P-256, P-384 or P-521.
        new_key: make that file first, and the public key beside it.
        rollback: also say that the version may be served again although a newer one was served.
        home: the folder of the registry; looked up when None.

    Raises:
        NotFoundError: there is no such model, version or alias.
        FileMissing: there is no such key.
        SettingInvalid: the file holds no key that can be used, or is there already and should be made.
        ArtifactTampered: a file of the package differs from its digest; nothing was signed.
        DependencyMissing: the extra ``signing`` is not installed.
    """
    settings = load_settings({"home": home})
    with opened(home) as place:
        record = place.models.resolve(reference)
        public = make_keys(Path(key)) if new_key else None
        private = read_private_key(Path(key))
        KeySigner(private, settings.blob_url).sign(place, record)
        if rollback:
            now = SystemClock().now().timestamp()
            allowed = Return(record.model, record.version, record.package, now)
            place.audit.record(
                "version.allow_return",
                model=record.model,
                version=record.version,
                package=record.package,
                signer=hint_of(private),
            )
            store = SignatureStore(place.path, settings.blob_url)
            store.keep_rollback(record.model, sign_return(private, allowed))
        return SignOutcome(
            model=record.model,
            version=record.version,
            package=record.package,
            key=hint_of(private),
            public_key="" if public is None else str(public),
            rollback=rollback,
        )
