"""API keys of a registry: made, rotated, revoked. A secret is stored nowhere; see ``security.keys``."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, insert, select, update

from servable.clock import Clock, timestamp
from servable.errors import ConflictError, InputError, NotFoundError
from servable.registry import tables
from servable.registry.audit import written
from servable.registry.keys_reader import record_of
from servable.registry.state import State
from servable.security.keys import KeyRecord, new_key
from servable.security.limits import NO_LIMITS, Limits
from servable.security.scopes import Scope

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,127}")
_COLUMNS = tables.keys.c


class MadeKey(NamedTuple):
    """A key that was made now; ``text`` is seen this once."""

    record: KeyRecord
    text: str


class KeyTerms(NamedTuple):
    """What a new key is made with: its name, what it allows, and how much of it."""

    name: str
    scopes: tuple[Scope, ...]
    limits: Limits


class Keys:
    """The API keys of one registry. Safe to share between threads and processes.

    Every method is one transaction. All of them raise ``StorageFailed`` or ``StorageFull`` when the
    database does.
    """

    def __init__(self, state: State, clock: Clock) -> None:
        self._state = state
        self._clock = clock

    def create(
        self, name: str, scopes: Sequence[Scope], lasting: timedelta | None = None, limits: Limits = NO_LIMITS
    ) -> MadeKey:
        """Make a key; running servers take it within a second.

        Args:
            name: for people.
            scopes: what it allows.
            lasting: for how long; None for ever.
            limits: how much it may ask.

        Raises:
            InputError: the name cannot be used, or the time is none.
            ConflictError: there is an active key of that name.
        """
        if _NAME.fullmatch(name) is None:
            raise InputError(
                f"{name[:64]!r} is no name of a key: use up to 128 of A-Z, a-z, 0-9, dot, underscore, @ and "
                "hyphen, beginning with a letter or a digit."
            )
        with self._state.writing() as connection:
            now = self._clock.now()
            if any(key.state(now) == "active" for key in _named(connection, name)):
                raise ConflictError(
                    f"There is a key {name} already; replace it with: servable keys rotate {name}, or choose "
                    "another name."
                )
            made = _made(connection, KeyTerms(name, tuple(scopes), limits), now, _end(now, lasting))
            written(connection, self._clock, "keys.create", **_told(made.record))
            return made

    def rotate(self, name: str, overlap: timedelta, lasting: timedelta | None = None) -> MadeKey:
        """Make a key in place of the active ones of its name, with their limits; they stay valid for a while.

        Args:
            name: of the key, or its id.
            overlap: for how long the old ones are valid still; they never get more time than they had.
            lasting: for how long the new one is; None for as long as the last one of the name was made for.

        Raises:
            NotFoundError: no active key has that name.
            InputError: a time is none.
        """
        with self._state.writing() as connection:
            now = self._clock.now()
            old = [key for key in _named(connection, name) if key.state(now) == "active"]
            if not old:
                raise _missing(name, "active ")
            newest = old[-1]
            # A rotation cuts the time of every key before it, so only the last one of a name has its own.
            last_made = _named(connection, newest.name)[-1]
            if lasting is None and last_made.expires_at:
                lasting = _moment(last_made.expires_at) - _moment(last_made.created_at)
            last = timestamp(_end(now, overlap) or now)
            for key in old:
                kept = min(key.expires_at or last, last)
                connection.execute(update(tables.keys).where(_COLUMNS.id == key.id).values(expires_at=kept))
            made = _made(
                connection, KeyTerms(newest.name, newest.scopes, newest.limits), now, _end(now, lasting)
            )
            before = [key.id for key in old]
            written(
                connection, self._clock, "keys.rotate", **_told(made.record), before=before, valid_to=last
            )
            return made

    def revoke(self, name: str) -> tuple[KeyRecord, ...]:
        """Make keys invalid, within a second on every running server.

        Args:
            name: of the keys, or the id of one.

        Returns:
            Those that were not revoked before.

        Raises:
            NotFoundError: there is none.
        """
        with self._state.writing() as connection:
            found = _named(connection, name)
            if not found:
                raise _missing(name, "")
            now = timestamp(self._clock.now())
            living = [key for key in found if not key.revoked_at]
            for key in living:
                connection.execute(update(tables.keys).where(_COLUMNS.id == key.id).values(revoked_at=now))
            if living:
                ids = [key.id for key in living]
                written(connection, self._clock, "keys.revoke", key=found[-1].name, ids=ids)
            return tuple(key._replace(revoked_at=now) for key in living)

    def all(self) -> tuple[KeyRecord, ...]:
        """Every key that was ever made, oldest first."""
        with self._state.reading() as connection:
            return _read(connection, None)


def _made(connection: Connection, terms: KeyTerms, now: datetime, end: datetime | None) -> MadeKey:
    made = new_key()
    record = KeyRecord(
        made.id, terms.name, made.salt, made.digest, terms.scopes, timestamp(now),
        timestamp(end) if end else "", limits=terms.limits,
    )  # fmt: skip
    values = record._asdict() | {
        "scopes": [str(scope) for scope in terms.scopes],
        "limits": terms.limits.texts(),
    }
    connection.execute(insert(tables.keys).values(values))
    return MadeKey(record, made.text)


def _told(record: KeyRecord) -> dict[str, Any]:
    """What the audit log says of a key."""
    scopes = [str(scope) for scope in record.scopes]
    return {"key": record.name, "id": record.id, "scopes": scopes, "expires_at": record.expires_at}


def _named(connection: Connection, name: str) -> tuple[KeyRecord, ...]:
    """Keys by their name or id, oldest first."""
    return _read(connection, name)


def _read(connection: Connection, name: str | None) -> tuple[KeyRecord, ...]:
    wanted = select(*(column for column in _COLUMNS if column is not _COLUMNS.number)).order_by(
        _COLUMNS.number
    )
    if name is not None:
        wanted = wanted.where((_COLUMNS.name == name) | (_COLUMNS.id == name))
    return tuple(record_of(*row) for row in connection.execute(wanted).all())


def _end(now: datetime, lasting: timedelta | None) -> datetime | None:
    if lasting is None:
        return None
    if lasting < timedelta(0):
        raise InputError("A time must not be below 0.")
    try:
        return now + lasting
    except OverflowError as error:
        raise InputError("That time is too long; leave it out for a key that does not expire.") from error


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _missing(name: str, kind: str) -> NotFoundError:
    return NotFoundError(
        f"There is no {kind}key {name[:64]!r}; servable keys list shows those that there are."
    )
