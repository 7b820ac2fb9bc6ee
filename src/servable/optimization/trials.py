"""Times session choices of one file in turns.

Every choice runs once in each round, so that a busy moment of the machine meets all of them alike.
"""

import math
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from servable.artifact.manifest import Variant
from servable.artifact.onnx_files import outside_files
from servable.clock import Clock
from servable.errors import ModelFailed
from servable.frameworks.base import Predictor
from servable.frameworks.onnx import predictor_with
from servable.frameworks.onnx_session import DEFAULT, SessionChoice
from servable.optimization import parity
from servable.tensors import PREDICTION, Arrays, row_count, take

#: Rounds of a comparison; fewer when they take long, and one when a single one does.
MOST_ROUNDS, FEWEST_ROUNDS = 5, 3
#: Seconds of one measurement of a short model; a long one makes about this many runs instead.
_SLICE_S = 0.008
_RUNS = 8
#: From here on a model is long: it runs in threads, and may gain from several; below, handing work over
#: costs more than it brings.
LONG_S = 500e-6
#: Rows of the larger batch with which short models are timed.
_BATCH = 32
#: Different rows that are asked in turn and compared with the default's answers; two of a model whose
#: row takes longer than this.
_ROWS = 8
_SLOW_S = 0.02
#: Sessions of one file that are open together hold no more than this, about.
_MOST_BYTES = 2 * 1024**3
#: Seed of the made rows on which answers are compared.
_SEED = 7


class Trial(NamedTuple):
    """One measurement of a choice.

    Attributes:
        seconds: one row with one caller.
        work: seconds for each call when as many callers as it has slots call at once (the inverse of
            the calls a second); for short models the geometric mean of one row and a larger batch.
        busy: processor seconds of this process for each second of each caller meanwhile; clearly below
            1 when somebody else had the cores. Always 1 for short models, whose median over many calls
            no disturbance reaches.
    """

    seconds: float
    work: float
    busy: float = 1.0


