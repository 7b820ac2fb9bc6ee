"""Reading, running and writing beside each other: pieces overtake each other and are written in order."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from servable.errors import DataError, ModelDied, ModelFailed
from servable.inputs.rows import Preparer
from servable.progress import Progress
from servable.protocols.columns import CellProblem, ColumnReader
from servable.runtime.executor import Executor, run_batch
from servable.tensors import row_count, stack, take
from servable.workflows.scoring.columns import Written
from servable.workflows.scoring.journal import Journal
from servable.workflows.scoring.source import BadRow, Piece, Source

#: Pieces under way beyond those that the model works on.
_AHEAD = 2
#: Finished bytes and seconds after which they are made durable.
_DURABLE_BYTES, _DURABLE_S = 1 << 24, 1.0


class Road(NamedTuple):
    """What every piece goes through.

    Attributes:
        source: the input.
        reader: its columns to packed arrays.
        preparer: the files in them to tensors.
        executor: where the model runs.
        most: rows in one run; 0 for a whole piece.
        written: columns to bytes.
        journal: where they go.
    """

    source: Source
    reader: ColumnReader
    preparer: Preparer
    executor: Executor
    most: int
    written: Written
    journal: Journal


class Finished(NamedTuple):
    """A piece that only has to be written."""

    piece: Piece
    rows: int
    content: bytes


class _Read(NamedTuple):
    arrays: dict[str, Any]
    kept: Any
    rows: int


async def travel(road: Road, progress: Progress, started: float) -> int:
    """Score everything that is not finished yet.

    Args:
        road: see there.
        progress: told of every piece.
        started: of the monotonic clock; for what is said about speed.

    Returns:
        The rows of the whole file.

    Raises:
        DataError: a row cannot be read or does not fit; what is finished is as before it.
        ModelFailed: the model raised on a row.
        ModelDied: its process died twice with the same rows.
        StorageFull: no space.
        StorageFailed: input or output failed.
    """
    mark = road.journal.mark
    state = _Ledger(road, progress, started, 0 if mark is None else mark.rows)
    async with _threads(road.executor.slots) as (reading, working):
        loop = asyncio.get_running_loop()
        pieces = road.source.pieces(None if mark is None else mark.end, road.journal.step)
        gate = asyncio.Semaphore(road.executor.slots)
        waiting: deque[asyncio.Task[Finished]] = deque()
        try:
            while True:
                try:
                    piece = await loop.run_in_executor(reading, next, pieces, None)
                except BadRow as bad:
                    while waiting:
                        await state.take(await state.of(waiting.popleft()))
                    raise state.refused(bad) from bad
                if piece is None:
                    break
                waiting.append(asyncio.create_task(_handle(road, piece, gate, working)))
                if len(waiting) >= road.executor.slots + _AHEAD:
                    await state.take(await state.of(waiting.popleft()))
            while waiting:
                await state.take(await state.of(waiting.popleft()))
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            await loop.run_in_executor(reading, pieces.close)
            await state.flush()
    return state.rows


@asynccontextmanager
async def _threads(slots: int) -> AsyncIterator[tuple[ThreadPoolExecutor, ThreadPoolExecutor]]:
    """One thread that cuts the file, and those that make tables and bytes."""
    reading = ThreadPoolExecutor(1, "servable-cut")
    working = ThreadPoolExecutor(slots + 1, "servable-columns")
    try:
        yield reading, working
    finally:
        for pool in (reading, working):
            await asyncio.to_thread(pool.shutdown, wait=True)


async def _handle(road: Road, piece: Piece, gate: asyncio.Semaphore, pool: ThreadPoolExecutor) -> Finished:
    """One piece, from its bytes to those that are written."""
    loop = asyncio.get_running_loop()
    read = await loop.run_in_executor(pool, _read, road, piece)
    if not read.rows:
        return Finished(piece, 0, b"")
    async with gate:
        answers = await answered(road.executor, read.arrays, road.most)
    content = await loop.run_in_executor(pool, road.written.encode, piece.content, read.kept, answers)
    return Finished(piece, read.rows, content)


def _read(road: Road, piece: Piece) -> _Read:
    """A piece as packed arrays and columns to keep.

    Raises:
        BadRow: see there.
        DataError: a whole column does not fit.
    """
    table = road.source.table(piece)
    if not table.num_rows:
        return _Read({}, None, 0)
    found = road.reader.look(table)
    if found.problems:
        raise refusal(road.source, min(found.problems, key=lambda problem: problem.row or 0))
    arrays = found.arrays
    if road.preparer.needed(arrays):
        arrays, problems = road.preparer.look(arrays)
        if problems:
            row, problem = min(problems)
            said = CellProblem(problem.path.partition("[")[0], row, problem.expected, problem.got)
            raise refusal(road.source, said)
    return _Read(arrays, road.written.kept(table, found.arrays), table.num_rows)


def refusal(source: Source, problem: CellProblem) -> Exception:
    """A problem as the error that stops the run."""
    said = f"expected {problem.expected}, got {problem.got}."
    if problem.row is None:
        return DataError(f"{source.path}, column {problem.column!r}: {said}")
    return BadRow(problem.row, f"column {problem.column!r}: {said}")


async def answered(executor: Executor, arrays: dict[str, Any], most: int = 0) -> dict[str, Any]:
    """The model's answers to all rows, in as many runs as it needs.

    Raises:
        BadRow: the model raised on this row.
        ModelDied: its process died twice.
    """
    rows = row_count(arrays)
    size = most or rows
    parts = []
    for start in range(0, rows, size):
        part = take(arrays, slice(start, start + size))
        try:
            parts.append(await _run(executor, part))
        except ModelFailed as failed:
            row = await _culprit(executor, part)
            raise _FailedRow(start + row, failed.message) from failed
    return stack(parts)


class _FailedRow(BadRow):
    """The model raised on a row that fits its signature."""


async def _run(executor: Executor, arrays: dict[str, Any]) -> dict[str, Any]:
    try:
        return await run_batch(executor, arrays)
    except ModelDied:
        # A process that dies may have had its own reasons; rows that kill two are to blame.
        return await run_batch(executor, arrays)


async def _culprit(executor: Executor, arrays: dict[str, Any]) -> int:
    """The first row on which the model fails; halves are tried until one row is left."""
    first, last = 0, row_count(arrays)
    while last - first > 1:
        middle = (first + last) // 2
        try:
            await _run(executor, take(arrays, slice(first, middle)))
        except ModelFailed:
            last = middle
        else:
            first = middle
    return first


class _Ledger:
    """What is finished, in the order of the file. Belongs to the event loop."""

    def __init__(self, road: Road, progress: Progress, started: float, rows: int) -> None:
        self.rows = rows
        self._road = road
        self._progress = progress
        self._started = started
        self._before = rows
        self._passed = self._first_passed = 0.0
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._end = 0
        self._durable = time.monotonic()

    async def of(self, task: asyncio.Task[Finished]) -> Finished:
        """What became of a piece; all before it are finished.

        Raises:
            DataError: one of its rows cannot be used.
            ModelFailed: the model raised on one.
        """
        try:
            return await task
        except _FailedRow as failed:
            raise ModelFailed(
                f"The model failed on row {self.rows + failed.row + 1} of {self._road.source.path}: "
                f"{failed.said}"
            ) from failed
        except BadRow as bad:
            raise self.refused(bad) from bad
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            raise

    def refused(self, bad: BadRow) -> DataError:
        """The sentence about a row that cannot be used."""
        return DataError(bad.sentence(self._road.source.path, self.rows))

    async def take(self, finished: Finished) -> None:
        """Keep a piece, and make what was kept durable now and then."""
        self.rows += finished.rows
        self._end = finished.piece.end
        self._held.append(finished.content)
        self._held_bytes += len(finished.content)
        if self._held_bytes > _DURABLE_BYTES or time.monotonic() - self._durable > _DURABLE_S:
            await self.flush()
        if not self._first_passed:
            self._first_passed = finished.piece.passed
        self._progress.advance(finished.piece.passed - self._passed, self._note(finished.piece.passed))
        self._passed = finished.piece.passed

    async def flush(self) -> None:
        """Make everything that was kept durable.

        Raises:
            StorageFull: no space.
            StorageFailed: the disk does not take it.
        """
        if not self._held:
            return
        held, self._held, self._held_bytes = self._held, [], 0
        await asyncio.to_thread(self._road.journal.add, held, self._end, self.rows)
        self._durable = time.monotonic()

    def _note(self, passed: float) -> str:
        seconds = time.monotonic() - self._started
        rate = (self.rows - self._before) / max(seconds, 1e-9)
        said = f"{self.rows:,} rows, {rate:,.0f} a second"
        done = passed - self._first_passed
        if done <= 0:
            return said
        return f"{said}, {_clock((self._road.source.size - passed) * seconds / done)} to go"


def _clock(seconds: float) -> str:
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
