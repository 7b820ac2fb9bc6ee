"""Signed statements: of in-toto, in DSSE envelopes, in Sigstore bundles, as ``model-signing`` writes them.

The envelope and the bundle are formats of others, and so is all cryptography, which is that of the library
``cryptography``: ECDSA with the curves P-256, P-384 and P-521. It is imported when a key is first read.
"""

import base64
import binascii
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from servable.errors import (
    DependencyMissing,
    FileMissing,
    SettingInvalid,
    SignatureRefused,
    StorageFailed,
    converted,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
#: A bundle beyond this many bytes is none; one of a package with a hundred thousand files has some 15 MB.
LARGEST_BUNDLE = 64 * 1024 * 1024
_LARGEST_KEY = 64 * 1024
#: How a key is made by hand.
MAKE_KEY = "openssl ecparam -genkey -name prime256v1 -noout -out private.pem"
#: The curves that Sigstore's bundles know, and the hash that each is used with.
_HASHES = {"secp256r1": "SHA256", "secp384r1": "SHA384", "secp521r1": "SHA512"}


class TrustedKey(NamedTuple):
    """A public key whose signatures count.

    Attributes:
        name: for people: the file's name without its ending.
        hint: SHA-256 in hex of the key in PEM, by which bundles name it.
        key: of ``cryptography``.
    """

    name: str
    hint: str
    key: "EllipticCurvePublicKey"


class Opened(NamedTuple):
    """A statement whose signature is right.

    Attributes:
        key: name of the trusted key that signed it.
        predicate_type: what kind of statement it is.
        subject: names and digests of what it is about.
        predicate: what it says.
    """

    key: str
    predicate_type: str
    subject: list[Any]
    predicate: dict[str, Any]


class _Signature(msgspec.Struct, frozen=True):
    sig: str
    keyid: str = ""


class _Envelope(msgspec.Struct, frozen=True, rename="camel"):
    payload: str
    payload_type: str
    signatures: list[_Signature]


class _PublicKey(msgspec.Struct, frozen=True):
    hint: str


class _Material(msgspec.Struct, frozen=True, rename="camel"):
    public_key: _PublicKey
    tlog_entries: list[Any] = []


class _Bundle(msgspec.Struct, frozen=True, rename="camel"):
    media_type: str
    verification_material: _Material
    dsse_envelope: _Envelope


class _Statement(msgspec.Struct, frozen=True, rename="camel"):
    type: str = msgspec.field(name="_type")
    subject: list[Any]
    predicate_type: str
    predicate: dict[str, Any]


def read_private_key(path: Path) -> "EllipticCurvePrivateKey":
    """A key to sign with, from a file in PEM without a password.

    Raises:
        FileMissing: there is no such file.
        SettingInvalid: it holds no such key.
        DependencyMissing: the extra ``signing`` is not installed.
    """
    serialization, ec = _cryptography()
    data = _content(path)
    with converted(
        # What the library raises for a password is a TypeError.
        {ValueError: SettingInvalid, TypeError: SettingInvalid},
        f"{path} holds no private key in PEM that can be read without a password.",
    ):
        key: EllipticCurvePrivateKey = serialization.load_pem_private_key(data, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in _HASHES:
        raise SettingInvalid(
            f"{path} holds another kind of key; make one of the curve P-256 with: {MAKE_KEY}"
        )
    made: EllipticCurvePrivateKey = key
    return made


def read_trusted_keys(paths: tuple[str, ...]) -> tuple[TrustedKey, ...]:
    """The public keys of a list of files in PEM.

    Raises:
        FileMissing: one of the files is not there.
        SettingInvalid: one holds no public key of a curve that is used here.
        DependencyMissing: the extra ``signing`` is not installed.
    """
    return tuple(_trusted(Path(path)) for path in paths)


def make_keys(private: Path) -> Path:
    """Make a private key of the curve P-256, which only its owner may read, and its public key beside it.

    Returns:
        The file of the public key.

    Raises:
        SettingInvalid: one of the files is there already.
        StorageFailed: they cannot be written.
        DependencyMissing: the extra ``signing`` is not installed.
    """
    serialization, ec = _cryptography()
    public = private.with_suffix(".pub")
    key = ec.generate_private_key(ec.SECP256R1())
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with converted(
        {FileExistsError: SettingInvalid, OSError: StorageFailed}, "The key cannot be written: {}."
    ):
        for path, data, mode in ((private, secret, 0o600), (public, _pem(key.public_key()), 0o644)):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
    return public


def hint_of(key: "EllipticCurvePrivateKey") -> str:
    """How bundles name the public key of a private one: SHA-256 in hex of it in PEM."""
    return _hint(key.public_key())


def signed(key: "EllipticCurvePrivateKey", predicate_type: str, subject: Any, predicate: Any) -> bytes:
    """A bundle that holds a statement and its signature, as JSON."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    statement = _Statement(STATEMENT_TYPE, subject, predicate_type, predicate)
    payload = msgspec.json.encode(statement)
    made = key.sign(_encoded(payload), ec.ECDSA(getattr(hashes, _HASHES[key.curve.name])()))
    envelope = _Envelope(
        base64.b64encode(payload).decode(), PAYLOAD_TYPE, [_Signature(base64.b64encode(made).decode())]
    )
    material = _Material(_PublicKey(_hint(key.public_key())))
    return msgspec.json.encode(_Bundle(MEDIA_TYPE, material, envelope))


def opened(data: bytes, trusted: tuple[TrustedKey, ...], what: str) -> Opened:
    """The statement of a bundle, after its signature was verified with a trusted key.

    Args:
        data: the bundle.
        trusted: whose signatures count.
        what: it is about, for sentences.

    Raises:
        SignatureRefused: it is no bundle, nobody trusted signed it, or it was changed since.
    """
    damaged = SignatureRefused(f"The signature of {what} is damaged; sign it again.")
    if len(data) > LARGEST_BUNDLE:
        raise damaged
    try:
        bundle = msgspec.json.decode(data, type=_Bundle)
        payload = base64.b64decode(bundle.dsse_envelope.payload, validate=True)
        signatures = [base64.b64decode(each.sig, validate=True) for each in bundle.dsse_envelope.signatures]
    except (msgspec.MsgspecError, binascii.Error, RecursionError, ValueError) as error:
        raise damaged from error
    envelope = bundle.dsse_envelope
    if bundle.media_type != MEDIA_TYPE or envelope.payload_type != PAYLOAD_TYPE or len(signatures) != 1:
        raise SignatureRefused(f"The signature of {what} is of a form that is not read here; sign it again.")
    hint = bundle.verification_material.public_key.hint
    key = next((each for each in trusted if each.hint == hint), None)
    if key is None:
        raise SignatureRefused(
            f"The signature of {what} was made with a key that is not among trusted_keys; sign it with a "
            "trusted one, or add its public key."
        )
    _verify(key, signatures[0], payload, what)
    try:
        statement = msgspec.json.decode(payload, type=_Statement)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise damaged from error
    if statement.type != STATEMENT_TYPE:
        raise damaged
    return Opened(key.name, statement.predicate_type, statement.subject, statement.predicate)


def _verify(key: TrustedKey, signature: bytes, payload: bytes, what: str) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    algorithm = ec.ECDSA(getattr(hashes, _HASHES[key.key.curve.name])())
    try:
        key.key.verify(signature, _encoded(payload), algorithm)
    except InvalidSignature as error:
        raise SignatureRefused(
            f"The signature of {what} is not one of the key {key.name}: it was changed; sign it again."
        ) from error


def _encoded(payload: bytes) -> bytes:
    """What is signed: the payload with its type and both lengths before it."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def _trusted(path: Path) -> TrustedKey:
    serialization, ec = _cryptography()
    data = _content(path)
    with converted({ValueError: SettingInvalid}, f"{path} holds no public key in PEM."):
        key = serialization.load_pem_public_key(data)
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _HASHES:
        raise SettingInvalid(
            f"{path} holds another kind of key; make one of the curve P-256 with: {MAKE_KEY}"
        )
    return TrustedKey(path.stem, _hint(key), key)


def _content(path: Path) -> bytes:
    with (
        converted(
            {FileNotFoundError: FileMissing, OSError: SettingInvalid}, f"The key {path} cannot be read: {{}}."
        ),
        path.open("rb") as file,
    ):
        return file.read(_LARGEST_KEY)


def _hint(key: "EllipticCurvePublicKey") -> str:
    return hashlib.sha256(_pem(key)).hexdigest()


def _pem(key: "EllipticCurvePublicKey") -> bytes:
    serialization, _ = _cryptography()
    data: bytes = key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return data


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ModuleNotFoundError as missing:
        raise DependencyMissing(
            "Signatures need cryptography, which is not installed; run: pip install 'servable[signing]'"
        ) from missing
    return serialization, ec
