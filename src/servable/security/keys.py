"""API keys: how they are made, what is stored of them, and how one that is shown is checked.

A key reads ``sv_ID_SECRET``: a public id, by which its record is found, and 256 random bits. Of the secret an
HMAC-SHA-256 under a salt of its own is stored, so that a copy of the database opens nothing. The secret is
random, so that nothing slower is needed: there is no dictionary of such secrets to try.
"""

import hmac
import re
import secrets
from datetime import datetime
from typing import NamedTuple
from zlib import crc32

from servable.security.limits import NO_LIMITS, Limits
from servable.security.scopes import Scope

PREFIX = "sv"
_ID_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"
_ID_LENGTH = 10
_SECRET_BYTES = 32
#: The secret ends with a checksum, so that scanners of leaked secrets, and typists, know a key for sure.
_SHOWN = re.compile(rf"{PREFIX}_([{_ID_LETTERS}]{{{_ID_LENGTH}}})_([A-Za-z0-9_-]{{43}})([0-9a-f]{{8}})")


class KeyRecord(NamedTuple):
    """A key as it is stored.

    Attributes:
        id: public, unique.
        name: for people; a key and those that it is rotated to share it.
        salt: of the hash, in hexadecimal.
        digest: of the secret, in hexadecimal.
        scopes: what it allows.
        created_at: ISO 8601 in UTC.
        expires_at: likewise, from when it is not valid; empty for never.
        revoked_at: likewise; empty while it is not revoked.
        limits: how much it may ask; they hold for all keys of its name together.
    """

    id: str
    name: str
    salt: str
    digest: str
    scopes: tuple[Scope, ...]
    created_at: str
    expires_at: str = ""
    revoked_at: str = ""
    limits: Limits = NO_LIMITS

    def state(self, now: datetime) -> str:
        """``active``, ``expired`` or ``revoked``."""
        if self.revoked_at:
            return "revoked"
        if self.expires_at and datetime.fromisoformat(self.expires_at) <= now:
            return "expired"
        return "active"


class NewKey(NamedTuple):
    """A new key; the text is shown once and stored nowhere."""

    id: str
    text: str
    salt: str
    digest: str


def new_key() -> NewKey:
    """Make a key."""
    key_id = "".join(secrets.choice(_ID_LETTERS) for _ in range(_ID_LENGTH))
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    salt = secrets.token_bytes(16)
    text = f"{PREFIX}_{key_id}_{secret}"
    return NewKey(key_id, f"{text}{crc32(text.encode()):08x}", salt.hex(), digest_of(secret, salt))


def digest_of(secret: str, salt: bytes) -> str:
    """What is stored of a secret."""
    return hmac.digest(salt, secret.encode(), "sha256").hex()


class Shown(NamedTuple):
    """A key as a caller shows it, in its parts."""

    id: str
    secret: str


#: Takes the place of a key that nobody has, so that a check takes the same time.
_NOBODY = Shown("", "-" * 43)
_NO_SALT, _NO_DIGEST = "00" * 16, "0" * 64


def shown(text: str) -> Shown | None:
    """The parts of a key; None when the text has not its form, such as a key of another service."""
    found = _SHOWN.fullmatch(text)
    if found is None or int(found[3], 16) != crc32(text[:-8].encode()):
        return None
    return Shown(found[1], found[2])


def matches(given: Shown | None, record: KeyRecord | None) -> bool:
    """Whether a caller has a key. Takes as long whether the id or the secret is wrong, and wherever.

    Args:
        given: what the caller showed; None for what is no key.
        record: the one with its id; None when there is none.
    """
    salt, held = (_NO_SALT, _NO_DIGEST) if record is None else (record.salt, record.digest)
    digest = digest_of((given or _NOBODY).secret, bytes.fromhex(salt))
    equal = hmac.compare_digest(digest, held)
    return equal and given is not None and record is not None
