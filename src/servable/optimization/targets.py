"""Where a model is compiled to, what a compiled model answers, and how its last nodes are made."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from servable.optimization.columns import Matrix
from servable.optimization.graph import Graph


class Target(NamedTuple):
    """Where a model is compiled to.

    Attributes:
        graph: to add nodes to.
        single: compute in float32 instead of float64.
    """

    graph: Graph
    single: bool

    @property
    def element(self) -> int:
        """The ONNX element type of what is computed."""
        return int(TensorProto.FLOAT if self.single else TensorProto.DOUBLE)

    @property
    def dtype(self) -> Any:
        """The same for numpy."""
        return np.float32 if self.single else np.float64

    def constant(self, array: NDArray[Any]) -> str:
        """A constant in the type of the computation."""
        return self.graph.constant(np.asarray(array, dtype=self.dtype))


class Answer(NamedTuple):
    """Tensors of a compiled model.

    Attributes:
        prediction: int64 or double ``[rows]``.
        is_index: whether ``prediction`` is a class or cluster.
        probabilities: ``[rows, classes]`` in ``element``; None where the model has none.
        element: ONNX type of ``probabilities``.
    """

    prediction: str
    is_index: bool
    probabilities: str | None = None
    element: int = TensorProto.DOUBLE


def typed(target: Target, matrix: Matrix, *, rounded: bool = False) -> str:
    """The matrix in the type of the computation; ``rounded``: first to float32, as scikit-learn's trees."""
    tensor = matrix.plain(target.graph).tensor
    if target.single or rounded:
        tensor = target.graph.node("Cast", [tensor], to=TensorProto.FLOAT)
    if rounded and not target.single:
        tensor = target.graph.node("Cast", [tensor], to=TensorProto.DOUBLE)
    return tensor


def values(target: Target, tensor: str) -> Answer:
    """A regression's answer from ``[rows, 1]``."""
    shape = target.graph.constant(np.asarray([-1], dtype=np.int64))
    flat = target.graph.node("Reshape", [tensor, shape])
    if target.single:
        flat = target.graph.node("Cast", [flat], to=TensorProto.DOUBLE)
    return Answer(flat, is_index=False)


def largest(target: Target, scores: str, *, last: bool = False) -> str:
    """The place of the largest score of each row; of equals the first, or the last."""
    return target.graph.node("ArgMax", [scores], axis=1, keepdims=0, select_last_index=int(last))


def softmax(target: Target, logits: str, *, last: bool = False) -> Answer:
    """A classifier's answer from logits; for two classes those are 0 and the logit of the second."""
    probabilities = target.graph.node("Softmax", [logits], axis=1)
    return Answer(largest(target, logits, last=last), True, probabilities, target.element)
