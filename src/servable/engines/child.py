"""One HTTP process as its parent sees it: started, spoken to over a private socketpair, seen to its end."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable

from servable.errors import ServableError
from servable.logs import fields, logger
from servable.monitoring.totals import Snapshot
from servable.server.turns import Board
from servable.server.workers import Ask, Channel, Failed, Others, Ready, Start, Stop, Tell, Told, ToParent

_log = logger("workers")
#: Seconds that a worker has to end once it has closed its side of the conversation.
_LAST_S = 5.0

#: Gives the figures of everybody but one.
Asked = Callable[["Child"], Awaitable[Snapshot]]


class Child:
    """A worker. Belongs to one event loop; the thread that starts it must outlive it.

    Args:
        start: what it is to be.
        listening: the socket that it accepts on; stays the caller's.
        board: of connections; stays the caller's.
    """

    def __init__(self, start: Start, listening: socket.socket, board: Board) -> None:
        self._start = start
        self._listening = listening
        self._board = board
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._ended = asyncio.Event()
        self._began = asyncio.Event()
        self._number = 0
        self._told: dict[int, asyncio.Event] = {}
        #: Its last known figures.
        self.snapshot = Snapshot()
        #: Whether every model was tried and it answers.
        self.ready = False
        #: Why it can serve nothing, once it said so.
        self.failure: ServableError | None = None
        #: When it was last heard, in seconds of the loop's clock.
        self.heard_at = asyncio.get_running_loop().time()

    @property
    def pid(self) -> int:
        """Its process id; 0 before it was started."""
        return self._process.pid if self._process is not None else 0

    @property
    def place(self) -> int:
        """Its place on the board."""
        return self._start.place

    @property
    def alive(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and not self._ended.is_set()

    async def run(self, asked: Asked) -> str:
        """Start it and listen to it until it has ended.

        Args:
            asked: is called when it wants the figures of the others; what it gives is sent.

        Returns:
            How it ended, in words.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = self._spawn(theirs)
        _notice_end(self._process, self._ended)
        self._channel = await Channel.over(ours, ToParent)
        self._channel.send(self._start)
        answering: set[asyncio.Task[None]] = set()
        try:
            while (message := await self._channel.receive()) is not None:
                self._hear(message)
                if isinstance(message, Ask):
                    task = asyncio.create_task(self._answer(asked, message.number))
                    answering.add(task)
                    task.add_done_callback(answering.discard)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), _LAST_S)
        finally:
            for task in answering:
                task.cancel()
            self.kill()
            await self._ended.wait()
            await self._channel.close()
            self._board.leave(self._start.place)
            self._began.set()
            for waiting in self._told.values():
                waiting.set()
        return _ending(self._process.returncode)

    def _spawn(self, theirs: socket.socket) -> subprocess.Popen[bytes]:
        descriptors = (theirs.fileno(), self._listening.fileno(), self._board.descriptor)
        # -P: the working directory must not lend its files as modules. A process group of its own: the
        # terminal's Ctrl-C is for the parent alone.
        command = [sys.executable, "-P", "-m", "servable.server.worker", *map(str, descriptors)]
        return subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [*command, str(os.getpid())], pass_fds=descriptors, stdin=subprocess.DEVNULL, process_group=0
        )

    def _hear(self, message: Ready | Failed | Told | Ask) -> None:
        self.heard_at = asyncio.get_running_loop().time()
        match message:
            case Ready():
                self.ready = True
                self._began.set()
            case Failed(code, text):
                self.failure = _error(code, text)
            case Told(number, snapshot):
                self.snapshot = snapshot
                if number in self._told:
                    self._told[number].set()
            case Ask(_, snapshot):
                self.snapshot = snapshot

    async def _answer(self, asked: Asked, number: int) -> None:
        others = await asked(self)
        if self._channel is not None:
            self._channel.send(Others(number, others))

    async def began(self) -> bool:
        """Wait until it is ready or has ended; whether it is ready."""
        await self._began.wait()
        return self.ready

    async def ended(self) -> None:
        """Wait until it has ended."""
        await self._ended.wait()

    async def refresh(self) -> None:
        """Ask for its figures and wait until they came or it ended. Cancelling stops waiting."""
        if self._channel is None or not self.alive:
            return
        self._number += 1
        number, told = self._number, asyncio.Event()
        self._told[number] = told
        self._channel.send(Tell(number))
        try:
            await told.wait()
        finally:
            del self._told[number]

    def stop(self, *, at_once: bool = False) -> None:
        """Ask it to end."""
        if self._channel is not None:
            self._channel.send(Stop(at_once))
        elif self._process is not None:
            self.kill()

    def kill(self) -> None:
        """End it without asking."""
        if self._process is not None and not self._ended.is_set():
            # Popen does not signal a process that it has reaped, so the id cannot be another's by now.
            self._process.send_signal(signal.SIGKILL)


def _notice_end(process: "subprocess.Popen[bytes]", ended: asyncio.Event) -> None:
    """Reap the process and set the event when it ends."""
    loop = asyncio.get_running_loop()
    descriptor = os.pidfd_open(process.pid)

    def over() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        process.wait()
        ended.set()

    loop.add_reader(descriptor, over)


def _ending(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def _error(code: str, message: str) -> ServableError:
    """The error that a worker met, as one of ours."""
    todo = [ServableError]
    while todo:
        kind = todo.pop()
        if kind.code == code:
            return kind(message)
        todo.extend(kind.__subclasses__())
    _log.warning("a worker met an error that is not known here", extra=fields(code=code))
    return ServableError(message)
