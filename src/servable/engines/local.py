"""Runs one server: in the foreground for the command line, in a thread for programs.

With one worker the server is in this process. With several, or when it is to be restarted as files
change, this process only holds the socket and keeps the workers; see ``supervisor``.
"""

import asyncio
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import uvloop

import servable
from servable import logs
from servable.engines.beside import beside
from servable.engines.supervisor import Supervisor
from servable.errors import ConflictError
from servable.monitoring.totals import Snapshot
from servable.server.lifecycle import ServerLife, leave_no_core_files, settle_in
from servable.settings import ServerSettings, load_settings

if TYPE_CHECKING:
    from servable.engines.reload import Reload

#: Seconds beyond the time to drain that a server in a thread has to end.
_STOP_MARGIN_S = 30.0


class _Life(Protocol):
    """A server from start to end, in this process or in several. Belongs to one event loop."""

    url: str

    async def run(self, started: "asyncio.Future[None] | None" = None) -> None: ...

    async def figures(self) -> Snapshot: ...

    def stop(self) -> None: ...


def _life(settings: ServerSettings, only: Sequence[str], *, logs: bool) -> _Life:
    if settings.workers == 1:
        return ServerLife(settings, only, servable.__version__)
    return Supervisor(settings, only, servable.__version__, logs=logs)


class LocalServer:
    """A server in a thread of this process, or in processes that a thread of this one keeps.

    Usable as a context manager. Methods may be called from any thread, one at a time.

    Args:
        settings: everything; the loader's when None.
        only: references to serve; every deployment of the home when empty.
    """

    def __init__(self, settings: ServerSettings | None = None, *, only: Sequence[str] = ()) -> None:
        self.settings = settings or load_settings()
        self._only = tuple(only)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._life: _Life | None = None
        self._started = threading.Event()
        self._failure: BaseException | None = None

    @property
    def url(self) -> str:
        """The base address, such as ``http://127.0.0.1:8000``; empty before ``start``."""
        return self._life.url if self._life is not None else ""

    @property
    def urls(self) -> tuple[str, ...]:
        """The base addresses; empty before ``start``."""
        return (self.url,) if self.url else ()

    def start(self) -> None:
        """Bring the server up; returns when every model was tried.

        Raises:
            ConflictError: it was started before.
            PortInUse: somebody else listens there.
            ServableError: why nothing could be served.
        """
        if self._thread is not None:
            raise ConflictError("This server was started before; make a new one.")
        self._thread = threading.Thread(target=self._run, name="servable-server", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def stop(self) -> None:
        """Drain and end; returns when the thread has ended. Stopping what is stopped does nothing."""
        thread, loop, life = self._thread, self._loop, self._life
        if thread is None or not thread.is_alive() or loop is None or life is None:
            return
        loop.call_soon_threadsafe(life.stop)
        thread.join(self.settings.drain_s + self.settings.shutdown_s + _STOP_MARGIN_S)

    def __enter__(self) -> "LocalServer":
        """The running server; ``serve(background=True)`` hands out one that was started already."""
        if self._thread is None:
            self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._live())
        except BaseException as error:  # noqa: BLE001 - carried over to the thread that waits in start
            self._failure = error
        finally:
            self._started.set()

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._life = _life(self.settings, self._only, logs=False)
        started = self._loop.create_future()
        started.add_done_callback(lambda _: self._started.set())
        async with beside(self.settings, self._life.figures, started, logs=False):
            await self._life.run(started)


def serve(
    only: Sequence[str] = (),
    *,
    home: Path | str | None = None,
    host: str | None = None,
    port: int | None = None,
    background: bool = False,
    settings: ServerSettings | None = None,
    on_ready: Callable[[str], None] | None = None,
    reload: "Reload | None" = None,
    **more: Any,
) -> LocalServer | None:
    """Serve the deployments of a home over HTTP.

    Args:
        only: references (``name``, ``name:3``, ``name@alias``) to serve; every deployment when empty.
        home: the home's folder.
        host: address to listen on.
        port: port to listen on; 0 for any free one.
        background: True returns a running ``LocalServer``; False serves until SIGINT or SIGTERM.
        settings: everything at once; then the settings above must be None.
        on_ready: is called with the base address once every model was tried (foreground only).
        reload: what to look at and to do when it changes (foreground only); None: nothing.
        more: any other setting by name; see ``servable.settings``.

    Returns:
        The running server when ``background``, else None after it ended.

    Raises:
        PortInUse: somebody else listens there.
        SettingInvalid: a setting cannot be used.
        ServableError: why nothing could be served.
    """
    flags = {"home": str(home) if home is not None else None, "host": host, "port": port, **more}
    chosen = settings or load_settings(flags)
    if background:
        server = LocalServer(chosen, only=only)
        server.start()
        return server
    logs.configure(chosen.log_level, chosen.log_format)
    leave_no_core_files()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_foreground(chosen, only, on_ready, reload))
    return None


async def _foreground(
    settings: ServerSettings,
    only: Sequence[str],
    on_ready: Callable[[str], None] | None,
    reload: "Reload | None",
) -> None:
    if reload is None:
        await _until_signalled(_life(settings, only, logs=True), settings, on_ready)
        return
    supervisor = Supervisor(settings, only, servable.__version__)
    watching = asyncio.create_task(reload.follow(supervisor.restart))
    try:
        await _until_signalled(supervisor, settings, on_ready)
    finally:
        watching.cancel()
        await asyncio.wait([watching])


async def _until_signalled(
    life: _Life, settings: ServerSettings, on_ready: Callable[[str], None] | None
) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, life.stop)
    started = loop.create_future()

    def up(future: "asyncio.Future[None]") -> None:
        if future.cancelled():
            return
        settle_in()
        if on_ready is not None:
            on_ready(life.url)

    started.add_done_callback(up)
    try:
        async with beside(settings, life.figures, started, logs=True):
            await life.run(started)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
