"""What is captured of a request: which of its arrays, and copies of those that do not fit into columns."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from servable.artifact.signature import STRING_DTYPES, Capture, Signature
from servable.tensors import NUMBERS, PREDICTION, PROBABILITIES, STRINGS, Arrays

#: Largest tensor or output of one row that is captured, in bytes.
MOST_ROW_BYTES = 16 * 1024
#: What a text takes besides its letters, and a request on its own besides its arrays; bytes.
TEXT_BYTES = 64
_REQUEST_BYTES = 600


class Taken(NamedTuple):
    """A captured request that does not fit into columns.

    Attributes:
        arrays: copies of its inputs, as far as they are captured.
        rows: how many it has.
        request_id: as the caller knows it.
        answers: copies of its answers; None when it failed.
        code: ``ok`` or the error's code.
        seconds: from its arrival to its answer.
        at: when it was over, seconds since 1970.
        size: about how many bytes it holds.
        places: where its rows stand in the caller's request; None: they are all of it.
        about: whom a header says that it is about; empty where none does.
    """

    arrays: Arrays
    rows: int
    request_id: str
    answers: Arrays | None
    code: str
    seconds: float
    at: float
    size: int
    places: Sequence[int] | None = None
    about: str = ""


class CaptureScope(NamedTuple):
    """What is captured of the requests to one version. See ``scope_of``.

    Attributes:
        packed: the packed arrays.
        tensors: the input tensors with their types.
        dropped: outputs that are not captured.
        texts: outputs that are texts, by their signature.
    """

    packed: tuple[str, ...]
    tensors: tuple[tuple[str, np.dtype[Any]], ...]
    dropped: frozenset[str]
    texts: frozenset[str]

    def inputs(self, given: Arrays, rows: int) -> dict[str, NDArray[Any]]:
        """The inputs of a request that are captured."""
        found = {name: given[name] for name in self.packed if name in given}
        for name, dtype in self.tensors:
            array = given.get(name)
            # Files that were never opened are no tensors of the field's type.
            if array is not None and array.dtype == dtype and array.nbytes <= MOST_ROW_BYTES * rows:
                found[name] = array
        return found

    def outputs(self, answers: Arrays, rows: int) -> dict[str, NDArray[Any]]:
        """The outputs of a request that are captured."""
        most = MOST_ROW_BYTES * rows
        return {
            name: array
            for name, array in answers.items()
            if name not in self.dropped and array.nbytes <= most
        }

    def copied(self, taken: Taken) -> Taken:
        """A request with copies of what is captured of it, weighed."""
        arrays, size = _copies(self.inputs(taken.arrays, taken.rows))
        answers = None
        if taken.answers is not None:
            answers, more = _copies(self.outputs(taken.answers, taken.rows))
            size += more
        return taken._replace(arrays=arrays, answers=answers, size=size + _REQUEST_BYTES)


def scope_of(signature: Signature) -> CaptureScope:
    """What is captured of the requests to a version with this signature."""
    packed = tuple(name for name in (NUMBERS, STRINGS) if signature.packed(name))
    tensors = []
    for field in signature.inputs:
        if field.is_tensor and field.captured != "drop":
            dtype = np.dtype(object if field.dtype in STRING_DTYPES else field.dtype)
            # A free size is 1 here; each request is measured again.
            if math.prod(max(1, size) for size in field.shape) * dtype.itemsize <= MOST_ROW_BYTES:
                tensors.append((field.name, dtype))
    dropped = (name for name, how in output_rules(signature).items() if how == "drop")
    texts = {field.name for field in signature.outputs if field.dtype in STRING_DTYPES}
    if signature.answer.dtype in STRING_DTYPES:
        texts.add(PREDICTION)
    return CaptureScope(packed, tuple(tensors), frozenset(dropped), frozenset(texts))


def output_rules(signature: Signature) -> dict[str, Capture]:
    """How each output that the signature tells of is captured; others are kept."""
    how = signature.answer.captured
    rules: dict[str, Capture] = {PREDICTION: how, PROBABILITIES: "drop" if how == "hash" else how}
    named = signature.outputs if signature.task == "transform" else signature.outputs[1:]
    rules.update((field.name, field.captured) for field in named)
    return rules


def _copies(arrays: Arrays) -> tuple[dict[str, NDArray[Any]], int]:
    """Copies, and about how many bytes they hold, with their texts."""
    made, size = {}, 0
    for name, array in arrays.items():
        made[name] = array.copy()
        size += array.nbytes
        if array.dtype.hasobject:
            size += sum(
                TEXT_BYTES + (len(value) if isinstance(value, str) else 0) for value in array.ravel().tolist()
            )
    return made, size
