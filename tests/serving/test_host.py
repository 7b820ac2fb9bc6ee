"""The host follows desired state: load first, then switch, then unload."""

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from servable.artifact.package import Package
from servable.clock import SystemClock
from servable.errors import (
    ArtifactUnreadable,
    ConflictError,
    ModelNotFound,
    ModelNotReady,
    ServableError,
    ServerStopping,
    VersionNotFound,
)
from servable.monitoring.metrics import Metrics
from servable.registry.home import open_home
from servable.registry.policy import Policy
from servable.runtime.model import LoadedModel, load_model
from servable.serving.answer import answer
from servable.serving.desired import RegistrySource
from servable.serving.host import Host
from servable.serving.live import Cold, Live
from servable.settings import ServerSettings
from serving.making import BIAS, IRIS, publish_iris

ROW = b'{"input":[5.1,3.5,1.4,0.2]}'
OTHER = BIAS + np.array([0.0, 0.0, 100.0])


class Hands(SystemClock):
    """A clock whose monotonic time moves only when told."""

    def __init__(self) -> None:
        self.time = 0.0

    def monotonic(self) -> float:
        return self.time


@pytest.fixture
def loop_home(home: Path) -> Path:
    publish_iris(home)
    return home


def a_host(home: Path, **more: Any) -> Host:
    settings = {name: more.pop(name) for name in list(more) if name in ServerSettings.__struct_fields__}
    return Host(RegistrySource(home), Metrics("test"), ServerSettings(**settings), **more)  # type: ignore[arg-type]  # passed through


def found(host: Host, reference: str = "iris") -> Live:
    live = host.find(reference)
    assert isinstance(live, Live)
    return live


async def predicted(host: Host, reference: str = "iris") -> tuple[str, int]:
    content = json.loads((await answer(found(host, reference), ROW, "r")).body)
    return content["prediction"], content["version"]


def test_a_deployment_becomes_live_and_a_new_version_takes_over(loop_home: Path) -> None:
    async def course() -> None:
        host = a_host(loop_home)
        assert not host.ready
        assert await host.reconcile()
        assert host.ready
        assert await predicted(host) == ("setosa", 1)
        assert not await host.reconcile()
        publish_iris(loop_home, bias=OTHER)
        assert await host.reconcile()
        assert await predicted(host) == ("virginica", 2)
        with pytest.raises(VersionNotFound, match="live version of iris is 2"):
            host.find("iris:1")
        await host.close()

    asyncio.run(course())


def test_the_old_version_is_closed_after_its_last_request(loop_home: Path) -> None:
    async def course() -> None:
        host = a_host(loop_home)
        await host.reconcile()
        old = found(host)
        old.enter()
        publish_iris(loop_home, bias=OTHER)
        await host.reconcile()
        await asyncio.sleep(0)
        assert json.loads((await answer(old, ROW, "r")).body)["version"] == 1
        old.leave()
        await host.close()
        with pytest.raises(ServerStopping):
            await answer(old, ROW, "r")

    asyncio.run(course())


def test_a_broken_version_never_takes_traffic_and_is_tried_again(loop_home: Path) -> None:
    clock = Hands()
    broken = [True]

    async def loading(package: Package, policy: Policy, **more: Any) -> LoadedModel:
        if package.digest != first and broken[0]:
            raise ArtifactUnreadable("It is broken.")
        return await load_model(package, policy, **more)

    with open_home(loop_home) as opened:
        first = opened.models.resolve("iris").package

    async def course() -> None:
        host = a_host(loop_home, loading=loading, clock=clock)
        await host.reconcile()
        publish_iris(loop_home, bias=OTHER)
        await host.reconcile()
        assert await predicted(host) == ("setosa", 1)
        assert host.ready
        failed = [status for status in host.table.statuses if status.state == "failed"]
        assert [(status.version, status.reason) for status in failed] == [(2, "It is broken.")]
        broken[0] = False
        assert not await host.reconcile()
        clock.time += 2
        assert await host.reconcile()
        assert await predicted(host) == ("virginica", 2)
        await host.close()

    asyncio.run(course())


