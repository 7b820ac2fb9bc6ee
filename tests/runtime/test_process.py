"""The process executor: start-up, batches, replacement and end, with real child processes."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.graphs import ALLOCATE, LOOP, RAISE, make_package
from servable.errors import (
    ArtifactTampered,
    ArtifactUnreadable,
    FileMissing,
    ModelDied,
    ModelFailed,
    ModelNotReady,
    ServableError,
)
from servable.monitoring.metrics import Meter
from servable.runtime.confine import look_at
from servable.runtime.executor import Outcome, run_batch
from servable.runtime.framing import Standing
from servable.runtime.process import ChildLimits, ChildSpec, ProcessExecutor

QUICK = ChildLimits(run_s=0.4, tick_s=0.05, heartbeat_s=0.5)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ChildSpec:
    return make_package(tmp_path_factory.mktemp("process") / "package")


def rows(*values: float) -> dict[str, Any]:
    return {"numbers": np.array([values])}


async def total(executor: ProcessExecutor, *values: float) -> float:
    answer = await run_batch(executor, rows(*values))
    return float(answer["prediction"][0])


async def until(holds: Callable[[], bool], within_s: float = 20.0) -> None:
    async with asyncio.timeout(within_s):
        while not holds():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def opened(spec: ChildSpec, **options: Any) -> AsyncIterator[ProcessExecutor]:
    executor = ProcessExecutor(spec, name="sum", **options)
    await executor.open()
    try:
        yield executor
    finally:
        await executor.close()


def held() -> tuple[Any, ...]:
    """What lies in /dev/shm of ours, how many descriptors are open, and which children live."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    # Other programs of the machine come and go there.
    names = [each.name for each in Path("/dev/shm").iterdir() if "servable" in each.name]
    return names, len(list(Path("/proc/self/fd").iterdir())), children


def run(work: Coroutine[Any, Any, None], within_s: float = 60) -> None:
    """Run it, and see that nothing is left behind."""

    async def timed() -> None:
        async with asyncio.timeout(within_s):
            await work

    before = held()
    asyncio.run(timed())
    assert held() == before


def test_a_child_says_how_it_is(spec: ChildSpec) -> None:
    async def work() -> None:
        async with opened(spec, processes=2) as executor:
            assert 0 < executor.example_seconds < executor.load_seconds
            assert executor.memory_bytes > 2**20
            assert len(set(executor.pids)) == 2
            assert os.getpid() not in executor.pids
            statistics = executor.statistics()
            assert (statistics.kind, statistics.slots, statistics.processes) == ("process", 2, 2)
            assert await total(executor, 1.0, 2.0) == 3.0

    run(work())


