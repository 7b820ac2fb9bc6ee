"""The watcher as its server sees it: started while one is needed, replaced when it ends, ended with it."""

import asyncio
import os
import signal
import subprocess
import sys

from servable.logs import fields, logger
from servable.settings import ServerSettings

_log = logger("watcher")
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
#: Seconds without need after which it is ended.
_IDLE_S = 60.0
#: Seconds that it has to end.
_LAST_S = 5.0


class WatcherKeeper:
    """Keeps at most one watcher. Belongs to one event loop; the thread that uses it must outlive the process.

    Args:
        settings: of the server; the watcher gets its home, database and log.
        logs: whether it writes log lines to standard error.
    """

    def __init__(self, settings: ServerSettings, *, logs: bool) -> None:
        self._settings = settings
        self._logs = logs
        self._process: subprocess.Popen[bytes] | None = None
        self._needed_at = self._next_at = self._began_at = 0.0
        self._deaths = 0

    @property
    def pid(self) -> int:
        """The process id of the watcher; 0 while there is none."""
        return self._process.pid if self._process is not None else 0

    def keep(self, *, needed: bool) -> None:
        """Start one that is needed, take note of one that ended, and end one that nobody needs any more.

        Args:
            needed: whether there is something to watch now.
        """
        now = asyncio.get_running_loop().time()
        if needed:
            self._needed_at = now
        process = self._process
        if process is not None and process.poll() is not None:
            self._process = None
            self._ended(process.returncode, now)
        if self._process is None:
            if needed and now >= self._next_at:
                self._start(now)
        elif now - self._needed_at > _IDLE_S:
            self.end()
            self._deaths = 0

    def _ended(self, status: int, now: float) -> None:
        if status == 0:
            return
        # One that lived for a while is not taken for one that cannot live.
        self._deaths = 1 if now - self._began_at > _LONGEST_PAUSE_S else self._deaths + 1
        pause_s = min(_FIRST_PAUSE_S * 2.0 ** min(self._deaths - 1, 30), _LONGEST_PAUSE_S)
        self._next_at = now + pause_s
        _log.warning("the watcher ended by itself", extra=fields(status=status, pause_s=pause_s))

    def _start(self, now: float) -> None:
        settings = self._settings
        told = {
            "SERVABLE_HOME": settings.home,
            "SERVABLE_DATABASE_URL": settings.database_url,
            "SERVABLE_BLOB_URL": settings.blob_url,
            "SERVABLE_LOG_LEVEL": settings.log_level,
            "SERVABLE_LOG_FORMAT": settings.log_format,
        }
        module, about = "servable.engines.watcher", (str(os.getpid()), str(int(self._logs)))
        self._began_at = now
        try:
            # The database's address travels in the environment, because everybody can read a command line.
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-P", "-m", module, *about],
                env=os.environ | told,
                stdin=subprocess.DEVNULL,
                process_group=0,
            )
        except OSError as error:
            self._ended(error.errno or 1, now)

    def end(self) -> None:
        """Ask it to end."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    async def close(self) -> None:
        """Wait for its end, and see to it."""
        process, self._process = self._process, None
        if process is None:
            return
        deadline = asyncio.get_running_loop().time() + _LAST_S
        while process.poll() is None:
            if asyncio.get_running_loop().time() > deadline:
                process.kill()
            await asyncio.sleep(0.02)
