"""Captured requests as they wait in memory: columns that grow, and a list of what does not fit into columns.

The interpreter that captures also answers, so what counts is what a request costs there. An object that stays
for every request costs more than its making, because the garbage collector looks at it again and again. So
nearly all requests, which look alike, are appended to a few columns of plain bytes, and no object of theirs
stays but their ids: that is the quick way (``Columns``). Whatever does not look like its neighbours (it
failed, is a piece of a larger request, has a tensor of free size or another type than before) is copied
whole, as a ``Taken``.

A page is filled by one event loop and then handed over to a thread; it is never shared.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from servable.artifact.signature import STRING_DTYPES, Capture, Signature
from servable.tensors import NUMBERS, PREDICTION, PROBABILITIES, STRINGS, Arrays

#: Largest tensor or output of one row that is captured, in bytes.
MOST_ROW_BYTES = 16 * 1024
#: What a request takes besides its arrays, in columns and on its own, and a text besides its letters; bytes.
_ENTRY_BYTES = 200
_REQUEST_BYTES = 600
_TEXT_BYTES = 64
#: Kinds of numpy's types of which every value takes the same few bytes.
_NUMERIC = "biuf"


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


class Lane(NamedTuple):
    """One array of every request, one after the other.

    Attributes:
        name: of the array.
        answered: whether it is an output, else it is an input.
        dtype: of all its values.
        ndim: its axes, with that of the rows.
        length: bytes, or texts, of one row.
        values: what there is so far: bytes, or texts.
        shape: of one row.
    """

    name: str
    answered: bool
    dtype: np.dtype[Any]
    ndim: int
    length: int
    values: bytearray | list[str]
    shape: tuple[int, ...]

    @classmethod
    def like(cls, name: str, array: NDArray[Any], answered: bool) -> "Lane":
        """An empty one for arrays like this one."""
        dtype, shape = array.dtype, array.shape[1:]
        length = math.prod(shape)
        if dtype.hasobject:
            return cls(name, answered, dtype, array.ndim, length, [], shape)
        return cls(name, answered, dtype, array.ndim, length * dtype.itemsize, bytearray(), shape)

    def block(self) -> NDArray[Any]:
        """All of it as an array ``[rows, ...]``, which may be a view."""
        if isinstance(self.values, bytearray):
            return np.frombuffer(self.values, self.dtype).reshape(-1, *self.shape)
        made = np.empty(len(self.values), object)
        made[:] = self.values
        return made.reshape(-1, *self.shape)


class Columns:
    """Answered requests that look alike: the same arrays, of the same types and the same shape of a row.

    Args:
        inputs: those of a request that looks like all that are to come.
        outputs: likewise, what is captured of them.
        names: how many outputs such a request has.

    Attributes:
        rows: how many there are.
    """

    __slots__ = ("_lanes", "_names", "_numbers", "_requests", "_row_bytes", "_texts", "rows")

    def __init__(self, inputs: Arrays, outputs: Arrays, names: int) -> None:
        self.rows = 0
        #: Id, rows, seconds, moment and whom it is about of each request, in one list, because one is quicker
        #: than five.
        self._requests: list[Any] = []
        self._names = names
        self._lanes = (
            *(Lane.like(name, array, False) for name, array in inputs.items()),
            *(Lane.like(name, array, True) for name, array in outputs.items()),
        )
        self._numbers = tuple(
            (lane.name, lane.answered, lane.dtype, lane.ndim, lane.length, lane.values)
            for lane in self._lanes
            if isinstance(lane.values, bytearray)
        )
        self._texts = tuple(
            (lane.name, lane.answered, lane.ndim, lane.length, lane.values)
            for lane in self._lanes
            if isinstance(lane.values, list)
        )
        self._row_bytes = sum(length for *_, length, _ in self._numbers)
        self._row_bytes += _TEXT_BYTES * sum(length for *_, length, _ in self._texts)

    @property
    def ids(self) -> list[str]:
        """The id of each request."""
        return self._requests[0::5]

    @property
    def counts(self) -> list[int]:
        """The rows of each request."""
        return self._requests[1::5]

    @property
    def seconds(self) -> list[float]:
        """From the arrival of each to its answer."""
        return self._requests[2::5]

    @property
    def at(self) -> list[float]:
        """When each was over, seconds since 1970."""
        return self._requests[3::5]

    @property
    def about(self) -> list[str]:
        """Whom a header says that each is about; empty where none does."""
        return self._requests[4::5]

    def add(
        self,
        given: Arrays,
        answers: Arrays,
        request_id: str,
        rows: int,
        seconds: float,
        at: float,
        about: str = "",
    ) -> int:
        """Append a request; see ``Taken``.

        Returns:
            About how many bytes it takes; 0 when it does not look like the others, and then nothing of it
            is there.
        """
        size = 0
        # All in one place, because a call more for each array is what could be measured here.
        try:
            for name, answered, dtype, ndim, length, data in self._numbers:
                array = answers.get(name) if answered else given.get(name)
                if array is None or array.dtype != dtype or array.ndim != ndim:
                    break
                taken = array.tobytes()
                if len(taken) != rows * length:
                    break
                data += taken
            else:
                letters = self._add_texts(given, answers, rows) if self._texts else 0
                if letters >= 0 and len(answers) == self._names:
                    size = _ENTRY_BYTES + rows * self._row_bytes + letters
        finally:
            if not size:
                self._trim()
        if size:
            self._requests += (request_id, rows, seconds, at, about)
            self.rows += rows
        return size

    def _add_texts(self, given: Arrays, answers: Arrays, rows: int) -> int:
        """Append the texts of a request; the count of their letters, or -1 when it looks otherwise."""
        letters = 0
        for name, answered, ndim, length, texts in self._texts:
            array = answers.get(name) if answered else given.get(name)
            if array is None or not array.dtype.hasobject or array.ndim != ndim:
                return -1
            taken = array.ravel().tolist()
            # The model may answer with something else than texts.
            if len(taken) != rows * length or {*map(type, taken)} != {str}:
                return -1
            letters += sum(map(len, taken))
            texts += taken
        return letters

    def undo(self) -> None:
        """Remove the request that was added last."""
        self.rows -= self._requests[-4]
        del self._requests[-5:]
        self._trim()

    def inputs(self) -> dict[str, NDArray[Any]]:
        """The inputs of all of them, one after the other. Nothing may be added any more."""
        return {lane.name: lane.block() for lane in self._lanes if not lane.answered}

    def outputs(self) -> dict[str, NDArray[Any]]:
        """The outputs of all of them, likewise."""
        return {lane.name: lane.block() for lane in self._lanes if lane.answered}

    def _trim(self) -> None:
        """Remove what is there of a request that was not added."""
        for lane in self._lanes:
            del lane.values[self.rows * lane.length :]


class NoColumns(Columns):
    """Stands where requests have no form that columns could have; takes none."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__({}, {}, 0)

    def add(
        self,
        given: Arrays,
        answers: Arrays,
        request_id: str,
        rows: int,
        seconds: float,
        at: float,
        about: str = "",
    ) -> int:
        """Take nothing."""
        return 0


