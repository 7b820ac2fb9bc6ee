"""More than the server can do: what it takes in it answers in time, the rest it refuses at once."""

import asyncio
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from faults.load import Answer, Client, Load, percentile, serving
from serving.making import publish_heavy

ROW = {"input": [1.0, 2.0, 3.0, 4.0]}
PATH = "/models/heavy/predict"
#: What the callers allow, in seconds.
PATIENCE_S = 1.0


class Offered(NamedTuple):
    """What became of requests that were sent on a schedule, whatever came back."""

    good_per_second: float
    refused_p99_s: float
    refused: int
    others: list[Answer]


async def offer(address: tuple[str, int], per_second: float, seconds: float) -> Offered:
    """An open loop: the schedule does not wait for answers. Times count from the schedule."""
    free: list[Client] = []
    good: list[float] = []
    refused: list[float] = []
    others: list[Answer] = []

    async def one(due: float) -> None:
        client = free.pop() if free else Client(address)
        answer = await client.post(PATH, ROW, x_request_timeout_ms=str(int(PATIENCE_S * 1000)))
        late = time.perf_counter() - due
        if answer.status == 200:
            if late <= PATIENCE_S:
                good.append(late)
        elif answer.status in (503, 504):
            refused.append(answer.seconds)
            assert int(answer.headers["retry-after"]) >= 1
        else:
            others.append(answer)
        free.append(client)

    started = time.perf_counter()
    tasks = set()
    for number in range(int(per_second * seconds)):
        due = started + number / per_second
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        task = asyncio.ensure_future(one(due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    if tasks:
        await asyncio.wait(tasks)
    for client in free:
        async with client:
            pass
    slowest = percentile(refused, 0.99) if refused else 0.0
    return Offered(len(good) / seconds, slowest, len(refused), others)


async def peak(address: tuple[str, int], seconds: float) -> float:
    """Requests per second in a closed loop."""
    load = await Load(address, lambda: (PATH, ROW), clients=32).during(seconds)
    assert set(load.statuses) == {200}
    return len(load.seconds) / seconds


def test_overload_is_refused_early_and_work_goes_on(home: Path) -> None:
    publish_heavy(home, width=1024, layers=6)
    with serving(home, queue_requests=64) as served:
        best = asyncio.run(peak(served.address, 1.5))
        offered = asyncio.run(offer(served.address, min(4 * best, 1500.0), 2.5))
    assert not offered.others
    assert offered.good_per_second > 0.4 * best
    assert offered.refused_p99_s < 1.0


@pytest.mark.soak
def test_goodput_holds_at_ten_times_the_capacity(home: Path) -> None:
    publish_heavy(home, width=2048, layers=12)
    report: dict[Any, Any] = {}
    with serving(home) as served:
        best = statistics.median(asyncio.run(peak(served.address, 5.0)) for _ in range(3))
        for factor in (1, 2, 5, 10):
            runs = [asyncio.run(offer(served.address, factor * best, 8.0)) for _ in range(3)]
            assert not any(run.others for run in runs)
            report[factor] = (
                statistics.median(run.good_per_second for run in runs) / best,
                statistics.median(run.refused_p99_s for run in runs),
            )
    print(f"capacity {best:.0f}/s; share of it answered in time, p99 of refusals: {report}")
    for factor in (2, 5, 10):
        assert report[factor][0] >= 0.9
        assert report[factor][1] <= 0.01
