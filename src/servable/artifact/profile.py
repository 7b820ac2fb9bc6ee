"""The reference profile: what the training columns looked like, for comparison with what is served later."""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from servable.artifact.anonymity import LEAST, usual_range
from servable.artifact.signature import Field, Signature
from servable.tensors import MISSING_STRING, NUMBERS, STRINGS, Arrays, row_count

#: Bins of equal share of the rows that a numeric column is cut into.
BINS = 20
#: Categories counted one by one; the rest is counted together.
MOST_CATEGORIES = 100
QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)


class ColumnProfile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One column over the training rows.

    Attributes:
        name: of the column.
        kind: as in the signature.
        missing: share of the rows without a value.
        distinct: how many different values there are.
        edges: inner edges of bins that hold about the same number of rows; a value equal to an edge
            belongs to the bin below it. ``counts`` has one more entry.
        counts: rows in each bin.
        histogram_edges: of bins of equal width between the 0.5 % and 99.5 % quantiles, for pictures.
        histogram_counts: rows in them.
        quantiles: at ``QUANTILES``, the outermost such that enough rows are there or beyond.
        below: rows with a value below the first quantile; ``counts`` has them in its first bins.
        above: rows with a value above the last quantile; ``counts`` has them in its last bins.
        mean: of the values.
        std: their standard deviation.
        categories: rows by value, most frequent first.
        others: rows of further values, those of rare ones among them.
    """

    name: str
    kind: str
    missing: float
    distinct: int
    edges: list[float] = []
    counts: list[int] = []
    histogram_edges: list[float] = []
    histogram_counts: list[int] = []
    quantiles: list[float] = []
    below: int = 0
    above: int = 0
    mean: float | None = None
    std: float | None = None
    categories: dict[str, int] = {}
    others: int = 0


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """All columns of the rows that a model learned from.

    Attributes:
        rows: how many.
        columns: those that the model takes, in its order.
        target: what it answers; None for clustering.
        constant: columns that were left out because they had one value in every row. A model learns nothing
            from them until they vary, and whoever watches later rows wants to know when they do.
    """

    rows: int
    columns: list[ColumnProfile]
    target: ColumnProfile | None = None
    constant: list[ColumnProfile] = []


def encode(reference: Profile) -> bytes:
    """The profile as JSON, the content of ``profile.json``."""
    return msgspec.json.format(msgspec.json.encode(reference), indent=1) + b"\n"


def decode(data: bytes) -> Profile:
    """The profile kept in a package.

    Raises:
        msgspec.MsgspecError: the bytes are no profile; the package reader converts it.
    """
    return msgspec.json.decode(data, type=Profile)


def profile(
    signature: Signature, arrays: Arrays, truth: NDArray[Any] | None = None, *, least: int = LEAST
) -> Profile:
    """The profile of packed rows.

    Args:
        signature: of the rows.
        arrays: at least one row.
        truth: class index or value, to profile the target too.
        least: rows that a value must have to be named; see ``anonymity``. Names of classes are known anyway.
    """
    columns = []
    for array in (NUMBERS, STRINGS):
        for place, field in enumerate(signature.packed(array)):
            columns.append(_column(field, arrays[array][:, place], least))
    order = {field.name: place for place, field in enumerate(signature.inputs)}
    columns.sort(key=lambda column: order[column.name])
    return Profile(rows=row_count(arrays), columns=columns, target=_target(signature, truth, least))


def constant(name: str, value: float | str, rows: int) -> ColumnProfile:
    """The profile of a column that has one value in every row."""
    if isinstance(value, str):
        return ColumnProfile(name=name, kind="category", missing=0.0, distinct=1, categories={value: rows})
    return of_numbers(name, np.full(rows, value, np.float64))


def _target(signature: Signature, truth: NDArray[Any] | None, least: int) -> ColumnProfile | None:
    if truth is None:
        return None
    if signature.task == "classification":
        counts = np.bincount(truth, minlength=len(signature.classes))
        named = {str(label): int(count) for label, count in zip(signature.classes, counts, strict=True)}
        return ColumnProfile(
            name=signature.answer.name, kind="category", missing=0.0, distinct=len(named), categories=named
        )
    return _column(signature.answer, truth, least)


def _column(field: Field, values: NDArray[Any], least: int) -> ColumnProfile:
    held = comparable(field, values)
    if field.kind == "text":
        # Only how long they are: texts themselves belong into no record that people hand around.
        held = np.asarray([len(text) or np.nan for text in held], dtype=np.float64)
    if held.dtype != object:
        return of_numbers(field.name, held, kind=field.kind, least=least)
    there = held[held != MISSING_STRING].astype(str)
    return _counted(field, there, 1 - len(there) / max(len(held), 1), least)


def comparable(field: Field, values: NDArray[Any]) -> NDArray[Any]:
    """A packed column in the form in which it is counted and compared.

    Args:
        field: of the column.
        values: one column of a packed array, or a classifier's truth ``[rows]``.

    Returns:
        Categories and booleans as object (str), "" where missing, free text as it is, all else float64 with
        NaN where missing.
    """
    if field.array == STRINGS:
        return values.astype(object)
    numbers = values.astype(np.float64)
    if field.kind not in ("category", "boolean"):
        return numbers
    missing = np.isnan(numbers)
    whole = np.where(missing, 0, numbers).astype(np.int64)
    names = np.where(whole != 0, "true", "false") if field.kind == "boolean" else whole.astype(str)
    return np.where(missing, MISSING_STRING, names).astype(object)


def of_numbers(
    name: str, values: NDArray[np.float64], *, kind: str = "number", least: int = LEAST
) -> ColumnProfile:
    """The profile of one column of numbers.

    Args:
        name: of the column.
        values: float64 ``[rows]``, NaN where missing.
        kind: as in a signature.
        least: rows that must be at or beyond the smallest and the largest value that are named.
    """
    there = values[~np.isnan(values)]
    missing = 1 - len(there) / max(len(values), 1)
    if not len(there):
        return ColumnProfile(name=name, kind=kind, missing=missing, distinct=0)
    least_value, most_value = usual_range(there, least)
    cuts = np.quantile(there, np.linspace(0, 1, BINS + 1)[1:-1])
    edges = np.unique(np.clip(cuts, least_value, most_value))
    counts = np.bincount(np.searchsorted(edges, there, side="left"), minlength=len(edges) + 1)
    low, high = np.quantile(there, [0.005, 0.995])
    low, high = max(low, least_value), min(high, most_value)
    if not high > low:
        low, high = least_value, most_value
    drawn, bounds = np.histogram(np.clip(there, low, high), bins=BINS, range=_span(low, high))
    return ColumnProfile(
        name=name,
        kind=kind,
        missing=missing,
        distinct=len(np.unique(there)),
        edges=edges.tolist(),
        counts=counts.tolist(),
        histogram_edges=bounds.tolist(),
        histogram_counts=drawn.tolist(),
        quantiles=np.clip(np.quantile(there, QUANTILES), least_value, most_value).tolist(),
        below=int((there < least_value).sum()),
        above=int((there > most_value).sum()),
        mean=float(there.mean()),
        std=float(there.std()),
    )


def _span(low: float, high: float) -> tuple[float, float]:
    """A range that can be cut into bins: values too near to each other for that share the middle one."""
    if (np.diff(np.linspace(low, high, BINS + 1)) > 0).all():
        return low, high
    reach = max(0.5, abs(low) * 1e-6)
    return low - reach, high + reach


def _counted(field: Field, there: NDArray[Any], missing: float, least: int) -> ColumnProfile:
    values, counts = np.unique(there, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    top = order[: min(MOST_CATEGORIES, int((counts >= least).sum()))]
    return ColumnProfile(
        name=field.name,
        kind=field.kind,
        missing=missing,
        distinct=len(values),
        categories={str(values[place]): int(counts[place]) for place in top},
        others=int(counts[order[len(top) :]].sum()),
    )
