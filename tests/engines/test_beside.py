"""What goes on beside a server: real registries, figures of the test, a real watcher process."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.adding import add
from servable.engines.beside import Beside, counts_of
from servable.engines.watcher_keeper import WatcherKeeper
from servable.monitoring.totals import ModelFigures, Snapshot
from servable.registry.home import open_home
from servable.registry.records import DATABASE
from servable.registry.rollout_records import Counts, summed
from servable.rollout.spec import made_spec
from servable.rollout.starting import start_canary
from servable.settings import ServerSettings
from servable.testing import FakeClock

SPEC = made_spec((5, 100), every_s=600)


class Figures:
    """What a server would say of itself."""

    def __init__(self) -> None:
        self.now = Snapshot()
        self.asked = 0

    async def __call__(self) -> Snapshot:
        self.asked += 1
        return self.now

    def set(self, failed: str = "", **requests: int) -> None:
        self.now = Snapshot(
            models=tuple(
                ModelFigures(model="churn", version=int(name[1:]), codes={"ok": count}, latencies={-5: count})
                for name, count in requests.items()
            ),
            failed={"churn:2": failed} if failed else {},
        )


@pytest.fixture
def figures() -> Figures:
    return Figures()


@pytest.fixture
def filled(home: Path) -> Path:
    with open_home(home) as opened:
        add(opened)
        add(opened, content=b"another")
        opened.deployments.deploy("churn", 1)
    return home


def begin(home: Path) -> int:
    with open_home(home) as opened:
        return start_canary(opened, FakeClock(), "churn", 2, SPEC).id


def counted(home: Path, number: int) -> dict[int, Counts]:
    with open_home(home) as opened:
        return summed(opened.rollouts.evidence(number))


def beside(home: Path, figures: Figures) -> Beside:
    return Beside(ServerSettings(home=str(home)), figures, watch=False)


def test_nothing_is_asked_or_written_while_no_rollout_goes_on(filled: Path, figures: Figures) -> None:
    async def look() -> None:
        found = beside(filled, figures)
        for _ in range(8):
            await found.look()
        await found.close()

    asyncio.run(look())
    assert figures.asked == 0


def test_what_came_since_the_rollout_began_is_written(filled: Path, figures: Figures) -> None:
    async def look() -> int:
        found = beside(filled, figures)
        figures.set(v1=100)
        await found.look()
        number = begin(filled)
        await found.look()
        figures.set(v1=150, v2=7)
        for _ in range(4):
            await found.look()
        assert counted(filled, number)[2].codes == {"ok": 7}
        figures.set(v1=160, v2=9)
        await found.close()
        return number

    number = asyncio.run(look())
    total = counted(filled, number)
    assert total[1] == Counts(codes={"ok": 60}, latencies={-5: 60})
    assert total[2] == Counts(codes={"ok": 9}, latencies={-5: 9})


def test_servers_are_added_up(filled: Path, figures: Figures) -> None:
    async def look() -> int:
        number = begin(filled)
        for count in (3, 4):
            figures.set(v1=0)
            found = beside(filled, figures)
            await found.look()
            figures.set(v1=count)
            await found.close()
        return number

    assert counted(filled, asyncio.run(look()))[1].codes == {"ok": 7}


def test_a_version_that_cannot_be_loaded_is_told(figures: Figures) -> None:
    figures.set(failed="No memory.", v1=5)
    assert counts_of(figures.now, "churn", 1) == Counts(codes={"ok": 5}, latencies={-5: 5})
    assert counts_of(figures.now, "churn", 2) == Counts(failure="No memory.")
    assert counts_of(figures.now, "churn", 3) is None


def test_a_database_that_fails_is_tried_again(
    filled: Path, figures: Figures, caplog: pytest.LogCaptureFixture
) -> None:
    begin(filled)
    figures.set(v1=5)
    database, gone = filled / DATABASE, filled / "gone"

    async def look() -> None:
        found = beside(filled, figures)
        database.rename(gone)
        running = asyncio.create_task(found.run())
        while not any("cannot be counted" in record.message for record in caplog.records):
            await asyncio.sleep(0.01)
        gone.rename(database)
        assert not running.done()
        running.cancel()
        await asyncio.wait([running])
        await found.look()
        await found.close()

    asyncio.run(look())
    assert figures.asked > 0


async def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def test_rules_of_alerts_alone_need_a_watcher(
    filled: Path, figures: Figures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def watched() -> bool:
        with open_home(filled) as opened:
            return bool(opened.leases.holder("watcher"))

    async def look(settings: ServerSettings, *, needed: bool) -> None:
        found = Beside(settings, figures, logs=False)
        for _ in range(8):
            await found.look()
        if needed:
            await until(watched)
        await found.close()

    monkeypatch.chdir(tmp_path)
    plain = ServerSettings(home=str(filled))
    asyncio.run(look(plain, needed=False))
    assert not watched()
    # A discarded port: nobody answers there.
    told = ServerSettings(home=str(filled), alert_webhook="http://127.0.0.1:9/hook")
    asyncio.run(look(told, needed=True))
    assert not watched()
    (tmp_path / "servable.toml").write_text(
        '[[alerts]]\nname = "a"\nmeasure = "drift.inputs"\nthreshold = 1\n'
    )
    asyncio.run(look(plain, needed=True))


def test_a_watcher_lives_while_it_is_needed_and_is_replaced(filled: Path) -> None:
    def holder() -> str:
        with open_home(filled) as opened:
            return opened.leases.holder("watcher")

    async def live() -> None:
        begin(filled)
        watching = WatcherKeeper(ServerSettings(home=str(filled)), logs=False)
        watching.keep(needed=False)
        assert watching.pid == 0
        watching.keep(needed=True)
        first = watching.pid
        assert first
        watching.keep(needed=True)
        assert watching.pid == first
        await until(lambda: f"-{first}-" in holder())
        os.kill(first, signal.SIGKILL)

        def replaced() -> bool:
            watching.keep(needed=True)
            return watching.pid not in (0, first)

        await until(replaced)
        await watching.close()
        assert watching.pid == 0

    asyncio.run(live())
