"""How the steps of a network are computed on this machine: threads and precision, chosen by timing a few.

Two threads that wait for each other are twice as fast as one on a free machine and ten times as slow on a
busy one, and bfloat16 is a gift on processors that have it and a burden on those that have not. Nobody
knows beforehand; a second of trying tells.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch

from servable.training.candidates import every_thread

#: Steps that are timed for each pace, after one that makes everything ready.
_STEPS = 3
#: A pace is preferred to an earlier one when it needs less than this part of its time.
_GAIN = 0.9
#: Nothing more is tried of a pace whose first step takes so many times what the best one's takes.
_HOPELESS = 3.0


class Pace(NamedTuple):
    """One way to compute.

    Attributes:
        threads: of PyTorch.
        narrow: whether products are made in bfloat16, their sums and the weights staying in float32.
    """

    threads: int
    narrow: bool

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Compute at this pace inside; the number of threads, which is the process's, is put back after."""
        usual = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            # Without the cache, which would keep the weights as they were when this was entered.
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.narrow, cache_enabled=False):
                yield
        finally:
            torch.set_num_threads(usual)


def paces() -> tuple[Pace, ...]:
    """The ways that are tried, the most exact and then the widest first."""
    counts = dict.fromkeys((every_thread(), 1))
    return tuple(Pace(count, narrow) for narrow in (False, True) for count in counts)


def quickest(step: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> Pace:
    """The pace at which a step takes least time now.

    Args:
        step: one step of learning, on a copy of what learns.
        clock: seconds.
    """
    found: dict[Pace, float] = {}
    for pace in paces():
        with pace.applied():
            step()
            times: list[float] = []
            for _ in range(_STEPS):
                began = clock()
                step()
                times.append(clock() - began)
                if found and times[0] > _HOPELESS * min(found.values()):
                    break
        found[pace] = sum(times) / len(times)
    return chosen(found)


def chosen(seconds: Mapping[Pace, float]) -> Pace:
    """The pace to take when steps took so long, in the order of preference. Pure."""
    best, *others = seconds
    for pace in others:
        if seconds[pace] < _GAIN * seconds[best]:
            best = pace
    return best
