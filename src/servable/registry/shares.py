"""The shares that live servers hold of callers' limits, as all servers of a registry see them.

A row is one server that answers one caller. It holds as long as its server writes it again, so that the share
of a server that was killed comes back to the others. What is decided is ``security.shares``.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from servable.registry.asides import Asides, Run, open_asides
from servable.security.shares import Amounts, Holder, Share, Wish, debt_after, divide

#: Seconds for which a row holds. Clocks of machines that share a registry must differ by less.
LASTING_S = 5.0
# One row of nobody is the turn: who changes it lets the others wait, on both databases.
_BEGIN = (
    "INSERT INTO limit_shares (account, server, requests, at_once, busy, asked, debt, until) "
    "VALUES ('', '', 0, 0, 0, 0, 0, 0) ON CONFLICT (account, server) DO NOTHING"
)
_LOCK = "UPDATE limit_shares SET until = until WHERE account = '' AND server = ''"
_FORGET = "DELETE FROM limit_shares WHERE account <> '' AND until <= :now"
_ALL = "SELECT account, server, requests, at_once, busy, asked, debt FROM limit_shares WHERE account <> ''"
_ONE = (
    "SELECT account, server, requests, at_once, busy, asked, debt FROM limit_shares WHERE account = :account"
)
_PUT = (
    "INSERT INTO limit_shares (account, server, requests, at_once, busy, asked, debt, until) "
    "VALUES (:account, :server, :requests, :at_once, :busy, :asked, :debt, :until) "
    "ON CONFLICT (account, server) DO UPDATE SET requests = excluded.requests, "
    "at_once = excluded.at_once, busy = excluded.busy, asked = excluded.asked, debt = excluded.debt, "
    "until = excluded.until"
)
_LEAVE = "DELETE FROM limit_shares WHERE account = :account AND server = :server"
_LEAVE_ALL = "DELETE FROM limit_shares WHERE server = :server AND account <> ''"


class ShareStore:
    """The shares of a registry. Blocks; not for several threads at once.

    Every method raises ``StorageFailed`` or ``StorageFull`` when the database does.

    Args:
        asides: transactions of the database; need not be durable.
    """

    def __init__(self, asides: Asides) -> None:
        self._asides = asides

    def settle(
        self, server: str, wishes: Sequence[Wish], now: float, idle: Sequence[str] = ()
    ) -> list[Share]:
        """Say what callers asked of a server, and take its shares.

        A share that became smaller is kept from the others until the next call, because it counts at the
        server until this has returned.

        Args:
            server: which one; unique to it.
            wishes: of it.
            now: the wall clock, in seconds since 1970.
            idle: accounts of callers that it answers no more.
        """
        return self._asides.within(lambda run: _settle(run, server, wishes, now, idle))

    def leave(self, server: str) -> None:
        """Give back everything that a server holds."""
        self._asides.within(lambda run: run(_LEAVE_ALL, {"server": server}))

    def close(self) -> None:
        """Give back handles."""
        self._asides.close()


def open_shares(home: Path, database_url: str = "") -> ShareStore:
    """The shares of a home for a server.

    Args:
        home: the folder.
        database_url: where the database is, if not in the folder.
    """
    return ShareStore(open_asides(home, database_url, durable=False))


def _settle(run: Run, server: str, wishes: Sequence[Wish], now: float, idle: Sequence[str]) -> list[Share]:
    run(_BEGIN, {})
    run(_LOCK, {})
    run(_FORGET, {"now": now})
    for account in idle:
        run(_LEAVE, {"account": account, "server": server})
    known = _known(run(_ONE, {"account": wishes[0].account}) if len(wishes) == 1 else run(_ALL, {}))
    found = []
    for wish in wishes:
        share = divide(server, wish, known[wish.account])
        found.append(share)
        held = wish.held or share.held
        before = wish.held.requests if wish.held else 0
        row = {
            "account": wish.account,
            "server": server,
            "requests": max(held.requests, share.held.requests),
            "at_once": max(held.at_once, share.held.at_once),
            "busy": wish.busy,
            "asked": share.asked,
            # As it is there as soon as the share counts.
            "debt": debt_after(before, share.held.requests, wish.debt, share.debt),
            "until": now + LASTING_S,
        }
        run(_PUT, row)
    return found


def _known(rows: Sequence[Any]) -> dict[str, list[Holder]]:
    found: dict[str, list[Holder]] = defaultdict(list)
    for account, server, requests, at_once, busy, asked, debt in rows:
        held = Amounts(int(requests), int(at_once))
        found[str(account)].append(Holder(str(server), held, int(busy), float(asked), float(debt)))
    return found
