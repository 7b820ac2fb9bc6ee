"""A server's life: bind, load, answer, drain, end.

``ServerLife`` belongs to one event loop. The socket is bound before anything is loaded, so a taken
port is known at once; the server answers ``/healthz`` and ``/readyz`` while models load. Stop is start
reversed: not ready, accept nothing more, answer what was asked, end the connections, close the models,
close the registry.
"""

import asyncio
import contextlib
import errno
import gc
import resource
import socket
import sys
from collections.abc import Sequence
from typing import Any

from servable.errors import PortInUse, ServableError, SettingInvalid
from servable.logs import fields, logger
from servable.monitoring.metrics import Metrics
from servable.monitoring.totals import Snapshot, requests
from servable.runtime.footprint import free_evenly
from servable.server.app import Application
from servable.server.authentication import Authentication
from servable.server.exposure import check_exposure
from servable.server.listener import Listener
from servable.server.slices import shorten_slices
from servable.server.tls import certificate_of
from servable.server.workers import Link, NoLink
from servable.serving.desired import source_of
from servable.serving.held import failed, held
from servable.serving.host import Host
from servable.settings import ServerSettings

_log = logger("server")
_BACKLOG = 2048
#: Seconds for which a thread keeps the interpreter while another one wants it.
_SWITCH_S = 0.0005


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


def url_of(listening: socket.socket, host: str, scheme: str = "http") -> str:
    """The base address of a listening socket, as this machine reaches it."""
    port = listening.getsockname()[1]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104 - compared, not bound
    return f"{scheme}://{shown}:{port}"


class ServerLife:
    """One server process from start to end.

    Args:
        settings: everything.
        only: references to serve; every deployment when empty.
        version: of Servable.
        listening: a bound socket to accept from; bound here when None.
        link: to the other processes of the server.
    """

    def __init__(
        self,
        settings: ServerSettings,
        only: Sequence[str],
        version: str,
        *,
        listening: socket.socket | None = None,
        link: Link | None = None,
    ) -> None:
        check_exposure(settings)
        self._settings = settings
        self._certificate = certificate_of(settings)
        self._socket = listening or bind(settings.host, settings.port)
        self.url = url_of(self._socket, settings.host, settings.scheme)
        try:
            source = source_of(settings, only)
            self._link = link or NoLink()
            self.host = Host(source, Metrics(version), settings, sharing=self._link.sharing)
            self.host.metrics.held = lambda: held(self.host.table)
            self.host.metrics.failed = lambda: failed(self.host.table)
            self._authentication = Authentication(settings)
            self.application = Application(self.host, settings, version, self._link, self._authentication)
            self.application.audit.refusals = source.refusals
        except BaseException:
            self._socket.close()
            raise
        self._listener = Listener(
            self.application, settings, self._socket, self._link, self._count_connections,
            self._certificate.context,
        )  # fmt: skip
        self._stopping = asyncio.Event()
        self._now = asyncio.Event()

    async def run(self, started: "asyncio.Future[None] | None" = None) -> None:
        """Serve until ``stop``.

        Args:
            started: is given its result once every model was tried.

        Raises:
            ServableError: nothing could be loaded, and why.
        """
        _allow_many_descriptors()
        following: asyncio.Future[Any] | None = None
        try:
            # Answers /healthz while models load, unless others answer everything meanwhile.
            if not self._link.patient:
                await self._listener.open()
            await self.host.reconcile()
            if self.host.failures and not self.host.table.models and not self.host.table.cold:
                raise self.host.failures[0]
            if self._link.patient:
                await self._listener.open()
            self._listener.ready()
            following = asyncio.gather(
                self.host.run(),
                self._authentication.follow(),
                self._certificate.follow(),
                self.application.admission.limiter.follow(),
                self.application.audit.follow(),
            )
            _log.info("ready" if self.host.ready else "started", extra=fields(url=self.url))
            if started is not None and not started.done():
                started.set_result(None)
            await self._stopping.wait()
            await self._drain()
        finally:
            await self._end(following)

    async def figures(self) -> Snapshot:
        """What was counted so far."""
        return self.host.metrics.snapshot()

    def stop(self) -> None:
        """Ask it to end; a second time, to end at once without waiting for anybody. Call in its loop."""
        if self._stopping.is_set():
            self._now.set()
        self._stopping.set()

    def _count_connections(self, connections: int) -> None:
        metrics = self.host.metrics
        metrics.accepted += connections > metrics.connections
        metrics.connections = connections
        self._link.connected(connections)

    async def _drain(self) -> None:
        """Not ready, still answering, so that a balancer can look elsewhere first; then the last answers."""
        self.application.draining = True
        self._listener.announce_end()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._now.wait(), self._settings.drain_s)
        ending = asyncio.ensure_future(self._listener.drain(self._settings.shutdown_s))
        hurry = asyncio.ensure_future(self._now.wait())
        await asyncio.wait([ending, hurry], return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if ending.done() and not ending.result():
            _log.warning("some requests were not answered in time", extra=fields(url=self.url))
        ending.cancel()

    async def _end(self, following: "asyncio.Future[Any] | None") -> None:
        await self._listener.close()
        if following is not None:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError, ServableError):
                await following
        await self.host.close()
        await self.application.admission.limiter.close()
        await self.application.audit.close()
        self._authentication.close()
        _log.info("stopped", extra=fields(requests=requests(self.host.metrics.snapshot())))


def settle_in() -> None:
    """Prepare a process of our own for a long life of short requests; called when everything is loaded.

    What was imported and loaded lives as long as the process, so a collection need not walk it. And a
    thread that loads a model or unpacks a body gives the interpreter back to the event loop after half a
    millisecond instead of five; whoever else has the processor gives it at once to the thread of the loop,
    which is the one that calls this. Freed memory is put in order evenly.
    """
    shorten_slices()
    free_evenly()
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(_SWITCH_S)


def leave_no_core_files() -> None:
    """Let neither this process nor one that it starts leave its memory in a file: callers' rows are in it."""
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _allow_many_descriptors() -> None:
    """Let the process have as many connections as the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
