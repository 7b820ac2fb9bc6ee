"""The one currency between parts: named arrays, and the Request and Response that carry them.

A table travels packed. All its numeric columns are one float64 array ``numbers`` of shape
``[rows, columns]`` and all its text columns one object array ``strings`` of the same form, each in
the order of the signature. So a row of thirty numbers is one array, which goes into a compiled model
as it is. Whole tensors travel under their own names, rows on the first axis.

Inside ``numbers`` a missing value is NaN, a boolean is 0 or 1, a date is seconds since 1970-01-01 UTC.
Inside ``strings`` a missing value is the empty string, which is also what an empty CSV field means.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

#: The bytes of a request; large ones come as a view of memory that nobody else holds.
Body = bytes | memoryview
#: Named arrays; the first axis of each is the rows.
Arrays = Mapping[str, NDArray[Any]]

#: Name of the packed numeric columns: float64 ``[rows, n]``.
NUMBERS = "numbers"
#: Name of the packed text columns: object (str) ``[rows, m]``.
STRINGS = "strings"
#: Name of a model's answer: int64 class index or cluster ``[rows]``, or float64 ``[rows]`` or ``[rows, k]``.
PREDICTION = "prediction"
#: Name of a classifier's probabilities: float ``[rows, classes]``, in the order of the signature's classes.
PROBABILITIES = "probabilities"
#: Stands for a missing text.
MISSING_STRING = ""


class Terms(NamedTuple):
    """What a request itself says about when it is answered; None where it says nothing.

    Attributes:
        limit_s: seconds within which the caller wants the answer; never extends what the server allows.
        weight: its share against other requests when there is a queue, above 0.
    """

    limit_s: float | None = None
    weight: float | None = None


class Request(msgspec.Struct, frozen=True, gc=False):
    """Rows to be answered, decoded and checked; immutable, safe to share between threads.

    Attributes:
        arrays: the packed inputs; see the module.
        rows: how many rows they hold, at least 1.
        id: the request's id, as the client sent it or as the server made it.
        single: whether the caller sent one row on its own and wants one answer on its own.
        wish: what the caller asks of the answer's form; only the codec that made it knows what it means.
        terms: what the caller asks of the answer's time, in formats that say so in the body.
    """

    arrays: dict[str, Any]
    rows: int
    id: str
    single: bool = False
    wish: Any = None
    terms: Terms | None = None


class Response(msgspec.Struct, frozen=True, gc=False):
    """The answers to a Request, row for row.

    Attributes:
        arrays: ``prediction`` and, for classifiers that have them, ``probabilities``; for models of
            unknown task the model's own outputs under their own names.
        rows: as in the request.
        id: the request's id.
        model: name of the model that answered.
        version: the one version that answered.
        single: as in the request.
        wish: as in the request.
    """

    arrays: dict[str, Any]
    rows: int
    id: str
    model: str
    version: int
    single: bool = False
    wish: Any = None


def row_count(arrays: Arrays) -> int:
    """The number of rows in packed arrays; 0 when there are none."""
    for array in arrays.values():
        return int(array.shape[0])
    return 0


def take(arrays: Arrays, rows: Any) -> dict[str, NDArray[Any]]:
    """The given rows (a slice or an index array) of every array; slices are views, nothing is copied."""
    return {name: array[rows] for name, array in arrays.items()}


def stack(parts: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Parts of equal form put together, row after row."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts], axis=0) for name in parts[0]}
