"""The thread in which models are loaded, one after the other, and left behind where a load hangs."""

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, NamedTuple, TypeVar

from servable.errors import ModelNotReady
from servable.runtime.pace import HURRIED, Pace, keep_back

_T = TypeVar("_T")
_Work = tuple[Future[Any], Callable[[], Any]]
_Calls = queue.SimpleQueue[_Work | None]


class LoadThread(Executor):
    """Runs one call after the other in one thread. Safe to use from several threads.

    Unlike those of the standard library's pool, its thread does not keep the interpreter from ending, and can
    be left to itself.

    Args:
        pace: it pauses before every call.
    """

    def __init__(self, pace: Pace = HURRIED) -> None:
        self._pace = pace
        self._lock = threading.Lock()
        self._closed = False
        self._calls: _Calls | None = None
        self._left: dict[str, asyncio.Future[Any]] = {}

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        """Run ``fn`` when everything before it is over.

        Raises:
            RuntimeError: it was shut down.
        """
        future: Future[_T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("nothing is loaded any more after the end")
            if self._calls is None:
                self._calls = _begun(self._pace)
            self._calls.put((future, lambda: fn(*args, **kwargs)))
        return future

    def leave(self, key: str, job: asyncio.Future[Any]) -> None:
        """Leave the call that runs to itself; what waits behind it goes on in a new thread.

        Args:
            key: what it loads.
            job: is done when it is over after all.
        """
        if job.done():
            return
        self._left[key] = job
        with self._lock:
            left, self._calls = self._calls, None
            if left is None or self._closed:
                return
            self._calls = _begun(self._pace)
            while not left.empty():
                self._calls.put(left.get())
            left.put(None)

    def hangs(self, key: str) -> bool:
        """Whether a call that was left to itself still tries to load this."""
        self._left = {name: job for name, job in self._left.items() if not job.done()}
        return key in self._left

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take nothing more. Nobody is waited for, whatever the arguments say."""
        with self._lock:
            self._closed = True
            if self._calls is not None:
                self._calls.put(None)


class Bound(NamedTuple):
    """How long a load may take.

    Attributes:
        seconds: from its beginning.
        name: of the model, for the message.
        key: what is loaded; while an attempt at it hangs, there is no other.
    """

    seconds: float
    name: str
    key: str


async def bounded(
    pool: Executor | None, bound: Bound, work: Callable[[], _T], late: Callable[[_T], object]
) -> _T:
    """A load in a thread, within a time.

    Args:
        pool: where; the loop's own when None. A ``LoadThread`` is free for others when the time is over.
        bound: the time.
        work: loads.
        late: is given what was loaded after the time was over.

    Raises:
        ModelNotReady: the time is over, or an earlier attempt still hangs.
        CancelledError: it was cancelled; what had begun goes on alone here too.
    """
    if isinstance(pool, LoadThread) and pool.hangs(bound.key):
        raise ModelNotReady(
            f"{bound.name} hangs while it is loaded, and is not tried again before that ends."
        )
    loop = asyncio.get_running_loop()
    begun = asyncio.Event()

    def run() -> _T:
        loop.call_soon_threadsafe(begun.set)
        return work()

    def over(done: asyncio.Future[_T]) -> None:
        if not done.cancelled() and done.exception() is None:
            late(done.result())

    def left_behind() -> None:
        job.add_done_callback(over)
        if isinstance(pool, LoadThread):
            pool.leave(bound.key, job)

    submitted = None if pool is None else pool.submit(run)
    job = loop.run_in_executor(None, run) if submitted is None else asyncio.wrap_future(submitted)
    started = asyncio.ensure_future(begun.wait())
    try:
        either: set[asyncio.Future[Any]] = {job, started}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({job}, timeout=bound.seconds)
    except asyncio.CancelledError:
        # What has not begun never will.
        if begun.is_set():
            left_behind()
        else:
            # At once and not with the next turn of the loop: another thread may be about to begin it.
            if submitted is not None:
                submitted.cancel()
            job.cancel()
        raise
    finally:
        started.cancel()
    if job.done():
        return job.result()
    left_behind()
    raise ModelNotReady(f"{bound.name} was not ready within {bound.seconds:g} s.")


def _begun(pace: Pace) -> _Calls:
    """The calls of a new thread."""
    calls: _Calls = queue.SimpleQueue()
    threading.Thread(target=_run, args=(calls, pace), name="servable-load", daemon=True).start()
    return calls


def _run(calls: _Calls, pace: Pace) -> None:
    keep_back()
    while (work := calls.get()) is not None:
        future, call = work
        pace.breathe()
        if not future.set_running_or_notify_cancel():
            continue
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the one who waits is told
            future.set_exception(error)
        else:
            future.set_result(result)
            # A result that stayed here would outlive whoever asked for it.
            del result
        del future, call, work