class Turns:
    """Measures choices; a call is a ``session.Measure``. Not safe for concurrent calls.

    Args:
        path: the file.
        variant: how it is fed, and its timings as far as they are known.
        rows: packed rows to time with, at least one.
        tolerance: largest difference of an answer from the default's; see ``parity.compare``.
        clock: reads the time.
        budget_s: seconds for all calls together, about; a slow model takes longer, because each
            choice runs at least once.

    Attributes:
        seconds: what one row takes with the defaults.

    Raises:
        ModelFailed: the model does not answer one row.
    """

    def __init__(
        self,
        path: Path,
        variant: Variant,
        rows: Arrays,
        *,
        tolerance: float,
        clock: Clock,
        budget_s: float,
    ) -> None:
        self._tolerance = tolerance
        self._path, self._options, self._clock, self._budget_s = path, variant.options, clock, budget_s
        self._deadline = clock.monotonic() + budget_s
        self._parts = [_part(rows, [place]) for place in range(min(_ROWS, row_count(rows)))]
        plain = predictor_with(path, self._options, DEFAULT)
        if plain is None:
            raise ModelFailed(f"onnxruntime cannot open {path.name}.")
        known = [timing.seconds for timing in variant.timings if timing.rows == 1]
        self.seconds = known[0] if known else self._median(plain, _SLICE_S)
        checked = self._parts if self.seconds < _SLOW_S else self._parts[:2]
        self._checked = [(part, plain.predict(part)) for part in checked]
        for part in map(_varied, checked):
            # Rows of zeros or a single example would hide a difference; not every model takes made ones.
            try:
                self._checked.append((part, plain.predict(part)))
            except ModelFailed:
                break
        plain.close()
        batches = any(timing.rows == _BATCH for timing in variant.timings) and self.seconds <= LONG_S
        places = [place % row_count(rows) for place in range(_BATCH)]
        self._batch = _part(rows, places) if batches else None

    def __call__(self, choices: Sequence[SessionChoice]) -> dict[SessionChoice, list[Trial]]:
        """The trials of every choice that can be opened in time and answers the same; the first always."""
        started = self._clock.monotonic()
        predictors = self._opened(choices)
        found: dict[SessionChoice, list[Trial]] = {choice: [] for choice in predictors}
        with ThreadPoolExecutor(max(choice.slots for choice in found)) as pool:
            for turn in range(MOST_ROUNDS):
                # Backwards every other time, so that no choice always follows the same neighbour.
                for choice in list(found)[:: 1 if turn % 2 == 0 else -1]:
                    found[choice].append(self._trial(predictors[choice], choice.slots, pool))
                spent = self._clock.monotonic() - started
                if spent > self._budget_s / 3 and (turn + 1 >= FEWEST_ROUNDS or turn == 0):
                    break
        for predictor in predictors.values():
            predictor.close()
        return found

    def _opened(self, choices: Sequence[SessionChoice]) -> dict[SessionChoice, Predictor]:
        """A predictor for each choice that can be measured; choices that differ in slots alone share one."""
        size = sum(file.stat().st_size for file in (self._path, *outside_files(self._path)))
        sessions: dict[SessionChoice, Predictor | None] = {}
        found: dict[SessionChoice, Predictor] = {}
        for choice in choices:
            key = msgspec.structs.replace(choice, slots=1)
            first = not sessions
            if key not in sessions:
                late = self._clock.monotonic() > self._deadline
                if not first and (late or (len(sessions) + 1) * size > _MOST_BYTES):
                    continue
                predictor = predictor_with(self._path, self._options, choice)
                sessions[key] = predictor if predictor is not None and self._same(predictor) else None
            if (usable := sessions[key]) is not None:
                found[choice] = usable
        return found

    def _same(self, predictor: Predictor) -> bool:
        """Whether it answers like the default; warms it up on the way."""
        try:
            return all(
                same(expected, predictor.predict(part), tolerance=self._tolerance)
                for part, expected in self._checked
            )
        except ModelFailed:
            return False

    def _trial(self, predictor: Predictor, slots: int, pool: ThreadPoolExecutor) -> Trial:
        if self._batch is not None:
            alone = self._median(predictor, self._slice_s)
            return Trial(alone, math.sqrt(alone * self._median(predictor, self._slice_s, [self._batch])))
        # The median of one caller alone costs little beside the rest, and is what a quiet server gives.
        alone = 0.0 if slots == 1 else self._median(predictor, self._slice_s / 2)
        began, worked = self._clock.monotonic(), time.process_time()
        if slots == 1:
            alone = work = self._median(predictor, self._slice_s)
        else:
            work = 1 / sum(pool.map(lambda _: 1 / self._mean(predictor), range(slots)))
        lasted = max(self._clock.monotonic() - began, 1e-9)
        return Trial(alone, work, (time.process_time() - worked) / (lasted * slots))

    @property
    def _slice_s(self) -> float:
        return max(_SLICE_S, min(_RUNS * self.seconds, self._budget_s / 20))

    def _mean(self, predictor: Predictor) -> float:
        durations = self._durations(predictor, self._slice_s, self._parts)
        return sum(durations) / len(durations)

    def _median(self, predictor: Predictor, seconds: float, parts: Sequence[Arrays] | None = None) -> float:
        # Never zero, however coarse the clock: costs are divided by each other.
        return max(statistics.median(self._durations(predictor, seconds, parts or self._parts)), 1e-9)

    def _durations(self, predictor: Predictor, seconds: float, parts: Sequence[Arrays]) -> list[float]:
        """Durations of calls, for so many seconds, at least one."""
        durations: list[float] = []
        now = started = self._clock.monotonic()
        while not durations or now - started < seconds:
            before = now
            predictor.predict(parts[len(durations) % len(parts)])
            now = self._clock.monotonic()
            durations.append(now - before)
        return durations


def same(expected: Arrays, given: Arrays, *, tolerance: float) -> bool:
    """Whether two sets of answers agree: numbers within the tolerance, everything else exactly. Pure."""
    if expected.keys() != given.keys():
        return False
    for name, array in expected.items():
        other = given[name]
        if array.shape != other.shape or array.dtype != other.dtype:
            return False
        if array.dtype.kind not in "fiub" or not array.shape:
            if not np.array_equal(array, other):
                return False
        elif not parity.compare({PREDICTION: array}, {PREDICTION: other}, tolerance=tolerance).equal:
            return False
    return True


def _part(rows: Arrays, places: Sequence[int]) -> Arrays:
    """Some rows, laid out as a decoder hands them in."""
    return {name: np.ascontiguousarray(part) for name, part in take(rows, np.asarray(places)).items()}


def _varied(rows: Arrays) -> Arrays:
    """The rows with noise on every number, of the size of the number."""
    random = np.random.default_rng(_SEED)
    with np.errstate(all="ignore"):  # The largest numbers become infinite, and so they are for every choice.
        return {
            name: (part + random.standard_normal(part.shape) * np.maximum(np.abs(part), 1)).astype(part.dtype)
            if part.dtype.kind == "f"
            else part
            for name, part in rows.items()
        }
