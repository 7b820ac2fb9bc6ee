"""The data keys of the subjects of captured rows, and who was erased. See ``monitoring.sealing``.

Nothing here says who a subject is: it is named by a keyed hash, whose key lies outside of the database, as
does the one by which data keys are wrapped.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, func, insert, select, update

from servable.clock import Clock
from servable.registry import tables
from servable.registry.audit import written
from servable.registry.policy import read_policy
from servable.registry.state import State

_KEYS, _ERASURES = tables.subject_keys.c, tables.erasures.c
#: Most values of one statement.
_AT_ONCE = 500
#: Most subjects that one record of the audit log names, by their ids.
_TOLD = 100


class Known(NamedTuple):
    """What is known of some subjects; see ``monitoring.sealing.SubjectState``."""

    keys: Mapping[str, bytes]
    erased: Mapping[str, int]


class Subjects:
    """The subjects of one registry. Safe to share between threads and processes.

    Every method is one transaction. All of them raise ``StorageFailed`` or ``StorageFull`` when the database
    does.
    """

    def __init__(self, state: State, clock: Clock) -> None:
        self._state = state
        self._clock = clock

    def ensure(self, drafts: Mapping[str, bytes]) -> Known:
        """Keep new keys for those subjects that have none; the keys that hold, and who was erased.

        Whoever erases takes the same turn, so nobody is erased between the two.

        Args:
            drafts: a wrapped key for each subject id.
        """
        today = self._today()
        with self._state.turn() as connection:
            found = dict(_keys(connection, drafts))
            new = [
                {"subject": subject, "key": key.hex(), "used_on": today}
                for subject, key in drafts.items()
                if subject not in found
            ]
            for part in _parts(new):
                connection.execute(insert(tables.subject_keys), part)
            for part in _parts(list(found)):
                connection.execute(
                    update(tables.subject_keys)
                    .where(_KEYS.subject.in_(part) & (_KEYS.used_on < today))
                    .values(used_on=today)
                )
            return Known({**drafts, **found}, dict(_erased(connection, drafts)))

    def find(self, subjects: Sequence[str]) -> Known:
        """The keys of those subjects that have one, and who was erased."""
        with self._state.reading() as connection:
            return Known(dict(_keys(connection, subjects)), dict(_erased(connection, subjects)))

    def declares(self, model: str) -> bool:
        """Whether a deployed model says whom its rows are about."""
        return bool(self.column(model))

    def column(self, model: str) -> str:
        """The input or header that says whom a deployed model's rows are about; empty where nobody says."""
        columns = tables.deployments.c
        with self._state.reading() as connection:
            policy = connection.execute(select(columns.policy).where(columns.model == model)).scalar()
        return "" if policy is None else read_policy(policy).capture_subject

    def stamp(self) -> str:
        """Differs after any subject was erased; empty while none was."""
        with self._state.reading() as connection:
            count = connection.execute(select(func.max(_ERASURES.number))).scalar_one()
        return "" if count is None else str(count)

    def erase(self, subjects: Sequence[str], at: int) -> int:
        """Destroy the keys of subjects, and remember that rows up to now must not be kept.

        Servers learn of it by the change token. The bytes of the keys are overwritten; see ``State.scrub``.

        Args:
            subjects: their ids.
            at: now, microseconds since 1970.

        Returns:
            How many keys there were.
        """
        with self._state.writing() as connection:
            newest = connection.execute(select(func.max(_ERASURES.number))).scalar_one() or 0
            # Never a number that was given before, even where all erasures were forgotten meanwhile.
            first, gone = max(newest + 1, at), 0
            for part in _parts(list(subjects)):
                keys = delete(tables.subject_keys).where(_KEYS.subject.in_(part))
                gone += connection.execute(keys).rowcount
                connection.execute(delete(tables.erasures).where(_ERASURES.subject.in_(part)))
            rows = [
                {"number": first + place, "subject": subject, "at": at}
                for place, subject in enumerate(dict.fromkeys(subjects))
            ]
            for part in _parts(rows):
                connection.execute(insert(tables.erasures), part)
            named = list(dict.fromkeys(subjects))
            details = {"subjects": named[:_TOLD], "count": len(named), "keys": gone}
            written(connection, self._clock, "privacy.erase", **details)
            return gone

    def forget_before(self, day: datetime) -> int:
        """Remove keys under which nothing was sealed since a day, and older erasures; how many keys.

        Args:
            day: the traffic of earlier ones is gone.
        """
        with self._state.turn() as connection:
            gone = delete(tables.subject_keys).where(_KEYS.used_on < day.date().isoformat())
            connection.execute(delete(tables.erasures).where(_ERASURES.at < round(day.timestamp() * 1e6)))
            return int(connection.execute(gone).rowcount)

    def _today(self) -> str:
        return self._clock.now().date().isoformat()


def _keys(connection: Connection, subjects: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    for part in _parts(list(subjects)):
        rows = connection.execute(select(_KEYS.subject, _KEYS.key).where(_KEYS.subject.in_(part)))
        yield from ((subject, bytes.fromhex(key)) for subject, key in rows)


def _erased(connection: Connection, subjects: Iterable[str]) -> Iterator[tuple[str, int]]:
    for part in _parts(list(subjects)):
        rows = connection.execute(select(_ERASURES.subject, _ERASURES.at).where(_ERASURES.subject.in_(part)))
        yield from ((subject, int(at)) for subject, at in rows)


def _parts(given: list[Any]) -> Iterator[list[Any]]:
    left = iter(given)
    while part := list(islice(left, _AT_ONCE)):
        yield part
