"""A shadow that hangs, crashes or errs: real answers come as before, and what it did is counted."""

import asyncio
import os
from pathlib import Path

import pytest

from faults.faulty import ASKED, FAULTS, publish_faulty
from faults.load import Client, Served, serving
from faults.swapping import NAME, Callers, divide, importable, listed, publish_good
from faults.windows import Timed, Windows, p99, worse
from servable.registry.records import WHOLE, Traffic
from servable.workflows.running import Samples, samples

#: Turns of so many windows at a server without a shadow and at one that has one.
TURNS = int(os.environ.get("SERVABLE_SHADOW_TURNS", "48"))
WINDOWS = 4
#: Requests a second: enough that the p99 of a window is the fifth worst of its answers.
RATE = 2000.0

__all__ = ["importable"]


async def until_live(client: Client, version: int) -> None:
    """Wait until a version is loaded."""
    for _ in range(12_000):
        if any(one["version"] == version and one["state"] == "live" for one in await listed(client)):
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"version {version} was not loaded")


async def figures(client: Client) -> Samples:
    return samples((await client.ask("GET", "/metrics")).body.decode())


def outcomes(found: Samples, shadow: int) -> dict[str, float]:
    """Copies by what became of them."""
    counted = {
        labels["outcome"]: value
        for labels, value in found.get("servable_shadow_requests_total", ())
        if labels["shadow"] == str(shadow)
    }
    dropped = found.get("servable_shadow_dropped_requests_total", ())
    return counted | {"dropped": sum(value for labels, value in dropped if labels["shadow"] == str(shadow))}


def test_a_shadow_of_the_same_kind_is_compared(home: Path) -> None:
    real, shadow = publish_good(home, deploy=True), publish_good(home)
    divide(home, Traffic(shadow=shadow))

    async def course(served: Served) -> None:
        async with Client(served.address) as client:
            await until_live(client, shadow)
            (entry,) = [one for one in await listed(client) if one["version"] == shadow]
            assert entry["serving"]["executor"] == "process"
            async with Callers(served, per_second=100, row=ASKED) as callers:
                # At four copies a second, some twenty of them are compared.
                await callers.until(lambda: len(callers.seconds) >= 400)
            callers.clean()
            assert set(callers.versions) == {real}
            # The last copies may still be on their way.
            for _ in range(2000):
                found = await figures(client)
                counted = outcomes(found, shadow)
                if sum(counted.values()) == len(callers.seconds):
                    break
                await asyncio.sleep(0.01)
            assert counted["both_ok"] + counted["dropped"] == len(callers.seconds)
            bounds = {
                labels["bound"]: value
                for name in ("servable_shadow_agreement",)
                for labels, value in found[name]
            }
            assert bounds["value"] == bounds["high"] == 1.0
            assert 0.7 < bounds["low"] < 1.0
            await asyncio.to_thread(divide, home, WHOLE)
            while any(one["version"] == shadow and one["state"] == "live" for one in await listed(client)):
                await asyncio.sleep(0.01)
            answered = await client.post(f"/models/{NAME}/predict", {"input": ASKED})
            assert answered.json()["version"] == real

    with serving(home, poll_s=0.02) as served:
        asyncio.run(course(served))


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_no_request_fails_whatever_its_shadow_does(home: Path, fault: str) -> None:
    real = publish_good(home, deploy=True)
    shadow = publish_faulty(home, fault)
    divide(home, Traffic(shadow=shadow))

    async def course(served: Served) -> None:
        async with Client(served.address) as client:
            await until_live(client, shadow)
            async with Callers(served, per_second=100, row=ASKED) as callers:
                await callers.during(3.0)
            callers.clean()
            assert set(callers.versions) == {real}
            for _ in range(2000):
                counted = outcomes(await figures(client), shadow)
                if counted["shadow_failed"] and sum(counted.values()) == len(callers.seconds):
                    break
                await asyncio.sleep(0.02)
            assert counted["shadow_failed"] > 0
            assert counted["both_ok"] == counted["real_failed"] == counted["both_failed"] == 0
            assert sum(counted.values()) == len(callers.seconds)

    with serving(home, poll_s=0.02, run_limit_s=1.0) as served:
        asyncio.run(course(served))


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("fault", FAULTS)
def test_no_request_takes_longer_whatever_its_shadow_does(home: Path, fault: str) -> None:
    homes = home / "alone", home / "beside"
    for each in homes:
        publish_good(each, deploy=True)
    shadow = publish_faulty(homes[1], fault)
    divide(homes[1], Traffic(shadow=shadow))

    async def there(served: Served) -> None:
        async with Client(served.address) as client:
            await until_live(client, shadow)

    async def counted(served: Served) -> dict[str, float]:
        async with Client(served.address) as client:
            return outcomes(await figures(client), shadow)

    with (
        serving(homes[0], poll_s=0.05, run_limit_s=1.0) as alone,
        serving(homes[1], poll_s=0.05, run_limit_s=1.0) as beside,
    ):
        asyncio.run(there(beside))
        timed = [Timed(each, f"/models/{NAME}/predict", {"input": ASKED}, RATE) for each in (alone, beside)]
        for each in timed:
            each.windows(4)
        taken = [Windows([], 0), Windows([], 0)]
        # In turns of a second, so that what the machine does besides meets both alike: it is fast for some
        # seconds, and then slow for some.
        for turn in range(TURNS):
            for place in (0, 1) if turn % 2 == 0 else (1, 0):
                taken[place] = taken[place].and_those(timed[place].windows(WINDOWS))
        seen = asyncio.run(counted(beside))
    plain, by = taken
    print(
        f"shadow {fault}: p99 {p99(by) * 1e3:.3f} ms, without {p99(plain) * 1e3:.3f} ms "
        f"({p99(by) / p99(plain) - 1:+.1%}); the worst tenth of windows from {worse(by) * 1e3:.3f} "
        f"and {worse(plain) * 1e3:.3f} ms; windows {len(by.kept)} and {len(plain.kept)}, "
        f"set aside {by.set_aside} and {plain.set_aside}; {seen}"
    )
    assert seen["shadow_failed"] > 0
    assert p99(by) <= 1.1 * p99(plain)
