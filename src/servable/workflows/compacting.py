"""Putting the segments of a day together, and standing alone where segments are changed."""

import os
import socket
import time
import uuid
from contextlib import suppress

from servable.clock import Clock
from servable.errors import ServableError
from servable.monitoring.compacting import compact
from servable.monitoring.segments import TrafficStore
from servable.registry.home import Home

#: The leases of whoever puts segments together, and of all who take rows out of them; these need not wait for
#: each other.
_COMPACTING, _ERASING = "compaction", "erasure"
#: Seconds for which each is taken. That of an erasure runs out by itself, so that of two that go on at once
#: the first does not end it for the other.
_COMPACTING_S, _ERASING_S = 60.0, 600.0
_LOOK_S = 0.1


def compact_segments(home: Home, clock: Clock) -> int:
    """Put the many small segments of a day together into few large ones; see ``monitoring.compaction``.

    Args:
        home: open.
        clock: says which days are over.

    Returns:
        How many segments went into others; 0 while another one changes segments.

    Raises:
        StorageFull: no space left; nothing is lost.
        StorageFailed: the storage or the registry fails; the same.
        DependencyMissing: there is traffic, and pyarrow is not installed.
    """
    holder, had = _holder(), False

    def alone() -> bool:
        nonlocal had
        # Once it was lost it stays lost, also where nobody has it any more: what was seen may be old.
        ask = home.leases.renew if had else home.leases.take
        had = True
        # In this order: who erases takes its own lease first and then looks for this one.
        return ask(_COMPACTING, holder, _COMPACTING_S) and not home.leases.holder(_ERASING)

    try:
        return compact(TrafficStore(home.path, keys=home.subjects), clock.now(), alone)
    finally:
        # One that the database does not take back runs out by itself.
        with suppress(ServableError):
            home.leases.give_back(_COMPACTING, holder)


def stand_alone(home: Home) -> bool:
    """See to it that nobody puts segments together for a while, so that rows that are taken out stay out.

    Whoever does so already is waited for, and does no more; it may have been killed. To be called again
    before anything that takes long.

    Args:
        home: open.

    Returns:
        Whether that is so.

    Raises:
        StorageFailed: the registry fails.
    """
    home.leases.take(_ERASING, _ERASING, _ERASING_S)
    until = time.monotonic() + _COMPACTING_S + 1.0
    while home.leases.holder(_COMPACTING):
        if time.monotonic() > until:
            return False
        time.sleep(_LOOK_S)
    return True


def _holder() -> str:
    return f"{socket.gethostname()[:60]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