def test_a_row_that_is_alone_is_waited_for_in_place(spec: ChildSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("servable.runtime.process.MOST_S", 20.0)

    async def work() -> None:
        async with opened(spec, processes=2) as executor:
            heard: list[Outcome] = []
            executor.start(rows(1.0, 2.0), heard.append)
            assert [each.arrays["prediction"].tolist() for each in heard if each.arrays] == [[3.0]]
            # Several rows leave the loop free for those that come meanwhile.
            executor.start({"numbers": np.array([[1.0, 2.0], [3.0, 4.0]])}, heard.append)
            assert len(heard) == 1
            # Nor does anybody wait for one beside another.
            executor.start(rows(5.0, 6.0), heard.append)
            assert len(heard) == 1
            await until(lambda: len(heard) == 3)

    run(work())


def test_a_shadow_is_never_waited_for_in_place(spec: ChildSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("servable.runtime.process.MOST_S", 20.0)

    async def work() -> None:
        async with opened(spec._replace(behind=Standing.BEHIND)) as executor:
            heard: list[Outcome] = []
            executor.start(rows(1.0, 2.0), heard.append)
            assert not heard
            await until(lambda: len(heard) == 1)

    run(work())


def test_a_child_that_dies_while_it_is_waited_for_in_place_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("servable.runtime.process.MOST_S", 20.0)

    async def work() -> None:
        async with opened(make_package(tmp_path / "package")) as executor:
            (pid,) = executor.pids
            os.kill(pid, signal.SIGKILL)
            heard: list[Outcome] = []
            executor.start(rows(1.0, 2.0), heard.append)
            await until(lambda: len(heard) == 1)
            assert heard[0].arrays is not None or isinstance(heard[0].error, ModelDied)
            await until(lambda: executor.pids not in ((), (pid,)))
            assert await total(executor, 1.0, 2.0) == 3.0

    run(work())


def children() -> set[int]:
    return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}


def test_one_that_takes_the_place_of_another_behind_all_others_stands_there_from_its_start(
    spec: ChildSpec,
) -> None:
    async def work() -> None:
        limits = ChildLimits(rest_s=0.1)
        async with opened(spec._replace(behind=Standing.BEHIND), limits=limits) as executor:
            (first,) = executor.pids
            assert os.sched_getscheduler(first) == os.SCHED_IDLE
            others = children()
            os.kill(first, signal.SIGKILL)
            await until(lambda: bool(children() - others))
            (second,) = children() - others
            # It has not loaded its model yet.
            assert executor.pids == ()
            assert os.sched_getscheduler(second) == os.SCHED_IDLE
            # Nor does anybody wait for it at the end.
            asked = asyncio.create_task(total(executor, 1.0, 2.0))
            await asyncio.sleep(0)
            await executor.close()
            with pytest.raises(ModelNotReady, match="closed before it was loaded again"):
                await asked

    run(work())


@pytest.mark.parametrize(("asked", "least_s", "most_s"), [(0, 0.9, 20.0), (1, 0.0, 0.9)])
def test_one_behind_all_others_rests_after_a_death_without_an_answer(
    spec: ChildSpec, asked: int, least_s: float, most_s: float
) -> None:
    async def work() -> None:
        limits = ChildLimits(rest_s=1.0)
        async with opened(spec._replace(behind=Standing.BEHIND), limits=limits) as executor:
            for _ in range(asked):
                assert await total(executor, 1.0, 2.0) == 3.0
            (first,) = executor.pids
            others = children()
            clock = asyncio.get_running_loop().time
            died = clock()
            assert not executor.away
            os.kill(first, signal.SIGKILL)
            await until(lambda: bool(children() - others))
            # It is there, and has not loaded its model yet.
            assert executor.away
            assert least_s <= clock() - died < most_s
            await until(lambda: bool(executor.pids))
            assert not executor.away
            assert await total(executor, 1.0, 2.0) == 3.0

    run(work())


@pytest.mark.parametrize("count", [1, 1000, 1025, 200_000])
def test_batches_of_every_size_come_back(spec: ChildSpec, count: int) -> None:
    async def work() -> None:
        async with opened(spec) as executor:
            numbers = np.random.default_rng(1).random((count, 2)) * 100
            for _ in range(3):
                answer = await run_batch(executor, {"numbers": numbers[:, ::-1]})
                assert np.allclose(answer["prediction"], numbers.sum(axis=1))
                numbers = numbers[: count // 2 + 1]

    run(work())


def test_what_the_model_raises_is_its_answer(spec: ChildSpec) -> None:
    async def work() -> None:
        async with opened(spec) as executor:
            with pytest.raises(ModelFailed, match=r"failed on 1 rows \(\w+\)\.$"):
                await total(executor, RAISE, 0.0)
            with pytest.raises(ModelFailed, match=r"failed on 1 rows .*raise process_memory\.$"):
                await total(executor, ALLOCATE, 0.0)
            with pytest.raises(ModelFailed, match="neither numbers nor texts"):
                await run_batch(executor, {"numbers": np.array([[None]], dtype=object)})
            assert await total(executor, 1.0, 1.0) == 2.0
            assert executor.statistics().replacements == 0
            assert executor.statistics().failures == 3

    run(work())


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"digest": "0" * 64}, ArtifactTampered, "digest"),
        ({"variant": "int8"}, ArtifactUnreadable, "no variant 'int8'"),
        ({"folder": Path("nowhere")}, FileMissing, "no package"),
    ],
)
def test_a_child_that_cannot_load_says_why(
    spec: ChildSpec, change: dict[str, Any], error: type[ServableError], sentence: str
) -> None:
    async def work() -> None:
        executor = ProcessExecutor(spec._replace(**change), name="sum", processes=2)
        with pytest.raises(error, match=sentence):
            await executor.open()
        assert executor.statistics().processes == 0

    run(work())


@pytest.mark.parametrize(
    ("limits", "error", "sentence"),
    [
        (ChildLimits(start_s=0.01, tick_s=0.01), ModelNotReady, "start_limit_s"),
        (ChildLimits(memory_bytes=2**20), ArtifactUnreadable, "process_memory"),
    ],
)
def test_limits_hold_while_it_starts(
    spec: ChildSpec, limits: ChildLimits, error: type[ServableError], sentence: str
) -> None:
    async def work() -> None:
        with pytest.raises(error, match=sentence):
            await ProcessExecutor(spec, name="sum", limits=limits).open()

    run(work())


