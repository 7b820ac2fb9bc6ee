"""Which models make room for another one under a budget of bytes: pure decisions over plain values.

The least recently used go first, and only those that nobody uses at the moment and that are not pinned.
Nothing is unloaded in vain: when even all of them together would not make enough room, nobody goes.
"""

from collections.abc import Collection, Hashable
from typing import NamedTuple


class Resident(NamedTuple):
    """A model in memory, or one that is about to be.

    Attributes:
        key: names it.
        size: bytes that it holds.
        used: grows with time; the model with the smallest was used longest ago.
        free: whether it may go: no request is in it, and it is not being loaded.
        pinned: whether it must stay for ever.
    """

    key: Hashable
    size: int
    used: int
    free: bool = True
    pinned: bool = False


class Room(NamedTuple):
    """How room is made.

    Attributes:
        unload: the keys of those who go, in this order.
        fits: whether the bytes then fit into the budget.
        ever: whether they could fit once the models in use are free.
    """

    unload: tuple[Hashable, ...]
    fits: bool
    ever: bool


def make_room(needed: int, residents: Collection[Resident], budget: int) -> Room:
    """Who goes so that so many more bytes fit into the budget.

    Args:
        needed: bytes, at least 0; 0 asks who goes because the budget is passed already.
        residents: all that count against the budget, with unequal keys.
        budget: bytes.
    """
    over = sum(resident.size for resident in residents) + needed - budget
    ever = needed + sum(resident.size for resident in residents if resident.pinned) <= budget
    if over <= 0:
        return Room((), True, ever)
    going: list[Resident] = []
    candidates = sorted(
        (resident for resident in residents if resident.free and not resident.pinned and resident.size > 0),
        key=lambda resident: resident.used,
    )
    for resident in candidates:
        going.append(resident)
        over -= resident.size
        if over <= 0:
            break
    if over > 0:
        return Room((), False, ever)
    # A large one at the end may have made the small ones before it unnecessary; of those, the most
    # recently used stay.
    for resident in reversed(going[:-1]):
        if over + resident.size <= 0:
            over += resident.size
            going.remove(resident)
    return Room(tuple(resident.key for resident in going), True, ever)


def larger_than_budget(name: str, size: int, budget: int) -> str:
    """The sentence about a model that fits in no circumstances."""
    return (
        f"{name} needs {in_mebibytes(size)} of memory and the budget of all models is "
        f"{in_mebibytes(budget)}; raise --memory"
    )


def in_mebibytes(size: int) -> str:
    """Bytes as a person reads them."""
    return f"{size / 2**20:.1f} MiB"
