"""Servers that are loaded in turn, a tenth of a second each: what the machine does happens to all of them.

On a shared machine one loop took 10 ms for some seconds and 20 ms for others, on each processor at other
times. Turns of seconds compare such moods; these do not.
"""

import contextlib
import math
import os
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from math import comb
from typing import NamedTuple

from bench.load import Counts, counts_of, load_for
from bench.process import Launch

#: Seconds of a turn: far more than the answers that are on their way when it ends take, far less than a mood.
_TURN_S = 0.1
#: Seconds of a turn of single calls, those before it that are not counted, and those that are at least.
_CALLS_S, _WARM, _FEWEST = 0.02, 5, 5
_SURE = 0.95
#: Seconds within which a load has ended that goes on after its time.
_END_S = 10.0


class Ratio(NamedTuple):
    """The median of the rounds' ratios, and what it lies between with 95 % confidence, or in all of few."""

    median: float
    least: float
    most: float


class Paired(NamedTuple):
    """What was measured of servers in turn.

    Attributes:
        rates: of each the requests a second of every round.
        errors: of each what was not answered.
    """

    rates: dict[str, list[float]]
    errors: dict[str, int]

    def ratio(self, kind: str, base: str) -> Ratio:
        """Throughput of one by that of another, round by round."""
        return ratio_of([one / other for one, other in zip(self.rates[kind], self.rates[base], strict=True)])


def ratio_of(ratios: Sequence[float]) -> Ratio:
    """The median of ratios and its interval, which rests on nothing but their order (the sign test's)."""
    ordered = sorted(ratios)
    count = len(ordered)
    beyond, outside = 0, 1 / 2**count
    while beyond + 1 < count / 2 and 2 * (outside + comb(count, beyond + 1) / 2**count) <= 1 - _SURE:
        beyond += 1
        outside += comb(count, beyond) / 2**count
    return Ratio(statistics.median(ordered), ordered[beyond], ordered[-1 - beyond])


def in_turn(calls: Mapping[str, Callable[[], object]], turns: int) -> dict[str, list[float]]:
    """Seconds of single calls, in turns of a fiftieth of a second: of each turn the one in the middle.

    Args:
        calls: what is called, by name.
        turns: of each.
    """
    found: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    for _ in range(turns):
        for name in order:
            found[name].append(_middle(calls[name]))
        order.reverse()
    return found


def _middle(call: Callable[[], object]) -> float:
    for _ in range(_WARM):
        call()
    taken: list[float] = []
    end = time.perf_counter() + _CALLS_S
    while len(taken) < _FEWEST or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def paired(
    launches: Mapping[str, Launch],
    rounds: int,
    seconds: float,
    beside: Callable[[str], AbstractContextManager[object]] = lambda _: nullcontext(),
) -> Paired:
    """Load servers that run, in turn.

    Args:
        launches: of them.
        rounds: how often it is measured.
        seconds: of load on each, in every round.
        beside: is entered once for each while all are measured.
    """
    rates: dict[str, list[float]] = {kind: [] for kind in launches}
    errors = dict.fromkeys(launches, 0)
    with contextlib.ExitStack() as stack:
        for kind in launches:
            stack.enter_context(beside(kind))
        _round(launches, 1.0)
        for _ in range(rounds):
            for kind, (counts, busy_s) in _round(launches, seconds).items():
                rates[kind].append(counts.answered / busy_s)
                errors[kind] += counts.errors
    return Paired(rates, errors)


def _round(launches: Mapping[str, Launch], seconds: float) -> dict[str, tuple[Counts, float]]:
    """What each answered, and for how many seconds it was asked."""
    length = math.ceil(seconds * len(launches))
    with contextlib.ExitStack() as stack:
        began = time.perf_counter()
        loads = {
            kind: stack.enter_context(load_for(launch.port, launch.wire, length))
            for kind, launch in launches.items()
        }
        for load in loads.values():
            os.kill(load.pid, signal.SIGSTOP)
        busy_s = dict.fromkeys(loads, time.perf_counter() - began)
        order = list(loads)
        while time.perf_counter() - began < length:
            for kind in order:
                with _going(loads[kind], busy_s, kind):
                    time.sleep(_TURN_S)
            # Each goes first as often as last, so that a machine that slows down favours none.
            order.reverse()
        found = {}
        for kind in order:
            with _going(loads[kind], busy_s, kind):
                found[kind] = counts_of(loads[kind], _END_S)
        return {kind: (counts, busy_s[kind]) for kind, counts in found.items()}


@contextlib.contextmanager
def _going(load: "subprocess.Popen[str]", busy_s: dict[str, float], kind: str) -> Iterator[None]:
    """While this is entered a load that was stopped goes on; the time is added to that of its kind."""
    began = time.perf_counter()
    load.send_signal(signal.SIGCONT)
    try:
        yield
    finally:
        load.send_signal(signal.SIGSTOP)
        busy_s[kind] += time.perf_counter() - began
