"""Models on GPUs that are not there: who is on one, who runs on the processor, and who comes back."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from faults.many_models import name_of, publish_many
from servable.artifact.package import Package
from servable.frameworks.devices import Placed
from servable.monitoring.metrics import Metrics
from servable.registry.home import open_home
from servable.registry.policy import Policy
from servable.runtime.model import LoadedModel, load_model
from servable.runtime.sharing import ALONE, Sharing
from servable.serving.desired import RegistrySource
from servable.serving.held import held
from servable.serving.host import Host
from servable.serving.live import Cold, Live
from servable.settings import ServerSettings
from servable.testing import FakeGpus

GIB = 1024**3


class OnGpu:
    """Loads in truth, and says that the model is on its GPU and takes ``size`` bytes there."""

    def __init__(self) -> None:
        self.sizes = dict.fromkeys(map(name_of, range(4)), 4 * GIB)
        self.loads: list[tuple[str, str]] = []

    async def __call__(self, package: Package, policy: Policy, **more: Any) -> LoadedModel:
        name = package.manifest.model
        self.loads.append((name, policy.device))
        loaded = await load_model(package, policy, **{**more, "sharing": ALONE})
        if policy.device == "cpu":
            return loaded
        return loaded._replace(
            device=Placed("cuda:0"),
            accelerator_bytes=self.sizes[name],
            sharers=more["sharing"].workers if policy.share else 1,
        )


Course = Callable[[Host, OnGpu], Coroutine[Any, Any, None]]


def run(home: Path, course: Course, *, total: int = 0, workers: int = 1, **settings: Any) -> None:
    async def inside() -> None:
        loading = OnGpu()
        host = Host(
            RegistrySource(home),
            Metrics("test"),
            ServerSettings(**settings),
            loading=loading,
            sharing=Sharing(workers),
            gpus=FakeGpus(total),
        )
        try:
            await course(host, loading)
        finally:
            await host.close()

    asyncio.run(inside())


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    publish_many(folder, 3)
    return folder


def where(host: Host) -> dict[str, str]:
    return {status.model: status.device for status in host.table.statuses}


def test_what_does_not_fit_runs_on_the_processor_and_says_so(home: Path) -> None:
    async def course(host: Host, loading: OnGpu) -> None:
        await host.reconcile()
        assert sorted(where(host).values()) == ["cpu", "cuda:0", "cuda:0"]
        (fallen,) = (status for status in host.table.statuses if status.device == "cpu")
        assert "it should run on cuda:0 and runs on the processor" in fallen.device_reason
        assert "hold 8.00 GiB of the 10.00 GiB" in fallen.device_reason
        assert fallen.accelerator_bytes == 0
        assert sum(each.accelerator_bytes for each in held(host.table).values()) == 8 * GIB
        # It was tried once, because nothing was known of its size.
        assert len(loading.loads) == 4

    run(home, course, accelerator_memory=10 * GIB)


def test_without_a_budget_it_is_what_the_gpu_has_less_a_reserve(home: Path) -> None:
    async def course(host: Host, loading: OnGpu) -> None:
        await host.reconcile()
        assert sorted(where(host).values()) == ["cpu", "cuda:0", "cuda:0"]

    run(home, course, total=12 * GIB)


def test_where_nothing_is_known_of_the_gpu_nothing_is_counted(home: Path) -> None:
    async def course(host: Host, loading: OnGpu) -> None:
        await host.reconcile()
        assert set(where(host).values()) == {"cuda:0"}

    run(home, course)


def test_a_model_comes_back_once_there_is_room(home: Path) -> None:
    async def course(host: Host, loading: OnGpu) -> None:
        await host.reconcile()
        (fallen,) = (status.model for status in host.table.statuses if status.device == "cpu")
        assert not await host.reconcile()
        with open_home(home) as opened:
            opened.deployments.undeploy(next(name for name in where(host) if name != fallen))
        await host.reconcile()
        while where(host)[fallen] == "cpu":
            # The other one is still being closed.
            await asyncio.sleep(0)
            await host.reconcile()
        assert set(where(host).values()) == {"cuda:0"}
        loads = len(loading.loads)
        assert not await host.reconcile()
        assert len(loading.loads) == loads

    run(home, course, accelerator_memory=10 * GIB)


def test_cold_models_make_room_for_each_other(home: Path) -> None:
    async def course(host: Host, loading: OnGpu) -> None:
        await host.reconcile()
        for number in (0, 1, 2):
            found = host.find(name_of(number))
            live = await found.warm() if isinstance(found, Cold) else found
            assert isinstance(live, Live)
            assert live.status().device == "cuda:0"
        assert sorted(host.table.models) == [name_of(1), name_of(2)]

    run(home, course, accelerator_memory=10 * GIB, memory=64 * 2**20)


def test_what_every_worker_holds_itself_counts_for_each(home: Path) -> None:
    async def course(host: Host, loading: OnGpu) -> None:
        await host.reconcile()
        assert sorted(where(host).values()) == ["cpu", "cpu", "cuda:0"]

    run(home, course, accelerator_memory=10 * GIB, workers=2)


def test_what_workers_share_counts_once_and_is_left_to_its_keeper(home: Path) -> None:
    with open_home(home) as opened:
        for number in range(3):
            name = name_of(number)
            opened.deployments.deploy(name, 1, wishes={"share": True})

    async def course(host: Host, loading: OnGpu) -> None:
        await host.reconcile()
        assert set(where(host).values()) == {"cuda:0"}
        assert len(loading.loads) == 3
        assert sum(each.accelerator_bytes for each in held(host.table).values()) == 6 * GIB

    run(home, course, accelerator_memory=10 * GIB, workers=2)
