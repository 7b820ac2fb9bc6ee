"""The thread of loads: a load that hangs holds up no other, and is not begun a second time."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from servable.errors import ModelNotReady
from servable.runtime.load_thread import Bound, LoadThread, bounded

SHORT = Bound(0.05, "slow", "a")


def load(pool: LoadThread, bound: Bound, work: Callable[[], Any], late: Any = id) -> Any:
    return bounded(pool, bound, work, late)


def test_calls_run_one_after_the_other_in_one_thread() -> None:
    pool = LoadThread()
    threads = [pool.submit(threading.get_ident).result(5) for _ in range(3)]
    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        pool.submit(lambda: 1 / 0).result(5)
    pool.shutdown()
    with pytest.raises(RuntimeError, match="after the end"):
        pool.submit(int)


def test_a_load_that_hangs_is_left_behind() -> None:
    pool, free = LoadThread(), threading.Event()
    late: list[str] = []

    async def course() -> None:
        hanging = asyncio.create_task(load(pool, SHORT, lambda: free.wait(30) and "came late", late.append))
        await asyncio.sleep(0)
        behind = asyncio.create_task(load(pool, Bound(5.0, "other", "b"), lambda: "ready"))
        with pytest.raises(ModelNotReady, match=r"slow was not ready within 0\.05 s"):
            await hanging
        assert await behind == "ready"
        with pytest.raises(ModelNotReady, match="slow hangs while it is loaded"):
            await load(pool, SHORT, lambda: "again")
        free.set()
        while not late:
            await asyncio.sleep(0.001)
        assert late == ["came late"]
        assert await load(pool, SHORT, lambda: "again") == "again"

    asyncio.run(course())
    pool.shutdown()


def test_a_load_that_nobody_wants_any_more_holds_up_no_other() -> None:
    pool, free, begun = LoadThread(), threading.Event(), threading.Event()
    late: list[str] = []

    def hang() -> str:
        begun.set()
        free.wait(30)
        return "came late"

    async def course() -> None:
        hanging = asyncio.create_task(load(pool, Bound(60.0, "slow", "a"), hang, late.append))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        never = asyncio.create_task(load(pool, Bound(60.0, "never", "c"), lambda: late.append("never")))
        await asyncio.sleep(0)
        never.cancel()
        hanging.cancel()
        await asyncio.gather(never, hanging, return_exceptions=True)
        assert await load(pool, Bound(5.0, "other", "b"), lambda: "ready") == "ready"
        free.set()
        while not late:
            await asyncio.sleep(0.001)
        assert late == ["came late"]

    asyncio.run(course())
    pool.shutdown()


def test_waiting_for_the_thread_does_not_count() -> None:
    pool, free = LoadThread(), threading.Event()

    async def course() -> None:
        first = asyncio.create_task(load(pool, Bound(30.0, "first", "a"), lambda: free.wait(30)))
        await asyncio.sleep(0)
        second = asyncio.create_task(load(pool, Bound(0.2, "second", "b"), lambda: "ready"))
        done, _ = await asyncio.wait({second}, timeout=0.5)
        assert not done
        free.set()
        assert await first
        assert await second == "ready"

    asyncio.run(course())
    pool.shutdown()


def test_what_a_load_raises_is_told() -> None:
    pool = LoadThread()

    def broken() -> None:
        raise ValueError("no such weights")

    with pytest.raises(ValueError, match="no such weights"):
        asyncio.run(load(pool, SHORT, broken))
    pool.shutdown()
