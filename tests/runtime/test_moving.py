"""A shared model that its keeper put on the processor moves to its GPU: nobody who asks it notices."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import servable
from runtime.graphs import make_package
from runtime.keeping import Gpu, Kept, kept
from runtime.test_process import held, rows, run, total, until
from servable.errors import SelfCheckFailed, ServableError
from servable.monitoring.metrics import Meter
from servable.registry.home import open_home
from servable.runtime.asking import ask
from servable.runtime.batcher import Batcher
from servable.runtime.children import Child
from servable.runtime.confine import Look
from servable.runtime.confinement import Confinement
from servable.runtime.executor import Executor, Outcome, run_batch
from servable.runtime.framing import Frame, Kind, Load, Ready, encode
from servable.runtime.process import ChildLimits, ChildSpec, ProcessExecutor
from servable.runtime.spawning import Batch
from servable.testing import FakeClock

#: Of a GPU of ten, each model takes six.
ROOM = {"accelerator": "cuda:0", "accelerator_bytes": 6, "accelerator_budget": 10}


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ChildSpec:
    return make_package(tmp_path_factory.mktemp("moving") / "package")


def children() -> set[int]:
    return {int(pid) for pid in held()[2]}


class Scene:
    """A keeper of a GPU of ten with two servers, whose model another one keeps from the GPU."""

    def __init__(self, one: Kept, gpu: Gpu, clock: FakeClock, spec: ChildSpec) -> None:
        self.one, self.gpu, self.clock = one, gpu, clock
        self.other = one.server(spec, max_rows=77, **ROOM)
        self.servers = [one.server(spec, **ROOM) for _ in range(2)]
        self.right = 0
        self._over = asyncio.Event()
        self._callers: list[asyncio.Task[None]] = []
        self.batchers: list[Batcher] = []

    async def fall(self) -> set[int]:
        """The model finds no room; the processes that answer it."""
        await self.other.open()
        before = children()
        await asyncio.gather(*(each.open() for each in self.servers))
        assert self.places == [("cpu", 0)] * 2
        assert all("hold 0.00 GiB of the 0.00 GiB" in each.device.note for each in self.servers)
        return children() - before

    @property
    def places(self) -> list[tuple[str, int]]:
        return [(each.device.device, each.accelerator_bytes) for each in self.servers]

    @property
    def notes(self) -> set[str]:
        return {each.device.note for each in self.servers}

    async def told(self, note: str) -> None:
        """Wait until every server was told a sentence about where the model is."""
        await until(lambda: all(note in each.device.note for each in self.servers))

    async def until_moved(self) -> None:
        """Look until the model is on the GPU, and see that it is there once."""
        async with asyncio.timeout(20.0):
            while self.places != [("cuda:0", 6)] * 2:
                await self.one.seating.look()
                await asyncio.sleep(0.005)
        assert self.notes == {""}
        assert self.gpu.taken == 6
        assert self.gpu.most <= 10

    def call(self) -> None:
        """Begin to ask, without a pause."""
        self.batchers = [Batcher(each, name="sum", meter=Meter("sum", 1)) for each in self.servers]

        async def caller(number: int) -> None:
            while not self._over.is_set():
                answer = await ask(self.batchers[number % 2], rows(float(number), 1.0), 1)
                assert answer["prediction"].tolist() == [number + 1.0]
                self.right += 1
                await asyncio.sleep(0.001)

        self._callers = [asyncio.ensure_future(caller(number)) for number in range(8)]

    async def more(self, answers: int = 50) -> None:
        """So many more are answered."""
        goal = self.right + answers
        await until(lambda: self.right > goal or any(each.done() for each in self._callers))
        for each in self._callers:
            if each.done():
                await each

    async def close(self) -> None:
        self._over.set()
        await asyncio.gather(*self._callers)
        for batcher in self.batchers:
            await batcher.close()
        for each in (self.other, *self.servers):
            await each.close()


@asynccontextmanager
async def scene(spec: ChildSpec, check: Any = None) -> AsyncIterator[Scene]:
    gpu, clock = Gpu(10, 6), FakeClock()
    async with kept(gpu, clock, check) as one:
        each = Scene(one, gpu, clock, spec)
        try:
            yield each
        finally:
            gpu.gate.set()
            await each.close()


def test_it_moves_once_there_is_room_and_no_request_fails(spec: ChildSpec) -> None:
    async def work() -> None:
        async with scene(spec) as each:
            old = await each.fall()
            each.call()
            await each.more()
            await each.one.seating.look()
            assert each.places == [("cpu", 0)] * 2
            assert each.gpu.loads == 1
            await each.other.close()
            each.gpu.gate.clear()
            moving = asyncio.ensure_future(each.until_moved())
            await until(lambda: each.gpu.loads == 2)
            # It answers where it is while it is loaded where it goes.
            await each.more()
            assert each.places == [("cpu", 0)] * 2
            each.gpu.gate.set()
            await moving
            await each.more()
            await until(lambda: not old & children())
            assert sum(server.statistics().replacements for server in each.servers) == 0
            assert sum(server.statistics().failures for server in each.servers) == 0
            # Whoever comes later hears it at once.
            late = each.one.server(spec, **ROOM)
            await late.open()
            assert (late.device.device, late.accelerator_bytes) == ("cuda:0", 6)
            await late.close()

    run(work())


def test_it_looks_by_itself(spec: ChildSpec) -> None:
    async def work() -> None:
        async with scene(spec) as each:
            await each.fall()
            await each.other.close()
            await until(lambda: each.places == [("cuda:0", 6)] * 2)

    run(work())


def test_a_load_that_fails_there_changes_nothing_and_is_tried_again(spec: ChildSpec) -> None:
    async def work() -> None:
        async with scene(spec) as each:
            old = await each.fall()
            each.call()
            await each.other.close()
            each.gpu.fails = True
            await until(lambda: each.gpu.taken == 0)
            await each.one.seating.look()
            await each.told("there is room, but loading it there failed; it is tried again")
            await each.more()
            assert each.places == [("cpu", 0)] * 2
            assert children() >= old
            assert each.gpu.taken == 0
            loads = each.gpu.loads
            await each.one.seating.look()
            assert each.gpu.loads == loads
            each.gpu.fails = False
            each.clock.advance(6.0)
            await each.until_moved()
            await each.more()

    run(work())


@pytest.mark.parametrize("whose", ["old", "new", "keeper"])
def test_a_death_during_the_move_fails_no_request(spec: ChildSpec, whose: str) -> None:
    async def work() -> None:
        async with scene(spec) as each:
            old = await each.fall()
            each.call()
            await each.other.close()
            await until(lambda: children() == old)
            each.gpu.gate.clear()
            moving = asyncio.ensure_future(each.one.seating.look())
            await until(lambda: children() > old)
            if whose == "keeper":
                await each.one.kill()
                each.gpu.gate.set()
                each.one.begin()
                moving.cancel()
                # The next one has room from the start.
                await until(lambda: each.places == [("cuda:0", 6)] * 2)
            else:
                for pid in children() - old if whose == "new" else old:
                    os.kill(pid, signal.SIGKILL)
                each.gpu.gate.set()
                await asyncio.wait([moving])
            if whose == "new":
                await each.told("loading it there failed")
            await each.more()
            replaced = sum(server.statistics().replacements for server in each.servers)
            assert replaced == {"old": 1, "new": 0, "keeper": 2}[whose]
            each.clock.advance(6.0)
            await each.until_moved()
            await each.more()
            await until(lambda: len(children()) == 1)

    run(work())


def test_whoever_leaves_during_the_move_leaves_nothing(spec: ChildSpec) -> None:
    async def work() -> None:
        async with scene(spec) as each:
            await each.fall()
            await each.other.close()
            each.gpu.gate.clear()
            await until(lambda: each.gpu.taken == 0)
            moving = asyncio.ensure_future(each.one.seating.look())
            await until(lambda: each.gpu.taken == 6)
            await asyncio.gather(*(server.close() for server in each.servers))
            await moving
            await until(lambda: not children())
            assert each.gpu.taken == 0

    run(work())


def test_one_that_answers_otherwise_there_stays(spec: ChildSpec) -> None:
    asked: list[str] = []

    async def refuses(load: Load, executor: Executor, device: str) -> None:
        answer = await run_batch(executor, rows(1.0, 2.0))
        asked.append(f"{device} {answer['prediction'][0]}")
        raise SelfCheckFailed("It answers otherwise.")

    async def work() -> None:
        async with scene(spec, refuses) as each:
            await each.fall()
            await each.other.close()
            await until(lambda: each.gpu.taken == 0)
            await each.one.seating.look()
            await each.told("it would answer otherwise there; it stays until it is loaded anew")
            each.clock.advance(1e6)
            await each.one.seating.look()
            assert asked == ["cuda:0 3.0"]
            assert await total(each.servers[0], 1.0, 1.0) == 2.0
            assert each.gpu.taken == 0

    run(work())


def counting(folder: Path) -> ChildSpec:
    """A model that answers in as many pieces as it is asked for."""
    file = folder / "counting.py"
    file.write_text(
        "from collections.abc import Iterator\n"
        "def predict(below: float) -> Iterator[float]:\n"
        "    for number in range(int(below)):\n"
        "        yield float(number)\n"
    )
    servable.add(file, name="counting", trust=True, home=folder / "home")
    with open_home(folder / "home") as opened:
        package = opened.package(opened.models.resolve("counting"))
    return ChildSpec(package.folder, package.digest, "trained")


def test_an_answer_in_pieces_comes_to_its_end_where_it_began(tmp_path: Path) -> None:
    async def work() -> None:
        async with scene(counting(tmp_path)) as each:
            old = await each.fall()
            server: ProcessExecutor = each.servers[0]
            pieces = server.stream({"numbers": np.array([[40.0]])})
            first = [await anext(pieces) for _ in range(3)]
            await each.other.close()
            await each.until_moved()
            assert old <= children()
            rest = [piece async for piece in pieces]
            await pieces.aclose()
            values = [float(np.ravel(next(iter(piece.values())))[0]) for piece in first + rest]
            assert values == [float(number) for number in range(40)]
            await until(lambda: not old & children())

    run(work())


class Behind:
    """Stands behind the socket of a child; see ``spawning.Process``."""

    def __init__(self, pid: int, ends: tuple[int, int, int], died: Callable[[], None]) -> None:
        self.pid = pid
        self.link = socket.socket(fileno=os.dup(ends[0]))
        self._died = died

    def kill(self) -> None:
        self.parted()

    def look(self) -> Look | None:
        return None

    def parted(self) -> None:
        if self.link.fileno() >= 0:
            self.link.close()
            asyncio.get_running_loop().call_soon(self._died)

    def reap(self) -> str:
        return "ended"


class Owns:
    """Notes what a child tells."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def ready(self, child: Child) -> None:
        self.told.append("ready")

    def ended(self, child: Child, batch: Batch, outcome: Outcome) -> None:
        self.told.append("ended")

    def untouched(self, batch: Batch) -> None:
        self.told.append("untouched")

    def replaced(self) -> None:
        self.told.append("replaced")

    def moved(self, child: Child) -> None:
        assert child.about is not None
        self.told.append(f"moved to {child.about.device}")

    def gone(self, child: Child, error: ServableError) -> None:
        self.told.append(error.message)


@pytest.mark.parametrize("pid", [0, 1])
def test_only_a_keeper_may_say_again_that_it_is_ready(spec: ChildSpec, pid: int) -> None:
    async def work() -> None:
        behind: list[Behind] = []

        def start(ends: tuple[int, int, int], died: Callable[[], None], confinement: Confinement) -> Behind:
            behind.append(Behind(pid, ends, died))
            return behind[0]

        owner = Owns()
        child = Child(owner, spec, "sum", ChildLimits(), start)
        for device in ("cpu", "cuda:0"):
            meta = msgspec.msgpack.encode(Ready(1.0, 1.0, 1, device))
            behind[0].link.sendall(encode(Frame(Kind.READY, 0, meta, b"")))
        await until(lambda: len(owner.told) == 2)
        assert owner.told[0] == "ready"
        if pid:
            assert "out of turn" in owner.told[1]
        else:
            assert owner.told[1] == "moved to cuda:0"
            child.leave()
        await child.dead(1.0)

    run(work())
