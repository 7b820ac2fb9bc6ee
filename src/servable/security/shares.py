"""How the servers of one registry divide what a caller may ask. Pure.

Each server that answers a caller holds a share of its rate and of its requests at once, in whole numbers. A
share grows only by what nobody holds, so that all shares together are the limit and not more; a server to
which the caller comes for the first time has an even share at once, on top, until the others have given
it up. What is left of a rate's window moves with the share, so that dividing anew gives nobody more.
"""

from collections.abc import Sequence
from typing import NamedTuple

#: The part of a limit that is divided evenly; the rest goes where the requests are.
_EVEN = 0.2


class Amounts(NamedTuple):
    """So much of a caller's limits, or all of it.

    Attributes:
        requests: of the rate's window; 0 where there is no rate, or none of it here.
        at_once: requests at once; likewise.
    """

    requests: int
    at_once: int


class Wish(NamedTuple):
    """What a server says of a caller, and wants to know its share for.

    Attributes:
        account: of the caller.
        whole: the limits.
        held: the share that counts here now; None for none yet.
        busy: requests that are being answered here.
        asked: requests that came since the last time, refused ones too.
        debt: the part of the rate's window that is used up here, from 0 to 1.
    """

    account: str
    whole: Amounts
    held: Amounts | None
    busy: int
    asked: int
    debt: float


class Holder(NamedTuple):
    """What the others know of a server that answers a caller.

    Attributes:
        server: which one.
        held: its share; no less than what counts there.
        busy: requests that are being answered there.
        asked: requests that came to it since the last time, smoothed; below 0 for not known yet.
        debt: see ``Wish``.
    """

    server: str
    held: Amounts
    busy: int
    asked: float
    debt: float


class Share(NamedTuple):
    """What a server may give of a caller's limits from now on.

    Attributes:
        account: of the caller.
        held: so much.
        debt: the part of the window that is used up where the share comes from; None when from nowhere.
        holders: how many servers answer the caller.
        asked: as the others shall know it.
    """

    account: str
    held: Amounts
    debt: float | None
    holders: int
    asked: float


def divide(server: str, wish: Wish, known: Sequence[Holder]) -> Share:
    """The share of one server.

    Args:
        server: which one.
        wish: of it.
        known: all servers that answer the caller; without this one when it is new or was away for too long.
    """
    own = next((holder for holder in known if holder.server == server), None)
    others = [holder for holder in known if holder.server != server]
    asked = _asked(own, wish)
    everybody = sorted([*others, Holder(server, wish.whole, wish.busy, asked, 0.0)])
    place = next(at for at, holder in enumerate(everybody) if holder.server == server)
    weights = _weights([holder.asked for holder in everybody])
    # What is being answered cannot be given up; what is not is divided.
    free = max(0, wish.whole.at_once - sum(holder.busy for holder in everybody))
    # Without a row of its own nobody kept anything for it.
    before = wish.held if own is not None else None
    requests = _granted(
        wish.whole.requests,
        None if before is None else before.requests,
        sum(holder.held.requests for holder in others),
        parts(wish.whole.requests, weights)[place],
        len(everybody),
    )
    at_once = _granted(
        wish.whole.at_once,
        None if before is None else before.at_once,
        sum(holder.held.at_once for holder in others),
        wish.busy + parts(free, weights)[place],
        len(everybody),
    )
    return Share(wish.account, Amounts(requests, at_once), _debt(others), len(everybody), asked)


def parts(amount: int, asked: Sequence[float]) -> list[int]:
    """Divide a number of requests among servers; the parts together are the number.

    Each gets one if there are enough; a fifth of the rest is divided evenly, and the others by what was
    asked.

    Args:
        amount: to be divided.
        asked: of each server, at least 0.
    """
    count, total = len(asked), sum(asked)
    least = 1 if amount >= count else 0
    rest = amount - least * count
    exact = [rest * (_EVEN / count + (1 - _EVEN) * each / total) if total else rest / count for each in asked]
    found = [int(each) for each in exact]
    # By the largest remainders, and the first of equal ones, so that all servers find the same parts.
    order = sorted(range(count), key=lambda at: (found[at] - exact[at], at))
    for at in order[: rest - sum(found)]:
        found[at] += 1
    return [least + each for each in found]


def debt_after(before: int, now: int, own: float, others: float | None) -> float:
    """The part of a window that is used up at a server whose share became another one.

    Args:
        before: requests of its share.
        now: of the share that counts from now on.
        own: the part that was used up.
        others: of those from whom it has what it has more; None for nobody.
    """
    if now <= before or others is None:
        return own
    return (before * own + (now - before) * others) / now


def alone(whole: int, held: int, holders: int) -> int:
    """The share of a server that cannot reach the registry any more: even at most, so that others may grow.

    Args:
        whole: the limit.
        held: its share.
        holders: servers that answered the caller when they could be counted last.
    """
    return min(held, _even(whole, holders))


def _granted(whole: int, before: int | None, others: int, wanted: int, holders: int) -> int:
    if not whole:
        return 0
    if before is None:
        return max(_even(whole, holders), min(wanted, whole - others))
    if wanted <= before:
        # The limit may have become a smaller one.
        return min(wanted, whole)
    return min(wanted, max(before, whole - others), whole)


def _asked(own: Holder | None, wish: Wish) -> float:
    # The first request says nothing yet of how many there will be.
    if own is None:
        return -1.0
    return float(wish.asked) if own.asked < 0 else (own.asked + wish.asked) / 2


def _weights(asked: Sequence[float]) -> list[float]:
    """What was asked of each server; of one of which it is not known yet, as much as of the others."""
    known = [each for each in asked if each >= 0]
    usual = sum(known) / len(known) if known else 1.0
    return [each if each >= 0 else usual for each in asked]


def _even(whole: int, holders: int) -> int:
    return max(1, whole // holders) if whole else 0


def _debt(others: Sequence[Holder]) -> float | None:
    """What is used up on average where there is something to be had."""
    held = sum(holder.held.requests for holder in others)
    if not held:
        return None
    return sum(holder.held.requests * holder.debt for holder in others) / held
