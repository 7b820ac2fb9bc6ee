"""A model that two HTTP processes share: one process, and whatever dies, requests are answered."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import servable
from faults.load import Client, Load, Served, family, serving
from faults.test_workers import ROW, eventually, exists, figure
from serving.making import publish_iris


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharing") / "home"
    publish_iris(folder)
    servable.deploy("iris", share=True, home=folder)
    return folder


@pytest.fixture(scope="module")
def served(home: Path) -> Iterator[Served]:
    with serving(home, workers=2) as one:
        yield one


def running(served: Served, module: str) -> list[int]:
    """The process ids below the server that run a module."""
    found = []
    for pid in family(served.process.pid):
        with contextlib.suppress(OSError):
            if module.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                found.append(pid)
    return found


def models(served: Served) -> list[int]:
    return running(served, "servable.runtime.child_process")


def keepers(served: Served) -> list[int]:
    return running(served, "servable.engines.keeper")


def workers(served: Served) -> list[int]:
    return running(served, "servable.server.worker")


def load(served: Served, clients: int = 8) -> Load:
    return Load(served.address, lambda: ("/predict", ROW), clients=clients, per_second=400)


def test_two_workers_use_one_process(served: Served) -> None:
    assert len(models(served)) == len(keepers(served)) == 1
    assert len(workers(served)) == 2
    serving_of = httpx.get(f"{served.url}/models/iris").json()["serving"]
    assert (serving_of["executor"], serving_of["reason"]) == ("process", "all workers share it")
    # Added up over both workers it is still one process, and its memory once.
    assert figure(served, "servable_model_processes") == 1
    held = figure(served, "servable_model_memory_bytes")
    assert held == pytest.approx(serving_of["memory_bytes"], rel=0.01)
    went = asyncio.run(load(served).during(1.0))
    assert set(went.statuses) == {200}
    # Connections are spread, so both workers answered.
    assert figure(served, "servable_requests_total") >= went.statuses[200]


@pytest.mark.parametrize("which", [models, keepers])
def test_a_death_at_load_fails_no_request(served: Served, which: object) -> None:
    find = models if which is models else keepers

    async def course() -> Load:
        clients = load(served)
        going = asyncio.ensure_future(clients.run())
        for times in (1, 2):
            await asyncio.sleep(1.0)
            (pid,) = find(served)
            os.kill(pid, signal.SIGKILL)
            # It counts when it has loaded, which takes its time on a busy machine.
            while await asyncio.to_thread(replaced) < before + times:
                await asyncio.sleep(0.02)
        await asyncio.sleep(1.0)
        clients.stop()
        await going
        return clients

    def replaced() -> float:
        return figure(served, "servable_process_replacements_total")

    before = replaced()

    went = asyncio.run(course())
    assert set(went.statuses) == {200}, went.unexpected
    eventually(lambda: len(models(served)) == len(keepers(served)) == 1)
    assert replaced() >= before + 2


def test_a_worker_that_dies_harms_neither_the_process_nor_the_other(served: Served) -> None:
    before = models(served)
    died = workers(served)[0]

    async def course() -> None:
        os.kill(died, signal.SIGKILL)
        for _ in range(50):
            async with Client(served.address) as client:
                assert (await client.post("/predict", ROW)).status == 200

    asyncio.run(course())
    eventually(lambda: not exists(died) and figure(served, "servable_workers") == 2)
    assert models(served) == before


@pytest.mark.slow
def test_a_keeper_that_hangs_is_replaced(served: Served) -> None:
    (pid,) = keepers(served)
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: not exists(pid), seconds=40.0)
    eventually(lambda: len(keepers(served)) == 1 and len(models(served)) == 1)
    assert httpx.post(f"{served.url}/predict", json=ROW, timeout=30.0).status_code == 200


def test_sigterm_to_everybody_drains_and_leaves_nothing(home: Path) -> None:
    async def course() -> tuple[Load, list[int]]:
        with serving(home, workers=2, drain_s=0.5) as served:
            clients = load(served)
            going = asyncio.ensure_future(clients.run())
            await asyncio.sleep(1.0)
            everybody = family(served.process.pid)
            assert len(everybody) == 5
            # A service manager signals the whole group; `serving` sends it to the parent as well.
            for pid in everybody[1:]:
                if pid not in workers(served):
                    os.kill(pid, signal.SIGTERM)
            await asyncio.sleep(0.5)
            assert keepers(served)
            assert models(served)
            clients.stop()
            await going
        return clients, everybody

    went, everybody = asyncio.run(course())
    assert set(went.statuses) == {200}, went.unexpected
    assert not any(map(exists, everybody))
    assert not [each for each in Path("/dev/shm").iterdir() if "servable" in each.name]


def test_everything_ends_when_the_parent_is_killed(home: Path) -> None:
    with contextlib.suppress(AssertionError, ProcessLookupError), serving(home, workers=2) as served:
        everybody = family(served.process.pid)
        assert len(everybody) == 5
        served.process.kill()
        served.process.wait()
        eventually(lambda: not any(map(exists, everybody)))
        everybody.clear()
    assert not everybody
