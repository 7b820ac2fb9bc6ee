"""The reference profile: what the training columns looked like, for comparison with what is served later."""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

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
        quantiles: at ``QUANTILES``.
        mean: of the values.
        std: their standard deviation.
        categories: rows by value, most frequent first.
        others: rows of further values.
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
    mean: float | None = None
    std: float | None = None
    categories: dict[str, int] = {}
    others: int = 0


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """All columns, and the target as ``target`` (None for clustering)."""

    rows: int
    columns: list[ColumnProfile]
    target: ColumnProfile | None = None


def encode(reference: Profile) -> bytes:
    """The profile as JSON, the content of ``profile.json``."""
    return msgspec.json.format(msgspec.json.encode(reference), indent=1) + b"\n"


def decode(data: bytes) -> Profile:
    """The profile kept in a package.

    Raises:
        msgspec.MsgspecError: the bytes are no profile; the package reader converts it.
    """
    return msgspec.json.decode(data, type=Profile)


def profile(signature: Signature, arrays: Arrays, truth: NDArray[Any] | None = None) -> Profile:
    """The profile of packed rows.

    Args:
        signature: of the rows.
        arrays: at least one row.
        truth: class index or value, to profile the target too.
    """
    columns = []
    for array in (NUMBERS, STRINGS):
        for place, field in enumerate(signature.packed(array)):
            columns.append(_column(field, arrays[array][:, place]))
    order = {field.name: place for place, field in enumerate(signature.inputs)}
    columns.sort(key=lambda column: order[column.name])
    return Profile(rows=row_count(arrays), columns=columns, target=_target(signature, truth))


def _target(signature: Signature, truth: NDArray[Any] | None) -> ColumnProfile | None:
    if truth is None:
        return None
    if signature.task == "classification":
        counts = np.bincount(truth, minlength=len(signature.classes))
        named = {str(label): int(count) for label, count in zip(signature.classes, counts, strict=True)}
        return ColumnProfile(
            name=signature.answer.name, kind="category", missing=0.0, distinct=len(named), categories=named
        )
    return _column(signature.answer, truth)


def _column(field: Field, values: NDArray[Any]) -> ColumnProfile:
    rows = max(len(values), 1)
    if field.kind == "text":
        # Only how long they are: texts themselves belong into no record that people hand around.
        values = np.asarray([len(text) or np.nan for text in values], dtype=np.float64)
    elif field.array == STRINGS:
        there = values[values != MISSING_STRING].astype(str)
        return _counted(field, there, 1 - len(there) / rows)
    numbers = values.astype(np.float64)
    there = numbers[~np.isnan(numbers)]
    missing = 1 - len(there) / rows
    if field.kind in ("category", "boolean"):
        names = there.astype(np.int64).astype(str)
        if field.kind == "boolean":
            names = np.where(there != 0, "true", "false")
        return _counted(field, names, missing)
    if not len(there):
        return ColumnProfile(name=field.name, kind=field.kind, missing=missing, distinct=0)
    edges = np.unique(np.quantile(there, np.linspace(0, 1, BINS + 1)[1:-1]))
    counts = np.bincount(np.searchsorted(edges, there, side="left"), minlength=len(edges) + 1)
    low, high = np.quantile(there, [0.005, 0.995])
    if not high > low:
        low, high = float(there.min()), float(there.max())
    drawn, bounds = np.histogram(np.clip(there, low, high), bins=BINS)
    return ColumnProfile(
        name=field.name,
        kind=field.kind,
        missing=missing,
        distinct=len(np.unique(there)),
        edges=edges.tolist(),
        counts=counts.tolist(),
        histogram_edges=bounds.tolist(),
        histogram_counts=drawn.tolist(),
        quantiles=np.quantile(there, QUANTILES).tolist(),
        mean=float(there.mean()),
        std=float(there.std()),
    )


def _counted(field: Field, there: NDArray[Any], missing: float) -> ColumnProfile:
    values, counts = np.unique(there, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    top = order[:MOST_CATEGORIES]
    return ColumnProfile(
        name=field.name,
        kind=field.kind,
        missing=missing,
        distinct=len(values),
        categories={str(values[place]): int(counts[place]) for place in top},
        others=int(counts[order[MOST_CATEGORIES:]].sum()),
    )
