"""Threads that load keep back, and pause between steps where somebody is answered meanwhile."""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from servable.registry.home import open_home
from servable.runtime.load_thread import LoadThread
from servable.runtime.model import LoadLimits, load_model
from servable.runtime.pace import Pace, keep_back
from serving.making import publish_iris


class Counted(Pace):
    """Counts the pauses in place of pausing."""

    pauses = 0

    def breathe(self) -> None:
        self.pauses += 1


def policy_after(before: int) -> int:
    """The policy of a thread that had one and keeps back."""

    def work() -> int:
        os.sched_setscheduler(0, before, os.sched_param(0))
        keep_back()
        return os.sched_getscheduler(0)

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def test_a_thread_that_keeps_back_takes_the_processor_from_nobody() -> None:
    assert policy_after(os.SCHED_OTHER) == os.SCHED_BATCH
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_what_an_operator_chose_stays() -> None:
    assert policy_after(os.SCHED_IDLE) == os.SCHED_IDLE


def test_a_sandbox_that_forbids_it_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(_: int) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "sched_getscheduler", forbidden)
    pool = LoadThread()
    assert pool.submit(lambda: "loaded").result(5) == "loaded"
    pool.shutdown()


def test_the_thread_of_loads_keeps_back_and_pauses_before_every_call() -> None:
    pace = Counted()
    pool = LoadThread(pace)
    assert [pool.submit(os.sched_getscheduler, 0).result(5) for _ in range(3)] == [os.SCHED_BATCH] * 3
    assert pace.pauses == 3
    pool.shutdown()


def test_a_load_pauses_between_its_steps(home: Path) -> None:
    record = publish_iris(home)
    with open_home(home) as opened:
        package = opened.package(record)
    pace = Counted()
    loaded = asyncio.run(load_model(package, limits=LoadLimits(pace=pace)))
    assert loaded.placement == "inline"
    # After the file was read, the example made, the example answered, and rows put together.
    assert pace.pauses == 4
