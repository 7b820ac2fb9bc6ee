"""Memory that is freed is put in order at once where the process asked for it."""

import json
import platform
import subprocess
import sys

import pytest

from servable.runtime.footprint import give_back, resident_bytes

#: Counts the small pieces that the C library has laid aside after many were freed.
_LAY_ASIDE = """
import ctypes, json, sys
from servable.runtime.footprint import free_evenly

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "last"
    )]

taken = free_evenly() if sys.argv[1] == "evenly" else None
library = ctypes.CDLL(None)
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
library.mallinfo2.restype = Info
pieces = [library.malloc(64) for _ in range(10_000)]
for piece in pieces:
    library.free(piece)
print(json.dumps([taken, library.mallinfo2().smblks]))
"""


def laid_aside(how: str) -> tuple[bool | None, int]:
    done = subprocess.run([sys.executable, "-c", _LAY_ASIDE, how], capture_output=True, text=True, check=True)
    taken, pieces = json.loads(done.stdout)
    return taken, pieces


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or tuple(map(int, platform.libc_ver()[1].split("."))) < (2, 33),
    reason="only glibc lays pieces aside, and says how many since 2.33",
)
def test_nothing_is_laid_aside_by_a_process_that_frees_evenly() -> None:
    taken, pieces = laid_aside("evenly")
    assert taken
    assert pieces == 0
    # And otherwise it would be, or this would show nothing.
    assert laid_aside("as usual")[1] > 1000


def test_a_process_knows_its_size_and_may_give_back() -> None:
    give_back()
    assert resident_bytes() > 2**20
