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
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from servable.monitoring.capture_scope import TEXT_BYTES, CaptureScope, Taken
from servable.tensors import Arrays

#: What a request takes in columns besides its arrays; bytes.
_ENTRY_BYTES = 200
#: Kinds of numpy's types of which every value takes the same few bytes.
_NUMERIC = "biuf"


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
        self._row_bytes += TEXT_BYTES * sum(length for *_, length, _ in self._texts)

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
                # Nearly always it is the very same type, and then nothing need be compared.
                if array is None or not (array.dtype is dtype or array.dtype == dtype) or array.ndim != ndim:
                    break
                taken = array.tobytes()
                if len(taken) != rows * length:
                    break
                data += taken
            else:
                letters = self._add_texts(given, answers, rows) if self._texts else 0
                if letters >= 0 and len(answers) == self._names:
                    size = _ENTRY_BYTES + rows * self._row_bytes + letters
                    self._requests += (request_id, rows, seconds, at, about)
                    self.rows += rows
        finally:
            if not size:
                self._trim()
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