def columns_like(scope: CaptureScope, given: Arrays, answers: Arrays, rows: int) -> Columns:
    """Empty columns for requests like this one; ones that take none where its arrays have no fixed form.

    Args:
        scope: what is captured of it.
        given: its inputs.
        answers: its answers.
        rows: how many it has.
    """
    inputs, outputs = scope.inputs(given, rows), scope.outputs(answers, rows)
    whole = len(inputs) == len(scope.packed) + len(scope.tensors) and len(outputs) == len(
        answers.keys() - scope.dropped
    )
    texts = {*scope.packed, *(name for name, dtype in scope.tensors if dtype.hasobject), *scope.texts}
    lanes = (*inputs.items(), *outputs.items())
    if whole and all(_fixed(array, rows, name in texts) for name, array in lanes):
        return Columns(inputs, outputs, len(answers))
    return NoColumns()


class Page:
    """What was captured of one version in a while, at one share. See the module.

    Args:
        scope: what is captured of it.
        share: the share of requests that is captured.

    Attributes:
        share: as given.
        columns: requests that look alike; None before the first that was answered.
        others: all other requests.
        rows: of all of them.
        size: about how many bytes they hold.
    """

    __slots__ = ("_scope", "columns", "others", "rows", "share", "size")

    def __init__(self, scope: CaptureScope, share: float) -> None:
        self._scope = scope
        self.share = share
        self.columns: Columns | None = None
        self.others: list[Taken] = []
        self.rows = 0
        self.size = 0

    def learn(self, given: Arrays, answers: Arrays, rows: int) -> Columns:
        """Begin columns for requests like this one."""
        self.columns = columns_like(self._scope, given, answers, rows)
        return self.columns

    @property
    def first(self) -> float:
        """When its first request was over, seconds since 1970; it has at least one."""
        columns = self.columns
        firsts = [] if columns is None else columns.at[:1]
        return min(firsts + [taken.at for taken in self.others[:1]])


def _fixed(array: NDArray[Any], rows: int, text: bool) -> bool:
    """Whether arrays like this one can be appended to each other as bytes, or as texts."""
    kind = array.dtype.kind
    alike = array.nbytes > 0 and array.shape[:1] == (rows,)
    return alike and (kind in _NUMERIC or (text and kind == "O"))


def _copies(arrays: Arrays) -> tuple[dict[str, NDArray[Any]], int]:
    """Copies, and about how many bytes they hold, with their texts."""
    made, size = {}, 0
    for name, array in arrays.items():
        made[name] = array.copy()
        size += array.nbytes
        if array.dtype.hasobject:
            size += sum(
                _TEXT_BYTES + (len(value) if isinstance(value, str) else 0)
                for value in array.ravel().tolist()
            )
    return made, size
