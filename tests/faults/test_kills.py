"""Model processes are killed under load, through the whole server: no request fails, and they come back."""

import asyncio
import os
import random
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from faults.load import Client, Load, Served, family, percentile, serving
from faults.misbehaving import write_model
from faults.misbehaving_model import EXIT, RAISE, WEDGE
from faults.test_workers import figure
from servable.registry.home import open_home, publish

PATH = "/models/sum/predict"
RUN_LIMIT_S = 1.0
#: For so long it is measured how much load is possible.
CAPACITY_S = 1.0
#: What is done to a model process, from outside or by a row that wedges it a moment later.
FAULTS = (signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP, "loop")


@pytest.fixture
def misbehaving_home(home: Path) -> Path:
    """A home whose one deployment runs in two processes and does what rows tell it."""
    with open_home(home) as opened:
        with opened.packages.staging() as folder:
            record = publish(opened, folder, write_model(folder, "sum"))
        wishes = {"executor": "process", "processes": 2, "run_limit_s": RUN_LIMIT_S}
        opened.deployments.deploy(record.model, record.version, wishes=wishes)
    return home


def row() -> tuple[str, Any]:
    return PATH, {"input": [random.uniform(0, 9), random.uniform(0, 9)]}


async def processes(client: Client) -> tuple[int, int]:
    """How many children live, and how many were replaced."""
    figures = (await client.ask("GET", "/models/sum")).json()["executor"]
    return figures["processes"], figures["replacements"]


async def recovered(client: Client, replacements: int) -> float:
    """Seconds until two children live again, after so many replacements."""
    started = time.monotonic()
    while True:
        living, replaced = await processes(client)
        if living == 2 and replaced >= replacements:
            return time.monotonic() - started
        assert time.monotonic() - started < 30, f"only {living} processes live, {replaced} were replaced"
        await asyncio.sleep(0.02)


async def break_one(served: Served, client: Client, fault: Any) -> None:
    """Do it to one of the children."""
    if fault == "loop":
        assert (await client.post(PATH, {"input": [WEDGE, 1.0]})).status == 200
        return
    os.kill(random.choice(family(served.process.pid)[1:3]), fault)


async def siege(served: Served, faults: int, share: float) -> tuple[Load, list[float]]:
    """So many faults under a load of a share of what is possible."""
    address = served.address
    closed = await Load(address, row, clients=8).during(CAPACITY_S)
    load = Load(address, row, clients=8, per_second=share * len(closed.seconds) / CAPACITY_S)
    running = asyncio.ensure_future(load.run())
    times = []
    async with Client(address) as client:
        _, before = await processes(client)
        for number in range(faults):
            await asyncio.sleep(random.uniform(0.05, 0.3))
            await break_one(served, client, FAULTS[number % len(FAULTS)])
            times.append(await recovered(client, before + number + 1))
    load.stop()
    await running
    return load, times


def course(home: Path, faults: int, share: float) -> None:
    random.seed(faults)
    with serving(home) as served:
        started = time.monotonic()
        load, times = asyncio.run(siege(served, faults, share))
    print(
        f"{faults} faults in {time.monotonic() - started:.0f} s, {len(load.seconds)} requests, "
        f"{dict(load.statuses)}; p99 {percentile(load.seconds, 0.99) * 1e3:.1f} ms, "
        f"slowest {max(load.seconds) * 1e3:.0f} ms; whole again after {percentile(times, 0.5):.2f} s "
        f"(slowest {max(times):.2f} s)"
    )
    assert set(load.statuses) == {200}, (load.statuses, load.unexpected[:3])


def test_faults_under_load_fail_no_request(misbehaving_home: Path) -> None:
    course(misbehaving_home, 4, 0.2)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_a_hundred_faults_under_load_fail_no_request(misbehaving_home: Path) -> None:
    course(misbehaving_home, 100, 0.6)


def test_poison_costs_two_processes_and_nobody_else(misbehaving_home: Path) -> None:
    async def besiege(served: Served) -> tuple[Load, list[Any], int]:
        load = Load(served.address, row, clients=8, per_second=500)
        running = asyncio.ensure_future(load.run())
        await asyncio.sleep(0.3)
        async with Client(served.address) as client:
            answers = [await client.post(PATH, {"input": [EXIT, 1.0]})]
            await recovered(client, 2)
            answers.append(await client.post(PATH, {"input": [EXIT, 1.0]}))
            answers.append(await client.post(PATH, {"input": [RAISE, 1.0]}))
            load.stop()
            await running
            return load, answers, (await processes(client))[1]

    with serving(misbehaving_home) as served:
        load, (poison, again, raised), replaced = asyncio.run(besiege(served))
    assert (poison.status, poison.json()["error"]["code"]) == (422, "poison_request")
    assert (again.status, again.json()["error"]["code"]) == (422, "poison_request")
    assert (raised.status, raised.json()["error"]["code"]) == (500, "model_failed")
    assert b"secret" not in raised.body
    assert replaced == 2
    assert set(load.statuses) == {200}, (load.statuses, load.unexpected[:3])


def test_poison_that_one_worker_found_costs_the_others_nothing(misbehaving_home: Path) -> None:
    async def besiege(served: Served) -> list[Any]:
        async with AsyncExitStack() as stack:
            # Workers take connections in turn, so each has some of these.
            clients = [await stack.enter_async_context(Client(served.address)) for _ in range(8)]
            for client in clients:
                assert (await client.post(PATH, {"input": [1.0, 2.0]})).status == 200
            return [await client.post(PATH, {"input": [EXIT, 1.0]}) for client in clients]

    with serving(misbehaving_home, workers=2) as served:
        answers = asyncio.run(besiege(served))
        died = figure(served, "servable_process_replacements_total")
    assert {(each.status, each.json()["error"]["code"]) for each in answers} == {(422, "poison_request")}
    assert died == 2
