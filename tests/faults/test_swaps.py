"""Swaps under load: every answer is there, and is that of the version that it names."""

import asyncio
import itertools
import os
from pathlib import Path

import pytest

from faults.load import Client, Served, percentile, serving
from faults.swapping import (
    Bad,
    Callers,
    Operator,
    bad_versions,
    deploy,
    importable,
    listed,
    publish_good,
)

SWAPS = int(os.environ.get("SERVABLE_SWAPS", "1000"))
#: Seconds within which a version must be loaded here; more than a start of Python on a busy machine.
START_S = 60.0


__all__ = ["importable"]


async def refused(client: Client, bad: Bad) -> None:
    """Wait until the server says why it does not take a version."""
    for _ in range(2000):
        for entry in await listed(client):
            if entry["version"] == bad.version and entry["state"] == "failed":
                assert bad.said in entry["reason"], entry
                return
        await asyncio.sleep(0.01)
    raise AssertionError(f"nothing is said of version {bad.version}")


async def swaps(operator: Operator, versions: list[int], callers: Callers) -> None:
    """Deploy one version after the other, each once the one before answers."""
    for version in versions:
        before = callers.versions[version]
        await operator.deploy(version)
        await callers.until(lambda version=version, before=before: callers.versions[version] > before)


@pytest.mark.slow
def test_twenty_swaps_and_every_kind_of_bad_version(home: Path) -> None:
    good = [publish_good(home, deploy=index == 0) for index in range(5)]
    bad = bad_versions(home)[:4]

    async def course(served: Served) -> None:
        async with (
            Client(served.address) as client,
            Operator(home) as operator,
            Callers(served, per_second=150) as callers,
        ):
            for turn in range(4):
                await swaps(operator, good[1:] + good[:1], callers)
                await operator.deploy(bad[turn].version)
                await refused(client, bad[turn])
        callers.clean()
        assert set(callers.versions) == set(good)

    with serving(home, poll_s=0.02, start_limit_s=START_S) as served:
        asyncio.run(course(served))


def test_a_version_that_hangs_at_load_changes_nothing(home: Path) -> None:
    good = publish_good(home, deploy=True)
    hanging = bad_versions(home)[-1]

    async def course(served: Served) -> None:
        async with Client(served.address) as client, Callers(served, per_second=100) as callers:
            await asyncio.to_thread(deploy, home, hanging.version)
            await refused(client, hanging)
        callers.clean()
        assert set(callers.versions) == {good}

    with serving(home, poll_s=0.02, start_limit_s=1.0) as served:
        asyncio.run(course(served))


def test_a_version_that_hangs_at_load_does_not_hold_up_its_successor(home: Path) -> None:
    first, second = publish_good(home, deploy=True), publish_good(home)
    hanging = bad_versions(home)[-1]

    async def course(served: Served) -> None:
        async with Callers(served, per_second=100) as callers:
            await asyncio.to_thread(deploy, home, hanging.version)
            await callers.during(1.0)
            await asyncio.to_thread(deploy, home, second)
            await callers.until(lambda: callers.versions[second] > 0, 30.0)
        callers.clean()
        assert set(callers.versions) == {first, second}

    with serving(home, poll_s=0.02, start_limit_s=600) as served:
        asyncio.run(course(served))


#: Requests a second in the long tests.
RATE = 400.0
STEPS = (0.01, 0.25, 0.5)


class Canaries:
    """Canaries one after the other, every third of them rolled back.

    Args:
        client: asks what is served.
        operator: changes it.
        callers: whose requests are counted.
        requests: of them that every step gets.
    """

    def __init__(self, client: Client, operator: Operator, callers: Callers, requests: int) -> None:
        self._client, self._operator, self._callers, self._requests = client, operator, callers, requests

    async def run(self, good: list[int], count: int) -> None:
        present = good[0]
        for number in range(count):
            following = good[(good.index(present) + 1) % len(good)]
            present = await self._one(present, following, back=number % 3 == 2)

    async def _one(self, old: int, new: int, *, back: bool) -> int:
        """Send ever more requests to a version, then deploy it or go back; what answers afterwards."""
        for weight in STEPS:
            await self._operator.divide({old: 1 - weight, new: weight})
            await self._serves(new, weight)
        if back:
            await self._operator.roll_back()
        else:
            await self._operator.deploy(new)
        await self._serves(old if back else new, 1.0)
        return old if back else new

    async def _serves(self, version: int, share: float) -> None:
        await shared(self._client, version, share)
        asked = self._callers.seconds
        wanted = len(asked) + self._requests
        await self._callers.until(lambda: len(asked) >= wanted)


