"""Encryption of what is captured about a person: a key for each subject, so that losing the key is erasing.

A *subject* is whoever a captured row is about, named by a value such as a customer number. It is stored
nowhere: in its place stands its ``subject_id``, a keyed hash. Rows are sealed with AES-256-GCM under the data
key of their subject. Data keys lie in the registry, wrapped by a key that follows from the secret of the
home's captures, which lies in a file; so neither the database nor the file opens anything by itself. Whatever
is to be sealed and has no subject is sealed under a key that follows from that secret too.

``cryptography`` is imported when the first row is sealed or opened: most servers seal none.
"""

import hmac
import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol

from servable.errors import StorageFailed

#: In place of a subject for rows that are sealed and about nobody in particular.
NOBODY = ""
_NONCE_BYTES = 12
_KEY_BYTES = 32
_ID_LETTERS = 32
Purpose = Literal["subject", "request", "wrap", "nobody"]


class SubjectState(Protocol):
    """What the registry knows of some subjects."""

    @property
    def keys(self) -> Mapping[str, bytes]:
        """Wrapped data keys by subject id."""
        ...

    @property
    def erased(self) -> Mapping[str, int]:
        """When subjects were erased, microseconds since 1970; rows up to then must not be kept."""
        ...


class _Nobody(NamedTuple):
    """Nothing is known."""

    keys: Mapping[str, bytes] = MappingProxyType({})
    erased: Mapping[str, int] = MappingProxyType({})


class SubjectKeys(Protocol):
    """Keeps the wrapped data keys of subjects. Safe to share between threads and processes.

    Every method raises ``StorageFailed`` when the storage does.
    """

    def ensure(self, drafts: Mapping[str, bytes]) -> SubjectState:
        """Keep new keys for those subjects that have none; the keys that hold, and who was erased.

        Nobody is erased between the two halves of the answer.

        Args:
            drafts: a wrapped key for each subject id.
        """
        ...

    def find(self, subjects: Sequence[str]) -> SubjectState:
        """The keys of those subjects that have one, and who was erased."""
        ...

    def declares(self, model: str) -> bool:
        """Whether it is said whom the rows of a model are about, so that all of a row is sealed."""
        ...

    def stamp(self) -> str:
        """Differs after any subject was erased."""
        ...


class NoSubjectKeys:
    """Where nobody is known: no key is found, and none can be kept."""

    def ensure(self, drafts: Mapping[str, bytes]) -> SubjectState:
        """See ``SubjectKeys``."""
        raise StorageFailed("The keys of subjects lie in a registry, and there is none here.")

    def find(self, subjects: Sequence[str]) -> SubjectState:
        """See ``SubjectKeys``."""
        return _Nobody()

    def declares(self, model: str) -> bool:
        """See ``SubjectKeys``."""
        return False

    def stamp(self) -> str:
        """See ``SubjectKeys``."""
        return ""


class Secret:
    """What follows from the secret of a home's captures. Safe to share between threads.

    Args:
        secret: 32 bytes.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._subject = self._derived("subject")
        self._request = self._derived("request")
        self._wrap = self._derived("wrap")
        self._nobody = self._derived("nobody")

    def subject_id(self, subject: str) -> str:
        """The name of a subject that tells nobody who it is: equal for equal ones."""
        return _hashed(self._subject, subject)

    def request_key(self, request_id: str) -> str:
        """The name of a request under which feedback finds it, likewise."""
        return _hashed(self._request, request_id)

    def new_key(self, subject_id: str) -> bytes:
        """A new data key for a subject, wrapped."""
        return seal(self._wrap, os.urandom(_KEY_BYTES), subject_id.encode())

    def data_key(self, subject_id: str, wrapped: bytes | None) -> bytes | None:
        """The data key of a subject; None where it is gone, or was wrapped under another secret.

        Args:
            subject_id: ``NOBODY`` has a key without one in the registry.
            wrapped: as ``new_key`` gave it.
        """
        if subject_id == NOBODY:
            return self._nobody
        return None if wrapped is None else unseal(self._wrap, wrapped, subject_id.encode())

    def _derived(self, purpose: Purpose) -> bytes:
        # The secret is 256 random bits, so one HMAC for each purpose is all that a derivation needs.
        return hmac.digest(self._secret, b"servable " + purpose.encode(), "sha256")


def seal(key: bytes, plain: bytes, about: bytes) -> bytes:
    """Encrypt with AES-256-GCM under a nonce of its own.

    Args:
        key: 32 bytes.
        plain: what.
        about: must be said again to open it.
    """
    nonce = os.urandom(_NONCE_BYTES)
    sealed: bytes = _cipher(key).encrypt(nonce, plain, about)
    return nonce + sealed


def unseal(key: bytes, sealed: bytes, about: bytes) -> bytes | None:
    """What was sealed; None when it was under another key, about something else, or was changed."""
    from cryptography.exceptions import InvalidTag

    try:
        opened: bytes = _cipher(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], about)
    except (InvalidTag, ValueError):
        return None
    return opened


def seal_all(keys: Sequence[bytes], plains: Sequence[bytes], about: bytes) -> list[bytes]:
    """``seal`` for many rows; a cipher is made once for each key.

    Args:
        keys: of each row.
        plains: of each row.
        about: of all of them.
    """
    ciphers = {key: _cipher(key) for key in set(keys)}
    noise = os.urandom(_NONCE_BYTES * len(plains))
    made = []
    for place, (key, plain) in enumerate(zip(keys, plains, strict=True)):
        nonce = noise[place * _NONCE_BYTES : (place + 1) * _NONCE_BYTES]
        made.append(nonce + ciphers[key].encrypt(nonce, plain, about))
    return made


def _cipher(key: bytes) -> Any:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)


def _hashed(key: bytes, text: str) -> str:
    data = text.encode("utf-8", "surrogatepass")
    return hmac.digest(key, data, "sha256").hex()[:_ID_LETTERS]
