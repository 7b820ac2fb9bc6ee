"""The executor that runs a variant in interpreters of its own.

A model there can crash, hang, leak or run out of memory, and the server goes on: the process is ended,
another one takes its place, and only the batch that it had is lost. The batcher tries that one again.

Each process holds one batch at a time, so its death can be laid at the door of that batch. Rows up to
16 kB travel in the frame over the socket; larger ones through shared memory (``arena``). Streams go to the
process that makes the fewest; it makes their pieces in turn, between batches, and not more than a few ahead
of their readers. One that dies takes its streams with it: half an answer cannot be begun again.

A batch of one row that is alone may be waited for in place, see ``patience``.

Who watches: the socket's end and the kernel's notice of death are seen at once; a process that was
stopped, hangs in a run, does not answer while idle or takes too much memory is seen at the next tick.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable

from servable.errors import ModelDied, ModelFailed, ModelNotReady, ServableError, StorageFailed
from servable.frameworks.devices import Placed
from servable.logs import fields, logger
from servable.runtime.children import Child
from servable.runtime.confinement import Protection
from servable.runtime.executor import Done, ExecutorStatistics, Outcome, Pieces
from servable.runtime.framing import Standing
from servable.runtime.patience import MOST_S, Patience
from servable.runtime.remote import Remote
from servable.runtime.spawning import Batch, ChildLimits, ChildSpec, Spawned, Start, State
from servable.tensors import Arrays, row_count

__all__ = ["ChildLimits", "ChildSpec", "ProcessExecutor"]

_log = logger("runtime")
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 30.0
#: The longest pause of one that stands behind all others, in first ones: a start takes half a second of a
#: processor and, of the server's thread, as long as several answers.
_LONGEST_REST = 30.0
#: Start-ups that may end without a reason, one after the other, before waiting batches are given up.
_MOST_FAILURES = 3


class ProcessExecutor:
    """Runs batches in child processes. Belongs to one event loop.

    Args:
        spec: what every child loads.
        name: of the model, for people.
        processes: how many children work, and so how many batches run at once.
        spares: how many more are kept ready. A spare takes the place of a child that died within
            microseconds instead of its load time, and costs its memory; spares are started after ``open``.
        limits: what a child may take.
        on_replaced: see the attribute.
        start: starts what a child talks to; an interpreter of its own by default.

    Attributes:
        example_seconds: median time of one row in a child, without the way there.
        load_seconds: how long the last child needed to be ready, its interpreter's start included.
        memory_bytes: resident memory of the last child when it was ready.
        accelerator_bytes: of the memory of its GPU, what the last child took when it was ready.
        device: what computes the model in the last child; a keeper may move what it keeps.
        protections: how the last child is confined; empty where it is not.
        on_replaced: is called when another process took the place of one.
    """

    kind = "process"

    def __init__(
        self,
        spec: ChildSpec,
        *,
        name: str,
        processes: int = 1,
        spares: int = 0,
        limits: ChildLimits | None = None,
        on_replaced: Callable[[], None] = lambda: None,
        start: Start = Spawned,
    ) -> None:
        self.slots = processes
        self.example_seconds = 0.0
        self.load_seconds = 0.0
        self.memory_bytes = 0
        self.accelerator_bytes = 0
        self.device = Placed("cpu")
        self.protections: tuple[Protection, ...] = ()
        self._spec = spec
        self._spares = spares
        self._name = name
        self._limits = limits or ChildLimits()
        self.on_replaced = on_replaced
        self._start = start
        self._children: list[Child] = []
        self._idle: list[Child] = []
        self._streams: set[Remote] = set()
        self._leaving: set[asyncio.Task[None]] = set()
        self._waiting: deque[Batch] = deque()
        self._begun: dict[Child, float] = {}
        self._opening: asyncio.Future[None] | None = None
        self._quiet: asyncio.Event | None = None
        self._closed = False
        self._failed_starts = 0
        self._barren = 0
        self._unable: ServableError | None = None
        self._again: asyncio.TimerHandle | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._patience = Patience()
        self._awake = 0.0
        self._ticked = 0.0
        self._runs = 0
        self._failures = 0
        self._running = 0
        self._replacements = 0

    # ------------------------------------------------------------------ the seam

    async def open(self) -> None:
        """Start every child and wait until all are ready.

        Raises:
            ServableError: why a child could not load its model; every child was ended again.
        """
        loop = asyncio.get_running_loop()
        self._opening = loop.create_future()
        self._ticked = time.monotonic()
        self._tick()
        self._fill()
        try:
            await self._opening
        except BaseException:
            await self.close()
            raise
        finally:
            self._opening = None
        self._fill()

    def start(self, arrays: Arrays, done: Done) -> None:
        """Give a batch to a free child, or to the replacement that is on its way."""
        self._runs += 1
        self._running += 1
        child = self._give(Batch(arrays, done))
        if (
            child is not None
            and self._running == 1
            and self._spec.behind is Standing.LEVEL
            and row_count(arrays) == 1
            and self._patience.worth()
        ):
            self._patience.waited(child.attend(MOST_S))

    def stream(self, arrays: Arrays) -> Pieces:
        """Give a stream to a free child; what goes wrong is told with the first piece."""
        pieces = Remote(self._streams)
        self._runs += 1
        self._running += 1

        def began(outcome: Outcome) -> None:
            if outcome.error is not None:
                pieces.end(outcome.error)

        self._give(Batch(arrays, began, pieces))
        return pieces

    def statistics(self) -> ExecutorStatistics:
        """The present figures; ``processes`` are those that are ready."""
        return ExecutorStatistics(
            kind="process",
            slots=self.slots,
            running=self._running,
            runs=self._runs,
            failures=self._failures,
            processes=sum(child.started for child in self._children),
            replacements=self._replacements,
            streams=len(self._streams),
        )

    async def close(self) -> None:
        """Wait for what is running, let every child end, and end by force those that do not."""
        if self._spec.behind is not Standing.LEVEL:
            # A child that gets no processor would keep them for minutes, and they are nobody's answers.
            self._give_up(ModelNotReady(f"{self._name} was closed before it was loaded again."))
        if self._running and not self._closed:
            self._quiet = self._quiet or asyncio.Event()
            await self._quiet.wait()
        self._closed = True
        for timer in (self._again, self._ticker):
            if timer is not None:
                timer.cancel()
        children, self._children, self._idle = self._children, [], []
        for child in children:
            if child.state is State.STARTING:
                child.kill(ModelNotReady(f"{self._name} was closed while it was being loaded."))
            else:
                child.leave()
        await asyncio.gather(*(child.dead(self._limits.grace_s) for child in children), *self._leaving)

    @property
    def away(self) -> bool:
        """Whether no child is ready; see ``Executor``."""
        return not any(child.started for child in self._children)

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of the children that are ready, for people and for tests of faults."""
        return tuple(child.pid for child in self._children if child.started)

    # ------------------------------------------------------------------ batches

    def _give(self, batch: Batch) -> Child | None:
        """Give a batch to a free child, which is returned, or let it wait for one."""
        if self._idle:
            child = self._idle.pop() if not self._streams else self._least_streaming()
            try:
                child.run(batch)
            except ModelFailed as error:
                self._idle.append(child)
                self._settle(batch.done, Outcome(None, error))
            else:
                return child
        elif self._unable is not None:
            self._settle(batch.done, Outcome(None, self._unable))
        else:
            self._waiting.append(batch)
        return None

    def _least_streaming(self) -> Child:
        child = min(reversed(self._idle), key=lambda each: each.streams)
        self._idle.remove(child)
        return child

    def untouched(self, batch: Batch) -> None:
        """A child died before it read its batch, so another one takes it; called by the child."""
        self._give(batch)

    def _settle(self, done: Done, outcome: Outcome) -> None:
        self._running -= 1
        if outcome.error is not None:
            self._failures += 1
        done(outcome)
        if self._quiet is not None and not self._running:
            self._quiet.set()

    def ended(self, child: Child, batch: Batch, outcome: Outcome) -> None:
        """A child is done with a batch; called by the child."""
        if child.state is State.IDLE:
            self._free(child)
        self._settle(batch.done, outcome)

    def _free(self, child: Child) -> None:
        # Before anybody is called back: whoever is may start the next batch at once.
        self._idle.append(child)
        if self._waiting:
            self._give(self._waiting.popleft())

    # ------------------------------------------------------------------ children

    def ready(self, child: Child) -> None:
        """A child loaded its model; called by the child."""
        self.moved(child)
        self.load_seconds = time.monotonic() - self._begun.pop(child)
        self._failed_starts, self._unable = 0, None
        _log.info(
            "model process ready",
            extra=fields(model=self._name, pid=child.pid, seconds=round(self.load_seconds, 3)),
        )
        self._free(child)
        opening = self._opening
        if opening is not None and not opening.done() and all(each.started for each in self._children):
            opening.set_result(None)

    def moved(self, child: Child) -> None:
        """A child said how its model is, at first or where it is now; called by the child."""
        about = child.about
        if about is not None:
            self.example_seconds = about.example_seconds
            self.memory_bytes = about.memory_bytes
            self.accelerator_bytes = about.accelerator_bytes
            self.device = Placed(about.device, about.device_note)
            self.protections = about.protections

    def gone(self, child: Child, error: ServableError) -> None:
        """A child is dead or dying; called by the child."""
        if child in self._idle:
            self._idle.remove(child)
        if self._closed or child not in self._children:
            return
        self._children.remove(child)
        task = asyncio.get_running_loop().create_task(child.dead(self._limits.grace_s))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
        if child.started:
            self.replaced()
            _log.warning(
                "model process replaced",
                extra=fields(model=self._name, pid=child.pid, reason=error.message),
            )
            self._rest_after(child)
            self._fill()
        else:
            self._begun.pop(child, None)
            self._start_failed(error)

    def _rest_after(self, child: Child) -> None:
        """Keep a pause when one died that is of no use, so that such ones do not keep a core busy."""
        if self._spec.behind is Standing.LEVEL:
            # Somebody waits for the next one, unless even those die that were asked nothing.
            useful, free, first, longest = child.runs > 0, _MOST_FAILURES, _FIRST_PAUSE_S, _LONGEST_PAUSE_S
        else:
            first = self._limits.rest_s
            useful, free, longest = child.answers > 0, 0, first * _LONGEST_REST
        self._barren = 0 if useful else self._barren + 1
        if self._barren > free:
            self._pause(self._barren - free, first, longest)

    def replaced(self) -> None:
        """A process took the place of another one."""
        self._replacements += 1
        self.on_replaced()

    def _fill(self) -> None:
        """Start as many children as are missing, unless a pause is kept."""
        if self._again is not None or self._closed:
            return
        opening = self._opening is not None
        wanted = self.slots if opening else self.slots + self._spares
        spec = self._spec if opening else self._spec.replacing()
        while len(self._children) < wanted:
            try:
                child = Child(self, spec, self._name, self._limits, self._start)
            except OSError as error:
                self._start_failed(
                    StorageFailed(f"No process can be started for {self._name} ({error.strerror}).")
                )
                return
            self._begun[child] = time.monotonic()
            self._children.append(child)

    def _start_failed(self, error: ServableError) -> None:
        """A child could not be made ready: say so to whoever opens, else try again after a pause."""
        _log.error("model process not ready", extra=fields(model=self._name, reason=error.message))
        if self._opening is not None:
            if not self._opening.done():
                self._opening.set_exception(error)
            return
        self._failed_starts += 1
        # A process that was killed while it loaded says nothing about the next one; a reason does.
        lasting = not isinstance(error, ModelDied) or self._failed_starts >= _MOST_FAILURES
        if lasting and not any(child.started for child in self._children):
            self._unable = ModelNotReady(f"No process of {self._name} can be started: {error.message}")
            self._give_up(self._unable)
        self._pause(self._failed_starts)

    def _give_up(self, error: ServableError) -> None:
        """Answer those that wait for a child with an error."""
        waiting, self._waiting = self._waiting, deque()
        for batch in waiting:
            self._settle(batch.done, Outcome(None, error))

    def _pause(self, times: int, first: float = _FIRST_PAUSE_S, longest: float = _LONGEST_PAUSE_S) -> None:
        """Start nothing for a while, longer each time."""
        pause = min(first * 2.0 ** min(times - 1, 30), longest)
        if self._again is None and not self._closed:
            self._again = asyncio.get_running_loop().call_later(pause, self._try_again)

    def _try_again(self) -> None:
        self._again = None
        self._fill()

    def _tick(self) -> None:
        """Look at every child."""
        now = time.monotonic()
        # Time in which this process was held up or stopped does not count against its children.
        self._awake += min(now - self._ticked, 2 * self._limits.tick_s)
        self._ticked = now
        for child in tuple(self._children):
            with contextlib.suppress(ProcessLookupError):
                child.look(self._awake)
        if not self._closed:
            self._ticker = asyncio.get_running_loop().call_later(self._limits.tick_s, self._tick)
