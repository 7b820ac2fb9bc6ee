"""HTTP processes that die, hang, or lose their parent."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from faults.load import Client, Served, family, serving
from serving.making import publish_iris

ROW = {"input": [5.1, 3.5, 1.4, 0.2]}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("workers") / "home"
    publish_iris(home)
    with serving(home, workers=2, run_limit_s=1.0) as one:
        yield one


def workers(served: Served) -> list[int]:
    """The process ids of the workers."""
    return [pid for pid in family(served.process.pid) if pid != served.process.pid]


def figure(served: Served, name: str) -> float:
    """The sum of a metric, over all its labels."""
    text = httpx.get(f"{served.url}/metrics").text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    )


def eventually(check: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "it never came to pass"
        time.sleep(0.02)


def exists(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody reaped does not."""
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_a_scrape_at_any_worker_gives_the_sum_at_once(served: Served) -> None:
    before = figure(served, "servable_requests_total")
    for count in range(1, 21):
        # A connection each, so that both workers get some.
        assert httpx.post(f"{served.url}/predict", json=ROW).status_code == 200
        assert figure(served, "servable_requests_total") == before + count
    assert figure(served, "servable_workers") == 2


def test_a_killed_worker_is_replaced_and_no_counter_falls(served: Served) -> None:
    before = workers(served)
    replaced = figure(served, "servable_worker_replacements_total")
    for pid in before:
        for _ in range(10):
            assert httpx.post(f"{served.url}/predict", json=ROW).status_code == 200
        counted = figure(served, "servable_requests_total")
        os.kill(pid, signal.SIGKILL)
        # Nobody is refused meanwhile, because the parent holds the socket.
        assert httpx.post(f"{served.url}/predict", json=ROW).status_code == 200
        assert figure(served, "servable_requests_total") == counted + 1
        eventually(lambda pid=pid: pid not in workers(served) and figure(served, "servable_workers") == 2)
        assert figure(served, "servable_requests_total") == counted + 1
    assert len(workers(served)) == 2
    assert not set(before) & set(workers(served))
    assert figure(served, "servable_worker_replacements_total") == replaced + 2


def test_new_connections_are_answered_while_workers_are_killed(served: Served) -> None:
    async def course() -> None:
        over = time.monotonic() + 4.0
        failures = 0
        answered = 0
        killed = 0
        while time.monotonic() < over:
            present = workers(served)
            if killed < 4 and len(present) == 2 and answered % 50 == 0:
                os.kill(present[killed % 2], signal.SIGKILL)
                killed += 1
            async with Client(served.address) as client:
                answer = await client.post("/predict", ROW)
            failures += answer.status != 200
            answered += 1
        # A request may be in the very process that is killed; one that comes later never fails.
        assert failures <= killed
        assert answered > 50

    asyncio.run(course())


def test_a_worker_that_hangs_is_killed_and_replaced(served: Served) -> None:
    stopped = workers(served)[0]
    os.kill(stopped, signal.SIGSTOP)
    # It holds up neither the scrape nor the others.
    began = time.monotonic()
    assert figure(served, "servable_workers") == 2
    assert time.monotonic() - began < 2.0
    eventually(lambda: not exists(stopped) and figure(served, "servable_workers") == 2, seconds=30.0)
    assert httpx.post(f"{served.url}/predict", json=ROW).status_code == 200


def test_a_worker_told_to_end_by_others_drains_and_is_replaced(served: Served) -> None:
    told = workers(served)[0]
    os.kill(told, signal.SIGTERM)
    eventually(lambda: not exists(told) and figure(served, "servable_workers") == 2)
    assert httpx.get(f"{served.url}/readyz").status_code == 200


def test_connections_are_shared_fairly(served: Served) -> None:
    eventually(lambda: figure(served, "servable_workers") == 2)

    async def course() -> None:
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(Client(served.address)) for _ in range(32)]
            for client in clients:
                assert (await client.post("/predict", ROW)).status == 200
            sockets = sorted(len(list(_sockets(pid))) for pid in workers(served))
            # Each has a few sockets of its own, as many as the other.
            assert sockets[1] - sockets[0] <= 6

    asyncio.run(course())


def _sockets(pid: int) -> Iterator[str]:
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if (target := str(entry.readlink())).startswith("socket:"):
                yield target


def test_workers_end_when_their_parent_is_killed(home: Path) -> None:
    publish_iris(home)
    with contextlib.suppress(AssertionError, ProcessLookupError), serving(home, workers=2) as served:
        pids = workers(served)
        assert len(pids) == 2
        served.process.kill()
        served.process.wait()
        eventually(lambda: not any(map(exists, pids)))
        pids.clear()
    assert not pids
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{served.url}/healthz")
