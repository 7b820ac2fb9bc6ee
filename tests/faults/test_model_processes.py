"""What dying, hanging, swelling and wedged model processes do to a server: nothing that lasts."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faults import misbehaving_model as bad
from faults.misbehaving import make_package
from runtime import graphs
from runtime.test_process import opened, rows, run, total, until
from servable.errors import ArtifactUnreadable, ModelDied, ModelFailed, ModelNotReady, PoisonRequest
from servable.monitoring.metrics import Meter
from servable.runtime.asking import ask
from servable.runtime.batcher import Batcher
from servable.runtime.confine import look_at
from servable.runtime.confinement import Confinement, Mode
from servable.runtime.process import ChildLimits, ChildSpec, ProcessExecutor

QUICK = ChildLimits(run_s=0.5, tick_s=0.05, heartbeat_s=0.5)
#: Ways to end a child from outside.
SIGNALS = (signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP, signal.SIGABRT)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ChildSpec:
    return graphs.make_package(tmp_path_factory.mktemp("graph") / "package")


def gone(pid: int) -> bool:
    seen = look_at(pid)
    return seen is None or seen.state == "Z"


def group_is_gone(pid: int) -> bool:
    """Whether nothing of a process group lives; what was left to init is reaped in its own time."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == pid and fields[0] != "Z":
                return False
    return True


# ---------------------------------------------------------------------- what a model does


