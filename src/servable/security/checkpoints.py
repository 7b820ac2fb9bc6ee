"""Signed checkpoints of the audit log, as signed notes of C2SP (https://c2sp.org/signed-note).

The text of a note is like that of a transparency log's checkpoint: the log's name, how many records it has
had, and 32 bytes in Base64, here the head of the hash chain and not the root of a tree; then the time, and
``cut`` where records up to it were dropped for their age::

    servable/audit/5f0c8d2a91b34e77
    41
    wq0M0lKUVQn6UTlS/bbK2kzxbQZPJEIYVqzbSMBi8Xc=
    2026-01-31T12:00:00Z

    — servable/audit Az3grlgtzPICa5OS...

A key is written as Go's ``note`` package writes it, ``NAME+ID+KEY``. ``cryptography`` is imported when it is
needed.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from servable.errors import DependencyMissing, InputError
from servable.security.audit_chain import Head, Seen

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

#: The name of every key; they differ by their ids.
_NAME = "servable/audit"
_PREFIX = f"{_NAME}/"
_ED25519 = b"\1"
_CUT = "cut"
_SIGNED = "\N{EM DASH} "
_BODY = re.compile(
    rf"{_PREFIX}([0-9a-f]{{16}})\n(0|[1-9][0-9]{{0,18}})\n([A-Za-z0-9+/]{{43}}=)\n"
    rf"(\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ)\n({_CUT}\n)?"
)
_PUBLIC = re.compile(r"([^\s+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]{44})")


class SigningKey(NamedTuple):
    """A private key that signs checkpoints."""

    private: "Ed25519PrivateKey"

    @property
    def public(self) -> str:
        """The other half as text: ``NAME+ID+KEY``."""
        raw = self.private.public_key().public_bytes_raw()
        encoded = base64.b64encode(_ED25519 + raw).decode("ascii")
        return f"{_NAME}+{_key_id(_NAME, raw).hex()}+{encoded}"


def new_signing_key() -> SigningKey:
    """Make a key.

    Raises:
        DependencyMissing: cryptography is not installed.
    """
    _need()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return SigningKey(Ed25519PrivateKey.generate())


def key_bytes(key: SigningKey) -> bytes:
    """A key as a file in PEM, unencrypted."""
    from cryptography.hazmat.primitives import serialization

    return key.private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def read_signing_key(data: bytes) -> SigningKey:
    """A key from what ``key_bytes`` made.

    Raises:
        InputError: it is none.
        DependencyMissing: cryptography is not installed.
    """
    _need()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        private = load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InputError("This is no private key in PEM without a password.") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise InputError("Checkpoints are signed with Ed25519, and this is another kind of key.")
    return SigningKey(private)


def signed(key: SigningKey, head: Head, at: str, *, cut: bool = False) -> str:
    """A checkpoint.

    Args:
        key: of the home.
        head: of the log.
        at: the present time, ISO 8601 in UTC.
        cut: whether the records up to it are dropped for their age.
    """
    root = base64.b64encode(bytes.fromhex(head.hash)).decode("ascii")
    body = f"{_PREFIX}{head.log}\n{head.size}\n{root}\n{at}\n" + (f"{_CUT}\n" if cut else "")
    raw = key.private.public_key().public_bytes_raw()
    signature = _key_id(_NAME, raw) + key.private.sign(body.encode("ascii"))
    return f"{body}\n{_SIGNED}{_NAME} {base64.b64encode(signature).decode('ascii')}\n"


class Note(NamedTuple):
    """One checkpoint, not checked yet.

    Attributes:
        body: what is signed.
        signatures: of keys of our name, each with the four bytes that tell the key before it.
    """

    body: str
    signatures: tuple[bytes, ...]

    @property
    def at(self) -> str:
        """When it was made, as it says."""
        return self.body.split("\n")[3]


def notes_in(text: str) -> Iterator[Note]:
    """Every note of a text that may hold many, one after the other.

    Raises:
        InputError: something in it is no note.
    """
    lines = [*text.replace("\r\n", "\n").split("\n"), ""]
    place = 0
    while place < len(lines):
        if not lines[place]:
            place += 1
            continue
        try:
            blank = lines.index("", place)
        except ValueError:
            raise InputError("This is no signed checkpoint.") from None
        body = "\n".join(lines[place:blank]) + "\n"
        place, lines_signed, signatures = blank + 1, 0, []
        while place < len(lines) and lines[place].startswith(_SIGNED):
            name, _, encoded = lines[place][len(_SIGNED) :].partition(" ")
            # Others may have signed as well, such as witnesses.
            if name == _NAME:
                signatures.append(_decoded(encoded))
            lines_signed += 1
            place += 1
        if not lines_signed or _BODY.fullmatch(body) is None:
            raise InputError("This is no signed checkpoint of an audit log.")
        yield Note(body, tuple(signatures))


def opened(note: Note, keys: Iterable[str], place: str = "") -> Seen | None:
    """What a checkpoint says, when one of the keys signed it; None when none of them is said to have.

    Args:
        note: the checkpoint.
        keys: public keys.
        place: where it was found, for people.

    Raises:
        InputError: a key is none, or the signature of a known key is wrong.
        DependencyMissing: cryptography is not installed.
    """
    found = _BODY.fullmatch(note.body)
    if found is None:
        raise InputError("This is no signed checkpoint of an audit log.")
    from_keys: Mapping[bytes, Ed25519PublicKey] = {
        _key_id(_NAME, key.public_bytes_raw()): key for key in map(public_key, keys)
    }
    for signature in note.signatures:
        key = from_keys.get(signature[:4])
        if key is None:
            continue
        if not _verified(key, signature[4:], note.body):
            raise InputError(f"The signature of the checkpoint of {found[4]} is wrong: it was changed.")
        root = base64.b64decode(found[3]).hex()
        return Seen(Head(found[1], int(found[2]), root), found[4], cut=bool(found[5]), place=place)
    return None


def public_key(text: str) -> "Ed25519PublicKey":
    """A public key from its text.

    Raises:
        InputError: it is none.
        DependencyMissing: cryptography is not installed.
    """
    _need()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    found = _PUBLIC.fullmatch(text.strip())
    raw = _decoded(found[3]) if found is not None else b""
    known = found is not None and found[1] == _NAME and raw[:1] == _ED25519 and len(raw) == 33
    if found is None or not known or _key_id(_NAME, raw[1:]).hex() != found[2]:
        raise InputError(
            f"{text.strip()[:40]!r} is no public key; servable audit key prints it, as NAME+ID+KEY."
        )
    return Ed25519PublicKey.from_public_bytes(raw[1:])


def _verified(key: "Ed25519PublicKey", signature: bytes, body: str) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, body.encode("ascii"))
    except InvalidSignature:
        return False
    return True


def _key_id(name: str, public: bytes) -> bytes:
    """The four bytes by which a signature says whose it is."""
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:4]


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError("This is no signed checkpoint or key: it is not in Base64.") from error


def _need() -> None:
    try:
        import cryptography  # noqa: F401 - to say what is missing in one place
    except ModuleNotFoundError as error:
        raise DependencyMissing(
            "Signed checkpoints need a library that is not installed; run: pip install cryptography"
        ) from error
