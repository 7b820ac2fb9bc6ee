"""``keys``: who may call the servers of a home. Running servers follow within a second."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import msgspec

from servable.clock import SystemClock, span_s
from servable.errors import SettingInvalid
from servable.registry.keys import MadeKey
from servable.security.keys import KeyRecord
from servable.security.scopes import parse_scopes
from servable.workflows.homes import opened

#: How long a key lasts that is rotated, when nobody says.
OVERLAP = "24h"
_NEVER = "never"


class KeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it may be shown to anybody who may read the registry.

    Attributes:
        id: public.
        name: for people.
        scopes: what it allows, such as ``predict:income``.
        state: active, expired or revoked.
        created_at: ISO 8601 in UTC.
        expires_at: likewise; empty for never.
        revoked_at: likewise; empty while it is not revoked.
    """

    id: str
    name: str
    scopes: tuple[str, ...]
    state: str
    created_at: str
    expires_at: str
    revoked_at: str


class NewKeyOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """A key that was made now.

    Attributes:
        key: the text to send; it is seen here and never again.
        row: what is kept of it.
        until: from when the keys that it takes the place of are not valid any more; empty for a new name.
    """

    key: str
    row: KeyRow
    until: str = ""


def create_key(
    name: str, scopes: Sequence[str], *, expires: str = _NEVER, home: str | Path | None = None
) -> NewKeyOutcome:
    """Make an API key. From the first one on every server of the home wants one of every caller.

    Args:
        name: for people; one active key has it at a time.
        scopes: what it allows: ``predict:income``, ``read``, ``predict:team-*`` ...
        expires: a span of time such as ``90d``, or ``never``.
        home: the folder of the registry; looked up, and made, when None.

    Raises:
        InputError: a name or a scope that is none.
        SettingInvalid: a time that is none.
        ConflictError: there is an active key of that name.
    """
    allowed, lasting = parse_scopes(scopes), _span("expires", expires)
    with opened(home, create=True) as place:
        return _outcome(place.keys.create(name, allowed, lasting))


def rotate_key(
    name: str, *, overlap: str = OVERLAP, expires: str | None = None, home: str | Path | None = None
) -> NewKeyOutcome:
    """Make a key in place of another, which stays valid for a while so that callers can change.

    Args:
        name: of the key, or its id.
        overlap: for how long the old one is valid still, such as ``24h``; ``0s`` for not at all.
        expires: how long the new one lasts, or ``never``; as long as the old one was made for when None.
        home: the folder of the registry; looked up when None.

    Raises:
        NotFoundError: there is no such active key.
        SettingInvalid: a time that is none.
    """
    kept = _span("overlap", overlap)
    if kept is None:
        raise SettingInvalid("An overlap ends; write for instance 24h.")
    with opened(home) as place:
        lasting = None if expires is None else _span("expires", expires)
        made = place.keys.rotate(name, kept, lasting)
        others = [key.expires_at for key in place.keys.all() if key.name == made.record.name]
        until = max((end for end in others if end and end != made.record.expires_at), default="")
        return msgspec.structs.replace(_outcome(made), until=until)


def revoke_key(name: str, *, home: str | Path | None = None) -> tuple[KeyRow, ...]:
    """Make keys invalid, within a second on every running server.

    Args:
        name: of the keys, or the id of one.
        home: the folder of the registry; looked up when None.

    Returns:
        Those that were not revoked before.

    Raises:
        NotFoundError: there is none.
    """
    with opened(home) as place:
        return tuple(map(_row, place.keys.revoke(name)))


def keys(*, home: str | Path | None = None) -> tuple[KeyRow, ...]:
    """Every key that was ever made, oldest first; no secret is among it.

    Raises:
        FileMissing: there is no such home.
    """
    with opened(home) as place:
        return tuple(map(_row, place.keys.all()))


def _outcome(made: MadeKey) -> NewKeyOutcome:
    return NewKeyOutcome(key=made.text, row=_row(made.record))


def _row(record: KeyRecord) -> KeyRow:
    return KeyRow(
        id=record.id,
        name=record.name,
        scopes=tuple(map(str, record.scopes)),
        state=record.state(SystemClock().now()),
        created_at=record.created_at,
        expires_at=record.expires_at,
        revoked_at=record.revoked_at,
    )


def _span(what: str, text: str) -> timedelta | None:
    if text.strip().lower() == _NEVER:
        return None
    seconds = span_s(text)
    if seconds is None:
        raise SettingInvalid(f"--{what} is a span of time such as 24h or 90d, not {text[:60]!r}.")
    try:
        return timedelta(seconds=seconds)
    except OverflowError as error:
        raise SettingInvalid(f"--{what} {text[:60]} is too long.") from error
