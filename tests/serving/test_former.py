"""The version before is kept warm for a while, and a rollback needs neither a load nor a wait for one."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from servable.artifact.package import Package
from servable.errors import ServerStopping, VersionNotFound
from servable.registry.home import Home, open_home
from servable.registry.policy import Policy
from servable.runtime.model import LoadedModel, load_model
from servable.serving.answer import answer
from servable.serving.held import held
from servable.serving.live import Cold, Live
from servable.testing import FakeClock
from serving.making import publish_iris
from serving.test_division import BIASES, ROW, Broken, a_host, asked, states, traffic

MIB = 2**20


@pytest.fixture
def opened(home: Path) -> Iterator[Home]:
    """Three versions of iris, of which the first is deployed, and one of another model."""
    for bias in BIASES:
        publish_iris(home, bias=bias, deploy=False)
    with open_home(home) as opened:
        opened.deployments.deploy("iris", 1)
        yield opened


def test_a_rollback_needs_no_load(home: Path, opened: Home) -> None:
    async def course() -> None:
        loading = Broken(opened)
        host = a_host(home, loading=loading, clock=FakeClock())
        await host.reconcile()
        first = host.find("iris")
        opened.deployments.deploy("iris", 2)
        await host.reconcile()
        assert states(host) == {1: ("warm", 0.0), 2: ("live", 1.0)}
        assert set(held(host.table)) == {("iris", 1), ("iris", 2)}
        # It takes no requests, whoever asks.
        with pytest.raises(VersionNotFound):
            host.find("iris:1")
        with pytest.raises(VersionNotFound):
            await asked(host, x_servable_version="1")
        opened.deployments.rollback("iris")
        assert await host.reconcile()
        assert host.find("iris") is first
        assert await asked(host) == 1
        assert len(loading.loads) == 2
        assert states(host) == {1: ("live", 1.0), 2: ("warm", 0.0)}
        await host.close()

    asyncio.run(course())


def test_it_goes_when_its_time_is_over(home: Path, opened: Home) -> None:
    async def course() -> None:
        clock = FakeClock()
        host = a_host(home, keep_warm_s=60, clock=clock)
        await host.reconcile()
        first = host.find("iris")
        assert isinstance(first, Live)
        opened.deployments.deploy("iris", 2)
        await host.reconcile()
        clock.advance(59)
        await host.reconcile()
        assert 1 in states(host)
        clock.advance(1)
        await host.reconcile()
        assert states(host) == {2: ("live", 1.0)}
        await host.close()
        with pytest.raises(ServerStopping):
            await answer(first, ROW, "r")

    asyncio.run(course())


@pytest.mark.parametrize("course_of", ["nothing is kept", "undeployed", "reloaded"])
def test_what_no_rollback_would_bring_back_is_closed(home: Path, opened: Home, course_of: str) -> None:
    async def course() -> None:
        host = a_host(home, keep_warm_s=0 if course_of == "nothing is kept" else 60, clock=FakeClock())
        await host.reconcile()
        if course_of == "reloaded":
            opened.deployments.deploy("iris", 1, wishes={"executor": "thread"})
        else:
            opened.deployments.deploy("iris", 2)
        await host.reconcile()
        if course_of == "undeployed":
            assert 1 in states(host)
            opened.deployments.undeploy("iris")
            await host.reconcile()
        assert "warm" not in {state for state, _ in states(host).values()}
        assert host.table.warm == ()
        await host.close()

    asyncio.run(course())


def test_one_version_of_a_model_is_kept_and_goes_before_another_is_loaded(home: Path, opened: Home) -> None:
    seen: list[dict[int, tuple[str, float]]] = []

    async def course() -> None:
        async def loading(package: Package, policy: Policy, **more: Any) -> LoadedModel:
            seen.append(states(host))
            return await load_model(package, policy, **more)

        host = a_host(home, loading=loading, clock=FakeClock())
        await host.reconcile()
        for version in (2, 3):
            opened.deployments.deploy("iris", version)
            await host.reconcile()
        assert seen[-1] == {2: ("live", 1.0)}
        assert states(host) == {2: ("warm", 0.0), 3: ("live", 1.0)}
        await host.close()

    asyncio.run(course())


def test_under_a_budget_of_memory_it_goes_when_others_need_the_room(home: Path, opened: Home) -> None:
    publish_iris(home, "other")

    async def course() -> None:
        async def loading(package: Package, policy: Policy, **more: Any) -> LoadedModel:
            return (await load_model(package, policy, **more))._replace(memory_bytes=2 * MIB)

        # There is room for two.
        host = a_host(home, memory=5 * MIB, loading=loading, clock=FakeClock())
        await host.reconcile()
        cold = host.find("iris")
        assert isinstance(cold, Cold)
        await cold.warm()
        opened.deployments.deploy("iris", 2, wishes={"pinned": True})
        await host.reconcile()
        assert states(host)[1] == ("warm", 0.0)
        other = host.find("other")
        assert isinstance(other, Cold)
        await other.warm()
        found = {(each.model, each.version): each.state for each in host.table.statuses}
        assert found == {("iris", 2): "live", ("other", 1): "live"}
        await host.close()

    asyncio.run(course())


def test_a_rollback_does_not_wait_for_the_load_of_another_model(home: Path, opened: Home) -> None:
    async def course() -> None:
        go_on, begun = asyncio.Event(), asyncio.Event()

        async def loading(package: Package, policy: Policy, **more: Any) -> LoadedModel:
            if package.manifest.model == "other":
                begun.set()
                await go_on.wait()
            return await load_model(package, policy, **more)

        host = a_host(home, loading=loading, poll_s=0.01)
        await host.reconcile()
        opened.deployments.deploy("iris", 2)
        await host.reconcile()
        publish_iris(home, "other")
        following = asyncio.create_task(host.reconcile())
        async with asyncio.timeout(30):
            await begun.wait()
            opened.deployments.rollback("iris")
            while await asked(host) != 1:
                await asyncio.sleep(0)
        assert "other" not in host.table.models
        go_on.set()
        assert await following
        assert set(host.table.models) == {"iris", "other"}
        await host.close()

    asyncio.run(course())


def test_what_is_not_wanted_any_more_when_it_is_loaded_is_closed(home: Path, opened: Home) -> None:
    async def course() -> None:
        go_on, begun = asyncio.Event(), asyncio.Event()
        made: list[LoadedModel] = []

        async def loading(package: Package, policy: Policy, **more: Any) -> LoadedModel:
            if package.digest == second:
                begun.set()
                await go_on.wait()
            made.append(await load_model(package, policy, **more))
            return made[-1]

        second = opened.models.resolve("iris:2").package
        # It looks at desired state again only when the load is over.
        host = a_host(home, loading=loading, poll_s=60.0)
        await host.reconcile()
        opened.deployments.divide("iris", traffic(v1=50, v2=50))
        following = asyncio.create_task(host.reconcile())
        await begun.wait()
        opened.deployments.rollback("iris")
        go_on.set()
        await following
        await host.reconcile()
        assert states(host) == {1: ("live", 1.0)}
        await host.close()
        assert len(made) == 2

    asyncio.run(course())
