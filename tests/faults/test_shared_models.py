"""Requests of several servers go on while the processes that they share, and their keeper, die and hang."""

import asyncio
import os
import random
import signal
from collections import Counter
from pathlib import Path

import pytest

from runtime import graphs
from runtime.keeping import Kept
from runtime.test_process import held, rows, run, until
from servable.errors import PoisonRequest
from servable.monitoring.metrics import Meter
from servable.runtime.asking import ask
from servable.runtime.batcher import Batcher
from servable.runtime.process import ChildSpec

SIGNALS = (signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP, signal.SIGABRT)
SERVERS = 3


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ChildSpec:
    return graphs.make_package(tmp_path_factory.mktemp("graph") / "package")


def model_processes() -> set[int]:
    """Those that run a model and are not dead."""
    found = set()
    for pid in map(int, held()[2]):
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"servable.runtime.child_process" in command:
            found.add(pid)
    return found


async def survive(spec: ChildSpec, faults: int, seed: int) -> Counter[str]:
    """Requests of three servers go on while faults happen; what became of them, by name of the error."""
    one = Kept()
    executors = [one.server(spec, processes=2, spares=1, run_s=0.5) for _ in range(SERVERS)]
    await asyncio.gather(*(executor.open() for executor in executors))
    batchers = [Batcher(executor, name="sum", meter=Meter("sum", 1)) for executor in executors]
    chance = random.Random(seed)
    became: Counter[str] = Counter()
    over = asyncio.Event()

    async def caller(number: int) -> None:
        while not over.is_set():
            value = chance.random()
            try:
                answer = await ask(batchers[number % SERVERS], rows(value, float(number)), 1)
                became["right" if answer["prediction"][0] == value + number else "wrong"] += 1
            except Exception as error:  # noqa: BLE001 - counted, and looked at by name
                became[type(error).__name__] += 1
            await asyncio.sleep(chance.random() * 0.004)

    callers = [asyncio.ensure_future(caller(number)) for number in range(12)]
    for turn in range(faults):
        await asyncio.sleep(0.2 * chance.random())
        if turn % 4 == 2:
            with pytest.raises(PoisonRequest):
                await ask(batchers[turn % SERVERS], rows(graphs.LOOP, chance.random()), 1)
        elif turn % 4 == 3:
            await one.kill()
            one.begin()
        else:
            await until(lambda: len(model_processes()) >= 2)
            os.kill(chance.choice(sorted(model_processes())), chance.choice(SIGNALS))
        # Two faults are not one: a request is tried once more, not for ever.
        goal = became["right"] + 50
        await until(lambda goal=goal: became["right"] > goal)
        await until(lambda: all(executor.statistics().processes == 2 for executor in executors))
        await until(lambda: one.keeper.statistics()["sum"].processes == 3)
    over.set()
    await asyncio.gather(*callers)
    await asyncio.gather(*(batcher.close() for batcher in batchers))
    await one.close()
    return became


@pytest.mark.slow
def test_requests_survive_faults_of_what_they_share(spec: ChildSpec) -> None:
    async def work() -> None:
        became = await survive(spec, 4, seed=1)
        assert became.keys() == {"right"}, became

    run(work(), 120)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_requests_survive_a_hundred_faults_of_what_they_share(spec: ChildSpec) -> None:
    became = asyncio.run(survive(spec, 100, seed=2))
    assert became.keys() == {"right"}, became
