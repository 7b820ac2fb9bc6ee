"""Leases: who may act alone for a while, across processes and machines that share a registry.

Each verb is one statement, so that of two who ask at once the database lets one have it. Times are those of
the holders' wall clocks; machines whose clocks differ by more than a lease lasts must not share one.
"""

from sqlalchemy import delete, select, text, update

from servable.clock import Clock
from servable.registry import tables
from servable.registry.state import State

# Both databases know this form, for which SQLAlchemy has a construct in each of its dialects alone.
_TAKE = text("""
INSERT INTO leases (name, holder, until) VALUES (:name, :holder, :until)
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
WHERE leases.holder = excluded.holder OR leases.until <= :now
""")


class Leases:
    """The leases of one registry. Safe to share between threads and processes.

    Every method raises ``StorageFailed`` or ``StorageFull`` when the database does.
    """

    def __init__(self, state: State, clock: Clock) -> None:
        self._state = state
        self._clock = clock

    def take(self, name: str, holder: str, seconds: float) -> bool:
        """Take a lease that is free or over, or keep one's own for longer.

        Args:
            name: of what may be done by one at a time.
            holder: who asks; unique to it.
            seconds: for how long from now.

        Returns:
            Whether the holder has it now.
        """
        now = self._clock.now().timestamp()
        wanted = {"name": name, "holder": holder, "until": now + seconds, "now": now}
        with self._state.aside() as connection:
            return bool(connection.execute(_TAKE, wanted).rowcount)

    def renew(self, name: str, holder: str, seconds: float) -> bool:
        """Keep one's own lease for longer; also one that is over, as long as nobody else took it.

        Returns:
            Whether the holder has it still.
        """
        table, now = tables.leases, self._clock.now().timestamp()
        own = (table.c.name == name) & (table.c.holder == holder)
        with self._state.aside() as connection:
            changed = connection.execute(update(table).where(own).values(until=now + seconds))
            return bool(changed.rowcount)

    def give_back(self, name: str, holder: str) -> None:
        """Let others have it; does nothing when somebody else has it."""
        table = tables.leases
        with self._state.aside() as connection:
            connection.execute(delete(table).where((table.c.name == name) & (table.c.holder == holder)))

    def holder(self, name: str) -> str:
        """Who has it now; empty for nobody."""
        table, now = tables.leases, self._clock.now().timestamp()
        with self._state.reading() as connection:
            row = connection.execute(
                select(table.c.holder).where((table.c.name == name) & (table.c.until > now))
            ).first()
        return "" if row is None else str(row.holder)
