"""The keeper of shared models as its parent sees it: started when it is first needed, watched, replaced.

What workers hand over lies in the mailbox, of which the parent holds both ends. While no keeper lives the
parent looks whether something lies there and starts one; so a server that shares nothing has no keeper, and
one that dies loses nothing but what its models were answering.
"""

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys

from servable.engines.child import ending, notice_end
from servable.logs import fields, logger
from servable.monitoring.totals import Snapshot, merge, past
from servable.runtime.mailbox import mailbox
from servable.server.messages import Channel, Told, ToParent
from servable.settings import ServerSettings

_log = logger("keeper")
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 10.0
#: Seconds without a sign of life after which it counts as hung. Its loop never runs model code.
_SILENT_S = 10.0
#: Seconds that it has to end once nobody needs it.
_LAST_S = 10.0


class Keeping:
    """Keeps at most one keeper. Belongs to one event loop; the thread that makes it must outlive it.

    Args:
        settings: for the log.
        logs: whether the keeper writes log lines to standard error.

    Raises:
        OSError: no descriptor left.
    """

    def __init__(self, settings: ServerSettings, *, logs: bool) -> None:
        self._log = (settings.log_level, settings.log_format) if logs else ("", "")
        self._loop = asyncio.get_running_loop()
        self._mailbox, self._servers = mailbox()
        self._process: subprocess.Popen[bytes] | None = None
        self._heard_at = 0.0
        self._deaths = 0
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        #: The present keeper's figures and those of the keepers before it.
        self.snapshot = Snapshot()
        self._await_need()

    @property
    def descriptor(self) -> int:
        """The workers' end of the mailbox."""
        return self._servers.fileno()

    @property
    def pid(self) -> int:
        """The process id of the keeper; 0 while there is none."""
        return self._process.pid if self._process is not None else 0

    # ------------------------------------------------------------------ life

    def _await_need(self) -> None:
        self._loop.add_reader(self._mailbox.fileno(), self._needed)

    def _needed(self) -> None:
        self._loop.remove_reader(self._mailbox.fileno())
        self._task = self._loop.create_task(self._see_through())

    async def _see_through(self) -> None:
        """Start a keeper and listen to it until it has ended; then wait for the next need."""
        began = self._loop.time()
        try:
            how = await self._run()
        except OSError as error:
            how = f"it could not be started: {error.strerror}"
        if self._closing:
            return
        # One that lived for a while is not taken for one that cannot live.
        self._deaths = 1 if self._loop.time() - began > _LONGEST_PAUSE_S else self._deaths + 1
        pause_s = min(_FIRST_PAUSE_S * 2.0 ** min(self._deaths - 1, 30), _LONGEST_PAUSE_S)
        _log.warning("the keeper of shared models ended", extra=fields(ended=how, pause_s=pause_s))
        await asyncio.sleep(pause_s)
        self._await_need()

    async def _run(self) -> str:
        ours, theirs = socket.socketpair()
        with theirs:
            process = self._process = self._spawn(theirs)
        ended = asyncio.Event()
        notice_end(process, ended)
        channel = await Channel.over(ours, ToParent)
        self._heard_at = self._loop.time()
        before = self.snapshot
        watching = self._loop.create_task(self._watch(process))
        try:
            while isinstance(message := await channel.receive(), Told):
                self._heard_at = self._loop.time()
                self.snapshot = merge([before, message.snapshot])
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), _LAST_S)
        finally:
            watching.cancel()
            if not ended.is_set():
                process.send_signal(signal.SIGKILL)
            await ended.wait()
            await channel.close()
            self._process = None
            self.snapshot = past(self.snapshot)
        return ending(process.returncode)

    def _spawn(self, theirs: socket.socket) -> subprocess.Popen[bytes]:
        descriptors = (theirs.fileno(), self._mailbox.fileno())
        command = [sys.executable, "-P", "-m", "servable.engines.keeper", *map(str, descriptors), *self._log]
        return subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command, pass_fds=descriptors, stdin=subprocess.DEVNULL, process_group=0
        )

    async def _watch(self, process: "subprocess.Popen[bytes]") -> None:
        while True:
            await asyncio.sleep(1.0)
            if self._loop.time() - self._heard_at > _SILENT_S:
                _log.error("the keeper hangs and is killed", extra=fields(pid=process.pid))
                process.send_signal(signal.SIGKILL)
                return

    async def close(self) -> None:
        """Let the keeper end; call when no worker lives any more."""
        self._closing = True
        self._loop.remove_reader(self._mailbox.fileno())
        # Without an end of servers the keeper knows that nobody can come.
        self._servers.close()
        self._mailbox.close()
        if self._task is None:
            return
        # Nothing keeps one that only waits for its next start.
        await asyncio.wait([self._task], timeout=_LAST_S if self._process is not None else 0.0)
        self._task.cancel()
        await asyncio.wait([self._task])
