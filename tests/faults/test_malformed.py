"""Malformed requests never bring a server down, never look like its own fault, and cost the others little."""

import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from faults import malformed
from faults.ambiguous import VECTORS, Vector
from faults.load import Load, Served, percentile, serving
from faults.malformed import volley
from serving.making import publish_iris

ROW = {"input": [5.1, 3.5, 1.4, 0.2]}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for all vectors; it must still be there at the end."""
    home = tmp_path_factory.mktemp("malformed") / "home"
    publish_iris(home)
    with serving(home) as running:
        yield running


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_each_ambiguity(served: Served, vector: Vector) -> None:
    statuses = asyncio.run(volley(served.address, vector))
    assert all(200 <= status < 500 for status in statuses), statuses
    accepted = [status for status in statuses if status < 300]
    assert len(accepted) <= vector.answers, statuses
    assert served.process.poll() is None


@contextlib.contextmanager
def flooding(served: Served, count: int, seed: int, rate: float = 0.0) -> Iterator[subprocess.Popen[str]]:
    """The malformed requests, from a process of their own."""
    host, port = served.address
    command = [sys.executable, malformed.__file__, host, str(port), str(count), str(seed), str(rate)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    found: dict[str, Any] = json.loads(process.stdout.readline())
    return found


def told(found: dict[str, Any]) -> Counter[int]:
    """Print the counts and give those by status, without the deadlines that were asked for."""
    by_status: Counter[int] = Counter()
    for kind, count in found["counts"].items():
        print(f"{count:8,}  {kind}")
        if kind != "deadline: 504":
            by_status[int(kind.rpartition(" ")[2])] += count
    print(f"{by_status.total():,} in {found['seconds']:.1f} s, by status {dict(sorted(by_status.items()))}")
    return by_status


def well_formed(served: Served, seconds: float) -> list[float]:
    """How long a well-behaved client waits for each answer."""
    load = Load(served.address, lambda: ("/models/iris/predict", ROW), clients=2, per_second=200)
    asyncio.run(load.during(seconds))
    assert set(load.statuses) == {200}, load.unexpected
    return load.seconds


def test_a_few_malformed_requests(served: Served) -> None:
    with flooding(served, 1_500, seed=1) as process:
        beside = well_formed(served, 1.0)
        found = result(process)
    by_status = told(found)
    assert not found["wrong"], found["wrong"]
    assert by_status.total() >= 1_400
    assert not any(status >= 500 for status in by_status)
    assert len(by_status) >= 6
    assert percentile(beside, 0.99) < 0.5
    assert well_formed(served, 0.2)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_hundred_thousand_malformed_requests(served: Served) -> None:
    well_formed(served, 2.0)
    totals: Counter[int] = Counter()
    alone, beside = [], []
    for seed in range(10):
        alone.append(percentile(well_formed(served, 5.0), 0.99))
        with flooding(served, 10_000, seed=seed, rate=1_500.0) as process:
            seconds: list[float] = []
            while process.poll() is None:
                seconds += well_formed(served, 1.0)
            found = result(process)
        beside.append(percentile(seconds, 0.99))
        totals += told(found)
        print(f"p99 alone {alone[-1] * 1e3:.2f} ms, beside {beside[-1] * 1e3:.2f} ms")
        assert not found["wrong"], found["wrong"]
    ratio = statistics.median(beside) / statistics.median(alone)
    print(f"{totals.total():,} malformed requests; p99 beside them / alone: {ratio:.2f}")
    assert totals.total() >= 99_000
    assert not any(status >= 500 for status in totals)
    assert served.process.poll() is None
    assert ratio <= 2
