"""What this process holds of the machine's memory, and how it gives back what it no longer needs.

Reads ``/proc`` and calls glibc; where there is neither, the figures are 0 and nothing is given back.
Safe to call from any thread.
"""

import ctypes
import os
from collections.abc import Callable
from functools import cache
from typing import Any

_STATM = "/proc/self/statm"
#: ``M_MXFAST`` of ``mallopt(3)``.
_LARGEST_FAST = 1


def resident_bytes() -> int:
    """Resident memory of this process in bytes; 0 where the system does not say."""
    try:
        with open(_STATM, "rb") as file:  # noqa: PTH123 - read around every load; a Path is made for nothing
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def give_back() -> None:
    """Return freed memory to the system; takes about a millisecond.

    Unreachable cycles are not looked for: that holds up every thread for as long as there are objects,
    and what a model leaves in cycles is small, because closing it drops what is large.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


def free_evenly() -> bool:
    """Put freed memory in order when it is freed, and not now and then all at once.

    glibc lays small pieces aside ("fastbins", ``mallopt(3)``) and joins all of them whenever a large one is
    freed: some four times a second in a server under load, for about a millisecond, in which nobody is
    answered (``docs/decisions/0068-memory-is-freed-evenly.md``). What a thread frees and takes again soon
    stays in a store of its own as before.

    Returns:
        Whether the C library took it.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(_LARGEST_FAST, 0) == 1)
    except (OSError, AttributeError):
        return False


@cache
def _trim() -> Callable[[int], Any] | None:
    """``malloc_trim`` of glibc, which alone keeps freed pages for long; None elsewhere."""
    try:
        library = ctypes.CDLL(None)
        trim: Callable[[int], Any] = library.malloc_trim
    except (OSError, AttributeError):
        return None
    return trim
