"""Several versions of one model live at once: who answers, and what follows when one cannot be loaded."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from servable.artifact.package import Package
from servable.errors import ArtifactUnreadable, ModelNotReady, VersionNotFound
from servable.monitoring.metrics import Metrics
from servable.registry.home import Home, open_home
from servable.registry.policy import Policy
from servable.registry.records import WHOLE, Share, Traffic
from servable.runtime.model import LoadedModel, load_model
from servable.serving.answer import answer
from servable.serving.desired import RegistrySource
from servable.serving.host import Host
from servable.serving.live import Cold, Live
from servable.settings import ServerSettings
from servable.testing import FakeClock
from serving.making import BIAS, publish_iris

ROW = b'{"input":[5.1,3.5,1.4,0.2]}'
#: Versions 1, 2 and 3 answer differently to the row.
BIASES = (BIAS, BIAS + np.array([0.0, 100.0, 0.0]), BIAS + np.array([0.0, 0.0, 100.0]))
ANSWERS = {1: "setosa", 2: "versicolor", 3: "virginica"}


def traffic(**shares: float) -> Traffic:
    """Shares by ``v1=95``."""
    return Traffic(shares=tuple(Share(version=int(name[1:]), weight=part) for name, part in shares.items()))


@pytest.fixture
def three(home: Path) -> Path:
    """Three versions, of which the first is deployed."""
    for bias in BIASES:
        publish_iris(home, bias=bias, deploy=False)
    with open_home(home) as opened:
        opened.deployments.deploy("iris", 1)
    return home


@pytest.fixture
def opened(three: Path) -> Iterator[Home]:
    with open_home(three) as opened:
        yield opened


class Broken:
    """Loads everything but some packages."""

    def __init__(self, opened: Home, *versions: int) -> None:
        self.digests = {opened.models.resolve(f"iris:{version}").package for version in versions}
        self.loads: list[str] = []

    async def __call__(self, package: Package, policy: Policy, **more: Any) -> LoadedModel:
        self.loads.append(package.digest)
        if package.digest in self.digests:
            raise ArtifactUnreadable("It is broken.")
        return await load_model(package, policy, **more)


def a_host(home: Path, **more: Any) -> Host:
    settings = {name: more.pop(name) for name in list(more) if name in ServerSettings.__struct_fields__}
    return Host(RegistrySource(home), Metrics("test"), ServerSettings(**settings), **more)


async def asked(host: Host, reference: str = "iris", **headers: str) -> int:
    """The version that answers, after a look whether its answer is the one of that version."""
    head = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    found = host.meant(reference, head)
    assert isinstance(found, Live)
    content = json.loads((await answer(found, ROW, "r", head=head)).body)
    assert ANSWERS[content["version"]] == content["prediction"]
    return int(content["version"])


async def counted(host: Host, requests: int = 400, **headers: str) -> Counter[int]:
    return Counter([await asked(host, **headers) for _ in range(requests)])


def states(host: Host) -> dict[int, tuple[str, float]]:
    """State and share of each version of iris."""
    found = [each for each in host.table.statuses if each.model == "iris"]
    return {each.version: (each.state, round(each.share, 6)) for each in found}


def test_requests_are_divided_and_every_version_can_be_addressed(three: Path, opened: Home) -> None:
    async def course() -> None:
        host = a_host(three)
        opened.models.set_alias("iris", "next", 2)
        opened.deployments.divide("iris", traffic(v1=60, v2=40))
        assert await host.reconcile()
        assert states(host) == {1: ("live", 0.6), 2: ("live", 0.4)}
        answered = await counted(host)
        # Five standard deviations of a binomial distribution.
        assert set(answered) == {1, 2}
        assert abs(answered[2] - 160) < 50
        assert {await asked(host, f"iris:{version}") for version in (1, 2)} == {1, 2}
        assert await asked(host, "iris@next") == 2
        assert await asked(host, "") in (1, 2)
        for reference in ("iris", ""):
            assert {await asked(host, reference, x_servable_version="2") for _ in range(20)} == {2}
        # What is said of the model does not depend on chance.
        assert {host.find("iris").version for _ in range(20)} == {1}
        await host.close()

    asyncio.run(course())


@pytest.mark.parametrize("wish", ["3", "0", "x", "-1", "", "2²", "9" * 30])
def test_a_version_that_is_not_loaded_cannot_be_asked_for(three: Path, opened: Home, wish: str) -> None:
    async def course() -> None:
        host = a_host(three)
        opened.deployments.divide("iris", traffic(v1=60, v2=40))
        await host.reconcile()
        with pytest.raises(VersionNotFound, match=r"loaded are: 1, 2\."):
            host.meant("iris", {b"x-servable-version": wish.encode()})
        with pytest.raises(VersionNotFound, match="live versions of iris are 1, 2"):
            host.find("iris:3")
        with pytest.raises(VersionNotFound, match="iris:1 is version 1, and the header"):
            host.meant("iris:1", {b"x-servable-version": b"2"})
        await host.close()

    asyncio.run(course())


def test_a_whole_deployment_heeds_the_header_too(three: Path) -> None:
    async def course() -> None:
        host = a_host(three)
        await host.reconcile()
        assert await asked(host, x_servable_version="1") == 1
        with pytest.raises(VersionNotFound):
            await asked(host, x_servable_version="2")
        await host.close()

    asyncio.run(course())


@pytest.mark.parametrize(("sticky", "header"), [("", "x_servable_key"), ("X-Customer", "x_customer")])
def test_a_key_keeps_its_version_also_on_another_server(
    three: Path, opened: Home, sticky: str, header: str
) -> None:
    async def course() -> None:
        opened.deployments.deploy("iris", 1, wishes={"sticky": sticky} if sticky else None)
        opened.deployments.divide("iris", traffic(v1=50, v2=50))
        hosts = [a_host(three), a_host(three)]
        found = []
        for host in hosts:
            await host.reconcile()
            found.append([await asked(host, **{header: f"customer-{number}"}) for number in range(60)])
        assert found[0] == found[1]
        assert set(found[0]) == {1, 2}
        opened.deployments.divide("iris", traffic(v1=10, v2=90))
        await hosts[0].reconcile()
        later = [await asked(hosts[0], **{header: f"customer-{number}"}) for number in range(60)]
        assert all(after == 2 for before, after in zip(found[0], later, strict=True) if before == 2)
        assert later != found[0]
        for host in hosts:
            await host.close()

    asyncio.run(course())


def test_a_version_that_cannot_be_loaded_leaves_its_share_to_the_deployments_own(
    three: Path, opened: Home
) -> None:
    async def course() -> None:
        clock, loading = FakeClock(), Broken(opened, 2)
        host = a_host(three, loading=loading, clock=clock)
        opened.deployments.divide("iris", traffic(v1=20, v2=40, v3=40))
        await host.reconcile()
        assert host.ready
        assert states(host) == {1: ("live", 0.6), 2: ("failed", 0.0), 3: ("live", 0.4)}
        assert [each.reason for each in host.table.statuses if each.version == 2] == ["It is broken."]
        assert set(await counted(host)) == {1, 3}
        with pytest.raises(VersionNotFound):
            await asked(host, x_servable_version="2")
        keys = [f"k{number}" for number in range(80)]
        before = {key: await asked(host, x_servable_key=key) for key in keys}
        loading.digests.clear()
        clock.advance(2)
        await host.reconcile()
        assert states(host)[2] == ("live", 0.4)
        after = {key: await asked(host, x_servable_key=key) for key in keys}
        assert all(before[key] == 1 for key in keys if before[key] != after[key])
        assert 2 in after.values()
        await host.close()

    asyncio.run(course())


def test_the_own_version_that_cannot_be_loaded_leaves_everything_to_the_others(
    three: Path, opened: Home
) -> None:
    async def course() -> None:
        host = a_host(three, loading=Broken(opened, 1))
        opened.deployments.divide("iris", Traffic(shares=traffic(v2=5, v1=95).shares, shadow=3))
        await host.reconcile()
        assert host.ready
        assert states(host) == {1: ("failed", 0.0), 2: ("live", 1.0), 3: ("live", 0.0)}
        assert await counted(host) == {2: 400}
        await host.close()

    asyncio.run(course())


def test_a_shadow_alone_never_answers_for_the_model(three: Path, opened: Home) -> None:
    async def course() -> None:
        host = a_host(three, loading=Broken(opened, 1))
        opened.deployments.divide("iris", Traffic(shadow=3, mirrored=0.5))
        await host.reconcile()
        assert not host.ready
        with pytest.raises(ModelNotReady, match="It is broken"):
            host.meant("iris", {})
        assert await asked(host, "iris:3") == 3
        assert [each.mirrored for each in host.table.statuses] == [0.0, 0.5]
        await host.close()

    asyncio.run(course())


def test_the_version_before_stands_in_for_a_broken_one_that_is_divided(three: Path, opened: Home) -> None:
    async def course() -> None:
        host = a_host(three, loading=Broken(opened, 2))
        await host.reconcile()
        opened.deployments.deploy("iris", 2)
        opened.deployments.divide("iris", traffic(v2=50, v3=50))
        await host.reconcile()
        assert states(host) == {1: ("live", 0.5), 2: ("failed", 0.0), 3: ("live", 0.5)}
        assert set(await counted(host)) == {1, 3}
        await host.close()

    asyncio.run(course())


def test_ending_a_division_is_one_step(three: Path, opened: Home) -> None:
    async def course() -> None:
        host = a_host(three)
        opened.deployments.divide("iris", traffic(v1=50, v2=50))
        await host.reconcile()
        opened.deployments.divide("iris", WHOLE)
        await host.reconcile()
        assert states(host) == {1: ("live", 1.0)}
        assert host.table.splits == {}
        assert await counted(host, 20) == {1: 20}
        await host.close()

    asyncio.run(course())


def test_under_a_budget_of_memory_the_versions_of_a_division_stay_loaded(three: Path, opened: Home) -> None:
    async def course() -> None:
        host = a_host(three, memory=2**30)
        await host.reconcile()
        assert isinstance(host.find("iris"), Cold)
        opened.deployments.divide("iris", traffic(v1=50, v2=50))
        await host.reconcile()
        assert set(await counted(host)) == {1, 2}
        assert not await host.cool(host.find("iris"))
        opened.deployments.divide("iris", WHOLE)
        await host.reconcile()
        assert await host.cool(host.find("iris"))
        assert isinstance(host.find("iris"), Cold)
        await host.close()

    asyncio.run(course())
