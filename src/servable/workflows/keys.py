"""``keys``: who may call the servers of a home. Running servers follow within a second."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType

import msgspec

from servable.clock import SystemClock, span_s
from servable.errors import SettingInvalid
from servable.registry.keys import MadeKey
from servable.security.keys import KeyRecord
from servable.security.limits import parse_limits
from servable.security.scopes import parse_scopes
from servable.workflows.homes import opened

#: How long a key lasts that is rotated, when nobody says.
OVERLAP = "24h"
_NEVER = "never"
_DAY_S = 86_400
_NOTHING: Mapping[str, int] = MappingProxyType({})


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
        rate: how many requests it may send in a time, such as ``100/s``; empty for any number.
        quota: how many requests it may send in a day of UTC; 0 for any number.
        concurrency: how many requests it may have at once; 0 for any number.
        used_today: of the quota, by all keys of its name: what servers took out of it, which may be a little
            more than what they answered so far; 0 without a quota.
    """

    id: str
    name: str
    scopes: tuple[str, ...]
    state: str
    created_at: str
    expires_at: str
    revoked_at: str
    rate: str = ""
    quota: int = 0
    concurrency: int = 0
    used_today: int = 0


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
    name: str,
    scopes: Sequence[str],
    *,
    expires: str = _NEVER,
    rate: str | None = None,
    quota: str | None = None,
    concurrency: int | None = None,
    home: str | Path | None = None,
) -> NewKeyOutcome:
    """Make an API key. From the first one on every server of the home wants one of every caller.

    Args:
        name: for people; one active key has it at a time.
        scopes: what it allows: ``predict:income``, ``read``, ``predict:team-*`` ...
        expires: a span of time such as ``90d``, or ``never``.
        rate: how many requests it may send in a time, such as ``100/s`` or ``60/min``; None: any number.
        quota: how many requests it may send in a day of UTC, such as ``1M/day``; None: any number.
        concurrency: how many requests it may have at once; None: any number.
        home: the folder of the registry; looked up, and made, when None.

    Raises:
        InputError: a name, a scope or a limit that is none.
        SettingInvalid: a time that is none.
        ConflictError: there is an active key of that name.
    """
    allowed, lasting = parse_scopes(scopes), _span("expires", expires)
    limits = parse_limits(rate, quota, concurrency)
    with opened(home, create=True) as place:
        return _outcome(place.keys.create(name, allowed, lasting, limits))


def rotate_key(
    name: str, *, overlap: str = OVERLAP, expires: str | None = None, home: str | Path | None = None
) -> NewKeyOutcome:
    """Make a key in place of another, which stays valid for a while so that callers can change.

    The new one has the scopes and the limits of the old one, and both share what is left of these.

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
        used = place.quotas.used(int(SystemClock().now().timestamp() // _DAY_S))
        return tuple(_row(key, used) for key in place.keys.all())


def _outcome(made: MadeKey) -> NewKeyOutcome:
    return NewKeyOutcome(key=made.text, row=_row(made.record))


def _row(record: KeyRecord, used: Mapping[str, int] = _NOTHING) -> KeyRow:
    limits = record.limits
    return KeyRow(
        id=record.id,
        name=record.name,
        scopes=tuple(map(str, record.scopes)),
        state=record.state(SystemClock().now()),
        created_at=record.created_at,
        expires_at=record.expires_at,
        revoked_at=record.revoked_at,
        rate=str(limits.rate or ""),
        quota=limits.quota,
        concurrency=limits.concurrency,
        used_today=used.get(record.name, 0) if limits.quota else 0,
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