def test_a_tampered_package_is_refused(loop_home: Path) -> None:
    with open_home(loop_home) as opened:
        folder = opened.packages.folder(opened.models.resolve("iris").package)
    graph = folder / "model.onnx"
    graph.chmod(0o644)
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")

    async def course() -> None:
        host = a_host(loop_home)
        await host.reconcile()
        assert not host.ready
        assert [error.code for error in host.failures] == ["artifact_tampered"]
        # A caller learns which file it is, and not where this machine keeps it.
        said = (
            "iris:1 is not ready: model.onnx of the package iris:1 differs from its recorded digest; "
            "publish the model again."
        )
        with pytest.raises(ModelNotReady) as refused:
            host.find("iris")
        assert refused.value.message == said
        assert said.endswith(host.table.statuses[0].reason)
        await host.close()

    asyncio.run(course())


def test_a_cold_model_that_cannot_be_loaded_says_so_once(loop_home: Path) -> None:
    with open_home(loop_home) as opened:
        folder = opened.packages.folder(opened.models.resolve("iris").package)
    (folder / "model.onnx").chmod(0o644)
    (folder / "model.onnx").write_bytes(b"x")

    async def course() -> None:
        host = a_host(loop_home, memory=2**30)
        await host.reconcile()
        cold = host.find("iris")
        assert isinstance(cold, Cold)
        for _ in range(2):
            with pytest.raises(ModelNotReady) as refused:
                await cold.warm()
            assert refused.value.message.startswith("iris:1 is not ready: model.onnx of the package iris:1 ")
            assert not refused.value.message.endswith("..")
        assert str(loop_home) not in host.table.statuses[0].reason
        await host.close()

    asyncio.run(course())


def test_an_adapter_that_raises_anything_at_all_stops_nothing(loop_home: Path) -> None:
    async def loading(package: Package, policy: Policy, **more: Any) -> LoadedModel:
        raise ZeroDivisionError("inside")

    async def course() -> None:
        host = a_host(loop_home, loading=loading)
        await host.reconcile()
        assert [error.code for error in host.failures] == ["artifact_unreadable"]
        await host.close()

    asyncio.run(course())


def test_the_running_host_follows_by_itself(loop_home: Path) -> None:
    async def course() -> None:
        host = a_host(loop_home, poll_s=0.01)
        following = asyncio.create_task(host.run())
        async with asyncio.timeout(10):
            while not host.ready:
                await asyncio.sleep(0.005)
            await asyncio.to_thread(publish_iris, loop_home, bias=OTHER)
            while "iris:2" not in host.table.targets:
                await asyncio.sleep(0.005)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await host.close()

    asyncio.run(course())


def test_undeploying_takes_a_model_away(loop_home: Path) -> None:
    async def course() -> None:
        host = a_host(loop_home)
        await host.reconcile()
        with open_home(loop_home) as opened:
            opened.deployments.undeploy("iris")
        await host.reconcile()
        with pytest.raises(ModelNotFound, match="served are: none"):
            host.find("iris")
        await host.close()

    asyncio.run(course())


def test_references_and_the_default(loop_home: Path) -> None:
    publish_iris(loop_home, "other")
    with open_home(loop_home) as opened:
        opened.models.set_alias("iris", "champion", 1)
        opened.deployments.set_default(None)

    async def course() -> None:
        host = a_host(loop_home)
        await host.reconcile()
        assert host.find("iris@champion") is host.find("iris:1") is host.find("iris")
        with pytest.raises(ConflictError, match="/models/iris/predict, /models/other/predict"):
            host.find("")
        with pytest.raises(ModelNotFound, match='did you mean "iris"'):
            host.find("irsi")
        with open_home(loop_home) as opened:
            opened.deployments.set_default("other")
        await host.reconcile()
        assert host.find("").model == "other"
        await host.close()

    asyncio.run(course())