async def shared(client: Client, version: int, share: float) -> None:
    """Wait until a version gets such a share of the requests."""
    for _ in range(1500):
        for entry in await listed(client):
            live = entry["version"] == version and entry["state"] == "live"
            if live and abs(entry.get("share", 1.0) - share) < 1e-6:
                return
        # Seldom, because the server answers this between the requests that are timed.
        await asyncio.sleep(0.02)
    raise AssertionError(f"version {version} does not get {share:.0%}")


async def canaries(
    served: Served, home: Path, good: list[int], count: int, rate: float, requests: int = 0
) -> Callers:
    """So many canaries while callers ask; every step gets so many requests at least."""
    async with (
        Client(served.address) as client,
        Operator(home) as operator,
        Callers(served, per_second=rate) as callers,
    ):
        await Canaries(client, operator, callers, requests).run(good, count)
    callers.clean()
    return callers


def test_canary_steps_and_rollbacks_lose_nothing(home: Path) -> None:
    good = [publish_good(home, deploy=index == 0) for index in range(4)]
    with serving(home, poll_s=0.02) as served:
        callers = asyncio.run(canaries(served, home, good, 4, 150))
    assert set(callers.versions) <= set(good)
    assert len(callers.versions) >= 3


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_thousand_canary_steps_and_rollbacks(home: Path) -> None:
    good = [publish_good(home, deploy=index == 0) for index in range(20)]

    async def course(served: Served) -> None:
        calm = await undisturbed(served)
        callers = await canaries(served, home, good, SWAPS // 4, RATE, requests=100)
        # What the machine does besides meets both alike.
        calm += await undisturbed(served)
        quiet, busy = percentile(calm, 0.99), percentile(callers.seconds, 0.99)
        print(
            f"{SWAPS} steps, {len(callers.seconds)} requests, {len(callers.failed)} failed, "
            f"{len(callers.mixed)} mixed; p99 {busy * 1e3:.2f} ms, without steps {quiet * 1e3:.2f} ms"
        )
        assert busy <= 1.5 * quiet

    with serving(home, poll_s=0.02) as served:
        asyncio.run(course(served))


async def undisturbed(served: Served) -> list[float]:
    """Seconds of the answers while nothing changes."""
    async with Callers(served, per_second=RATE) as callers:
        await callers.during(20)
    callers.clean()
    return callers.seconds


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_thousand_swaps_and_a_hundred_thousand_requests(home: Path) -> None:
    good = [publish_good(home, deploy=index == 0) for index in range(50)]
    bad = itertools.cycle(bad_versions(home)[:3])

    async def course(served: Served) -> None:
        async with Callers(served, per_second=RATE) as calm:
            await calm.during(20)
        calm.clean()
        async with (
            Client(served.address) as client,
            Operator(home) as operator,
            Callers(served, per_second=RATE) as callers,
        ):
            for number in range(SWAPS):
                await swaps(operator, [good[(number + 1) % len(good)]], callers)
                if number % 50 == 49:
                    one = next(bad)
                    await operator.deploy(one.version)
                    await refused(client, one)
            await callers.until(lambda: len(callers.seconds) >= 100 * SWAPS, 600)
        callers.clean()
        assert set(callers.versions) == set(good)
        quiet, busy = percentile(calm.seconds, 0.99), percentile(callers.seconds, 0.99)
        print(
            f"{SWAPS} swaps, {len(callers.seconds)} requests, {len(callers.failed)} failed, "
            f"{len(callers.mixed)} mixed; p99 {busy * 1e3:.2f} ms, without swaps {quiet * 1e3:.2f} ms"
        )
        assert busy <= 1.5 * quiet

    with serving(home, poll_s=0.02, start_limit_s=START_S) as served:
        asyncio.run(course(served))
