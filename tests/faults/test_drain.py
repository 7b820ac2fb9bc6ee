"""SIGTERM at random moments under load: whatever a model began to answer reaches its caller."""

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from faults.load import Client
from serving.making import publish_iris

ROW = {"input": [5.1, 3.5, 1.4, 0.2]}
CLIENTS = 8
_SERVE = """
import json, sys
from servable.engines.local import serve
serve(on_ready=lambda url: print(url, flush=True), log_format="json", **json.loads(sys.argv[1]))
"""


@pytest.fixture
def filled(home: Path) -> Path:
    publish_iris(home)
    return home


@contextlib.contextmanager
def running(home: Path, **settings: Any) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server in a process of its own and its address."""
    options = json.dumps({"home": str(home), "port": 0, **settings})
    child = subprocess.Popen(
        [sys.executable, "-c", _SERVE, options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        assert child.stdout is not None
        url = child.stdout.readline().strip()
        assert url, child.communicate()[1]
        yield child, url
    finally:
        child.kill()
        child.communicate()


def counted(logged: str) -> int:
    """How many requests the server says it answered, in its last line."""
    events = [json.loads(line) for line in logged.splitlines() if line.startswith("{")]
    return next(event["requests"] for event in reversed(events) if "requests" in event)


async def load(url: str, over: asyncio.Event) -> int:
    """Requests without a pause on keep-alive connections until told to end; how many were answered."""
    parts = urlsplit(url)
    address = (parts.hostname or "", parts.port or 0)

    async def one() -> int:
        answered = 0
        async with Client(address) as client:
            while not over.is_set():
                answer = await client.post("/predict", ROW)
                # What is answered at all is answered well; status 0: the connection ended before.
                assert answer.status in (0, 200), answer
                answered += answer.status == 200
                if answer.status == 0:
                    await asyncio.sleep(0.005)
        return answered

    return sum(await asyncio.gather(*(one() for _ in range(CLIENTS))))


async def stopped_under_load(child: "subprocess.Popen[str]", url: str, after_s: float) -> int:
    """Load, then SIGTERM, then the end; how many requests were answered."""
    over = asyncio.Event()
    loading = asyncio.create_task(load(url, over))
    await asyncio.sleep(after_s)
    child.send_signal(signal.SIGTERM)
    await asyncio.to_thread(child.wait, 30)
    over.set()
    return await loading


def rounds(home: Path, count: int, seed: int, **settings: Any) -> None:
    moments = random.Random(seed)
    total = 0
    for number in range(count):
        with running(home, **settings) as (child, url):
            after_s = moments.uniform(0.0, 0.4)
            answered = asyncio.run(stopped_under_load(child, url, after_s))
            _, logged = child.communicate()
            assert child.returncode == 0, logged
            assert "Traceback" not in logged, logged
            assert counted(logged) == answered, f"round {number}, SIGTERM after {after_s:.3f} s: {logged}"
            total += answered
    assert total > 100


def test_nothing_is_lost_by_one_process(filled: Path) -> None:
    rounds(filled, 3, seed=1)


def test_nothing_is_lost_by_two_workers(filled: Path) -> None:
    rounds(filled, 2, seed=2, workers=2)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_is_lost_a_hundred_times(filled: Path, workers: int) -> None:
    rounds(filled, 100, seed=3 + workers, workers=workers)


@pytest.mark.parametrize("workers", [1, 2])
def test_while_it_drains_it_answers_and_is_not_ready(filled: Path, workers: int) -> None:
    async def course(child: "subprocess.Popen[str]", url: str) -> None:
        parts = urlsplit(url)
        address = (parts.hostname or "", parts.port or 0)
        async with Client(address) as before:
            assert (await before.ask("GET", "/readyz")).status == 200
            child.send_signal(signal.SIGTERM)
            told = time.monotonic()
            while True:
                async with Client(address) as client:
                    if (await client.ask("GET", "/readyz")).status == 503:
                        break
                assert time.monotonic() - told < 1.0
            # On a connection from before, and on new ones.
            assert (await before.post("/predict", ROW)).status == 200
            for _ in range(10):
                async with Client(address) as client:
                    assert (await client.post("/predict", ROW)).status == 200
            # A second signal ends it at once, although there is time to drain.
            child.send_signal(signal.SIGTERM)
            second = time.monotonic()
            await asyncio.to_thread(child.wait, 10)
            assert time.monotonic() - second < 3.0

    with running(filled, workers=workers, drain_s=30.0) as (child, url):
        asyncio.run(course(child, url))
        assert child.returncode == 0
