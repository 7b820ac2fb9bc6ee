"""Several workers behind the local engine that share a model: its life follows theirs."""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import tritonclient.http as triton

import servable
from engines.test_supervisor import ROW, settings_of
from faults.load import family
from servable.engines.local import LocalServer
from servable.engines.supervisor import Supervisor
from serving.making import BIAS, publish_iris


@pytest.fixture
def shared(home: Path) -> Path:
    publish_iris(home)
    servable.deploy("iris", share=True, home=home)
    return home


def running(module: str) -> list[int]:
    """The process ids below this one that run a module."""

    def found() -> Iterator[int]:
        for pid in family(os.getpid()):
            with contextlib.suppress(OSError):
                if module.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                    yield pid

    return list(found())


def models() -> list[int]:
    return running("servable.runtime.child_process")


def eventually(check: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "it never came to pass"
        time.sleep(0.01)


def test_a_server_that_shares_nothing_has_no_keeper(home: Path) -> None:
    publish_iris(home)
    with LocalServer(settings_of(home)):
        assert running("servable.engines.keeper") == []


def test_a_restart_of_every_worker_keeps_the_process(shared: Path) -> None:
    async def course() -> None:
        supervisor = Supervisor(settings_of(shared), (), servable.__version__, logs=False)
        started = asyncio.get_running_loop().create_future()
        serving = asyncio.create_task(supervisor.run(started))
        await started
        before, workers = models(), supervisor.pids
        assert len(before) == 1
        assert await supervisor.restart()
        assert not set(workers) & set(supervisor.pids)
        assert models() == before
        async with httpx.AsyncClient() as client:
            assert (await client.post(f"{supervisor.url}/predict", json=ROW)).status_code == 200
        supervisor.stop()
        await serving

    asyncio.run(course())
    assert models() == running("servable.engines.keeper") == []


def test_a_new_version_takes_the_place_of_the_process(shared: Path) -> None:
    with LocalServer(settings_of(shared, poll_s=0.05, keep_warm_s=0)) as server:
        (before,) = models()
        publish_iris(shared, bias=2 * BIAS)
        # Loaded first, then switched to, then unloaded; in the end there is one again.
        eventually(lambda: len(models()) == 1 and models() != [before])
        assert httpx.post(f"{server.url}/predict", json=ROW).json()["version"] == 2


def test_a_cold_model_is_held_while_a_worker_wants_it(shared: Path) -> None:
    with LocalServer(settings_of(shared, memory=2**31)) as server:
        assert models() == []
        with contextlib.closing(triton.InferenceServerClient(server.url.removeprefix("http://"))) as client:
            for _ in range(2):
                client.load_model("iris")
                assert len(models()) == 1
                client.unload_model("iris")
                eventually(lambda: models() == [])
