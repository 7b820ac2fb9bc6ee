"""The watcher is killed in the middle of a canary: the server starts another one, and the end is the same."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

import servable
from faults.faulty import ASKED, publish_faulty
from faults.load import Client, Served, serving
from faults.swapping import NAME, Callers, importable, publish_good
from faults.test_sharing import running
from faults.test_swaps import shared
from servable.registry.home import Home, open_home
from servable.registry.rollout_records import PROMOTED, ROLLED_BACK, RUNNING, RolloutRecord, summed
from servable.workflows.watch import LEASE

__all__ = ["importable"]

#: Seconds within which another watcher has the lease of one that was killed, and did something with it.
LIMIT_S = 90.0


class Scene:
    """A server with a rollout, and what is known of both.

    Args:
        place: the home, which stays open, because it is looked at all the while.
        served: the server.
    """

    def __init__(self, place: Home, served: Served) -> None:
        self.place, self.served = place, served

    def watchers(self) -> list[int]:
        """The watchers that the server has now: one or none."""
        return running(self.served, "servable.engines.watcher")

    def holder(self) -> str:
        return self.place.leases.holder(LEASE)

    def record(self) -> RolloutRecord:
        return self.place.rollouts.of(NAME)[0]

    def counted(self) -> dict[int, int]:
        """Requests of the rollout by version, as the servers wrote them down."""
        evidence = self.place.rollouts.evidence(self.record().id)
        return {version: counts.requests for version, counts in summed(evidence).items()}

    def leads(self) -> bool:
        """Whether the watcher of this server has the lease."""
        return any(f"-{pid}-" in self.holder() for pid in self.watchers())

    async def until(self, done: Callable[[], bool]) -> None:
        for _ in range(int(LIMIT_S / 0.05)):
            if await asyncio.to_thread(done):
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"it did not come to pass: {self.record()}, {self.watchers()}, {self.holder()}")

    async def kill(self, *, passed: bool = True) -> None:
        """End the watcher, and wait until the server has another one.

        Args:
            passed: whether its lease is over at once, as if the seconds for which it was taken had passed.
        """
        (killed,) = self.watchers()
        os.kill(killed, signal.SIGKILL)
        await self.until(lambda: self.watchers() not in ([], [killed]))
        if passed and f"-{killed}-" in (holder := self.holder()):
            self.place.leases.give_back(LEASE, holder)

    def decisions(self) -> list[tuple[int, str]]:
        """What was decided, with the step; without why it waited."""
        return [
            (event.step, event.decision) for event in self.record().course.events if event.decision != "hold"
        ]


@pytest.mark.slow
def test_a_good_canary_is_promoted_step_by_step(home: Path) -> None:
    publish_good(home, deploy=True)
    publish_good(home)

    async def course(scene: Scene, served: Served) -> None:
        async with Callers(served, per_second=100) as callers:
            await asyncio.to_thread(
                servable.deploy, f"{NAME}:2", canary="40,100", every=3, min_requests=50, home=home
            )
            # Before it knows anything of the home.
            await scene.until(lambda: bool(scene.watchers()))
            await scene.kill()
            # With the lease, while nothing is to be decided yet.
            await scene.until(scene.leads)
            await scene.kill()
            # Just after it has written a decision down.
            await scene.until(lambda: scene.record().course.step == 1)
            await scene.kill()
            await scene.until(lambda: scene.record().state == PROMOTED)
        callers.clean()
        assert scene.decisions() == [(0, "start"), (0, "advance"), (1, "promote")]
        counted = scene.counted()
        assert 50 <= counted[2] <= callers.versions[2]
        assert 50 <= counted[1] <= callers.versions[1]
        (row,) = servable.status(home=home).deployments
        assert (row.version, row.shares) == (2, {})

    with serving(home, poll_s=0.05) as served, open_home(home) as place:
        asyncio.run(course(Scene(place, served), served))


@pytest.mark.slow
def test_what_was_counted_is_counted_once(home: Path) -> None:
    publish_good(home, deploy=True)
    publish_good(home)

    async def course(scene: Scene, served: Served) -> None:
        await asyncio.to_thread(servable.deploy, f"{NAME}:2", canary="50", every="1h", home=home)
        await scene.until(scene.leads)
        async with Client(served.address) as client:
            await shared(client, 2, 0.5)
        answered: dict[int, int] = {1: 0, 2: 0}
        for _ in range(2):
            async with Callers(served, per_second=100) as callers:
                await callers.until(lambda callers=callers: len(callers.seconds) >= 100)
            callers.clean()
            answered = {version: answered[version] + callers.versions[version] for version in answered}
            await scene.until(lambda answered=answered: scene.counted() == answered)
            await scene.kill()
            await scene.until(scene.leads)
            assert scene.counted() == answered
        assert scene.record().state == RUNNING
        assert scene.decisions() == [(0, "start")]

    with serving(home, poll_s=0.05) as served, open_home(home) as place:
        asyncio.run(course(Scene(place, served), served))


@pytest.mark.slow
def test_a_bad_canary_goes_back_although_nobody_watched_for_a_while(home: Path) -> None:
    publish_good(home, deploy=True)
    bad = publish_faulty(home, "errs")

    async def course(scene: Scene, served: Served) -> None:
        await asyncio.to_thread(servable.deploy, f"{NAME}:{bad}", canary="20", every="1h", home=home)
        await scene.until(scene.leads)
        async with Callers(served, per_second=40, row=ASKED) as callers:
            await scene.kill(passed=False)
            await scene.until(lambda: scene.record().state == ROLLED_BACK)
            failed = len(callers.failed)
            await callers.until(lambda: callers.versions[1] > 100)
        assert {answer.status for answer in callers.failed} == {500}
        assert not callers.mixed
        assert scene.decisions() == [(0, "start"), (0, "roll_back")]
        assert scene.counted()[bad] <= len(callers.failed)
        # Whoever was on his way when it went back.
        assert len(callers.failed) - failed <= 20

    with serving(home, poll_s=0.05) as served, open_home(home) as place:
        asyncio.run(course(Scene(place, served), served))
