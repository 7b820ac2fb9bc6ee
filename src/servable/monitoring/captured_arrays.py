"""Whole arrays, which captured traffic holds as lists of numbers, made arrays again. Pure."""

from typing import Any

import numpy as np

from servable.artifact.signature import Signature
from servable.monitoring.reference import Key
from servable.monitoring.vectors import Vectors
from servable.tensors import PROBABILITIES

#: Numbers of one column that are held at once; of more rows every so many are taken.
MOST_NUMBERS_HELD = 2**25


def captured_arrays(signature: Signature, table: Any) -> dict[Key, Vectors]:
    """The whole arrays of numbers in captured rows, inputs and answers.

    Args:
        signature: of the version.
        table: ``pyarrow.Table`` of its rows, in order of time.

    Returns:
        Those rows of each column that have a value of the most frequent length. Columns that are hashed, or
        that no row has, are not among them.
    """
    names = {f"in.{field.name}": Key("input", field.name) for field in signature.inputs if field.is_tensor}
    names |= {
        name: Key("output", name.removeprefix("out."))
        for name in table.column_names
        if name.startswith("out.") and name != f"out.{PROBABILITIES}"
    }
    found = {names[name]: vectors_of(table[name]) for name in names if name in table.column_names}
    return {key: vectors for key, vectors in found.items() if vectors is not None}


def vectors_of(column: Any) -> Vectors | None:
    """A column of lists of numbers as arrays; None for any other."""
    import pyarrow as pa
    from pyarrow import compute

    if not _is_list(column.type) or not _is_number(column.type.value_type):
        return None
    # -1 stands for a row without a value.
    lengths = np.asarray(compute.fill_null(compute.list_value_length(column), -1), np.int64)
    there = lengths[lengths > 0]
    if not len(there):
        return None
    widths, counts = np.unique(there, return_counts=True)
    width = int(widths[np.argmax(counts)])
    places = np.flatnonzero(lengths == width)
    places = places[:: -(-len(places) * width // MOST_NUMBERS_HELD)]
    flat = column.take(pa.array(places)).combine_chunks().flatten()
    values = np.asarray(compute.fill_null(flat.cast(pa.float64()), float("nan"))).reshape(-1, width)
    return Vectors(places, values)


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind))
