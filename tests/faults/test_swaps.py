"""Swaps under load: every answer is there, and is that of the version that it names."""

import asyncio
import itertools
import os
from collections import Counter
from pathlib import Path
from statistics import median

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
#: Parts of the long test of canaries, each with its own time without steps.
ROUNDS = 10
STEPS = (0.01, 0.25, 0.5)


class Canaries:
    """Canaries one after the other, every third of them rolled back.

    Args:
        client: asks what is served.
        operator: changes it.
        good: versions, of which the first one is deployed; each follows the one before.
    """

    def __init__(self, client: Client, operator: Operator, good: list[int]) -> None:
        self._client, self._operator, self._good = client, operator, good
        self._present = good[0]
        self._number = 0

    async def run(self, callers: Callers, count: int, requests: int = 0) -> None:
        """So many of them while callers ask; every step gets so many requests at least."""
        for _ in range(count):
            self._number += 1
            old, new = self._present, self._good[(self._good.index(self._present) + 1) % len(self._good)]
            # Ever more requests for it, then all or none.
            for weight in STEPS:
                await self._operator.divide({old: 1 - weight, new: weight})
                await self._serves(new, weight, callers, requests)
            if self._number % 3:
                await self._operator.deploy(new)
                self._present = new
            else:
                await self._operator.roll_back()
            await self._serves(self._present, 1.0, callers, requests)

    async def _serves(self, version: int, share: float, callers: Callers, requests: int) -> None:
        await shared(self._client, version, share)
        wanted = len(callers.seconds) + requests
        await callers.until(lambda: len(callers.seconds) >= wanted)


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


def test_canary_steps_and_rollbacks_lose_nothing(home: Path) -> None:
    good = [publish_good(home, deploy=index == 0) for index in range(4)]

    async def course(served: Served) -> None:
        async with Client(served.address) as client, Operator(home) as operator:
            async with Callers(served, per_second=150) as callers:
                await Canaries(client, operator, good).run(callers, 4)
            callers.clean()
        assert set(callers.versions) <= set(good)
        assert len(callers.versions) >= 3

    with serving(home, poll_s=0.02) as served:
        asyncio.run(course(served))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_thousand_canary_steps_and_rollbacks(home: Path) -> None:
    good = [publish_good(home, deploy=index == 0) for index in range(20)]
    calm: list[float] = []
    busy: list[float] = []
    seen: Counter[int] = Counter()

    async def round_(served: Served, canaries: Canaries) -> None:
        async with Callers(served, per_second=RATE) as callers:
            await callers.during(5)
        callers.clean()
        calm.append(percentile(callers.seconds, 0.99))
        async with Callers(served, per_second=RATE) as callers:
            await canaries.run(callers, max(1, SWAPS // 4 // ROUNDS), 100)
        callers.clean()
        busy.append(percentile(callers.seconds, 0.99))
        seen.update(callers.versions)

    async def course(served: Served) -> None:
        async with Client(served.address) as client, Operator(home) as operator:
            canaries = Canaries(client, operator, good)
            # In turns, so that what the machine does besides meets both alike.
            for _ in range(ROUNDS):
                await round_(served, canaries)

    with serving(home, poll_s=0.02) as served:
        asyncio.run(course(served))
    print(
        f"{SWAPS} steps, {seen.total()} requests, 0 failed, 0 mixed; p99 in the middle of {ROUNDS} rounds "
        f"{median(busy) * 1e3:.2f} ms, without steps {median(calm) * 1e3:.2f} ms"
    )
    assert seen.total() >= 100 * SWAPS
    assert set(seen) <= set(good)
    assert len(seen) >= 3
    assert median(busy) <= 1.5 * median(calm)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_thousand_swaps_and_a_hundred_thousand_requests(home: Path) -> None:
    good = [publish_good(home, deploy=index == 0) for index in range(50)]
    bad = itertools.cycle(bad_versions(home)[:3])

    calm: list[float] = []
    busy: list[float] = []
    seen: Counter[int] = Counter()

    async def round_(served: Served, client: Client, operator: Operator, number: int) -> None:
        async with Callers(served, per_second=RATE) as callers:
            await callers.during(5)
        callers.clean()
        calm.append(percentile(callers.seconds, 0.99))
        each = max(1, SWAPS // ROUNDS)
        async with Callers(served, per_second=RATE) as callers:
            for place in range(each):
                await swaps(operator, [good[(number * each + place + 1) % len(good)]], callers)
                if place % 50 == 49:
                    one = next(bad)
                    await operator.deploy(one.version)
                    await refused(client, one)
            await callers.until(lambda: len(callers.seconds) >= 100 * each, 600)
        callers.clean()
        busy.append(percentile(callers.seconds, 0.99))
        seen.update(callers.versions)

    async def course(served: Served) -> None:
        async with Client(served.address) as client, Operator(home) as operator:
            # In turns, so that what the machine does besides meets both alike.
            for number in range(ROUNDS):
                await round_(served, client, operator, number)

    with serving(home, poll_s=0.02, start_limit_s=START_S) as served:
        asyncio.run(course(served))
    print(
        f"{SWAPS} swaps, {seen.total()} requests, 0 failed, 0 mixed; p99 in the middle of {ROUNDS} rounds "
        f"{median(busy) * 1e3:.2f} ms, without swaps {median(calm) * 1e3:.2f} ms"
    )
    assert seen.total() >= 100 * SWAPS
    assert set(seen) == set(good)
    assert median(busy) <= 1.5 * median(calm)
