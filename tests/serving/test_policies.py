"""What a deployment asks for is what it gets, and a changed wish reaches a running server."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from faults.many_models import expected, name_of, publish_one
from servable.monitoring.metrics import Metrics
from servable.registry.home import open_home
from servable.serving.answer import answer
from servable.serving.desired import RegistrySource
from servable.serving.host import Host
from servable.serving.live import Live

ROWS = [[0.1, -0.4, 0.8, 0.3], [0.5, 0.5, 0.5, 0.5], [-1.0, 0.0, 0.25, 2.0]]
NAME = name_of(0)
WIDTH = 32


def publish(home: Path, rows: int | None = None, **policy: Any) -> None:
    with open_home(home) as opened:
        publish_one(opened, 0, width=WIDTH, rows=rows, policy=policy)


def wish(home: Path, **policy: Any) -> None:
    with open_home(home) as opened:
        opened.deployments.deploy(NAME, 1, policy=policy)


def live_of(host: Host) -> Live:
    found = host.find(NAME)
    assert isinstance(found, Live)
    return found


async def answered(host: Host) -> list[float]:
    body = json.dumps({"inputs": ROWS}).encode()
    predictions: list[float] = json.loads((await answer(live_of(host), body, "r")).body)["predictions"]
    return predictions


def right() -> Any:
    return pytest.approx([expected(0, row, WIDTH) for row in ROWS], rel=1e-4, abs=1e-5)


async def served(home: Path) -> Host:
    host = Host(RegistrySource(home), Metrics("test"))
    await host.reconcile()
    return host


def test_a_fixed_batch_dimension_is_served_row_by_row(home: Path) -> None:
    publish(home, rows=1)

    async def course() -> None:
        host = await served(home)
        live = live_of(host)
        assert await answered(host) == right()
        assert live.meter.batches == 3
        assert "one row at a time" in live.status().batching_reason
        await host.close()

    asyncio.run(course())


@pytest.mark.parametrize("executor", ["inline", "thread", "process"])
def test_the_executor_that_was_asked_for(home: Path, executor: str) -> None:
    publish(home, executor=executor)

    async def course() -> None:
        host = await served(home)
        assert await answered(host) == right()
        status = live_of(host).status()
        assert status.placement == live_of(host).executor.kind == executor
        assert "asks for it" in status.placement_reason
        assert status.batching_reason == ""
        await host.close()

    asyncio.run(course())


def test_a_changed_policy_loads_the_model_anew_and_switches(home: Path) -> None:
    publish(home)

    async def course() -> None:
        host = await served(home)
        before = live_of(host)
        wish(home, executor="thread", cache_bytes=1_000_000)
        assert await host.reconcile()
        after = live_of(host)
        assert (before.status().placement, after.status().placement) == ("inline", "thread")
        assert await answered(host) == right()
        assert await answered(host) == right()
        assert (after.meter.cache_hits, after.meter.batches) == (1, 1)
        assert after.meter.cache_bytes > 0
        wish(home, executor="thread", cache_bytes=1_000_000, pinned=True)
        assert await host.reconcile()
        assert live_of(host) is after
        assert after.wanted.policy.pinned
        await host.close()
        assert after.meter.cache_bytes == 0

    asyncio.run(course())


def test_a_policy_that_cannot_be_used_is_not_followed(home: Path) -> None:
    publish(home, executor="moon")

    async def course() -> None:
        host = await served(home)
        assert live_of(host).status().placement == "inline"
        await host.close()

    asyncio.run(course())
