"""What the batcher does next. Pure: values in, decisions out; no clock, no loop, no input or output.

``batch_cap`` says how large a batch may be, ``expected_wait`` and ``rows_within`` what waiting in the
queue would take, ``tell_hurry`` who cannot wait for the next batch, ``batch_line.Line`` who is in it, and
``after_failure`` what a failed batch leads to.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from servable.errors import ModelDied, UnavailableError
from servable.runtime.cost import CostCurve
from servable.runtime.waiting import RUNNING, Waiting

#: Above a share of the fixed cost below this, more rows in a batch bring next to no throughput.
_FIXED_SHARE = 0.05
#: What a batch costs around the model: putting together, calling, handing out.
_AROUND_S = 5e-6
#: A batch has at most so many times the rows of the largest that was seen, and so many at first: the line
#: is not trusted far outside what was measured.
_GROWTH = 4
_FIRST_ROWS = 8
#: The longest run wished for, in the event loop itself and elsewhere.
_INLINE_RUN_S = 0.005
_RUN_S = 0.25
#: The longest and the shortest time after which a refused caller is asked to try again.
_RETRY_S = (0.1, 30.0)
#: A request is dropped as hopeless when this share of its expected run time is more than it has left.
_HOPELESS_SHARE = 0.8
#: A request is refused as poison when so many processes died while they had it.
_STRIKES = 2


class BatchLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How far the batcher may go.

    Attributes:
        max_rows: most rows in one batch.
        queue_requests: most requests that wait.
        queue_s: longest expected wait; who would wait longer is refused at once.
        run_s: longest run wished for a batch; None means 5 ms in the event loop and 250 ms elsewhere.
        batchable: whether rows of several requests may share a batch, and a request be split.
    """

    max_rows: int = 1024
    queue_requests: int = 1024
    queue_s: float = 5.0
    run_s: float | None = None
    batchable: bool = True


class Cap(NamedTuple):
    """How large a batch may be.

    Attributes:
        rows: never more; a larger request is split. At least 1.
        enough: once it has so many rows no further request is added. At least 1, at most ``rows``.
    """

    rows: int
    enough: int


#: One request a batch, never split.
ALONE = Cap(1 << 62, 1)


class Hurry(NamedTuple):
    """Who cannot wait for the batch after the next.

    Attributes:
        urgent: these go first, the tightest deadline in front.
        hopeless: these would not be answered in time even if started now.
        slack_s: seconds until the tightest deadline of ``urgent``; infinite without any.
    """

    urgent: list[Waiting]
    hopeless: list[Waiting]
    slack_s: float


class Fault(NamedTuple):
    """What a failed batch leads to.

    Attributes:
        again: batches to be tried again, in this order, before anybody else.
        failed: these get the error.
        poison: these are refused.
    """

    again: list[list[Waiting]]
    failed: list[Waiting]
    poison: list[Waiting]


def wished_run(limits: BatchLimits, kind: str) -> float:
    """The longest run wished for a batch in an executor of this kind, in seconds."""
    if limits.run_s is not None:
        return limits.run_s
    return _INLINE_RUN_S if kind == "inline" else _RUN_S


def batch_cap(curve: CostCurve, limits: BatchLimits, run_s: float, slack_s: float = math.inf) -> Cap:
    """The largest batch worth running.

    Args:
        curve: what batches cost here.
        limits: how far one may go.
        run_s: longest run wished for.
        slack_s: seconds until the tightest deadline among those who wait.
    """
    if not limits.batchable:
        return ALONE
    rows = min(limits.max_rows, max(_FIRST_ROWS, _GROWTH * curve.largest))
    fixed_s, row_s = curve.fixed_s, curve.row_s
    if row_s > 0.0:
        fitting = (min(run_s, slack_s) - fixed_s) / row_s
        if fitting < rows:
            rows = int(max(1.0, fitting))
    rows = max(1, min(rows, limits.max_rows))
    enough = rows
    if curve.samples and row_s > 0.0:
        worth = (fixed_s + _AROUND_S) * (1.0 / _FIXED_SHARE - 1.0) / row_s
        if worth < rows:
            enough = max(1, math.ceil(worth))
    return Cap(rows, enough)


