"""Ten minutes at 60 % load with swaps of models, then of inputs and sizes: nothing grows.

``SERVABLE_SOAK_S`` sets another length in seconds.
"""

import asyncio
import itertools
import os
import random
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import servable
from faults.load import Load, Served, family, resident, serving
from serving.making import BIAS, publish_iris

LENGTH_S = float(os.environ.get("SERVABLE_SOAK_S", "600"))
#: The growth of memory in an hour that is still called flat.
FLAT = 0.01


class Look(NamedTuple):
    """What a server holds at one moment."""

    at: float
    resident: int
    descriptors: int
    threads: int
    processes: int
    shared: int


def look(served: Served) -> Look:
    """Sums over the server and its children."""
    pids = family(served.process.pid)
    folders = [Path(f"/proc/{pid}") for pid in pids]
    return Look(
        time.monotonic(),
        sum(resident(pid) for pid in pids),
        sum(len(list((folder / "fd").iterdir())) for folder in folders),
        sum(len(list((folder / "task").iterdir())) for folder in folders),
        len(pids),
        len(list(Path("/dev/shm").iterdir())),
    )


def requests(seed: int) -> Any:
    """Requests of many sizes to two models, one inline and one in a process."""
    draw = random.Random(seed)

    def make() -> tuple[str, Any]:
        name = draw.choice(("iris", "apart"))
        count = draw.choice((1, 1, 1, 1, 3, 20, 200))
        rows = [
            [round(draw.uniform(0.1, 7.9), draw.choice((0, 1, 6))) for _ in range(4)] for _ in range(count)
        ]
        return f"/models/{name}/predict", {"input": rows[0]} if count == 1 else {"inputs": rows}

    return make


async def capacity(served: Served, seconds: float) -> float:
    """Requests per second that these clients reach when they go as fast as they can."""
    load = await Load(served.address, requests(0), clients=16).during(seconds)
    return len(load.seconds) / seconds


async def soak(served: Served, home: Path, seconds: float) -> list[Look]:
    """Looks taken while the load runs and models are swapped."""
    rate = 0.6 * await capacity(served, min(5.0, seconds / 10))
    load = Load(served.address, requests(1), clients=16, per_second=rate)
    running = asyncio.ensure_future(load.run())
    looks, end = [], time.monotonic() + seconds
    for number in itertools.count():
        await asyncio.sleep(max(0.5, seconds / 200))
        looks.append(look(served))
        # Each version keeps its own counts for ever, so versions change in the warm-up alone.
        if number % 10 == 3 and time.monotonic() < end - seconds * 3 / 4:
            name = ("iris", "apart")[number // 10 % 2]
            bias = BIAS + np.array([number % 3, 0.0, 0.0])
            await asyncio.to_thread(publish_iris, home, name, bias=bias)
        if time.monotonic() > end:
            break
    load.stop()
    await running
    assert set(load.statuses) == {200}, (load.statuses, load.unexpected[:3])
    print(f"{len(load.seconds)} requests at {rate:.0f}/s, {number // 10} swaps")
    print(f"first {looks[0]}")
    print(f"last {looks[-1]}")
    return looks


def course(home: Path, seconds: float) -> list[Look]:
    publish_iris(home)
    publish_iris(home, "apart")
    servable.deploy("apart", home=home, executor="process")
    with serving(home) as served:
        return asyncio.run(soak(served, home, seconds))


def steady(looks: list[Look]) -> list[Look]:
    """Without the warm-up, and without the moments in which two versions are loaded at once.

    The allocator goes on settling for minutes after the last swap, ever more slowly; half of the time is its.
    """
    later = looks[len(looks) // 2 :]
    usual = min(one.processes for one in later)
    return [one for one in later if one.processes == usual]


def growth_per_hour(looks: list[Look]) -> float:
    """The slope of the memory over time, as a share of its mean per hour (Theil-Sen: robust)."""
    slopes = [
        (b.resident - a.resident) / (b.at - a.at)
        for a, b in itertools.combinations(looks, 2)
        if b.at - a.at > (looks[-1].at - looks[0].at) / 4
    ]
    return float(np.median(slopes)) * 3600 / float(np.mean([one.resident for one in looks]))


def test_nothing_is_left_behind_in_a_few_seconds(home: Path) -> None:
    looks = steady(course(home, 10.0))
    for name in ("descriptors", "threads", "shared"):
        values = [getattr(one, name) for one in looks]
        # Connections and threads come and go; what is left behind by swaps would only add up.
        assert max(values) - min(values) <= 8, (name, values)
    sizes = [one.resident for one in looks]
    assert max(sizes) < 1.3 * min(sizes)


@pytest.mark.soak
@pytest.mark.timeout(LENGTH_S * 2 + 600)
def test_ten_minutes_leave_everything_flat(home: Path) -> None:
    looks = steady(course(home, 2 * LENGTH_S))
    half = len(looks) // 2
    for name in ("descriptors", "threads", "shared"):
        before = np.median([getattr(one, name) for one in looks[:half]])
        after = np.median([getattr(one, name) for one in looks[half:]])
        assert after <= before, (name, before, after)
    slope = growth_per_hour(looks)
    print(f"memory grows by {slope:.2%} an hour over {looks[-1].at - looks[0].at:.0f} s")
    assert slope < FLAT
