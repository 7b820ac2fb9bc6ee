"""A shared model that its keeper moves to its GPU: what every server says of it afterwards."""

import asyncio
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from faults.many_models import expected, name_of, publish_one
from runtime.keeping import Gpu, Kept, kept
from servable.monitoring.metrics import Metrics
from servable.registry.home import open_home
from servable.runtime.asking import ask
from servable.runtime.mailbox import hand_over
from servable.runtime.sharing import Sharing
from servable.serving.desired import RegistrySource
from servable.serving.held import held
from servable.serving.host import Host
from servable.serving.live import Live, ModelStatus
from servable.settings import ServerSettings
from serving.test_accelerating import GIB

FALLS = name_of(1)
ROW = [0.1, 0.2, 0.3, 0.4]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    with open_home(folder) as opened:
        for number in range(2):
            publish_one(opened, number, policy={"share": True})
    return folder


def server(home: Path, one: Kept, gpu: Gpu) -> Host:
    """One worker of two."""
    metrics = Metrics("test")
    host = Host(
        RegistrySource(home),
        metrics,
        ServerSettings(accelerator_memory=10 * GIB, keep_warm_s=0, workers=2),
        sharing=Sharing(2, partial(hand_over, one.servers)),
        gpus=gpu,
    )
    metrics.held = lambda: held(host.table)
    return host


def said(host: Host) -> ModelStatus:
    (status,) = (status for status in host.table.statuses if status.model == FALLS)
    return status


def on_gpu(host: Host) -> int:
    """What /metrics says of the memory of GPUs."""
    return sum(figures.accelerator_bytes for figures in host.metrics.snapshot().models)


def test_every_server_says_where_it_is_now(home: Path) -> None:
    async def course() -> None:
        gpu = Gpu(10 * GIB, 6 * GIB)
        async with kept(gpu) as one:
            hosts = [server(home, one, gpu) for _ in range(2)]
            for host in hosts:
                await host.reconcile()
                assert said(host).device == "cpu"
                assert "other models hold 6.00 GiB of the 10.00 GiB" in said(host).device_reason
                assert said(host).accelerator_bytes == 0
            assert sum(map(on_gpu, hosts)) == 6 * GIB
            # How large it is was found out by trying it once.
            gpu.most = 0
            lives = [host.find(FALLS) for host in hosts]
            with open_home(home) as opened:
                opened.deployments.undeploy(name_of(0))
            async with asyncio.timeout(30.0):
                while any(said(host).device == "cpu" for host in hosts):
                    for host in hosts:
                        await host.reconcile()
                    await one.seating.look()
                    await asyncio.sleep(0.01)
            for host, live in zip(hosts, lives, strict=True):
                status = said(host)
                assert (status.device, status.device_reason) == ("cuda:0", "")
                assert status.accelerator_bytes == 6 * GIB
                assert status.share == 1.0
                # It is the same one as before, its queue and what it counts included.
                assert host.find(FALLS) is live
                assert isinstance(live, Live)
                assert live.status() == status
                answer = await ask(live.batcher, {"numbers": np.array([ROW])}, 1)
                assert answer["prediction"][0] == pytest.approx(expected(1, ROW), rel=1e-5)
            assert sum(map(on_gpu, hosts)) == 6 * GIB
            assert gpu.most <= 10 * GIB
            for host in hosts:
                await host.close()

    asyncio.run(course())
