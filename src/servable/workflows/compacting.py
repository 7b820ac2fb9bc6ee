"""Putting the segments of a day together, and standing alone where segments are changed."""

import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from servable.clock import Clock
from servable.errors import ServableError
from servable.monitoring.compacting import compact
from servable.monitoring.segments import TrafficStore
from servable.registry.home import Home

#: The name of the lease of whoever changes segments that are there.
LEASE = "segments"
#: Seconds for which it is taken to put segments together, and to take rows out of them.
_LEASE_S, _ERASING_S = 60.0, 1800.0
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
    holder = _holder()

    def alone() -> bool:
        return home.leases.take(LEASE, holder, _LEASE_S)

    try:
        return compact(TrafficStore(home.path, keys=home.subjects), clock.now(), alone)
    finally:
        _given_back(home, holder)


@contextmanager
def segments_alone(home: Home, patience_s: float) -> Iterator[bool]:
    """Nobody puts segments together within the block, so that rows that are taken out do not come back.

    Args:
        home: open.
        patience_s: seconds for which it is waited for.

    Yields:
        Whether that is so; false where somebody else did not come to an end.

    Raises:
        StorageFailed: the registry fails.
    """
    holder, until = _holder(), time.monotonic() + patience_s
    while not (alone := home.leases.take(LEASE, holder, _ERASING_S)) and time.monotonic() < until:
        time.sleep(_LOOK_S)
    try:
        yield alone
    finally:
        _given_back(home, holder)


def _holder() -> str:
    return f"{socket.gethostname()[:60]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def _given_back(home: Home, holder: str) -> None:
    # One that the database does not take back runs out by itself.
    with suppress(ServableError):
        home.leases.give_back(LEASE, holder)
