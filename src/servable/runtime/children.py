"""One model process as the server sees it: started, fed, watched, ended.

Everything happens in the event loop, by callbacks: what comes over the socket, and word of the death of
what stands behind it, see ``spawning``. No threads, no tasks.
"""

import asyncio
import contextlib
import fcntl
import socket
import sys
import termios
import time
from typing import Any

import msgspec

from servable.errors import ArtifactUnreadable, ModelDied, ModelFailed, ModelNotReady, ServableError
from servable.runtime.arena import Area
from servable.runtime.child import IN_FRAME
from servable.runtime.confine import send_far_back
from servable.runtime.executor import Outcome
from servable.runtime.framing import Failed, Frame, FrameBuffer, Kind, Load, Ready, Standing, broken, encode
from servable.runtime.outbox import Outbox
from servable.runtime.owner import Owner
from servable.runtime.packing import Packed, unpack
from servable.runtime.remote import RemoteStreams
from servable.runtime.spawning import Batch, ChildLimits, ChildSpec, Spawned, Start, State

#: Resident memory above the limit by this factor ends a process in the middle of a run.
_FAR_ABOVE = 1.25
_encode = msgspec.msgpack.Encoder().encode


class Child:
    """A model process. Belongs to one event loop.

    Args:
        owner: is told what happens.
        spec: what it loads.
        name: of the model, for people.
        limits: what it may take.
        start: starts what answers at the other end of the socket; an interpreter of its own by default.

    Attributes:
        state: where it is in its life.
        about: what it said when it was ready.
        started: whether it was ready once.
        runs: batches that it was given, and of them ``answers`` that it answered, be it with an error.

    Raises:
        OSError: the machine has no process, descriptor or memory left.
    """

    def __init__(
        self, owner: "Owner[Child]", spec: ChildSpec, name: str, limits: ChildLimits, start: Start = Spawned
    ) -> None:
        self.state = State.STARTING
        self.about: Ready | None = None
        self.runs = self.answers = 0
        self._owner = owner
        self._name = name
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._frames = FrameBuffer()
        self._number = 0
        self._batch: Batch | None = None
        self._streams = RemoteStreams(self._arrays)
        self._oversize = False
        self._since: float | None = None
        self._asked = False
        self._reason: ServableError | None = None
        self._dead = self._loop.create_future()
        with contextlib.ExitStack() as undo:
            self._requests = Area.make(f"servable-{name}")
            undo.callback(self._requests.close)
            self._answers = Area.make(f"servable-{name}")
            undo.callback(self._answers.close)
            self._socket, theirs = socket.socketpair()
            undo.callback(self._socket.close)
            with theirs:
                ends = (theirs.fileno(), self._requests.descriptor, self._answers.descriptor)
                self._process = start(ends, self._died, spec.confinement)
            undo.pop_all()
        self._socket.setblocking(False)
        self._outbox = Outbox(self._socket, lambda: self._end_of_socket(unread=True))
        self._loop.add_reader(self._socket.fileno(), self._readable)
        memory, paths = limits.memory_bytes, tuple(sys.path)
        if spec.behind is Standing.FAR_BEHIND and self.pid:
            send_far_back(self.pid)
        load = Load(
            str(spec.folder), spec.digest, spec.variant, memory, paths, spec.device, spec.share, spec.behind,
            spec.confinement,
        )  # fmt: skip
        self._outbox.send(encode(Frame(Kind.LOAD, 0, _encode(load), b"")))

    @property
    def pid(self) -> int:
        """Its process id; 0 where somebody else keeps the process."""
        return self._process.pid

    @property
    def started(self) -> bool:
        """Whether it was ready once."""
        return self.about is not None

    @property
    def streams(self) -> int:
        """How many streams it makes."""
        return len(self._streams)

    # ------------------------------------------------------------------ work

    def run(self, batch: Batch) -> None:
        """Give it a batch or a stream; it must be idle.

        Raises:
            ModelFailed: the arrays cannot travel; it stays idle.
        """
        packed = Packed(batch.arrays)
        number = self._number = self._number + 1
        kind = Kind.RUN if batch.pieces is None else Kind.STREAM
        if packed.size > IN_FRAME:
            try:
                packed.write(self._requests.to_write(packed.size))
            except OSError as error:
                raise ModelFailed(f"There is no shared memory for {packed.size} bytes of rows.") from error
            frame = Frame(kind, number, packed.meta, b"", packed.size)
        else:
            frame = Frame(kind, number, packed.meta, packed.payload())
        self.state = State.BUSY
        self._since = None
        self.runs += 1
        self._batch = batch
        if not self._outbox.send(encode(frame)):
            self._end_of_socket(unread=True)

    def attend(self, seconds: float) -> bool:
        """Wait for the answer to its batch in place, for so long at most; whether it has no batch any more.

        Nothing else happens in the event loop meanwhile, and whoever waits for the answer hears it from here.
        """
        until = time.perf_counter() + seconds
        while self.state is State.BUSY and (self._readable() or time.perf_counter() < until):
            pass
        return self.state is not State.BUSY

    def more(self, number: int, pieces: int) -> None:
        """A stream's reader takes so many more pieces."""
        self._since = None
        self._outbox.send(encode(Frame(Kind.MORE, number, _encode(pieces), b"")))

    def stop(self, number: int) -> None:
        """A stream's reader left."""
        self._since = None
        self._outbox.send(encode(Frame(Kind.STOP, number, b"", b"")))

    def _readable(self) -> bool:
        """Take what came; whether anything did."""
        frames = self._frames
        try:
            count = self._socket.recv_into(frames.room())
        except BlockingIOError:
            return False
        except ConnectionResetError:
            # The kernel says so when the other side died with something unread, which then is the batch.
            self._end_of_socket(unread=True)
            return False
        except OSError:
            count = 0
        if not count:
            self._end_of_socket()
            return False
        frames.received(count)
        try:
            while (frame := frames.take()) is not None:
                self._asked = False
                if frame.kind is Kind.ANSWER and self.state is State.BUSY:
                    self._answered(frame)
                elif frame.kind is not Kind.PONG:
                    self._said(frame)
                if self.state is State.GONE:
                    return False
        except ModelDied as error:
            self.kill(error)
            return False
        return True

    def _drained(self) -> bool:
        """Take everything that came so far; whether it is still there."""
        while self._socket.fileno() >= 0 and self._readable():
            pass
        return self.state is not State.GONE

    def _answered(self, frame: Frame) -> None:
        if frame.number != self._number:
            raise broken("the answer to another batch")
        arrays = self._arrays(frame)
        pieces = self._batch.pieces if self._batch is not None else None
        if pieces is not None:
            self._streams.add(self, frame.number, pieces)
        self._settle(Outcome(arrays, None))

    def _arrays(self, frame: Frame) -> dict[str, Any]:
        """The arrays of an answer or a piece, and word to the process that it may write the next."""
        if frame.in_area < 0:
            return unpack(frame.meta, frame.payload)
        arrays = unpack(frame.meta, self._answers.to_read(frame.in_area), copy=True)
        self._answers.relax()
        self._outbox.send(encode(Frame(Kind.TAKEN, 0, b"", b"")))
        return arrays

    def _settle(self, outcome: Outcome) -> None:
        batch, self._batch = self._batch, None
        self.answers += 1
        self._requests.relax()
        if self._oversize and not self._streams:
            self._replace_grown()
        else:
            self.state = State.IDLE
            self._since = None
        if batch is not None:
            self._owner.ended(self, batch, outcome)

    def _said(self, frame: Frame) -> None:
        """Everything that is rare.

        Raises:
            ModelDied: it does not belong here.
        """
        try:
            if self._streams.told(frame):
                self._since = None
                if self._oversize and self.state is State.IDLE and not self._streams:
                    self._replace_grown()
                return
            # A keeper says anew how a model is that it moved; a model process has one start.
            if frame.kind is Kind.READY and (self.state is State.STARTING or not self.pid):
                self._loaded(msgspec.msgpack.decode(frame.meta, type=Ready))
                return
            if frame.kind is Kind.REPLACED:
                self._owner.replaced()
                return
            if frame.kind is Kind.FAILED and self.state in (State.STARTING, State.BUSY):
                said = msgspec.msgpack.decode(frame.meta, type=Failed)
                if self.state is State.BUSY and frame.number == self._number:
                    self._settle(Outcome(None, said.error(ModelFailed)))
                    return
                if self.state is State.STARTING:
                    self.kill(said.error(ArtifactUnreadable))
                    return
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise broken("a record that is none") from error
        raise broken("something out of turn")

    def _loaded(self, about: Ready) -> None:
        if self.about is not None:
            self.about = about
            self._owner.moved(self)
            return
        if about.memory_bytes > self._limits.memory_bytes:
            self.kill(
                ArtifactUnreadable(
                    f"{self._name} takes {about.memory_bytes / 2**20:.0f} MiB once it is loaded, and a model "
                    f"process may take {self._limits.memory_bytes / 2**20:.0f} MiB; raise process_memory."
                )
            )
            return
        self.about = about
        self.state = State.IDLE
        self._since = None
        self._owner.ready(self)

    # ------------------------------------------------------------------ watch

    def look(self, now: float) -> None:
        """Look whether it lives well; called every tick.

        Args:
            now: seconds in which this process was itself awake: a server that was held up or stopped must
                not take its own absence for a hang of its children.
        """
        # An answer that lies here already counts, however late it is read.
        if not self._drained():
            return
        seen = self._process.look()
        if seen is not None and seen.state == "T":
            self.kill(ModelDied(f"A process of {self._name} was stopped by a signal."))
            return
        if self._since is None:
            self._since = now
        passed = now - self._since
        if self.state is State.STARTING:
            if passed > self._limits.start_s:
                self.kill(
                    ModelNotReady(
                        f"A process of {self._name} was not ready within {self._limits.start_s:g} s; "
                        "raise start_limit_s if its model needs longer."
                    )
                )
        elif self.state is State.BUSY or self._streams.steps:
            # A step of a stream may take as long as a run, and while it does nothing else is answered.
            if passed > self._limits.run_s:
                self.kill(
                    ModelDied(f"{self._name} ran longer than {self._limits.run_s:g} s and was ended as hung.")
                )
        elif passed > self._limits.heartbeat_s * (2 if self._asked else 1):
            self._ask(now)
        if seen is not None:
            self._weigh(seen.memory_bytes)
            self._count(seen.threads)

    def _ask(self, now: float) -> None:
        """It is idle and was silent for a heartbeat."""
        if self._asked:
            self.kill(ModelDied(f"An idle process of {self._name} does not answer any more."))
            return
        self._asked = True
        self._since = now
        if not self._outbox.send(encode(Frame(Kind.PING, 0, b"", b""))):
            self._end_of_socket()

    def _weigh(self, memory: int) -> None:
        most = self._limits.memory_bytes
        works = self.state is State.BUSY or bool(self._streams)
        if memory > most * _FAR_ABOVE and works:
            self.kill(ModelDied(f"A process of {self._name} took far more memory than it may and was ended."))
        elif memory > most and self.state is State.IDLE and not works:
            self._replace_grown()
        elif memory > most and self.started:
            self._oversize = True

    def _count(self, threads: int) -> None:
        most = self._limits.threads
        if threads > most and self.state is not State.GONE:
            self.kill(ModelDied(f"A process of {self._name} had {threads} threads of {most} and was ended."))

    def _replace_grown(self) -> None:
        self.kill(ModelNotReady(f"A process of {self._name} grew beyond its memory."))

    # ------------------------------------------------------------------ end

    def leave(self) -> None:
        """Let an idle or starting child end by itself; ``dead`` says when it did."""
        self.state = State.GONE
        self._close_socket()

    def kill(self, reason: ServableError) -> None:
        """End it and everything that it started, at once.

        Its batch ends with ``ModelDied``, or is given back if it was never read.
        """
        unread = self._outbox.waits or self._has_unread()
        self._process.kill()
        self._lost(reason, unread)

    def _has_unread(self) -> bool:
        """Whether the other side has not read everything that was sent."""
        if self.state is not State.BUSY or self._socket.fileno() < 0:
            return False
        count = bytearray(4)
        fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, count)
        return any(count)

    def _lost(self, reason: ServableError, unread: bool) -> None:
        if self.state is State.GONE:
            return
        self.state = State.GONE
        self._close_socket()
        self._owner.gone(self, reason)
        error = reason if isinstance(reason, ModelDied) else ModelDied(reason.message)
        self._streams.lost(error)
        batch, self._batch = self._batch, None
        if batch is None:
            return
        if unread:
            self._owner.untouched(batch)
            return
        self._owner.ended(self, batch, Outcome(None, error))

    def _end_of_socket(self, *, unread: bool = False) -> None:
        if self.state is State.STARTING:
            # Its status says why it ended, and is known a moment later.
            self._close_socket()
            return
        self._process.kill()
        self._lost(ModelDied(f"A process of {self._name} ended while it was needed."), unread)

    def _died(self) -> None:
        """It is dead; what it said before that is still heard."""
        self._drained()
        how = self._process.reap()
        when = "while it loaded" if self.about is None else "while it was needed"
        self._lost(ModelDied(f"A process of {self._name} {how} {when}."), unread=False)
        self._requests.close()
        self._answers.close()
        self._dead.set_result(None)

    async def dead(self, within_s: float) -> None:
        """Wait until it is dead and everything of it is given back; end it by force after so long."""
        await asyncio.wait([self._dead], timeout=within_s)
        if not self._dead.done():
            self._process.kill()
            await self._dead

    def _close_socket(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._outbox.close()
            self._socket.close()
            self._process.parted()
