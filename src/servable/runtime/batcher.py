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
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from servable.clock import Clock
from servable.errors import (
    DeadlineExceeded,
    ModelDied,
    ModelFailed,
    Overloaded,
    PoisonRequest,
    ServerStopping,
    UnavailableError,
)
from servable.logs import fields, logger
from servable.monitoring.metrics import Meter
from servable.runtime.batch_line import Line
from servable.runtime.batch_policy import (
    ALONE,
    INLINE_RUN_S,
    RUN_S,
    BatchLimits,
    Cap,
    batch_cap,
    expected_wait,
    is_over,
    retry_after,
    rows_within,
    shared_out,
    tell_hurry,
)
from servable.runtime.batch_statistics import BatchStatistics
from servable.runtime.cost import CostCurve
from servable.runtime.executor import Executor, Outcome
from servable.runtime.poison import PoisonMemory
from servable.runtime.waiting import OVER, QUEUED, RUNNING, Part, Waiting, has_rows
from servable.tensors import Arrays

_log = logger("runtime")
#: The timer of the deadlines runs no more often than this.
_LEAST_TIMER_S = 0.001
#: The batch is out of time when the deadline is nearer than so many runs of a full batch.
_RUNS_AHEAD = 2.0
#: A request is refused as poison when so many processes died while they had it.
_STRIKES = 2