def shared_out(cap: Cap, curve: CostCurve, queued_rows: int, free: int) -> Cap:
    """The cap when several slots are free at once: the queue is shared out among them.

    But not into batches so small that their fixed cost is more than half of them.

    Args:
        cap: for one batch on its own.
        curve: what batches cost here.
        queued_rows: how many wait.
        free: slots that are free, at least 1.
    """
    if free <= 1 or curve.row_s <= 0.0:
        return cap
    share = max(math.ceil(queued_rows / free), math.ceil(curve.fixed_s / curve.row_s), 1)
    return cap if share >= cap.enough else Cap(cap.rows, share)


def expected_wait(curve: CostCurve, cap: Cap, rows: int, slots: int) -> float:
    """Seconds until so many queued rows were run, and half a batch for those that run now.

    Args:
        curve: what batches cost here; 0 seconds before anything was observed.
        cap: how large batches are.
        rows: how many wait.
        slots: how many batches run at once.
    """
    full, rest = divmod(rows, cap.enough)
    queued_s = full * curve.seconds(cap.enough) + (curve.seconds(rest) if rest else 0.0)
    return (queued_s + 0.5 * curve.seconds(min(rows + 1, cap.enough))) / slots


def rows_within(curve: CostCurve, cap: Cap, queue_s: float, slots: int) -> float:
    """How many rows may wait so that the next one is expected to wait no longer than ``queue_s``.

    Infinite while too little was observed; never below one batch for each slot.
    """
    if not curve.founded:
        return math.inf
    batches = queue_s * slots / curve.seconds(cap.enough)
    return max(1.0, batches, float(slots)) * cap.enough


def retry_after(wait_s: float) -> float:
    """Seconds after which a refused caller may try again: half of the queue is done by then."""
    shortest, longest = _RETRY_S
    return min(longest, max(shortest, 0.5 * wait_s))


def is_over(waiting: Iterable[Waiting], now: float) -> tuple[list[Waiting], float]:
    """Those whose deadline has come, and the soonest deadline of the others (infinite without any)."""
    over: list[Waiting] = []
    soonest = math.inf
    for each in waiting:
        deadline = each.deadline
        if deadline <= now:
            over.append(each)
        elif deadline < soonest:
            soonest = deadline
    return over, soonest


def tell_hurry(waiting: Iterable[Waiting], curve: CostCurve, now: float, horizon_s: float) -> Hurry:
    """Who cannot wait.

    Args:
        waiting: the living requests of the queue, none of them past its deadline.
        curve: what batches cost here.
        now: seconds of the monotonic clock.
        horizon_s: how long the next batch and the one after it would take.
    """
    urgent: list[Waiting] = []
    hopeless: list[Waiting] = []
    fixed_s, row_s = (curve.fixed_s, curve.row_s) if curve.founded else (0.0, 0.0)
    for each in waiting:
        left = each.deadline - now
        if left >= horizon_s:
            continue
        if left < _HOPELESS_SHARE * (fixed_s + row_s):
            hopeless.append(each)
        else:
            urgent.append(each)
    urgent.sort(key=_by_deadline)
    return Hurry(urgent, hopeless, urgent[0].deadline - now if urgent else math.inf)


def after_failure(batch: Sequence[Waiting], error: BaseException) -> Fault:
    """Whose fault a failed batch is, as far as one can tell; counts the strikes of a death.

    A death: each once more alone, and poison when it is the second. A state of the server's: the error
    of all. Any other error: of a request that was alone; several are tried again in halves.

    Args:
        batch: who was in it; those that are over meanwhile are left out.
        error: what became of it.
    """
    living = [waiting for waiting in batch if waiting.state == RUNNING]
    if isinstance(error, ModelDied):
        for waiting in living:
            waiting.strikes += 1
        innocent = [[waiting] for waiting in living if waiting.strikes < _STRIKES]
        return Fault(innocent, [], [waiting for waiting in living if waiting.strikes >= _STRIKES])
    if len(batch) == 1 or isinstance(error, UnavailableError):
        return Fault([], living, [])
    half = (len(living) + 1) // 2
    return Fault([part for part in (living[:half], living[half:]) if part], [], [])


def _by_deadline(waiting: Waiting) -> float:
    return waiting.deadline
