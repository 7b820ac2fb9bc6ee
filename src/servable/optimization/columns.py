"""Values on their way through a pipeline: named columns at first, then matrices of doubles."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from servable.artifact.signature import Field, Signature
from servable.optimization.graph import Graph, Unconvertible
from servable.tensors import NUMBERS, STRINGS


class Matrix(NamedTuple):
    """A double tensor ``[rows, width]`` and a step that was put off so that it may melt into the next.

    Attributes:
        tensor: its name.
        width: number of columns.
        shift: the value is ``(tensor - shift) / scale``; None when nothing is put off.
        scale: see ``shift``.
        codes: places of columns that hold only category codes, so whole numbers or NaN.
    """

    tensor: str
    width: int
    shift: NDArray[np.float64] | None = None
    scale: NDArray[np.float64] | None = None
    codes: frozenset[int] = frozenset()

    def plain(self, graph: Graph) -> "Matrix":
        """The same values with nothing put off."""
        if self.shift is None or self.scale is None:
            return self
        tensor = self.tensor
        if self.shift.any():
            tensor = graph.node("Sub", [tensor, graph.constant(self.shift)])
        tensor = graph.node("Div", [tensor, graph.constant(self.scale)])
        return Matrix(tensor, self.width)

    def select(self, graph: Graph, places: Sequence[int]) -> "Matrix":
        """Some of the columns, in the given order."""
        if list(places) == list(range(self.width)):
            return self
        whole = self.plain(graph)
        index = graph.constant(np.asarray(places, dtype=np.int64))
        codes = frozenset(new for new, old in enumerate(places) if old in self.codes)
        return Matrix(graph.node("Gather", [whole.tensor, index], axis=1), len(places), codes=codes)


class Source:
    """The packed inputs of a graph."""

    def __init__(self, graph: Graph, signature: Signature) -> None:
        self.graph = graph
        self._places = {
            field.name: place
            for array in (NUMBERS, STRINGS)
            for place, field in enumerate(signature.packed(array))
        }
        numbers, strings = signature.packed(NUMBERS), signature.packed(STRINGS)
        self._numbers = self._input(NUMBERS, TensorProto.DOUBLE, len(numbers))
        self._strings = self._input(STRINGS, TensorProto.STRING, len(strings))

    def _input(self, name: str, element: int, width: int) -> Matrix | None:
        return Matrix(self.graph.input(name, element, width), width) if width else None

    def numbers(self, fields: Sequence[Field]) -> Matrix:
        """Number columns as a matrix."""
        return self._take(self._numbers, fields)

    def strings(self, fields: Sequence[Field]) -> Matrix:
        """Text columns as a matrix of strings."""
        return self._take(self._strings, fields)

    def _take(self, whole: Matrix | None, fields: Sequence[Field]) -> Matrix:
        if whole is None:
            raise Unconvertible("a step asks for columns that the signature does not have")
        return whole.select(self.graph, [self._places[field.name] for field in fields])


class View(NamedTuple):
    """What a pipeline's first step sees: named columns, not gathered yet."""

    source: Source
    fields: tuple[Field, ...]
    style: str

    def matrix(self) -> Matrix:
        """All columns as numbers.

        Raises:
            Unconvertible: some are text.
        """
        if self.text():
            raise Unconvertible(f"a step takes the text column {self.text()[0].name!r} together with numbers")
        return self.source.numbers(self.fields)

    def text(self) -> tuple[Field, ...]:
        """The text columns."""
        return tuple(field for field in self.fields if field.array == STRINGS)


def places_of(columns: Any, known: Sequence[str], width: int) -> list[int]:
    """What a ColumnTransformer's column choice means: names, numbers, a slice or a mask, to places.

    Raises:
        Unconvertible: a form that is not known.
    """
    if isinstance(columns, slice):
        if isinstance(columns.start, str) or isinstance(columns.stop, str):
            raise Unconvertible("a ColumnTransformer chooses columns by a slice of names")
        return list(range(width))[columns]
    chosen = np.atleast_1d(np.asarray(columns, dtype=object)).tolist()
    if chosen and all(isinstance(entry, bool | np.bool_) for entry in chosen):
        return [place for place, wanted in enumerate(chosen) if wanted]
    if all(isinstance(entry, str) for entry in chosen):
        return [list(known).index(entry) for entry in chosen]
    return [int(entry) % width for entry in chosen]
