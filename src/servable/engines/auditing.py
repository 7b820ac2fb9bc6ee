"""What goes on beside a server for the audit log: its start and end, checkpoints, and the end of what is old.

Nothing here is on the way of a request, and a database that fails is logged and tried again.
"""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import servable
from servable.clock import SystemClock
from servable.errors import DependencyMissing, ServableError
from servable.logs import fields, logger
from servable.registry.audit_file import OpenAuditLog
from servable.registry.audit_ship import ship
from servable.security.actors import acting, service
from servable.settings import ServerSettings

_log = logger("audit")
#: Seconds between two looks whether a checkpoint is due, and whether something is too old.
_LOOK_S = 30.0
_DROP_S = 6 * 3600.0
#: Seconds that the record of the end may take.
_LAST_S = 2.0


class Auditing:
    """Follows the audit log of a server's home. Belongs to one event loop.

    Args:
        settings: of the server.
        embedded: whether it is inside another application, whose address is that one's matter.
    """

    def __init__(self, settings: ServerSettings, *, embedded: bool = False) -> None:
        self._settings = settings
        self._embedded = embedded
        self._clock = SystemClock()
        self._open = OpenAuditLog(Path(settings.home), settings.database_url, self._clock)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="servable-auditing")
        self._dropped_at = float("-inf")
        self._signs = True
        self._failing = False

    async def run(self) -> None:
        """Record the start, and look after the log until cancelled."""
        await self._aside(lambda: self._record("server.start", **self._said(), process=os.getpid()))
        while True:
            if self._signs:
                await self._aside(self._look)
            await asyncio.sleep(_LOOK_S)

    async def close(self) -> None:
        """Record the end; call when ``run`` has ended."""
        try:
            stopped = self._aside(lambda: self._record("server.stop", process=os.getpid()))
            await asyncio.wait_for(stopped, _LAST_S)
        except TimeoutError:
            _log.warning("the end of the server was not recorded in time")
        self._thread.submit(self._open.close)
        self._thread.shutdown(wait=False)

    def _said(self) -> dict[str, Any]:
        """What is said of the server that starts."""
        settings = self._settings
        said: dict[str, Any] = {"insecure": settings.insecure, "version": servable.__version__}
        if self._embedded:
            return {"embedded": True, **said}
        tls = bool(settings.tls_cert)
        return {
            "host": settings.host, "port": settings.port, "workers": settings.workers, "tls": tls, **said
        }  # fmt: skip

    def _record(self, what: str, **details: Any) -> None:
        log = self._open.log
        log.add((log.entry(what, **details),))

    def _look(self) -> None:
        """Sign what was recorded, and drop what is old; in the thread."""
        log = self._open.log
        with acting(service("server")):
            try:
                note = log.checkpoint_if_due()
                now = self._clock.monotonic()
                if now - self._dropped_at >= _DROP_S:
                    self._dropped_at = now
                    log.drop(self._clock.now() - timedelta(days=self._settings.audit_days))
            except DependencyMissing as error:
                _log.warning("the audit log is not signed", extra=fields(reason=error.message))
                self._signs = False
                return
        if note:
            origin, size, head, at = note.split("\n")[:4]
            _log.info("audit checkpoint", extra=fields(log=origin, size=int(size), head=head, at=at))
            ship(note, self._settings.audit_ship)

    async def _aside(self, work: Callable[[], None]) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, work)
            self._failing = False
        except ServableError as error:
            if not self._failing:
                _log.error("the audit log fails for now", extra=fields(reason=error.message))
            self._failing = True
        except Exception:  # noqa: BLE001 - whatever is wrong here must not end what goes on beside a server
            _log.exception("looking after the audit log failed inside")
