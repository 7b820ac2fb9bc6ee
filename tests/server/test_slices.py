"""The thread of the event loop asks for short slices, and nothing that it starts has them."""

import json
import platform
import subprocess
import sys

import pytest

_LOOK = """
import ctypes, json, os, threading
from servable.server.slices import _Attributes, shorten_slices

def slice_ns():
    found = _Attributes()
    number = {"x86_64": 315, "aarch64": 275}[os.uname().machine]
    assert ctypes.CDLL(None).syscall(number, 0, ctypes.byref(found), ctypes.sizeof(found), 0) == 0
    return found.runtime

os.setpriority(os.PRIO_PROCESS, 0, NICE)
before = slice_ns()
taken = shorten_slices()
seen = []
thread = threading.Thread(target=lambda: seen.append(slice_ns()))
thread.start()
thread.join()
print(json.dumps([taken, before, slice_ns(), seen[0], os.getpriority(os.PRIO_PROCESS, 0)]))
"""


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or platform.machine() not in {"x86_64", "aarch64"},
    reason="the call has another number on this kind of machine",
)
@pytest.mark.parametrize("nice", [0, 5])
def test_the_thread_that_asks_gets_them_and_keeps_its_priority(nice: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LOOK.replace("NICE", str(nice))], capture_output=True, text=True, check=True
    )
    taken, before, after, other, priority = json.loads(done.stdout)
    assert priority == nice
    if not taken or not before:
        pytest.skip("this kernel or sandbox knows no slices of single threads")
    assert after == 100_000 < before
    assert other == before
