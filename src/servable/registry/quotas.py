"""What was taken out of the quotas of a day, by all servers of a registry together.

Servers take blocks, so that a request seldom waits for the database, and give back what they did not use.
What is taken is never more than the quota, so that what is answered is not either. Days are numbered from
1970-01-01 in UTC.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from servable.registry.asides import Asides, Run, StateAsides, open_asides, run_in
from servable.security.limits import block

if TYPE_CHECKING:
    from servable.registry.state import State

#: Days after which what was taken is forgotten.
_KEPT_DAYS = 40
# Both databases know these forms, and both ways to them these names of parameters.
_FORGET = "DELETE FROM quota_use WHERE name = :name AND day < :oldest"
_FORGET_ADDRESSES = "DELETE FROM quota_use WHERE substr(name, 1, 8) = 'address:' AND day < :day"
_BEGIN = "INSERT INTO quota_use (name, day, taken) VALUES (:name, :day, 0) ON CONFLICT (name, day) DO NOTHING"
# It changes nothing and locks the row, so that of two who take at once one waits.
_LOCK = "UPDATE quota_use SET taken = taken WHERE name = :name AND day = :day"
_TAKEN = "SELECT taken FROM quota_use WHERE name = :name AND day = :day"
_TAKE = "UPDATE quota_use SET taken = taken + :count WHERE name = :name AND day = :day"
_GIVE = "UPDATE quota_use SET taken = taken - :count WHERE name = :name AND day = :day AND taken >= :count"
_USED = "SELECT name, taken FROM quota_use WHERE day = :day"


class QuotaStore(Protocol):
    """The quotas of a registry. Blocks; not for several threads at once.

    Every method raises ``StorageFailed`` or ``StorageFull`` when the database does.
    """

    def take(self, name: str, day: int, quota: int) -> int:
        """Take a block out of a quota.

        Args:
            name: of the key.
            day: for which.
            quota: of the key.

        Returns:
            How many requests may be answered; 0 when nothing is left.
        """
        ...

    def give_back(self, name: str, day: int, count: int) -> None:
        """Let others have what was taken and not used."""
        ...

    def close(self) -> None:
        """Give back handles."""
        ...


class _Quotas:
    """Quotas by transactions beside; see ``QuotaStore``."""

    def __init__(self, asides: Asides) -> None:
        self._asides = asides

    def take(self, name: str, day: int, quota: int) -> int:
        """See ``QuotaStore``."""
        return self._asides.within(lambda run: _take(run, name, day, quota))

    def give_back(self, name: str, day: int, count: int) -> None:
        """See ``QuotaStore``."""
        self._asides.within(lambda run: run(_GIVE, {"name": name, "day": day, "count": count}))

    def close(self) -> None:
        """See ``QuotaStore``."""
        self._asides.close()


class Quotas(_Quotas):
    """The quotas of an open home. Safe to share between threads and processes; see ``QuotaStore``."""

    def __init__(self, state: "State") -> None:
        super().__init__(StateAsides(state))
        self._state = state

    def used(self, day: int) -> dict[str, int]:
        """How many requests of a day servers have taken, by the name of the key."""
        with self._state.reading() as connection:
            return {str(name): int(taken) for name, taken in run_in(connection)(_USED, {"day": day})}


def open_quotas(home: Path, database_url: str = "") -> QuotaStore:
    """The quotas of a home for a server.

    Args:
        home: the folder.
        database_url: where the database is, if not in the folder.
    """
    return _Quotas(open_asides(home, database_url))


def _take(run: Run, name: str, day: int, quota: int) -> int:
    row = {"name": name, "day": day}
    run(_BEGIN, row)
    run(_LOCK, row)
    taken = int(run(_TAKEN, row)[0][0])
    count = block(quota, taken)
    if count:
        run(_TAKE, {**row, "count": count})
    if not taken:
        run(_FORGET, {"name": name, "oldest": day - _KEPT_DAYS})
        # Many addresses come on one day only, and a digest of one can be found out by trying all.
        run(_FORGET_ADDRESSES, {"day": day})
    return count
