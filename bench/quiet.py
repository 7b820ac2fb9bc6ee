"""Tails on a shared virtual machine: what belongs to the server, apart from what belongs to the machine.

Four things of the machine look like a slow server, and each has its remedy here:

* A generator and a server on one processor wait for each other's slice: ``apart``.
* Threads of the kernel that look through memory (``kdamond``, ``kcompactd``) run for milliseconds at a time,
  some twice a second, and a kernel without preemption lets them: ``apart`` sends them to the generator.
* A virtual processor that sleeps comes back late, by up to tens of milliseconds, when its host is busy:
  ``awake`` keeps them from sleeping, as ``idle=poll`` does on a machine of one's own.
* The host stops a processor while it works. The generator sees that happen to itself, since it never
  sleeps: ``windows`` sets aside the windows in which it was late, and says how many there were.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.openloop import Open

#: The generator was late: its own delay at p99 is more than this part of the latency at p50.
_LATE = 0.5
#: The parent of every thread of the kernel: kthreadd.
_KERNEL = "2"
#: Windows tried for each one that is wanted.
_TRIES = 4
_SPIN = """
import os, sys
try:
    with open("/proc/self/autogroup", "w") as session:
        session.write("19")
except OSError:
    pass
os.sched_setaffinity(0, [int(sys.argv[1])])
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
parent = os.getppid()
while os.getppid() == parent:
    for _ in range(1_000_000):
        pass
"""


class Windows(NamedTuple):
    """Windows of one load.

    Attributes:
        kept: those in which the generator was in time, or all when there were none.
        set_aside: how many were not counted because the generator was late in them.
    """

    kept: list[Open]
    set_aside: int

    def and_those(self, others: "Windows") -> "Windows":
        """Both together."""
        return Windows(self.kept + others.kept, self.set_aside + others.set_aside)

    def p99(self) -> float:
        """Of all requests of the kept windows together, in seconds."""
        return float(np.percentile([each for one in self.kept for each in one.latencies], 99))


def windows(take: Callable[[int], Sequence[Open]], wanted: int) -> Windows:
    """So many windows in which the machine let the generator work.

    Args:
        take: measures so many, of one load that goes on.
        wanted: how many are to be kept.
    """
    kept: list[Open] = []
    late: list[Open] = []
    while len(kept) < wanted and len(kept) + len(late) < wanted * _TRIES:
        for found in take(wanted - len(kept)):
            (late if found.lag_p99 > found.p50 * _LATE else kept).append(found)
    return Windows(kept or late, len(late) if kept else 0)


@contextlib.contextmanager
def awake() -> Iterator[None]:
    """Every processor of the server is kept from sleeping, by processes that give way to everybody at once.

    That of the generator needs none, because a generator that spins does not sleep.
    """
    cores = sorted(os.sched_getaffinity(0))
    # In sessions of their own, each with the lowest priority: many kernels share out among sessions first.
    spinning = [
        subprocess.Popen([sys.executable, "-S", "-c", _SPIN, str(core)], start_new_session=True)
        for core in cores[:-1] or cores
    ]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


def _tasks(server: int) -> list[int]:
    """Every thread of a server and of the processes below it."""
    processes, tasks = [server], []
    for process in processes:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{process}/task").iterdir():
                tasks.append(int(task.name))
                processes += [int(child) for child in (task / "children").read_text().split()]
    return tasks


def _kernel_threads() -> list[int]:
    """The threads of the kernel that may run on any processor; those that belong to one stay out."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if stat.read_text().rpartition(")")[2].split()[1] == _KERNEL:
                number = int(stat.parent.name)
                found += [number] * (len(os.sched_getaffinity(number)) > 1)
    return found


def _bind(tasks: Sequence[int], cores: Sequence[int]) -> None:
    """Let tasks run on these processors only, where they still exist and the machine lets us."""
    for task in tasks:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(task, cores)


@contextlib.contextmanager
def apart(server: int) -> Iterator[None]:
    """The generator and the kernel's own threads on the last processor, the server on the others.

    A generator that spins and a server that sleeps between requests are otherwise put on one processor
    now and then, because the one wakes the other, and the server waits out a slice of 4 ms. The kernel's
    threads can be moved by root only; elsewhere they stay. What they take from the generator it sees itself.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        yield
        return
    tasks, kernel = _tasks(server), _kernel_threads()
    _bind(tasks, cores[:-1])
    _bind([0, *kernel], cores[-1:])
    try:
        yield
    finally:
        _bind([0, *tasks, *kernel], cores)
