"""A server's life: bind, load, answer, drain, end.

``ServerLife`` belongs to one event loop. The socket is bound before anything is loaded, so a taken
port is known at once; the server answers ``/healthz`` and ``/readyz`` while models load.
"""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import uvicorn

from servable.errors import PortInUse, ServableError, SettingInvalid
from servable.logs import fields, logger
from servable.monitoring.metrics import Metrics
from servable.server.app import Application
from servable.serving.desired import RegistrySource
from servable.serving.host import Host
from servable.settings import ServerSettings, check_exposure

_log = logger("server")
_BACKLOG = 2048


def bind(host: str, port: int) -> socket.socket:
    """A listening socket.

    Args:
        host: a name or address.
        port: 0 for any free one.

    Raises:
        PortInUse: somebody listens there.
        SettingInvalid: the address is none of this machine's, or the port is not allowed.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise SettingInvalid(f"{host} is no address that this machine knows; use 127.0.0.1.") from error
    family, kind, protocol, _, address = found[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(
                f"Port {port} of {host} is in use by another process; "
                "choose another with --port, or 0 for any free one."
            ) from error
        raise SettingInvalid(f"Listening on {host} port {port} is not possible: {error.strerror}.") from error
    return listening


def url_of(listening: socket.socket, host: str) -> str:
    """The base address of a listening socket, as this machine reaches it."""
    port = listening.getsockname()[1]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104 - compared, not bound
    return f"http://{shown}:{port}"


class _Uvicorn(uvicorn.Server):
    """Leaves signals to whoever runs the loop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture nothing."""
        yield


class ServerLife:
    """One server from start to end.

    Args:
        settings: everything.
        only: references to serve; every deployment when empty.
        version: of Servable.
    """

    def __init__(self, settings: ServerSettings, only: Sequence[str], version: str) -> None:
        check_exposure(settings)
        self._settings = settings
        self._socket = bind(settings.host, settings.port)
        self.url = url_of(self._socket, settings.host)
        try:
            source = RegistrySource(Path(settings.home), database_url=settings.database_url, only=only)
            self.host = Host(source, Metrics(version), max_rows=settings.max_rows, poll_s=settings.poll_s)
            self.application = Application(self.host, settings, version)
            self._uvicorn = _Uvicorn(
                uvicorn.Config(
                    self.application,
                    http="httptools",
                    ws="none",
                    lifespan="off",
                    log_config=None,
                    access_log=False,
                    server_header=False,
                    proxy_headers=False,
                    timeout_graceful_shutdown=max(1, round(settings.shutdown_s)),
                )
            )
        except BaseException:
            self._socket.close()
            raise
        self._stopping = asyncio.Event()

    async def run(self, started: "asyncio.Future[None] | None" = None) -> None:
        """Serve until ``stop``.

        Args:
            started: is given its result once every model was tried.

        Raises:
            ServableError: nothing could be loaded, and why.
        """
        following: asyncio.Task[None] | None = None
        serving = asyncio.create_task(self._uvicorn.serve(sockets=[self._socket]))
        try:
            await self.host.reconcile()
            if self.host.failures and not self.host.table.models:
                raise self.host.failures[0]
            following = asyncio.create_task(self.host.run())
            _log.info("ready" if self.host.ready else "started", extra=fields(url=self.url))
            if started is not None and not started.done():
                started.set_result(None)
            await asyncio.wait(
                [asyncio.create_task(self._stopping.wait()), serving], return_when=asyncio.FIRST_COMPLETED
            )
            await self._drain()
        finally:
            await self._end(following, serving)

    def stop(self) -> None:
        """Ask it to end; a second time, to end without waiting for drain time. Call in its loop."""
        if self._stopping.is_set():
            self._uvicorn.should_exit = True
        self._stopping.set()

    async def _drain(self) -> None:
        """Not ready, still answering, so that a balancer can look elsewhere first."""
        self.application.draining = True
        loop = asyncio.get_running_loop()
        end = loop.time() + self._settings.drain_s
        while loop.time() < end and not self._uvicorn.should_exit:
            await asyncio.sleep(0.05)

    async def _end(self, following: "asyncio.Task[None] | None", serving: "asyncio.Task[None]") -> None:
        self._uvicorn.should_exit = True
        if following is not None:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError, ServableError):
                await following
        await serving
        await self.host.close()
        self._socket.close()
        _log.info("stopped")
