"""Once a server of two processes says that it is ready, nobody is refused, whichever process he meets."""

import asyncio
import os
import signal
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import uvloop

import servable
from faults.load import Client
from faults.swapping import NAME, deploy, importable, publish_misbehaving
from servable.engines.supervisor import Supervisor
from servable.settings import ServerSettings

__all__ = ["importable"]

ROW = {"input": [1.0, 2.0, 3.0, 4.0]}
Address = tuple[str, int]


async def asked(address: Address, path: str) -> int:
    """What a newcomer is told, on a connection of its own."""
    async with Client(address) as client:
        if path == "/readyz":
            return (await client.ask("GET", path)).status
        return (await client.post(path, ROW)).status


async def until(address: Address, status: int, *otherwise: int) -> None:
    """Ask whether it is ready until this is the answer; 0 is none."""
    while (said := await asked(address, "/readyz")) != status:
        assert said in otherwise
        await asyncio.sleep(0.01)


async def came(gate: Path, number: int) -> None:
    """Wait until so many processes are loading."""
    while not (gate / f"came-{number}").exists():
        await asyncio.sleep(0.01)


def test_whoever_asks_once_one_process_is_ready_is_answered(home: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.mkdir()
    deploy(home, publish_misbehaving(home, str(gate)))

    async def course() -> None:
        settings = ServerSettings(home=str(home), port=0, workers=2, confinement="off")
        supervisor = Supervisor(settings, (), servable.__version__, logs=False)
        parts = urlsplit(supervisor.url)
        address = (parts.hostname or "", parts.port or 0)
        started = asyncio.get_running_loop().create_future()
        running = asyncio.create_task(supervisor.run(started))
        await came(gate, 2)
        # Both load, and somebody says so.
        assert [await asked(address, "/readyz") for _ in range(10)] == [503] * 10
        async with Client(address) as early:
            assert (await early.ask("GET", "/readyz")).status == 503
            (gate / "1").touch()
            await until(address, 200, 503)
            for _ in range(50):
                assert await asked(address, f"/models/{NAME}/predict") == 200
                assert await asked(address, "/readyz") == 200
            # It is not held to the process that it met at first.
            assert (await early.post(f"/models/{NAME}/predict", ROW)).status == 200
        assert not started.done()
        (gate / "2").touch()
        await started
        for _ in range(10):
            assert await asked(address, f"/models/{NAME}/predict") == 200
        supervisor.stop()
        await running

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(course())


@pytest.mark.slow
def test_the_one_that_loads_answers_again_when_nobody_else_is_ready(home: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.mkdir()
    deploy(home, publish_misbehaving(home, str(gate)))

    async def course() -> None:
        settings = ServerSettings(home=str(home), port=0, workers=2, confinement="off", shutdown_s=1.0)
        supervisor = Supervisor(settings, (), servable.__version__, logs=False)
        parts = urlsplit(supervisor.url)
        address = (parts.hostname or "", parts.port or 0)
        running = asyncio.create_task(supervisor.run())
        await came(gate, 2)
        (gate / "1").touch()
        await until(address, 200, 503)
        os.kill(int((gate / "came-1").read_text()), signal.SIGKILL)
        # Nobody is left who can answer, and whoever asks learns that.
        await until(address, 503, 200, 0)
        for number in (2, 3):
            (gate / str(number)).touch()
        await until(address, 200, 503)
        supervisor.stop()
        await running

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(course())
