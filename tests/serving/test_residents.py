"""Models that are loaded when they are called, and unloaded for others, under a budget of memory."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from faults.many_models import expected, name_of, publish_many
from servable.artifact.package import Package
from servable.errors import (
    ArtifactUnreadable,
    ModelNotFound,
    ModelNotReady,
    Overloaded,
    ServerStopping,
    VersionNotFound,
)
from servable.monitoring.metrics import Metrics
from servable.protocols.codecs import JSON
from servable.registry.home import open_home
from servable.registry.policy import Policy
from servable.runtime.asking import ask
from servable.runtime.model import LoadedModel, load_model
from servable.serving.desired import RegistrySource
from servable.serving.host import Host
from servable.serving.live import Cold, Live
from servable.serving.residents import BESIDE
from servable.settings import ServerSettings
from servable.testing import FakeClock

MIB = 2**20
ROW = [0.1, -0.4, 0.8, 0.3]


class Sizes:
    """Loads in truth, says that every model takes ``size`` bytes, and counts."""

    def __init__(self, size: int = 2 * MIB) -> None:
        self.size = size
        self.loads: list[str] = []
        self.broken = False
        self.gate: asyncio.Event | None = None

    async def __call__(self, package: Package, policy: Policy, **more: Any) -> LoadedModel:
        self.loads.append(package.manifest.model)
        if self.gate is not None:
            await self.gate.wait()
        if self.broken:
            raise ArtifactUnreadable("It is broken.")
        return (await load_model(package, policy, **more))._replace(memory_bytes=self.size)


Course = Callable[[Host, Sizes], Coroutine[Any, Any, None]]


def run(home: Path, course: Course, *, budget: int = 5 * MIB, clock: FakeClock | None = None) -> None:
    async def inside() -> None:
        sizes = Sizes()
        host = Host(
            RegistrySource(home), Metrics("test"), ServerSettings(memory=budget), loading=sizes, clock=clock
        )
        await host.reconcile()
        try:
            await course(host, sizes)
        finally:
            await host.close()

    asyncio.run(inside())


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("many") / "home"
    publish_many(home, 4)
    return home


@pytest.fixture
def two(home: Path) -> Path:
    publish_many(home, 2)
    return home


async def warm(host: Host, number: int) -> Live:
    found = host.find(name_of(number))
    return await found.warm() if isinstance(found, Cold) else found


async def value(live: Live) -> float:
    request = live.codecs[JSON].decode(b'{"input":[0.1,-0.4,0.8,0.3]}', "r")
    live.enter()
    try:
        answer = await ask(live.batcher, request.arrays, 1)
    finally:
        live.leave()
    return float(answer["prediction"][0])


def loaded(host: Host) -> list[int]:
    return [number for number in range(4) if name_of(number) in host.table.models]


def states(host: Host) -> dict[str, str]:
    return {status.model: status.state for status in host.table.statuses}


def test_nothing_is_loaded_until_it_is_called(four: Path) -> None:
    async def course(host: Host, sizes: Sizes) -> None:
        assert host.ready
        assert set(states(host).values()) == {"cold"}
        assert sizes.loads == []
        live = await warm(host, 1)
        assert await value(live) == pytest.approx(expected(1, ROW), rel=1e-4)
        assert host.find(name_of(1)) is live
        assert (loaded(host), sizes.loads) == ([1], [name_of(1)])
        assert live.status().memory_bytes == 2 * MIB + BESIDE

    run(four, course)


def test_the_least_recently_used_goes(four: Path) -> None:
    async def course(host: Host, sizes: Sizes) -> None:
        first = await warm(host, 0)
        await warm(host, 1)
        await value(first)
        await warm(host, 2)
        assert loaded(host) == [0, 2]
        assert states(host)[name_of(1)] == "cold"
        again = await warm(host, 1)
        assert loaded(host) == [1, 2]
        assert await value(again) == pytest.approx(expected(1, ROW), rel=1e-4)
        assert first.retired

    run(four, course)


def test_a_model_in_use_stays_and_the_caller_waits_or_is_refused(four: Path) -> None:
    clock = FakeClock()

    async def course(host: Host, sizes: Sizes) -> None:
        busy = await warm(host, 0)
        busy.enter()
        other = await warm(host, 1)
        other.enter()
        waiting = asyncio.ensure_future(warm(host, 2))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        other.leave()
        await waiting
        assert loaded(host) == [0, 2]
        (await warm(host, 2)).enter()
        refused = asyncio.ensure_future(warm(host, 3))
        await asyncio.sleep(0.02)
        assert not refused.done()
        clock.advance(6)
        with pytest.raises(Overloaded, match="all in use; try again"):
            await refused
        (await warm(host, 2)).leave()
        # Nothing was wrong with the model, so it is not left alone.
        await warm(host, 3)
        busy.leave()

    run(four, course, clock=clock)


def test_many_first_calls_at_once_load_once(four: Path) -> None:
    async def course(host: Host, sizes: Sizes) -> None:
        sizes.gate = asyncio.Event()
        callers = [asyncio.ensure_future(warm(host, 3)) for _ in range(50)]
        await asyncio.sleep(0)
        callers[0].cancel()
        callers[7].cancel()
        while not sizes.loads:
            await asyncio.sleep(0.001)
        sizes.gate.set()
        answers = await asyncio.gather(*callers, return_exceptions=True)
        assert sizes.loads == [name_of(3)]
        found = {answer for answer in answers if isinstance(answer, Live)}
        assert found == {host.find(name_of(3))}
        assert sum(isinstance(answer, Live) for answer in answers) == 48

    run(four, course)


def test_everybody_gets_an_answer_when_there_is_room_for_one(four: Path) -> None:
    async def course(host: Host, sizes: Sizes) -> None:
        async def call(number: int) -> None:
            assert await value(await warm(host, number)) == pytest.approx(
                expected(number, ROW), rel=1e-4, abs=1e-5
            )

        await asyncio.gather(*(call(number % 4) for number in range(40)))
        # Two that came together while both were in use may both be there still.
        await host.reconcile()
        assert len(loaded(host)) == 1

    run(four, course, budget=3 * MIB)


def test_a_model_beyond_the_budget_is_refused(four: Path) -> None:
    async def course(host: Host, sizes: Sizes) -> None:
        with pytest.raises(ModelNotReady, match=r"needs 2\.2 MiB of memory and the budget .* is 1\.5 MiB"):
            await warm(host, 0)
        # Measured twice, because the first load also sets up the library; then left alone for a while.
        assert sizes.loads == [name_of(0)] * 2
        with pytest.raises(ModelNotReady, match="needs"):
            await warm(host, 0)
        assert len(sizes.loads) == 2
        assert states(host)[name_of(0)] == "failed"
        assert host.ready
        sizes.size = MIB
        await warm(host, 1)

    run(four, course, budget=3 * MIB // 2)


def test_a_model_that_grew_makes_room_afterwards(four: Path) -> None:
    async def course(host: Host, sizes: Sizes) -> None:
        await warm(host, 0)
        await warm(host, 1)
        sizes.size = 4 * MIB
        grown = await warm(host, 2)
        assert grown.size == 4 * MIB + BESIDE
        assert loaded(host) == [2]

    run(four, course)


def test_a_budget_passed_while_others_were_in_use_is_kept_to_afterwards(four: Path) -> None:
    async def course(host: Host, sizes: Sizes) -> None:
        busy = await warm(host, 0)
        busy.enter()
        sizes.size = 4 * MIB
        grown = await warm(host, 2)
        grown.enter()
        await host.reconcile()
        both = loaded(host)
        busy.leave()
        await host.reconcile()
        grown.leave()
        assert (both, loaded(host)) == ([0, 2], [2])

    run(four, course)


def test_a_failed_load_is_left_alone_for_a_while(four: Path) -> None:
    clock = FakeClock()

    async def course(host: Host, sizes: Sizes) -> None:
        sizes.broken = True
        for _ in range(3):
            with pytest.raises(ModelNotReady, match="m0000:1 is not ready: It is broken"):
                await warm(host, 0)
        assert len(sizes.loads) == 1
        sizes.broken = False
        clock.advance(2)
        assert not await host.reconcile()
        await warm(host, 0)
        assert states(host)[name_of(0)] == "live"

    run(four, course, clock=clock)


def test_pinned_models_are_loaded_at_the_start_and_stay(two: Path) -> None:
    with open_home(two) as opened:
        opened.deployments.deploy(name_of(0), 1, policy={"pinned": True})

    async def course(host: Host, sizes: Sizes) -> None:
        assert states(host) == {name_of(0): "live", name_of(1): "cold"}
        with pytest.raises(ModelNotReady, match="pinned models leave less than that"):
            await warm(host, 1)
        with open_home(two) as opened:
            opened.deployments.deploy(name_of(0), 1, policy={})
        assert await host.reconcile()
        # Unpinning needs no load.
        assert sizes.loads.count(name_of(0)) == 1
        assert states(host)[name_of(0)] == "live"

    run(two, course, budget=3 * MIB)


def test_a_new_version_of_a_loaded_model_is_loaded_before_it_takes_over(two: Path) -> None:
    async def course(host: Host, sizes: Sizes) -> None:
        before = await warm(host, 0)
        with open_home(two) as opened:
            opened.deployments.deploy(name_of(0), 1, policy={"executor": "thread"})
            opened.deployments.deploy(name_of(1), 1, policy={"executor": "thread"})
        assert await host.reconcile()
        after = host.find(name_of(0))
        assert isinstance(after, Live)
        assert after is not before
        assert after.status().placement == "thread"
        assert isinstance(host.find(name_of(1)), Cold)
        assert sizes.loads == [name_of(0)] * 2

    run(two, course)


def test_callers_of_what_was_undeployed_while_it_loads_hear_so(two: Path) -> None:
    async def course(host: Host, sizes: Sizes) -> None:
        sizes.gate = asyncio.Event()
        waiting = asyncio.ensure_future(warm(host, 0))
        while not sizes.loads:
            await asyncio.sleep(0.001)
        with open_home(two) as opened:
            opened.deployments.undeploy(name_of(0))
        await host.reconcile()
        sizes.gate.set()
        with pytest.raises(ModelNotFound):
            await waiting
        with pytest.raises(VersionNotFound):
            host.find(f"{name_of(1)}:7")

    run(two, course)


def test_the_default_may_be_cold(two: Path) -> None:
    with open_home(two) as opened:
        opened.deployments.set_default(name_of(1))

    async def course(host: Host, sizes: Sizes) -> None:
        cold = host.find("")
        assert isinstance(cold, Cold)
        assert host.table.default_name == name_of(1)
        live = await cold.warm()
        assert host.find("") is live
        assert host.table.default_name == name_of(1)
        await warm(host, 0)
        await asyncio.sleep(0)
        assert host.table.default_name == name_of(1)
        assert isinstance(host.find(""), Cold)

    run(two, course, budget=3 * MIB)


def test_what_a_cold_model_takes_is_read_without_loading_it(four: Path) -> None:
    async def course(host: Host, sizes: Sizes) -> None:
        cold = host.find(name_of(2))
        assert isinstance(cold, Cold)
        assert [field.name for field in (await host.outline(cold)).signature.inputs] == list("abcd")
        assert sizes.loads == []

    run(four, course)


def test_closing_ends_a_load_that_is_under_way(two: Path) -> None:
    async def course(host: Host, sizes: Sizes) -> None:
        sizes.gate = asyncio.Event()
        waiting = asyncio.ensure_future(warm(host, 0))
        while not sizes.loads:
            await asyncio.sleep(0.001)
        await host.close()
        with pytest.raises(ServerStopping):
            await waiting
        with pytest.raises(ServerStopping):
            host.find(name_of(0))

    async def inside() -> None:
        sizes = Sizes()
        host = Host(RegistrySource(two), Metrics("t"), ServerSettings(memory=MIB * 4), loading=sizes)
        await host.reconcile()
        await course(host, sizes)

    asyncio.run(inside())


def test_pinned_models_that_do_not_fit_together_are_refused(two: Path) -> None:
    with open_home(two) as opened:
        for number in (0, 1):
            opened.deployments.deploy(name_of(number), 1, policy={"pinned": True})

    async def course(host: Host, sizes: Sizes) -> None:
        assert states(host) == {name_of(0): "live", name_of(1): "failed"}
        assert not host.ready
        assert "pinned models leave less" in host.failures[0].message

    run(two, course, budget=3 * MIB)


def test_the_memory_of_child_processes_counts(two: Path) -> None:
    with open_home(two) as opened:
        opened.deployments.deploy(name_of(0), 1, policy={"executor": "process"})

    async def course() -> None:
        host = Host(RegistrySource(two), Metrics("test"), ServerSettings(memory=1024 * MIB))
        await host.reconcile()
        live = await warm(host, 0)
        assert await value(live) == pytest.approx(expected(0, ROW), rel=1e-4, abs=1e-5)
        assert live.size > 20 * MIB
        await host.close()
        assert live.executor.statistics().processes == 0

    asyncio.run(course())
