"""What captured values are compared with: counts in bins, from the records that a package keeps. Pure.

Inputs come from the reference profile of the training rows. Answers and errors come from the evaluation,
whose rows the model never saw: what it answers to rows that it learned from is no measure of later answers.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from servable.artifact.profile import ColumnProfile, Profile, of_numbers
from servable.artifact.signature import Signature
from servable.monitoring.labels import label_text

#: What a column is: something a caller sent, something the model answered, how wrong that was, or a column
#: that training left out because it never varied.
Side = Literal["input", "output", "quality", "unused"]
#: Names of the columns that are no inputs.
PREDICTION, PROBABILITY, ERROR = "prediction", "probability", "error"
#: How a right and a wrong answer of a classifier are named.
RIGHT, WRONG = "right", "wrong"

Counts = NDArray[np.float64]


class Key(NamedTuple):
    """Names a column: an input may be called like an output."""

    side: Side
    name: str


class Reference(NamedTuple):
    """One column as it was: how many rows fell into each bin.

    Attributes:
        key: which column.
        kind: ``number`` or ``category``; a text is the number of its characters.
        counts: rows in each bin, float64 ``[bins]``. The outermost two bins of a number lie beyond what is
            usual and hold the few rows that were seen there;
            the last of a category holds the values not counted one by one.
        missing: share of the rows without a value.
        bounds: of numbers: bin ``i`` holds values above ``bounds[i - 1]`` and up to ``bounds[i]``, the
            second bin also the smallest value itself; one fewer than bins. Empty for categories.
        values: of categories: one fewer than bins.
        spread: standard deviation of a number; 0 where there is none.
        text: whether the number is the length of a text.
    """

    key: Key
    kind: Literal["number", "category"]
    counts: Counts
    missing: float
    bounds: Counts
    values: tuple[str, ...] = ()
    spread: float = 0.0
    text: bool = False

    @property
    def rows(self) -> float:
        """How many rows with a value are behind it."""
        return float(self.counts.sum())

    def codes(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """The bin of each value, -1 where it is missing.

        Args:
            values: float64 with NaN for missing, or object (str) with "" for missing, ``[rows]``.
        """
        if self.kind == "category":
            places = {value: place for place, value in enumerate(self.values)}
            places[""] = -1
            names, inverse = np.unique(values.astype(str), return_inverse=True)
            found = np.asarray([places.get(str(name), len(self.values)) for name in names], np.int64)
            return found[inverse] if len(names) else np.empty(0, np.int64)
        numbers = self.numbers(values)
        low = self.bounds[0]
        codes = np.searchsorted(self.bounds[1:], numbers, side="left") + 1
        codes[numbers < low] = 0
        codes[np.isnan(numbers)] = -1
        return codes.astype(np.int64)

    def numbers(self, values: NDArray[Any]) -> Counts:
        """Values as the numbers that are compared, float64 ``[rows]`` with NaN for missing."""
        if self.text:
            return np.asarray([len(text) or np.nan for text in values], dtype=np.float64)
        return values.astype(np.float64)


class _Histogram(msgspec.Struct, frozen=True):
    edges: list[float]
    counts: list[int]


class _Scatter(msgspec.Struct, frozen=True):
    x: list[float]
    y: list[float]


class _Cluster(msgspec.Struct, frozen=True):
    label: str
    size: int


class _Evaluation(msgspec.Struct, frozen=True):
    """Those parts of ``evaluation.json`` that say how the model answered rows it never saw."""

    classes: list[str] = []
    confusion: list[list[int]] = []
    histograms: list[_Histogram] = []
    scatter: _Scatter | None = None
    clusters: list[_Cluster] = []


def references(
    signature: Signature, profile: Profile | None, evaluation: Mapping[str, Any] | None
) -> tuple[Reference, ...]:
    """Everything that a package lets later rows be compared with: inputs, then answers, then errors.

    Args:
        signature: of the model.
        profile: of the rows that it learned from; None where the package keeps none.
        evaluation: the content of ``evaluation.json``; None where there is none.
    """
    found: list[Reference | None] = []
    if profile is not None:
        # Dates move on by themselves, and that is no news.
        found += [of_profile("input", column) for column in profile.columns if column.kind != "date"]
        found += [of_profile("unused", column) for column in profile.constant]
    known = _known(evaluation)
    if known is not None:
        found += _answers(signature, known)
    return tuple(reference for reference in found if reference is not None)


def of_profile(side: Side, column: ColumnProfile) -> Reference | None:
    """The reference that the profile of a column is; None where no row has a value."""
    key = Key(side, column.name)
    if column.categories or column.others:
        names = tuple(column.categories)
        counts = np.asarray([*column.categories.values(), column.others], np.float64)
        return Reference(key, "category", counts, column.missing, np.empty(0), names)
    if not column.counts or not column.quantiles:
        return None
    low, high = column.quantiles[0], column.quantiles[-1]
    # A value that many rows share may be both the last edge and the largest value of all.
    inner = [edge for edge in column.edges if edge < high]
    held = [*column.counts[: len(inner)], sum(column.counts[len(inner) :])]
    # The few rows beyond the values that are named were counted with the nearest bins.
    held[0] -= column.below
    held[-1] -= column.above
    return Reference(
        key,
        "number",
        np.asarray([column.below, *held, column.above], np.float64),
        column.missing,
        np.asarray([low, *inner, high], np.float64),
        spread=_spread(column.std, high),
        text=column.kind == "text",
    )


def _spread(std: float | None, size: float) -> float:
    """The standard deviation, without what rounding makes of a constant."""
    return std if std and std > 1e-9 * abs(size) else 0.0


def of_counts(key: Key, counts: Mapping[str, float]) -> Reference:
    """The reference of a category whose values were all counted."""
    held = np.asarray([*counts.values(), 0.0], np.float64)
    return Reference(key, "category", held, 0.0, np.empty(0), tuple(counts))


def _known(evaluation: Mapping[str, Any] | None) -> _Evaluation | None:
    if evaluation is None:
        return None
    try:
        return msgspec.convert(dict(evaluation), type=_Evaluation)
    except msgspec.ValidationError:
        # A foreign model's evaluation may hold anything; then its answers have no reference.
        return None


def _answers(signature: Signature, known: _Evaluation) -> list[Reference | None]:
    prediction, error = Key("output", PREDICTION), Key("quality", ERROR)
    if known.clusters:
        return [of_counts(prediction, {each.label: each.size for each in known.clusters})]
    if signature.task == "regression" and known.scatter is not None:
        truth = np.asarray(known.scatter.x, np.float64)
        answered = np.asarray(known.scatter.y, np.float64)
        return [
            of_profile("output", of_numbers(PREDICTION, answered, least=1)),
            of_profile("quality", of_numbers(ERROR, np.abs(truth - answered), least=1)),
        ]
    if not known.confusion:
        return []
    table = np.asarray(known.confusion, np.float64)
    named = dict(zip(_labels(signature), table.sum(axis=0).tolist(), strict=False))
    right = float(np.trace(table))
    found: list[Reference | None] = [of_counts(prediction, named)]
    if known.histograms:
        found.append(_histogram(Key("output", PROBABILITY), known.histograms))
    return [*found, of_counts(error, {RIGHT: right, WRONG: float(table.sum()) - right})]


def _labels(signature: Signature) -> tuple[str, ...]:
    """A classifier's labels as captured answers name them."""
    return tuple(label_text(label) for label in signature.classes)


def _histogram(key: Key, histograms: Sequence[_Histogram]) -> Reference:
    """Histograms over the same edges, as one reference."""
    edges = np.asarray(histograms[0].edges, np.float64)
    counts = np.sum([each.counts for each in histograms], axis=0).astype(np.float64)
    # A histogram's bins begin with their lower edge, ours end with their upper one.
    bounds = np.asarray([edges[0], *np.nextafter(edges[1:-1], -np.inf), edges[-1]])
    middles = (edges[:-1] + edges[1:]) / 2
    mean = float(np.average(middles, weights=counts)) if counts.sum() else 0.0
    spread = float(np.sqrt(np.average((middles - mean) ** 2, weights=counts))) if counts.sum() else 0.0
    return Reference(key, "number", np.asarray([0.0, *counts, 0.0]), 0.0, bounds, spread=spread)