def test_a_hang_on_one_child_holds_up_nobody_else(spec: ChildSpec) -> None:
    async def work() -> None:
        meter = Meter("sum", 1)
        async with opened(spec, processes=2, limits=QUICK, on_replaced=meter.replaced) as executor:
            hung = asyncio.ensure_future(total(executor, LOOP, 0.0))
            await asyncio.sleep(0)
            for i in range(50):
                assert await total(executor, float(i), 1.0) == i + 1.0
            with pytest.raises(ModelDied, match=r"longer than 0\.4 s"):
                await hung
            await until(lambda: executor.statistics().processes == 2)
            assert meter.replacements == executor.statistics().replacements == 1

    run(work())


def test_a_batch_waits_for_the_replacement(spec: ChildSpec) -> None:
    async def work() -> None:
        async with opened(spec) as executor:
            (first,) = executor.pids
            os.kill(first, signal.SIGKILL)
            await until(lambda: executor.statistics().processes == 0)
            assert await total(executor, 1.0, 1.0) == 2.0
            assert executor.pids != (first,)

    run(work())


@pytest.mark.parametrize("killed", [False, True])
def test_a_batch_that_a_dying_child_never_read_goes_to_the_next(spec: ChildSpec, killed: bool) -> None:
    async def work() -> None:
        async with opened(spec, limits=QUICK) as executor:
            (pid,) = executor.pids
            os.kill(pid, signal.SIGSTOP)
            # The loop does not turn meanwhile, so the executor cannot know.
            while (seen := look_at(pid)) is not None and seen.state != "T":
                continue
            asked = asyncio.ensure_future(total(executor, 1.0, 1.0))
            await asyncio.sleep(0)
            if killed:
                os.kill(pid, signal.SIGKILL)
            assert await asked == 2.0
            assert executor.statistics().failures == 0

    run(work())


def test_a_spare_takes_over_at_once(spec: ChildSpec) -> None:
    async def work() -> None:
        async with opened(spec, spares=1) as executor:
            await until(lambda: executor.statistics().processes == 2)
            loop = asyncio.get_running_loop()
            os.kill(executor.pids[-1], signal.SIGKILL)
            await until(lambda: executor.statistics().replacements == 1)
            began = loop.time()
            assert await total(executor, 1.0, 1.0) == 2.0
            assert loop.time() - began < executor.load_seconds
            assert executor.slots == 1

    run(work())


def test_a_batch_is_refused_while_no_child_can_start_and_taken_again_later(tmp_path: Path) -> None:
    async def work() -> None:
        spec = make_package(tmp_path / "package")
        async with opened(spec) as executor:
            moved = shutil.move(spec.folder, tmp_path / "moved")
            os.kill(executor.pids[0], signal.SIGKILL)
            await until(lambda: executor.statistics().processes == 0)
            with pytest.raises(ModelNotReady, match="no package"):
                await total(executor, 1.0, 1.0)
            with pytest.raises(ModelNotReady, match="no package"):
                await total(executor, 1.0, 1.0)
            shutil.move(moved, spec.folder)
            await until(lambda: executor.statistics().processes == 1)
            assert await total(executor, 1.0, 1.0) == 2.0

    run(work())


def test_one_that_is_killed_while_it_loads_is_tried_again(spec: ChildSpec) -> None:
    async def work() -> None:
        async with opened(spec) as executor:
            known = set(held()[2])
            os.kill(executor.pids[0], signal.SIGKILL)
            await until(lambda: executor.statistics().processes == 0)
            asked = asyncio.ensure_future(total(executor, 1.0, 1.0))
            loading = [int(pid) for pid in held()[2] if pid not in known]
            os.kill(loading[0], signal.SIGKILL)
            assert await asked == 2.0

    run(work())


def test_one_that_dies_again_and_again_comes_back_every_time(spec: ChildSpec) -> None:
    async def work() -> None:
        async with opened(spec) as executor:
            for turn in range(1, 6):
                os.kill(executor.pids[0], signal.SIGKILL)
                await until(lambda turn=turn: executor.statistics().replacements == turn)
                await until(lambda: executor.statistics().processes == 1)
            assert await total(executor, 1.0, 1.0) == 2.0

    run(work())


def test_close_waits_for_the_batch_and_opens_nothing(spec: ChildSpec) -> None:
    async def work() -> None:
        executor = ProcessExecutor(spec, name="sum")
        await executor.open()
        outcomes: list[Outcome] = []
        executor.start({"numbers": np.ones((100_000, 2))}, outcomes.append)
        await executor.close()
        assert len(outcomes) == 1
        assert outcomes[0].error is None

    run(work())


def test_an_opening_that_is_cancelled_leaves_nothing(spec: ChildSpec) -> None:
    async def work() -> None:
        executor = ProcessExecutor(spec, name="sum", processes=2)
        opening = asyncio.ensure_future(executor.open())
        await asyncio.sleep(0.05)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening

    run(work())
