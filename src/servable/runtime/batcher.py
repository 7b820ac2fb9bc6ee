"""The one shell between those who ask and the executor: it carries out what ``batch_policy`` decides.

Natural batching: when a slot is free and somebody waits, one turn of the event loop gathers all that
came with the same poll, and a batch starts at once. There is no waiting window; what arrives while every
slot is taken forms the next batch. One timer serves all deadlines.

A batch that fails is tried again in halves, so that the failing request fails alone. A batch whose
process died is tried once more, each request alone and first in line; a request that was in two dead
processes is refused as poison, and remembered for a while.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import chain

from msgspec import structs

from servable.clock import Clock
from servable.errors import DeadlineExceeded, ModelDied, ModelFailed, ServerStopping
from servable.logs import fields, logger
from servable.monitoring.metrics import Meter
from servable.runtime.admission import Admission
from servable.runtime.alarm import Alarm
from servable.runtime.batch_answers import answer, packed, settle
from servable.runtime.batch_line import Line, by_form
from servable.runtime.batch_policy import (
    BatchLimits,
    Cap,
    after_failure,
    batch_cap,
    is_over,
    shared_out,
    tell_hurry,
    wished_run,
)
from servable.runtime.batch_statistics import BatchStatistics
from servable.runtime.cost import CostCurve
from servable.runtime.executor import Executor, Outcome
from servable.runtime.poison import Poison, PoisonMemory, poison_error
from servable.runtime.waiting import OVER, QUEUED, RUNNING, Part, Waiting
from servable.tensors import Arrays

_log = logger("runtime")


class Batcher:
    """Feeds one executor. Belongs to one event loop; may be made outside of it.

    Args:
        executor: open already; the batcher closes it.
        name: of the model, for messages.
        meter: counts batches, waiting times and those who left.
        limits: how far one may go.
        clock: for tests; the machine's own when None.
        poison: where rows that ended two processes are remembered; with this batcher alone when None.
    """

    def __init__(
        self,
        executor: Executor,
        *,
        name: str,
        meter: Meter,
        limits: BatchLimits | None = None,
        clock: Clock | None = None,
        poison: Poison | None = None,
    ) -> None:
        self._executor = executor
        self._name = name
        self._meter = meter
        self._limits = limits = limits or BatchLimits()
        self._now: Callable[[], float] = time.monotonic if clock is None else clock.monotonic
        self._slots = executor.slots
        self._run_s = wished_run(limits, executor.kind)
        self._curve = CostCurve()
        self._line = Line()
        self._again: deque[list[Waiting]] = deque()
        self._flights: dict[int, list[Waiting]] = {}
        self._poison = poison or PoisonMemory()
        self._remembers = executor.kind == "process"
        self._running = 0
        self._due = False
        self._starting = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._alarm = Alarm(self._now, self._ring)
        self._closing = False
        self._closed = False
        self._lock = asyncio.Lock()
        self._idle = asyncio.Event()
        self._accepted = self._batches = self._rows = self._failed = self._died = 0
        self._parts = self._poisoned = 0
        self._door = Admission(name, limits, executor.slots)
        self._hurried = False
        self._learn()

    def admit(self, deadline: float = math.inf) -> None:
        """Before anything is spent on a request with this deadline: is there room?

        Raises:
            ServableError: as ``submit``, but for poison.
        """
        line, door = self._line, self._door
        rows = line.rows
        if line.requests >= door.most_requests or rows > door.most_rows:
            self._examine(deadline, self._now())
        elif rows:
            now = self._now()
            if deadline <= now + door.near_s + rows * door.row_wait_s:
                self._examine(deadline, now)

    def submit(self, waiting: Waiting) -> None:
        """Take a request. Its ``settle`` is called exactly once, never before this returns.

        Raises:
            Overloaded: the queue is full, or waiting in it would take too long.
            DeadlineExceeded: its time is over, or too short for a run.
            PoisonRequest: equal rows ended two processes a short while ago.
            ServerStopping: it was closed.
        """
        now = self._now()
        line, door = self._line, self._door
        deadline = waiting.deadline
        rows = line.rows
        if (
            line.requests >= door.most_requests
            or rows > door.most_rows
            or deadline <= now + door.near_s + rows * door.row_wait_s
        ):
            self._examine(deadline, now)
        if now < self._poison.until and self._poison.has(waiting.arrays, now):
            self._poisoned += 1
            raise poison_error(self._name)
        waiting.queued_at = now
        line.add(waiting)
        self._accepted += 1
        self._meter.queued += 1
        if deadline < self._alarm.soonest:
            self._alarm.watch(deadline, now)
        if not self._due and self._running < self._slots:
            self._plan_turn()

    def cancel(self, waiting: Waiting) -> None:
        """Its caller left: it is not started if it was not, and ``settle`` is not called any more.

        Does nothing when it is settled already.
        """
        if waiting.state == QUEUED and (waiting.split is None or not waiting.split.taken):
            self._meter.abandoned += 1
        self._end(waiting)
        if self._closing:
            self._tell_idle()

    def statistics(self) -> BatchStatistics:
        """The present figures."""
        return BatchStatistics(
            name=self._name,
            queued_requests=self._line.requests,
            queued_rows=self._line.rows,
            running=self._running,
            retrying=len(self._again),
            requests=self._accepted,
            batches=self._batches,
            rows=self._rows,
            failed_batches=self._failed,
            died_batches=self._died,
            split=self._parts,
            refused=self._door.refused,
            poisoned=self._poisoned,
            fixed_s=self._curve.fixed_s,
            row_s=self._curve.row_s,
            samples=self._curve.samples,
            cap_rows=self._cap.rows,
            enough_rows=self._cap.enough,
            executor=self._executor.statistics(),
        )

    async def close(self) -> None:
        """Answer everything that was accepted, then close the executor. May be called twice."""
        self._closing = True
        # Whoever comes now is examined, and told so.
        self._door.most_requests = -1
        self._tell_idle()
        await self._idle.wait()
        self._alarm.stop()
        async with self._lock:
            if not self._closed:
                self._closed = True
                await self._executor.close()

    def _examine(self, deadline: float, now: float) -> None:
        if self._closing:
            raise ServerStopping(f"{self._name} is being unloaded; try again.")
        line = self._line
        busy = line.requests > 0 or self._running >= self._slots
        self._door.examine(line, deadline, now, busy)

    def _plan_turn(self) -> None:
        self._due = True
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Start a batch in every free slot; with more to do come again after the loop looked around."""
        self._due = False
        free = self._slots - self._running
        while free > 0 and self._start_next(free):
            free -= 1
        self._go_on()

    def _go_on(self) -> None:
        if self._again or self._line.requests:
            if self._running < self._slots and not self._due:
                self._plan_turn()
        elif self._closing:
            self._tell_idle()

    def _start_next(self, free: int) -> bool:
        """Start the next batch; whether there was one. ``free``: slots that are free."""
        now = self._now()
        if self._alarm.soonest <= now:
            self._expire(now)
        while self._again:
            batch = [waiting for waiting in self._again.popleft() if waiting.state == RUNNING]
            if batch:
                self._launch(batch, now)
                return True
        line = self._line
        if not line.requests:
            return False
        cap = self._cap if free == 1 else shared_out(self._cap, self._curve, line.rows, free)
        urgent: list[Waiting] = []
        if self._alarm.soonest - now < self._ahead_s:
            cap, urgent = self._hurry(cap, now)
        before = line.requests
        batch = line.take(cap, urgent)
        self._meter.queued -= before - line.requests
        if not batch:
            return False
        waited = self._meter.waited
        for waiting in batch:
            if not isinstance(waiting, Part):
                waited(now - waiting.queued_at)
                continue
            self._parts += 1
            if waiting.index == 0:
                waited(now - waiting.queued_at)
        self._launch(batch, now)
        return True

    def _hurry(self, cap: Cap, now: float) -> tuple[Cap, list[Waiting]]:
        """What changes when a deadline is near; those without hope make room for the others."""
        line, curve = self._line, self._curve
        hurry = tell_hurry(line, curve, now, self._ahead_s)
        if hurry.hopeless and len(hurry.hopeless) < line.requests:
            for waiting in hurry.hopeless:
                self._drop_late(waiting)
        tight = batch_cap(curve, self._limits, self._run_s, hurry.slack_s)
        # Every other batch is led by whose turn it is, so that a stream of urgent ones starves nobody.
        self._hurried = not self._hurried and bool(hurry.urgent)
        cap = Cap(min(cap.rows, tight.rows), min(cap.enough, tight.enough))
        return cap, hurry.urgent if self._hurried else []

    def _launch(self, batch: list[Waiting], now: float) -> None:
        rows = 0
        for waiting in batch:
            rows += waiting.rows
        self._running += 1
        self._flights[id(batch)] = batch
        self._starting = True
        try:
            arrays: Arrays | None = batch[0].arrays
            if len(batch) > 1:
                arrays = packed(batch)
            if arrays is None:
                self._regroup(batch)
            else:
                self._executor.start(arrays, partial(self._done, batch, rows, now))
        except Exception as error:  # noqa: BLE001 - whatever the executor raises is what became of the batch
            if id(batch) in self._flights:
                self._done(batch, rows, now, Outcome(None, error))
        finally:
            self._starting = False

    def _regroup(self, batch: list[Waiting]) -> None:
        """The forms of a batch differ: start it again in groups, and look at the forms from now on."""
        self._running -= 1
        del self._flights[id(batch)]
        self._line.heed_forms()
        self._again.extendleft(reversed(by_form(batch)))

    def _done(self, batch: list[Waiting], rows: int, started: float, outcome: Outcome) -> None:
        """A batch is over: keep the executor busy first, then answer."""
        now = self._now()
        if self._alarm.soonest <= now:
            self._expire(now)
        self._running -= 1
        del self._flights[id(batch)]
        arrays, error = outcome
        if arrays is None or error is not None:
            self._batch_failed(batch, error or ModelFailed(f"{self._name} gave no answer."), now)
        else:
            self._batches += 1
            self._rows += rows
            self._meter.batch(rows, now - started, len(batch))
            self._curve.observe(rows, now - started)
            if self._curve.fits != self._fits:
                self._learn()
            if not self._starting and (self._line.requests or self._again):
                self._start_next(1)
            if not answer(batch, arrays, rows, self._name):
                self._run_alone(batch)
        self._go_on()

    def _learn(self) -> None:
        """What follows from the cost curve, worked out once for many requests."""
        curve = self._curve
        self._fits = curve.fits
        self._cap = cap = batch_cap(curve, self._limits, self._run_s)
        full_s = curve.seconds(cap.enough)
        self._ahead_s = full_s + curve.seconds(min(cap.rows, curve.largest))
        self._door.learn(curve, cap)

    def _run_alone(self, batch: list[Waiting]) -> None:
        """The model does not answer row for row, so its requests cannot share a batch from now on."""
        if self._limits.batchable:
            _log.warning(
                "a model does not answer row for row and is not batched", extra=fields(model=self._name)
            )
        self._limits = structs.replace(self._limits, batchable=False)
        self._learn()
        self._again.extendleft([waiting] for waiting in reversed(batch))
        # The next batch may have started meanwhile and the alarm been set without these.
        self._alarm.watch(min(self._alarm.soonest, *(waiting.deadline for waiting in batch)), self._now())

    # What goes wrong.

    def _batch_failed(self, batch: list[Waiting], error: BaseException, now: float) -> None:
        if isinstance(error, ModelDied):
            self._died += 1
        else:
            self._failed += 1
        fault = after_failure(batch, error)
        self._again.extendleft(reversed(fault.again))
        for waiting in fault.failed:
            self._fail(waiting, error)
        for waiting in fault.poison:
            self._poisoned += 1
            _log.warning("rows are refused as poison", extra=fields(model=self._name, last=str(error)))
            if self._remembers:
                whole = waiting.whole if isinstance(waiting, Part) else waiting
                self._poison.add(whole.arrays, now)
            self._fail(waiting, poison_error(self._name))

    def _fail(self, waiting: Waiting, error: BaseException) -> None:
        """Settle with an error, unless it is over; the error of a part is its request's."""
        if isinstance(waiting, Part):
            waiting = waiting.whole
        if waiting.state != OVER:
            self._end(waiting)
            settle(waiting, None, error, self._name)

    def _end(self, waiting: Waiting) -> None:
        """Nobody waits for it any more, wherever it is."""
        if waiting.state == QUEUED:
            self._line.drop(waiting)
            self._meter.queued -= 1
        waiting.state = OVER
        if waiting.split is not None:
            waiting.split.give_up()
            waiting.split = None

    def _drop_late(self, waiting: Waiting) -> None:
        if waiting.state == QUEUED and waiting.split is None:
            self._meter.expired += 1
        late = f"The time for this request of {self._name} was over before its answer."
        self._fail(waiting, DeadlineExceeded(late))

    # Deadlines and the end.

    def _ring(self, now: float) -> None:
        self._expire(now)
        self._go_on()

    def _expire(self, now: float) -> None:
        """Settle everybody whose deadline has come."""
        flying = chain.from_iterable(chain(self._flights.values(), self._again))
        living = (waiting for waiting in flying if waiting.state == RUNNING)
        over, soonest = is_over(chain(self._line, living), now)
        self._alarm.watch(soonest, now)
        for waiting in over:
            self._drop_late(waiting)

    def _tell_idle(self) -> None:
        if not (self._running or self._again or self._line.requests):
            self._idle.set()
