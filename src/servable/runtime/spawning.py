"""What a model process is asked to be, and how its interpreter is started."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from servable.runtime.confine import Look, look_at
from servable.runtime.confinement import USUAL, Confinement, Mode
from servable.runtime.executor import Done
from servable.runtime.framing import Share, Standing
from servable.runtime.remote import Remote
from servable.runtime.surroundings import PrivateFolder, reduced
from servable.tensors import Arrays

#: Libraries that compute start some threads for each processor, each of them its own; what starts more than
#: this does not compute.
MOST_THREADS = max(1024, 16 * (os.cpu_count() or 1))


class ChildSpec(NamedTuple):
    """What a child loads.

    Attributes:
        folder: of the package.
        digest: that the package must have.
        variant: its name.
        device: what should compute it: ``auto cpu cuda cuda:1``.
        share: what a keeper must know to hold it for several servers; None where it is held for one.
        behind: where it stands among those that want a processor.
        confinement: what it is to be kept from.
    """

    folder: Path
    digest: str
    variant: str
    device: str = "auto"
    share: Share | None = None
    behind: Standing = Standing.LEVEL
    confinement: Confinement = USUAL

    def replacing(self) -> "ChildSpec":
        """The same for a child that takes the place of another: nobody waits for one that stands behind."""
        return self if self.behind is Standing.LEVEL else self._replace(behind=Standing.FAR_BEHIND)


class ChildLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a child may take; times in seconds.

    Attributes:
        run_s: a run longer than this is a hang.
        start_s: within which a child must be ready.
        memory_bytes: resident memory above which a child is replaced after its run, and at once when it
            is a quarter above.
        threads: that a child may have; libraries that compute start a few for each processor. With more it
            is ended at once.
        heartbeat_s: an idle child is asked after so long, and must answer within twice as long; less would
            take a child that only waits for a processor on a crowded machine for a wedged one.
        tick_s: between looks at the children.
        grace_s: that a child gets to end by itself when the executor is closed.
        rest_s: before one that stands behind all others is started again after it died without an answer;
            twice as long each time, and at most thirty times.
    """

    run_s: float = 30.0
    start_s: float = 120.0
    memory_bytes: int = 4 * 1024**3
    threads: int = MOST_THREADS
    heartbeat_s: float = 1.0
    tick_s: float = 0.2
    grace_s: float = 2.0
    rest_s: float = 10.0


class Batch(NamedTuple):
    """Rows to answer, and who waits for the answer.

    Attributes:
        arrays: packed rows.
        done: hears the outcome; of a stream, that it began or why not.
        pieces: gets the pieces of a stream; None for a plain batch.
    """

    arrays: Arrays
    done: Done
    pieces: Remote | None = None


class State(Enum):
    """Where a child is in its life."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    GONE = "gone"


class Process(Protocol):
    """What stands behind the socket of a child. Belongs to one event loop."""

    #: Its process id; 0 where somebody else keeps the process.
    pid: int

    def kill(self) -> None:
        """End it and everything that it started, at once; nothing happens when it is dead."""
        ...

    def look(self) -> Look | None:
        """How it is; None where that is not known here."""
        ...

    def parted(self) -> None:
        """Its socket was closed at this end, so it will end by itself."""
        ...

    def reap(self) -> str:
        """Give everything of it back once it is dead; how it ended, for a sentence."""
        ...


#: Starts what answers at the other end. Takes the descriptors of its socket, of the area of requests and of
#: the area of answers, which stay the caller's, what is called, in the loop, once it is dead, and what it is
#: to be kept from. Raises ``OSError`` where the machine has no process, descriptor or memory left.
Start = Callable[[tuple[int, int, int], Callable[[], None], Confinement], Process]


class Spawned:
    """An interpreter of its own, which leads a process group; see ``Start``.

    The kernel says when it is dead, by a descriptor that becomes readable (``pidfd_open``).
    """

    def __init__(
        self, descriptors: tuple[int, int, int], died: Callable[[], None], confinement: Confinement = USUAL
    ) -> None:
        confined = confinement.mode is not Mode.OFF
        self._folder = PrivateFolder() if confined else None
        path = self._folder.path if self._folder is not None else ""
        with contextlib.ExitStack() as undo:
            if self._folder is not None:
                undo.callback(self._folder.close)
            environment = reduced(os.environ, confinement.environment, path) if confined else None
            self._process = _spawn(descriptors, path, environment)
            self.pid = self._process.pid
            undo.callback(self._process.wait)
            undo.callback(self._process.kill)
            self._alarm = os.pidfd_open(self.pid)
            undo.pop_all()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._alarm, died)

    def kill(self) -> None:
        """See ``Process``: its id is not used again before it is reaped."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def look(self) -> Look | None:
        """What the kernel says."""
        return look_at(self.pid)

    def parted(self) -> None:
        """It reads the end of its socket."""

    def reap(self) -> str:
        """See ``Process``."""
        # Not reaped yet, so the group is still its own: end what it left behind.
        self.kill()
        self._loop.remove_reader(self._alarm)
        os.close(self._alarm)
        if self._folder is not None and not self._folder.close_empty():
            # How much a model wrote, and so how long this takes, is its own choice.
            self._loop.run_in_executor(None, self._folder.close)
        return ended_how(self._process.wait())


def _spawn(
    descriptors: tuple[int, int, int], folder: str, environment: dict[str, str] | None
) -> "subprocess.Popen[Any]":
    """Start the interpreter of a child, with a folder of its own and with these variables.

    The thread that calls this must live as long as the child: the kernel ends a child with the thread that
    started it.
    """
    numbers = (os.getpid(), *descriptors)
    command = [sys.executable, "-P", "-m", "servable.runtime.child_process", *map(str, numbers), folder]
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module, and numbers
        command,
        stdin=subprocess.DEVNULL,
        # What a model prints goes where the server's own log goes, never to its standard output.
        stdout=2,
        pass_fds=descriptors,
        env=environment,
        start_new_session=True,
    )


def ended_how(status: int) -> str:
    """What a process's exit status says, for a sentence."""
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
