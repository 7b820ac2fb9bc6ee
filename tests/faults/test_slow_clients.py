"""Clients that send or read too slowly are dropped, and cost the others nothing."""

import asyncio
import contextlib
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from faults import slow_clients
from faults.load import Load, percentile, serving
from faults.slow_clients import DRIPS, Address, drip, stall
from serving.making import publish_iris

ROW = {"input": [5.1, 3.5, 1.4, 0.2]}


def test_drips_and_stalls_are_ended(home: Path) -> None:
    publish_iris(home)
    limits: dict[str, Any] = {"header_timeout_s": 1.0, "body_grace_s": 1.0, "write_timeout_s": 1.5}

    async def course(address: Address) -> tuple[list[tuple[float, bytes]], float]:
        stalled = asyncio.ensure_future(stall(address, 60))
        return await asyncio.gather(*(drip(address, *each, 0.2) for each in DRIPS)), await stalled

    with serving(home, **limits) as served:
        drips, stalled = asyncio.run(course(served.address))
    for seconds, said in drips:
        assert seconds < 4.0
        assert said == b"" or b" 408 " in said or b" 400 " in said
    assert stalled < 8.0


@contextlib.contextmanager
def slow(address: Address, count: int) -> Iterator[None]:
    """So many slow clients, in a process of their own."""
    command = [sys.executable, slow_clients.__file__, address[0], str(address[1]), str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.kill()


def others(address: Address, seconds: float) -> float:
    """The p99 of well-behaved clients."""
    load = Load(address, lambda: ("/models/iris/predict", ROW), clients=4, per_second=400)
    asyncio.run(load.during(seconds))
    assert set(load.statuses) == {200}, load.unexpected
    return percentile(load.seconds, 0.99)


def test_slow_clients_do_not_keep_others_from_their_answers(home: Path) -> None:
    publish_iris(home)
    with serving(home) as served, slow(served.address, 100):
        assert others(served.address, 2.0) < 0.25


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_thousand_slow_clients_move_the_p99_by_no_more_than_a_fifth(home: Path) -> None:
    publish_iris(home)
    alone, beside = [], []
    with serving(home) as served:
        others(served.address, 2.0)
        for _ in range(5):
            alone.append(others(served.address, 10.0))
            with slow(served.address, 1000):
                beside.append(others(served.address, 10.0))
    ratio = statistics.median(beside) / statistics.median(alone)
    print(f"p99 alone {alone}, beside 1,000 slow clients {beside}: ratio {ratio:.2f}")
    assert ratio <= 1.2