class Batcher:
    """Feeds one executor. Belongs to one event loop; may be made outside of it.

    Args:
        executor: open already; the batcher closes it.
        name: of the model, for messages.
        meter: counts batches, waiting times and those who left.
        limits: how far one may go.
        clock: for tests; the machine's own when None.
    """

    def __init__(
        self,
        executor: Executor,
        *,
        name: str,
        meter: Meter,
        limits: BatchLimits | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._executor = executor
        self._name = name
        self._meter = meter
        self._limits = limits = limits or BatchLimits()
        self._now: Callable[[], float] = time.monotonic if clock is None else clock.monotonic
        self._slots = executor.slots
        wished = limits.run_s
        self._run_s = wished if wished is not None else INLINE_RUN_S if executor.kind == "inline" else RUN_S
        self._curve = CostCurve()
        self._line = Line()
        self._again: deque[list[Waiting]] = deque()
        self._flights: dict[int, list[Waiting]] = {}
        self._poison = PoisonMemory()
        self._remembers = executor.kind == "process"
        self._running = 0
        self._due = False
        self._starting = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        #: No deadline among the living is sooner than this.
        self._soonest = math.inf
        self._closing = False
        self._closed = False
        self._idle: asyncio.Event | None = None
        self._accepted = self._batches = self._rows = self._failed = self._died = 0
        self._parts = self._refused = self._poisoned = 0
        #: Beyond these a request is looked at more closely; -1 until the first one came.
        self._most_requests = -1
        self._most_rows = math.inf
        self._near_s = self._row_wait_s = 0.0
        self._poison_until = 0.0
        self._timer_at = 0.0
        self._hurried = False
        self._keeps_rows = True
        self._learn()

    # What callers use.

    def admit(self) -> None:
        """Before anything is spent on a request: is there room?

        Raises:
            Overloaded: the queue is full, or waiting in it would take too long.
            ServerStopping: it was closed.
        """
        line = self._line
        if line.requests >= self._most_requests or line.rows > self._most_rows:
            self._examine(math.inf, self._now())

    def submit(self, waiting: Waiting) -> None:
        """Take a request. Its ``settle`` is called exactly once, never before this returns.

        Raises:
            Overloaded: the queue is full, or waiting in it would take too long.
            DeadlineExceeded: its time is over, or too short for what waits before it.
            PoisonRequest: equal rows ended two processes a short while ago.
            ServerStopping: it was closed.
        """
        now = self._now()
        line = self._line
        deadline = waiting.deadline
        if (
            line.requests >= self._most_requests
            or line.rows > self._most_rows
            or deadline <= now + self._near_s + line.rows * self._row_wait_s
        ):
            self._examine(deadline, now)
        if now < self._poison_until and self._poison.has(waiting.arrays, now):
            self._poisoned += 1
            raise self._poison_error()
        waiting.queued_at = now
        line.add(waiting)
        self._accepted += 1
        self._meter.queued += 1
        if deadline < self._soonest:
            self._watch(deadline, now)
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
            refused=self._refused,
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
        self._most_requests = -1
        if self._idle is None:
            self._idle = asyncio.Event()
        self._tell_idle()
        await self._idle.wait()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._closed:
            self._closed = True
            await self._executor.close()

    # Admission.

    def _examine(self, deadline: float, now: float) -> None:
        """Look closely at what the quick comparisons of ``submit`` found."""
        if self._closing:
            raise ServerStopping(f"{self._name} is being unloaded; try again.")
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._most_requests = self._limits.queue_requests
        line = self._line
        if deadline <= now:
            self._refused += 1
            raise DeadlineExceeded(f"The time for this request of {self._name} was over when it arrived.")
        wait_s = expected_wait(self._curve, self._cap, line.rows, self._slots)
        if line.requests >= self._most_requests or line.rows > self._most_rows:
            self._refused += 1
            raise Overloaded(
                f"{line.requests} requests wait for {self._name} already; try again later.",
                retry_after(wait_s) if self._curve.founded else 1.0,
            )
        busy = line.requests or self._running >= self._slots
        if busy and self._curve.founded and deadline < now + wait_s + self._curve.seconds(1):
            self._refused += 1
            raise DeadlineExceeded(
                f"{line.requests} requests wait for {self._name}, longer than the time for this one."
            )

    def _poison_error(self) -> PoisonRequest:
        return PoisonRequest(
            f"These rows ended two processes of {self._name} and are not tried again; "
            "change them, or have the model mended."
        )

    # Turns and batches.

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
        while self._again:
            batch = [waiting for waiting in self._again.popleft() if waiting.state == RUNNING]
            if batch and self._soonest <= now:
                self._expire(now)
                batch = [waiting for waiting in batch if waiting.state == RUNNING]
            if batch:
                self._launch(batch, now)
                return True
        line = self._line
        if not line.requests:
            return False
        before = line.requests
        if self._soonest - now < _RUNS_AHEAD * self._full_s or self._soonest <= now:
            batch = self._take_in_hurry(now, free)
        else:
            batch = line.take(self._cap_now(free))
            self._meter.queued -= before - line.requests
        if not batch:
            return False
        waited = self._meter.waited
        for waiting in batch:
            if waiting.split is None:
                waited(now - waiting.queued_at)
            else:
                self._parts += 1
        self._launch(batch, now)
        return True

    def _cap_now(self, free: int) -> Cap:
        return self._cap if free == 1 else shared_out(self._cap, self._curve, self._line.rows, free)

    def _take_in_hurry(self, now: float, free: int) -> list[Waiting]:
        """The next batch when a deadline is near; those without hope make room for the others."""
        self._expire(now)
        line, curve = self._line, self._curve
        cap = self._cap_now(free)
        hurry = tell_hurry(line, curve, now, _RUNS_AHEAD * self._full_s)
        if hurry.hopeless and len(hurry.hopeless) < line.requests:
            for waiting in hurry.hopeless:
                self._fail(waiting, self._late())
        if hurry.slack_s < math.inf and self._keeps_rows:
            tight = batch_cap(curve, self._limits, self._run_s, hurry.slack_s)
            cap = Cap(min(cap.rows, tight.rows), min(cap.enough, tight.enough))
        # Every other batch is led by whose turn it is, so that a stream of urgent ones starves nobody.
        self._hurried = not self._hurried and bool(hurry.urgent)
        before = line.requests
        batch = line.take(cap, hurry.urgent if self._hurried else ())
        self._meter.queued -= before - line.requests
        return batch

    def _launch(self, batch: list[Waiting], now: float) -> None:
        rows = 0
        for waiting in batch:
            rows += waiting.rows
        self._running += 1
        self._flights[id(batch)] = batch
        self._starting = True
        try:
            arrays = batch[0].arrays if len(batch) == 1 else _packed(batch)
            self._executor.start(arrays, partial(self._done, batch, rows, now))
        except Exception as error:  # noqa: BLE001 - whatever the executor raises is what became of the batch
            if id(batch) in self._flights:
                self._done(batch, rows, now, Outcome(None, error))
        finally:
            self._starting = False

    def _done(self, batch: list[Waiting], rows: int, started: float, outcome: Outcome) -> None:
        """A batch is over: keep the executor busy first, then answer."""
        now = self._now()
        if self._soonest <= now:
            self._expire(now)
        self._running -= 1
        del self._flights[id(batch)]
        arrays, error = outcome
        if arrays is None or error is not None:
            self._batch_failed(batch, error or ModelFailed(f"{self._name} gave no answer."), now)
        else:
            self._batches += 1
            self._rows += rows
            self._meter.batch(rows, now - started)
            self._curve.observe(rows, now - started)
            if self._curve.fits != self._fits:
                self._learn()
            if not self._starting and (self._line.requests or self._again):
                self._start_next(1)
            self._answer(batch, arrays, rows)
        self._go_on()

    def _learn(self) -> None:
        """What follows from the cost curve, worked out once for many requests."""
        curve, limits = self._curve, self._limits
        self._fits = curve.fits
        self._cap = cap = batch_cap(curve, limits, self._run_s) if self._keeps_rows else ALONE
        self._full_s = curve.seconds(cap.enough)
        self._most_rows = rows_within(curve, cap, limits.queue_s, self._slots)
        if curve.founded:
            self._near_s = 2.0 * self._full_s + curve.seconds(1)
            self._row_wait_s = self._full_s / cap.enough / self._slots

    # Answers.

    def _answer(self, batch: list[Waiting], arrays: dict[str, Any], rows: int) -> None:
        """Give each its rows; the arrays of a batch of one go through untouched."""
        if len(batch) == 1:
            waiting = batch[0]
            if waiting.state == RUNNING:
                if isinstance(waiting, Part):
                    self._part_answered(waiting, arrays)
                else:
                    waiting.state = OVER
                    self._settle(waiting, arrays, None)
            return
        if not has_rows(arrays, rows):
            self._run_alone(batch)
            return
        names = tuple(arrays)
        if rows == len(batch):
            # Iterating over one-row views is half as dear as slicing.
            views = zip(*[array[:, None] for array in arrays.values()], strict=True)
            answers: Iterable[dict[str, Any]] = (dict(zip(names, view, strict=True)) for view in views)
        else:
            answers = _sliced(batch, arrays)
        for waiting, answer in zip(batch, answers, strict=True):
            if waiting.state != RUNNING:
                continue
            if isinstance(waiting, Part):
                self._part_answered(waiting, answer)
                continue
            waiting.state = OVER
            try:
                waiting.settle(answer, None)
            except Exception:  # noqa: BLE001 - the border to whoever asked; the others still get theirs
                _log.exception("an answer could not be given", extra=fields(model=self._name))

    def _settle(self, waiting: Waiting, arrays: dict[str, Any] | None, error: BaseException | None) -> None:
        try:
            waiting.settle(arrays, error)
        except Exception:  # noqa: BLE001 - the border to whoever asked; the others still get theirs
            _log.exception("an answer could not be given", extra=fields(model=self._name))

    def _part_answered(self, part: Part, arrays: dict[str, Any]) -> None:
        """Keep a part's answer; with the last one the request is answered."""
        part.state = OVER
        whole, split = part.whole, part.split
        if whole.state == OVER or split is None or not split.answered(part, arrays):
            return
        whole.state = OVER
        try:
            answer = split.joined()
        except ModelFailed as error:
            self._settle(whole, None, error)
        else:
            self._settle(whole, answer, None)

    def _run_alone(self, batch: list[Waiting]) -> None:
        """The model does not answer row for row, so its requests cannot share a batch from now on."""
        if self._keeps_rows:
            _log.warning(
                "a model does not answer row for row and is not batched", extra=fields(model=self._name)
            )
        self._keeps_rows = False
        self._learn()
        self._again.extendleft([waiting] for waiting in reversed(batch))

    # What goes wrong.

    def _batch_failed(self, batch: list[Waiting], error: BaseException, now: float) -> None:
        """Find out whose fault it is."""
        living = [waiting for waiting in batch if waiting.state == RUNNING]
        if isinstance(error, ModelDied):
            self._died += 1
            for waiting in reversed(living):
                waiting.strikes += 1
                if waiting.strikes < _STRIKES:
                    self._again.appendleft([waiting])
                else:
                    self._refuse_poison(waiting, now)
            return
        self._failed += 1
        if len(batch) == 1 or isinstance(error, UnavailableError):
            for waiting in living:
                self._fail(waiting, error)
            return
        half = (len(living) + 1) // 2
        self._again.extendleft(part for part in (living[half:], living[:half]) if part)

    def _refuse_poison(self, waiting: Waiting, now: float) -> None:
        self._poisoned += 1
        if self._remembers:
            whole = waiting.whole if isinstance(waiting, Part) else waiting
            self._poison_until = self._poison.add(whole.arrays, now)
        self._fail(waiting, self._poison_error())

    def _fail(self, waiting: Waiting, error: BaseException) -> None:
        """Settle with an error, unless it is over; the error of a part is its request's."""
        if isinstance(waiting, Part):
            waiting = waiting.whole
        if waiting.state != OVER:
            self._end(waiting)
            self._settle(waiting, None, error)

    def _end(self, waiting: Waiting) -> None:
        """Nobody waits for it any more, wherever it is."""
        if waiting.state == QUEUED:
            self._line.drop(waiting)
            self._meter.queued -= 1
        waiting.state = OVER
        if waiting.split is not None:
            waiting.split.give_up()

    def _late(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"The time for this request of {self._name} was over before its answer.")

    # Deadlines and the end.

    def _watch(self, deadline: float, now: float) -> None:
        """Somebody's deadline is the soonest; see that the timer rings by then."""
        self._soonest = deadline
        if self._timer is not None:
            if self._timer_at <= deadline:
                return
            self._timer.cancel()
        self._timer_at = deadline
        if self._loop is not None:
            self._timer = self._loop.call_later(max(deadline - now, _LEAST_TIMER_S), self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = self._now()
        if self._soonest <= now:
            self._expire(now)
            self._go_on()
        elif self._soonest < math.inf:
            self._watch(self._soonest, now)

    def _expire(self, now: float) -> None:
        """Settle everybody whose deadline has come."""
        flying = chain.from_iterable(chain(self._flights.values(), self._again))
        living = (waiting for waiting in flying if waiting.state == RUNNING)
        over, self._soonest = is_over(chain(self._line, living), now)
        if self._soonest < math.inf:
            self._watch(self._soonest, now)
        for waiting in over:
            if waiting.state == QUEUED and waiting.split is None:
                self._meter.expired += 1
            self._fail(waiting, self._late())

    def _tell_idle(self) -> None:
        if self._idle is not None and not (self._running or self._again or self._line.requests):
            self._idle.set()


def _packed(batch: list[Waiting]) -> dict[str, Any]:
    """The rows of several requests of one form, one after another."""
    return {name: np.concatenate([waiting.arrays[name] for waiting in batch]) for name in batch[0].arrays}


def _sliced(batch: list[Waiting], arrays: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Each one's rows of the answers, as views."""
    start = 0
    for waiting in batch:
        rows = slice(start, start + waiting.rows)
        start = rows.stop
        yield {name: array[rows] for name, array in arrays.items()}


class _Asked(Waiting):
    __slots__ = ("answer",)

    def __init__(self, arrays: Arrays, rows: int, deadline: float, weight: float) -> None:
        super().__init__(arrays, rows, deadline, weight)
        self.answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    def settle(self, arrays: dict[str, Any] | None, error: BaseException | None) -> None:
        if self.answer.done():
            return
        if error is not None:
            self.answer.set_exception(error)
        else:
            self.answer.set_result(arrays or {})


async def ask(
    batcher: Batcher, arrays: Arrays, rows: int, *, deadline: float = math.inf, weight: float = 1.0
) -> dict[str, Any]:
    """One request as a coroutine. Cancelling it takes it out of the queue.

    Args:
        batcher: whom to ask.
        arrays: packed rows.
        rows: how many they are.
        deadline: seconds of the batcher's monotonic clock.
        weight: its share against requests of other weights.

    Raises:
        Overloaded: the queue is full.
        DeadlineExceeded: its time is over, or too short.
        PoisonRequest: it ended two processes of the model.
        ServerStopping: the batcher was closed.
        ModelFailed: the model raised.
    """
    waiting = _Asked(arrays, rows, deadline, weight)
    batcher.submit(waiting)
    try:
        return await waiting.answer
    finally:
        batcher.cancel(waiting)
