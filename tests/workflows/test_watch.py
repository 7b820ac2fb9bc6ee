import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import servable
from registry.adding import add
from servable.errors import FileMissing, StorageFailed
from servable.registry.home import Home, open_home
from servable.testing import FakeClock
from servable.workflows.watch import LEASE, LEASE_S, Job, Watcher


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def opened(home: Path, clock: FakeClock) -> Iterator[Home]:
    with open_home(home, clock=clock) as opened:
        add(opened)
        yield opened


def test_one_of_two_watchers_acts_and_the_other_takes_over(opened: Home, clock: FakeClock) -> None:
    first, second = (Watcher(opened, clock, ()) for _ in range(2))
    assert first.look()
    assert not second.look()
    assert not second.once().acted
    clock.advance(LEASE_S + 1)
    assert second.look()
    assert not first.look()
    second.close()
    assert first.look()
    first.close()
    assert opened.leases.holder(LEASE) == ""


def test_what_is_due_is_done_and_a_failure_ends_nothing(opened: Home, clock: FakeClock) -> None:
    done: list[str] = []

    def fails(home: Home, clock: object) -> None:
        done.append("fails")
        raise StorageFailed("The store is gone.")

    def breaks(home: Home, clock: object) -> None:
        done.append("breaks")
        raise ZeroDivisionError

    jobs = (
        Job("fails", 10, fails),
        Job("breaks", 10, breaks),
        Job("works", 30, lambda home, clock: done.append("works")),
    )
    watcher = Watcher(opened, clock, jobs)
    assert watcher.once().acted
    assert done == ["fails", "breaks", "works"]
    watcher.once()
    assert len(done) == 3
    clock.advance(11)
    watcher.once()
    assert done[3:] == ["fails", "breaks"]
    watcher.close()


def test_a_home_is_watched_until_told_to_end(opened: Home, home: Path) -> None:
    ending = threading.Event()
    ending.set()
    assert not servable.watch(home, ending=ending).acted
    found = servable.watch(home, once=True)
    assert (found.acted, found.rollouts) == (True, 0)
    with pytest.raises(FileMissing):
        servable.watch(home / "nowhere", once=True)
