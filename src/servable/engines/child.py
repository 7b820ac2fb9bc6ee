"""One HTTP process as its parent sees it: started, spoken to over a private socketpair, seen to its end."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from typing import NamedTuple, Protocol

from msgspec import structs

from servable.errors import ServableError
from servable.monitoring.totals import Snapshot
from servable.runtime.poison import PoisonArea
from servable.server.limit_area import LimitArea
from servable.server.messages import (
    Ask,
    Change,
    Changed,
    Channel,
    Failed,
    Others,
    Ready,
    Start,
    Stop,
    Tell,
    Told,
    ToParent,
)
from servable.server.turns import Board
from servable.server.workers import error_of

#: Seconds that a worker has to end once it has closed its side of the conversation.
_LAST_S = 5.0


class Siblings(Protocol):
    """All workers of a server, as far as one of them may ask."""

    async def totals(self, but: "Child | None" = None) -> Snapshot:
        """The figures of everybody but one."""
        ...

    async def change(self, wanted: Change, but: "Child") -> Changed:
        """Have everybody but one load or unload a model; the first error that one of them met, if any."""
        ...


class Common(NamedTuple):
    """What all workers have in common.

    Attributes:
        mailbox: descriptor of the way to the keeper of shared models.
        board: of connections.
        poison: the rows that killed a model.
        limits: what is counted of limited callers.
    """

    mailbox: int
    board: Board
    poison: PoisonArea
    limits: LimitArea


class Child:
    """A worker. Belongs to one event loop; the thread that starts it must outlive it.

    Args:
        start: what it is to be.
        listening: the socket that it accepts on; stays the caller's.
        common: what it has in common with all others; stays the caller's.
    """

    def __init__(self, start: Start, listening: socket.socket, common: Common) -> None:
        self._start = start
        self._listening = listening
        self._board = common.board
        self._common = common
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._ended = asyncio.Event()
        self._began = asyncio.Event()
        self._number = 0
        self._told: dict[int, asyncio.Event] = {}
        self._changing: dict[int, asyncio.Future[Changed]] = {}
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

    async def run(self, siblings: Siblings) -> str:
        """Start it and listen to it until it has ended.

        Args:
            siblings: are asked for what it wants of them; what they say is sent.

        Returns:
            How it ended, in words.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = self._spawn(theirs)
        notice_end(self._process, self._ended)
        self._channel = await Channel.over(ours, ToParent)
        self._channel.send(self._start)
        answering: set[asyncio.Task[None]] = set()
        try:
            while (message := await self._channel.receive()) is not None:
                self._hear(message)
                if isinstance(message, Ask | Change):
                    task = asyncio.create_task(self._answer(siblings, message))
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
            self._common.limits.left(self._start.place)
            self._began.set()
            for waiting in self._told.values():
                waiting.set()
            for changing in self._changing.values():
                # A successor has desired state alone; what was asked of this one is nobody's any more.
                if not changing.done():
                    changing.set_result(Changed(0))
        return ending(self._process.returncode)

    def _spawn(self, theirs: socket.socket) -> subprocess.Popen[bytes]:
        common = self._common
        memory = (common.board.descriptor, common.poison.descriptor, common.limits.shared)
        descriptors = (theirs.fileno(), self._listening.fileno(), common.mailbox, *memory)
        # -P: the working directory must not lend its files as modules. A process group of its own: the
        # terminal's Ctrl-C is for the parent alone.
        command = [sys.executable, "-P", "-m", "servable.server.worker", *map(str, descriptors)]
        return subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [*command, str(os.getpid())], pass_fds=descriptors, stdin=subprocess.DEVNULL, process_group=0
        )

    def _hear(self, message: ToParent) -> None:
        self.heard_at = asyncio.get_running_loop().time()
        match message:
            case Ready():
                self.ready = True
                self._began.set()
            case Failed(code, text):
                self.failure = error_of(code, text)
            case Told(number, snapshot):
                self.snapshot = snapshot
                if number in self._told:
                    self._told[number].set()
            case Ask(_, snapshot):
                self.snapshot = snapshot
            case Changed(number) if number in self._changing and not self._changing[number].done():
                self._changing[number].set_result(message)

    async def _answer(self, siblings: Siblings, message: Ask | Change) -> None:
        answer: Others | Changed
        if isinstance(message, Ask):
            answer = Others(message.number, await siblings.totals(self))
        else:
            answer = structs.replace(await siblings.change(message, self), number=message.number)
        if self._channel is not None:
            self._channel.send(answer)

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

    async def change(self, wanted: Change) -> Changed:
        """Have it load or unload a model; what it says, or that it is done when it has ended."""
        if self._channel is None or not self.alive:
            return Changed(0)
        self._number += 1
        number = self._number
        changed: asyncio.Future[Changed] = asyncio.get_running_loop().create_future()
        self._changing[number] = changed
        self._channel.send(structs.replace(wanted, number=number))
        try:
            return await changed
        finally:
            del self._changing[number]

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


def notice_end(process: "subprocess.Popen[bytes]", ended: asyncio.Event) -> None:
    """Reap the process and set the event when it ends."""
    loop = asyncio.get_running_loop()
    descriptor = os.pidfd_open(process.pid)

    def over() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        process.wait()
        ended.set()

    loop.add_reader(descriptor, over)


def ending(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