@pytest.mark.slow
def test_whatever_a_model_does_the_next_batch_is_answered(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # It leaves a process behind, which a confined one could not start.
    spec = make_package(tmp_path / "package")._replace(confinement=Confinement(mode=Mode.OFF))

    async def work() -> None:
        limits = ChildLimits(run_s=1.0, tick_s=0.05, heartbeat_s=0.5, memory_bytes=512 * 2**20)
        async with opened(spec, spares=1, limits=limits) as executor:
            for code, name in (
                (bad.RAISE, "ValueError"),
                (bad.ALLOCATE, "Memory"),
                (bad.LEAVE, "SystemExit"),
            ):
                with pytest.raises(ModelFailed, match=name) as caught:
                    await total(executor, code, 0.0)
                assert "secret" not in caught.value.message
                assert await total(executor, 1.0, 1.0) == 2.0
            assert await total(executor, bad.PRINT, 0.0) == bad.PRINT
            assert executor.statistics().replacements == 0
            for number, code in enumerate((bad.SEGFAULT, bad.EXIT, bad.GRANDCHILD_AND_EXIT), start=1):
                await until(lambda: executor.statistics().processes == 2, 60)
                working = executor.pids
                with pytest.raises(ModelDied):
                    await total(executor, code, 0.0)
                assert await total(executor, 1.0, 1.0) == 2.0
                assert executor.statistics().replacements == number
                await until(lambda working=working: any(map(group_is_gone, working)))

    run(work(), 150)
    out, err = capfd.readouterr()
    assert "said by the model" in err
    assert out == ""


@pytest.mark.slow
def test_a_model_that_is_wedged_or_swollen_after_its_run_is_replaced(tmp_path: Path) -> None:
    spec = make_package(tmp_path / "package")

    async def work() -> None:
        limits = ChildLimits(run_s=5.0, tick_s=0.05, heartbeat_s=0.3, memory_bytes=400 * 2**20)
        async with opened(spec, limits=limits) as executor:
            assert await total(executor, bad.WEDGE, 0.0) == bad.WEDGE
            await until(lambda: executor.statistics().replacements == 1, 5.0)
            for _ in range(4):
                if executor.statistics().replacements == 1:
                    assert await total(executor, bad.GROW, 0.0) == bad.GROW
                    await asyncio.sleep(4 * limits.tick_s)
            assert executor.statistics().replacements == 2
            assert await total(executor, 1.0, 1.0) == 2.0

    run(work(), 150)


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    limits = ChildLimits(start_s=30.0)
    cases = {
        "exit": (ModelDied, "exited with status 3 while it loaded", limits),
        "segfault": (ModelDied, "ended by SIGSEGV while it loaded", limits),
        "raise": (ArtifactUnreadable, "RuntimeError in line [0-9]+: no such weights", limits),
        "slow": (ModelNotReady, "not ready within 5 s", ChildLimits(start_s=5.0)),
    }

    async def one(loading: str, error: Any, sentence: str, limits: ChildLimits) -> None:
        spec = make_package(tmp_path / loading, loading)
        with pytest.raises(error, match=sentence):
            await ProcessExecutor(spec, name="sum", limits=limits).open()

    async def work() -> None:
        await asyncio.gather(*(one(loading, *case) for loading, case in cases.items()))

    run(work())


# ---------------------------------------------------------------------- what happens to a process


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("busy", [False, True])
def test_a_signal_costs_a_batch_at_most(spec: ChildSpec, number: signal.Signals, busy: bool) -> None:
    async def work() -> None:
        async with opened(spec, limits=ChildLimits(tick_s=0.05)) as executor:
            (pid,) = executor.pids
            running = None
            if busy:
                running = asyncio.ensure_future(total(executor, graphs.LOOP, 0.0))
                # It is under way once the child burns processor time.
                await until(lambda: (seen := look_at(pid)) is not None and seen.state == "R")
                await asyncio.sleep(0.05)
            os.kill(pid, number)
            began = asyncio.get_running_loop().time()
            await until(lambda: executor.statistics().replacements == 1)
            assert asyncio.get_running_loop().time() - began < 0.5
            if running is not None:
                with pytest.raises(ModelDied):
                    await running
            assert await total(executor, 1.0, 1.0) == 2.0
            await until(lambda: gone(pid))

    run(work())


def test_a_run_that_takes_far_too_much_memory_is_ended_at_once(spec: ChildSpec) -> None:
    async def work() -> None:
        limits = ChildLimits(tick_s=0.05, memory_bytes=128 * 2**20)
        async with opened(spec, limits=limits) as executor:
            numbers = np.full((10_000_000, 2), graphs.LOOP)
            with pytest.raises(ModelDied, match="memory"):
                await run_many(executor, numbers)
            assert await total(executor, 1.0, 1.0) == 2.0

    async def run_many(executor: ProcessExecutor, numbers: Any) -> None:
        outcomes: list[Any] = []
        executor.start({"numbers": numbers}, outcomes.append)
        await until(lambda: bool(outcomes))
        if outcomes[0].error is not None:
            raise outcomes[0].error

    run(work())


def test_a_killed_server_leaves_no_child(spec: ChildSpec) -> None:
    program = Path(__file__).with_name("serving_alone.py")
    with subprocess.Popen(
        [sys.executable, program, spec.folder], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        pid = int(server.stdout.readline())
        assert not gone(pid)
        server.kill()

    async def work() -> None:
        await until(lambda: gone(pid), 5.0)

    run(work())


# ---------------------------------------------------------------------- with the batcher


def test_a_poison_request_costs_two_children_and_no_neighbour(spec: ChildSpec) -> None:
    async def work() -> None:
        executor = ProcessExecutor(spec, name="sum", processes=2, limits=QUICK)
        await executor.open()
        batcher = Batcher(executor, name="sum", meter=Meter("sum", 1))
        values = [float(i) for i in range(20)]
        values[7] = graphs.LOOP
        asked = [ask(batcher, rows(value, 1.0), 1) for value in values]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        for i, answer in enumerate(answers):
            if i == 7:
                assert isinstance(answer, PoisonRequest)
            else:
                assert isinstance(answer, dict), answer
                assert answer["prediction"].tolist() == [i + 1.0]
        assert executor.statistics().replacements == 2
        await batcher.close()

    run(work())


async def survive(spec: ChildSpec, faults: int, seed: int) -> Counter[str]:
    """Requests go on while faults happen; what became of them, by name of the error."""
    executor = ProcessExecutor(spec, name="sum", processes=2, spares=1, limits=QUICK)
    await executor.open()
    batcher = Batcher(executor, name="sum", meter=Meter("sum", 1))
    chance = random.Random(seed)
    became: Counter[str] = Counter()
    hit: set[int] = set()
    over = asyncio.Event()

    async def caller(number: int) -> None:
        while not over.is_set():
            value = chance.random()
            try:
                answer = await ask(batcher, rows(value, float(number)), 1)
                became["right" if answer["prediction"][0] == value + number else "wrong"] += 1
            except Exception as error:  # noqa: BLE001 - counted, and looked at by name
                became[type(error).__name__] += 1
            await asyncio.sleep(chance.random() * 0.004)

    callers = [asyncio.ensure_future(caller(number)) for number in range(16)]
    for turn in range(faults):
        await asyncio.sleep(0.2 * chance.random())
        if turn % 5 == 4:
            with pytest.raises(PoisonRequest):
                await ask(batcher, rows(graphs.LOOP, chance.random()), 1)
        else:
            await until(lambda: bool(set(executor.pids) - hit))
            pid = chance.choice(sorted(set(executor.pids) - hit))
            hit.add(pid)
            os.kill(pid, chance.choice(SIGNALS))
    await until(lambda: not hit & set(executor.pids) and len(executor.pids) == 3)
    over.set()
    await asyncio.gather(*callers)
    became["replacements"] = executor.statistics().replacements
    await batcher.close()
    return became


def test_requests_survive_faults(spec: ChildSpec) -> None:
    async def work() -> None:
        became = await survive(spec, 10, seed=1)
        assert became.keys() == {"right", "replacements"}, became
        assert became["replacements"] >= 10

    run(work())


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_requests_survive_a_hundred_faults(spec: ChildSpec) -> None:
    became = asyncio.run(survive(spec, 100, seed=2))
    assert became.keys() == {"right", "replacements"}, became
    assert became["replacements"] >= 100
    assert became["right"] > 5_000