def test_only_what_was_named_is_served(loop_home: Path) -> None:
    publish_iris(loop_home, "other")
    publish_iris(loop_home, "iris", deploy=False, bias=OTHER)
    wanted = {
        only: [(each.model, each.version) for each in RegistrySource(loop_home, only=[only]).wanted()]
        for only in ("iris", "iris:2", "other")
    }
    assert wanted == {"iris": [("iris", 1)], "iris:2": [("iris", 2)], "other": [("other", 1)]}
    for only, kind in ((["nope"], ModelNotFound), (["iris:1", "iris:2"], ConflictError)):
        with pytest.raises(kind):
            RegistrySource(loop_home, only=only)


def test_requests_are_counted_by_outcome(loop_home: Path) -> None:
    async def course() -> str:
        host = a_host(loop_home)
        await host.reconcile()
        await predicted(host)
        with pytest.raises(ServableError):
            await answer(found(host), b"{", "r")
        text = host.metrics.render().decode()
        await host.close()
        return text

    text = asyncio.run(course())
    assert 'servable_requests_total{code="ok",model="iris",version="1"} 1.0' in text
    assert 'servable_requests_total{code="malformed_request",model="iris",version="1"} 1.0' in text
    assert 'servable_request_duration_seconds_count{model="iris",version="1"} 2.0' in text
    assert 'servable_rows_total{model="iris",version="1"} 1.0' in text


def test_a_signature_that_promises_too_much_is_found_at_load(home: Path) -> None:
    from msgspec.structs import replace

    short = replace(IRIS, outputs=(replace(IRIS.outputs[0], values=("a", "b")),))
    publish_iris(home, signature=short)

    async def course() -> None:
        host = a_host(home)
        await host.reconcile()
        assert [error.code for error in host.failures] == ["model_failed"]
        await host.close()

    asyncio.run(course())


def test_a_version_that_hangs_while_it_is_loaded_holds_up_no_rollback(loop_home: Path) -> None:
    begun, cancelled = asyncio.Event(), []

    async def loading(package: Package, policy: Policy, **more: Any) -> LoadedModel:
        if package.digest != first:
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(package.digest)
                raise
        return await load_model(package, policy, **more)

    with open_home(loop_home) as opened:
        first = opened.models.resolve("iris").package

    async def course() -> None:
        host = a_host(loop_home, loading=loading, poll_s=0.01)
        await host.reconcile()
        publish_iris(loop_home, bias=OTHER)
        changing = asyncio.create_task(host.reconcile())
        await begun.wait()
        assert await predicted(host) == ("setosa", 1)
        with open_home(loop_home) as opened:
            opened.deployments.rollback("iris")
        await asyncio.wait_for(changing, 30)
        assert len(cancelled) == 1
        assert await predicted(host) == ("setosa", 1)
        assert [status.state for status in host.table.statuses] == ["live"]
        await host.close()

    asyncio.run(course())


def test_loads_pause_from_when_the_server_follows_desired_state(home: Path) -> None:
    """A start has nobody to be considerate of."""
    publish_iris(home)
    pauses: list[float] = []

    async def loading(package: Package, policy: Policy, **more: Any) -> LoadedModel:
        pauses.append(more["limits"].pace.breath_s)
        return await load_model(package, policy, **more)

    async def course() -> None:
        settings = ServerSettings(poll_s=0.01)
        host = Host(RegistrySource(home), Metrics("test"), settings, loading=loading)
        await host.reconcile()
        following = asyncio.create_task(host.run())
        await asyncio.to_thread(publish_iris, home, "other")
        while "other" not in host.table.models:
            await asyncio.sleep(0.001)
        following.cancel()
        await host.close()

    asyncio.run(course())
    assert pauses[0] == 0
    assert pauses[1] > 0
