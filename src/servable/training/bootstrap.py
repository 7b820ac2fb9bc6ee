"""Metrics of rows that are drawn again with replacement, of many drawings at once.

An interval takes hundreds of drawings. One after the other, most of their time goes into calling functions on
small arrays; here each step is done for a stack of drawings, with the values that ``measures`` has for each.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from servable.training import measures
from servable.training.measures import Floats, Ints

#: Metrics that get an interval, by task.
INTERVALS: dict[str, tuple[str, ...]] = {
    "classification": ("accuracy", "balanced_accuracy", "f1_macro", "f1", "roc_auc", "log_loss"),
    "regression": ("rmse", "mae", "r2"),
}
#: Cells of an array of a stack of drawings, about: with more of them it leaves the processor's cache.
_CELLS = 200_000


class Answered:
    """A model's answers to rows whose truth is known. Belongs to one thread.

    Args:
        truth: class index or value ``[rows]``, at least one row.
        prediction: the same of the answers.
        probabilities: ``[rows, classes]`` or None.
        classes: how many there are; 0 for a regressor.
    """

    def __init__(
        self, truth: NDArray[Any], prediction: NDArray[Any], probabilities: Floats | None, classes: int
    ) -> None:
        self._truth, self._prediction = truth, prediction
        self._probabilities, self._classes = probabilities, classes
        #: What is the same for every drawing, by what it is needed for.
        self._kept: dict[str, Any] = {}
        self.cells = max(len(truth), classes * classes)

    def whole(self, name: str) -> float | None:
        """A metric of all rows; None where it has no meaning on them.

        Raises:
            KeyError: no such metric.
        """
        return measures.single(name, self._truth, self._prediction, self._probabilities, self._classes)

    def metrics(self, names: Sequence[str], places: Ints) -> dict[str, Floats]:
        """What ``measures.single`` says of each drawing.

        Args:
            names: the metrics, as ``measures.single`` knows them.
            places: the numbers of the drawn rows ``[drawings, rows]``.

        Returns:
            By name ``[drawings]``, NaN where the metric has no meaning; metrics of two classes are left out
            where there are others.

        Raises:
            KeyError: no such metric.
        """
        found: dict[str, Floats] = {}
        for name in names:
            if name in measures.OF_VALUES:
                found[name] = self._of_values(name, places)
            elif name in measures.OF_PROBABILITIES:
                found[name] = self._of_probabilities(name, places)
        if len(found) < len(names):
            known = measures.from_confusions(self._confusions(places))
            found |= {name: known[name] for name in names if name in known}
        return {name: np.where(np.isfinite(values), values, np.nan) for name, values in found.items()}

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    def _confusions(self, places: Ints) -> Ints:
        """Counts ``[drawings, classes, classes]`` as those of ``measures.confusion``."""
        cells = self._classes * self._classes

        def cell() -> Ints:
            known = (self._prediction >= 0) & (self._prediction < self._classes)
            return np.where(known, self._truth * self._classes + self._prediction, cells).astype(np.int64)

        counts = _counted(self._once("cell", cell), cells + 1, places)
        return counts[:, :cells].reshape(-1, self._classes, self._classes)

    def _of_values(self, name: str, places: Ints) -> Floats:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            error = self._once("error", lambda: np.abs(self._prediction - self._truth))
            if name == "mae":
                return _floats(error[places].mean(axis=1))
            if name == "median_ae":
                return _floats(np.median(error[places], axis=1))
            if name == "mape":
                size = np.abs(self._truth)[places]
                least = 1e-3 * size.mean(axis=1)
                told = (size.min(axis=1) > least) & (least > 0)
                return np.where(told, (error[places] / size).mean(axis=1), np.nan)
            squares = self._once("squares", lambda: error**2)[places]
            if name == "rmse":
                return _floats(np.sqrt(squares.mean(axis=1)))
            drawn = self._truth[places]
            spread = ((drawn - drawn.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
            return np.where(spread > 0, 1.0 - squares.sum(axis=1) / spread, np.nan)

    def _of_probabilities(self, name: str, places: Ints) -> Floats:
        truth, chances = self._truth, self._probabilities
        if chances is None:
            return np.full(len(places), np.nan)
        if name in ("roc_auc", "pr_auc"):
            return self._areas(name, chances, places)
        if name == "calibration_error":
            return self._calibration(chances, places)
        losses = measures.log_losses if name == "log_loss" else measures.brier_losses
        return _floats(self._once(name, lambda: losses(truth, chances))[places].mean(axis=1))

    def _areas(self, name: str, chances: Floats, places: Ints) -> Floats:
        """Of the second class for two, else the mean over the classes that have an area."""
        if np.isnan(chances).any():
            return np.full(len(places), np.nan)
        area = _roc_areas if name == "roc_auc" else _pr_areas
        known = [1] if chances.shape[1] == 2 else range(chances.shape[1])
        of_classes = np.stack([area(*self._ranked(place, chances, places)) for place in known])
        there = ~np.isnan(of_classes)
        counts = there.sum(axis=0)
        sums = np.where(there, of_classes, 0.0).sum(axis=0)
        return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)

    def _ranked(self, place: int, chances: Floats, places: Ints) -> tuple[Ints, Ints]:
        """Drawn rows of other classes and of this one ``[drawings, scores]``, by ascending score."""
        positive, score = self._truth == place, chances[:, place]

        def cell() -> tuple[Ints, int]:
            distinct, rank = np.unique(score, return_inverse=True)
            return 2 * rank + positive, 2 * len(distinct)

        cells, width = self._once(f"rank {place}", cell)
        counts = _counted(cells, width, places).reshape(len(places), -1, 2)
        return counts[:, :, 0], counts[:, :, 1]

    def _calibration(self, chances: Floats, places: Ints) -> Floats:
        bins = measures.CALIBRATION_BINS

        def gaps() -> tuple[Ints, Floats]:
            confidence = chances.max(axis=1)
            where = np.clip((confidence * bins).astype(np.int64), 0, bins - 1)
            return where, confidence - (self._truth == self._prediction)

        where, gap = self._once("gaps", gaps)
        sums = _counted(where, bins, places, weights=gap)
        return _floats(np.abs(sums).sum(axis=1) / places.shape[1])


def _floats(values: Any) -> Floats:
    return np.asarray(values, dtype=np.float64)


def _counted(cells: Ints, width: int, places: Ints, weights: Floats | None = None) -> NDArray[Any]:
    """How many drawn rows, or what weights, fall into each cell: ``[drawings, width]``."""
    flat = (cells[places] + np.arange(len(places))[:, None] * width).ravel()
    given = None if weights is None else weights[places].ravel()
    return np.bincount(flat, given, minlength=len(places) * width).reshape(len(places), width)


def _roc_areas(misses: Ints, hits: Ints) -> Floats:
    """Areas under the ROC curve of rows counted by ascending score; NaN where only one class is there."""
    below = misses.cumsum(axis=1) - misses
    pairs = hits.sum(axis=1) * misses.sum(axis=1)
    won = (hits * (below + misses / 2)).sum(axis=1)
    return np.where(pairs > 0, won / np.maximum(pairs, 1), np.nan)


def _pr_areas(misses: Ints, hits: Ints) -> Floats:
    """Average precision of rows counted by ascending score; NaN where no row is positive."""
    found = hits[:, ::-1].cumsum(axis=1)
    taken = found + misses[:, ::-1].cumsum(axis=1)
    positives = hits.sum(axis=1)
    won = (hits[:, ::-1] * (found / np.maximum(taken, 1))).sum(axis=1)
    return np.where(positives > 0, won / np.maximum(positives, 1), np.nan)


def drawings(draw: Callable[[], Ints], count: int, cells: int) -> Iterator[Ints]:
    """Drawings in stacks ``[some, rows]``, of which each is small enough to stay in the cache.

    Args:
        draw: the row numbers of the next drawing ``[rows]``.
        count: how many drawings.
        cells: of the largest array that one drawing needs.
    """
    some = max(_CELLS // max(cells, 1), 1)
    for begun in range(0, count, some):
        yield np.stack([draw() for _ in range(min(some, count - begun))])


def differences(
    metric: str, before: Answered, after: Answered, draw: Callable[[], Ints], count: int
) -> Floats:
    """What a metric of other answers is more than that of the first, on the same drawn rows.

    Args:
        metric: one that ``measures.single`` knows.
        before: the first answers.
        after: the others, to the same rows.
        draw: the row numbers of the next drawing.
        count: how many drawings.

    Returns:
        One number for each drawing on which the metric has a meaning for both.
    """
    found = [
        after.metrics((metric,), places)[metric] - before.metrics((metric,), places)[metric]
        for places in drawings(draw, count, before.cells)
    ]
    every = np.concatenate(found)
    return every[~np.isnan(every)]


def intervals(
    task: str, truth: Any, prediction: Any, probabilities: Floats | None, *, classes: int = 0, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95 % bootstrap intervals of the headline metrics: rows drawn again with replacement.

    The number of draws falls with the number of rows, so that the time stays below a second.

    Args:
        task: metrics of ``classification`` and ``regression`` have intervals.
        truth: class index or value ``[rows]``.
        prediction: the same of the answers.
        probabilities: ``[rows, classes]`` or None.
        classes: how many there are; 0 for a regressor.
        seed: of the drawing.
    """
    names = INTERVALS.get(task, ())
    if not names:
        return {}
    rows = len(truth)
    draws = int(np.clip(3_000_000 // max(rows, 1), 60, 400))
    rng = np.random.default_rng(seed)
    answered = Answered(truth, prediction, probabilities, classes)
    stacks = [
        answered.metrics(names, places)
        for places in drawings(lambda: rng.integers(0, rows, rows), draws, answered.cells)
    ]
    found = {}
    for name in stacks[0]:
        values = np.concatenate([stack[name] for stack in stacks])
        known = values[~np.isnan(values)]
        if len(known) >= draws // 2:
            low, high = np.quantile(known, [0.025, 0.975])
            found[name] = (float(low), float(high))
    return found
