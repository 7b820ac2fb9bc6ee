"""Counts what a version and its shadow answered; one record of sums comes of it."""

import math

import numpy as np

from servable.monitoring.agreement import Differences
from servable.monitoring.shadow_comparison import Compared, Ratio
from servable.monitoring.steps import step_of

_OK = "ok"


class _Sums:
    """A ``Ratio`` that grows."""

    __slots__ = ("product", "requests", "rows", "rows_squared", "total", "total_squared")

    def __init__(self) -> None:
        self.requests = self.rows = self.rows_squared = 0
        self.total = self.total_squared = self.product = 0.0

    def add(self, rows: int, total: float) -> None:
        """One request."""
        self.requests += 1
        self.rows += rows
        self.total += total
        self.rows_squared += rows * rows
        self.total_squared += total * total
        self.product += rows * total

    def ratio(self) -> Ratio:
        """The record."""
        return Ratio(**{name: getattr(self, name) for name in self.__slots__})


class Comparing:
    """Counts for one version and its shadow. Belongs to one event loop.

    Args:
        model: its name.
        version: which answers.
        shadow: which is compared with it.
    """

    def __init__(self, model: str, version: int, shadow: int) -> None:
        self.model = model
        self.version = version
        self.shadow = shadow
        self._dropped = self._both_ok = self._shadow_failed = self._real_failed = self._both_failed = 0
        self._codes: dict[str, int] = {}
        self._agreement, self._scores, self._seconds = _Sums(), _Sums(), _Sums()
        self._score_steps: dict[int, int] = {}
        self._latencies: dict[int, int] = {}
        self._real_latencies: dict[int, int] = {}

    def drop(self) -> None:
        """A copy was not made, or not answered because the shadow had too much to do."""
        self._dropped += 1

    def failed(self, code: str, *, real_failed: bool) -> None:
        """The shadow did not answer a copy.

        Args:
            code: of its error.
            real_failed: whether the version itself failed as well.
        """
        self._count(code)
        if real_failed:
            self._both_failed += 1
        else:
            self._shadow_failed += 1

    def alone(self) -> None:
        """The shadow answered what the version itself failed to answer."""
        self._count(_OK)
        self._real_failed += 1

    def both(self, seen: Differences | None, real_s: float, shadow_s: float) -> None:
        """Both answered.

        Args:
            seen: what tells the answers apart; None where they cannot be compared.
            real_s: seconds from the queue to the answer.
            shadow_s: the same of the shadow.
        """
        self._count(_OK)
        self._both_ok += 1
        self._seconds.add(1, shadow_s - real_s)
        step = step_of(shadow_s)
        self._latencies[step] = self._latencies.get(step, 0) + 1
        step = step_of(real_s)
        self._real_latencies[step] = self._real_latencies.get(step, 0) + 1
        if seen is None:
            return
        self._agreement.add(seen.rows, seen.agreed)
        if seen.scores is not None:
            self._score(seen)

    def compared(self) -> Compared:
        """What was counted so far, as a record of its own."""
        return Compared(
            model=self.model,
            version=self.version,
            shadow=self.shadow,
            dropped=self._dropped,
            both_ok=self._both_ok,
            shadow_failed=self._shadow_failed,
            real_failed=self._real_failed,
            both_failed=self._both_failed,
            codes=dict(self._codes),
            agreement=self._agreement.ratio(),
            scores=self._scores.ratio(),
            score_steps=dict(self._score_steps),
            differences_s=self._seconds.ratio(),
            latencies=dict(self._latencies),
            real_latencies=dict(self._real_latencies),
        )

    def _count(self, code: str) -> None:
        self._codes[code] = self._codes.get(code, 0) + 1

    def _score(self, seen: Differences) -> None:
        """Differences without a number are left out: their sum would be none for ever."""
        values = seen.scores
        if values is None:
            return
        if len(values) == 1:
            value = values.item()
            if math.isfinite(value):
                self._scores.add(1, value)
                self._add_steps(step_of(abs(value)), 1)
            return
        values = values[np.isfinite(values)]
        if len(values):
            self._scores.add(len(values), float(values.sum()))
            for value in np.abs(values).tolist():
                self._add_steps(step_of(value), 1)

    def _add_steps(self, step: int, count: int) -> None:
        self._score_steps[step] = self._score_steps.get(step, 0) + count
