"""A real server whose models load and run when a test says so; all else is that of every server."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvloop

from servable.artifact.package import Package
from servable.artifact.selfcheck import read_recorded
from servable.monitoring.metrics import Metrics
from servable.registry.policy import Policy
from servable.runtime.executor import Done, Executor, ExecutorStatistics
from servable.runtime.model import LoadedModel, load_model
from servable.server.app import Application
from servable.server.lifecycle import bind, url_of
from servable.server.listener import Listener
from servable.server.workers import NoLink
from servable.serving.desired import RegistrySource
from servable.serving.host import Host
from servable.settings import ServerSettings
from servable.tensors import Arrays


class Gate:
    """Holds runs and loads back, and counts runs. ``hold`` and ``let_go`` are for the test's thread."""

    def __init__(self) -> None:
        self.loop = uvloop.new_event_loop()
        self.runs = 0
        #: Released once for each run that begins.
        self.begun = threading.Semaphore(0)
        self._free = asyncio.Event()
        self._free.set()
        self._waiting: list[tuple[Executor, Arrays, Done]] = []

    async def load(self) -> None:
        """Wait until loads may go on."""
        await self._free.wait()

    def start(self, executor: Executor, arrays: Arrays, done: Done) -> None:
        """A run, now or when it may."""
        self.runs += 1
        if self._free.is_set():
            executor.start(arrays, done)
        else:
            self._waiting.append((executor, arrays, done))
        self.begun.release()

    def hold(self) -> None:
        """What begins from now on waits."""
        self._now(self._free.clear)

    def let_go(self) -> None:
        """All of it goes on."""
        self._now(self._go_on)

    def _go_on(self) -> None:
        self._free.set()
        waiting, self._waiting = self._waiting, []
        for executor, arrays, done in waiting:
            executor.start(arrays, done)

    def _now(self, act: Any) -> None:
        done = threading.Event()
        self.loop.call_soon_threadsafe(lambda: (act(), done.set()))
        assert done.wait(60)


class Gated:
    """The executor of a model, behind a gate. Its check when it is loaded passes by, uncounted."""

    away = False

    def __init__(self, executor: Executor, gate: Gate, *, checked: bool) -> None:
        self._checking = checked
        self.kind = executor.kind
        self.slots = 1
        self._executor = executor
        self._gate = gate

    async def open(self) -> None:
        await self._executor.open()

    def start(self, arrays: Arrays, done: Done) -> None:
        if self._checking:
            self._checking = False
            self._executor.start(arrays, done)
        else:
            self._gate.start(self._executor, arrays, done)

    def statistics(self) -> ExecutorStatistics:
        return self._executor.statistics()

    async def close(self) -> None:
        await self._executor.close()


@contextmanager
def holding(gate: Gate, settings: ServerSettings) -> Iterator[str]:
    """The address of a server whose every load and run passes the gate; it runs in a thread."""

    async def loading(package: Package, policy: Policy, **more: Any) -> LoadedModel:
        await gate.load()
        loaded = await load_model(package, policy, **more)
        checked = read_recorded(package.folder) is not None
        return loaded._replace(executor=Gated(loaded.executor, gate, checked=checked))

    listening = bind(settings.host, settings.port)
    ready, over = threading.Event(), asyncio.Event()

    async def live() -> None:
        host = Host(RegistrySource(Path(settings.home)), Metrics("1.0"), settings, loading=loading)
        listener = Listener(Application(host, settings, "1.0"), settings, listening, NoLink(), lambda _: None)
        await host.reconcile()
        await listener.open()
        ready.set()
        await over.wait()
        await listener.close()
        await host.close()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: gate.loop) as runner:
            runner.run(live())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        yield url_of(listening, settings.host)
    finally:
        gate.let_go()
        gate.loop.call_soon_threadsafe(over.set)
        thread.join(60)
        assert not thread.is_alive()
