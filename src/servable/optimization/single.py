"""A graph whose weights are in double precision, rewritten so that its products are in single precision.

Quantisation and half precision start from float32, and the exact forms of some models have float64. What
stands before the first weights stays in double: dates and large amounts are prepared there, and float32 would
lose their last digits before anything is computed with them.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from servable.optimization.graph import Unconvertible

#: Operators whose second and later inputs are weights, and whose work less precision makes less.
WEIGHTED = frozenset({"MatMul", "Gemm", "Conv", "ConvTranspose", "LSTM", "GRU", "RNN", "Attention"})


def weight_count(model: Any) -> int:
    """How many numbers the operators with weights multiply with."""
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in model.graph.initializer}
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                sizes[node.output[0]] = int(np.prod(attribute.t.dims))
        # A transposed or quantised weight is a weight.
        if node.op_type in ("Transpose", "Identity", "Cast") and node.input and node.input[0] in sizes:
            sizes[node.output[0]] = sizes[node.input[0]]
    used = {name for node in model.graph.node if node.op_type in WEIGHTED for name in node.input}
    return sum(size for name, size in sizes.items() if name in used and size > 1)


def single(model: Any) -> Any:
    """The model with everything from its first weighted operators on in float32; itself when it is already.

    Inputs and outputs keep their types.

    Args:
        model: an ``onnx.ModelProto`` with its tensors in it; is not changed.

    Raises:
        Unconvertible: a type in it is not known, or a part of it knows no single precision.
    """
    doubles = {tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.DOUBLE}
    if not any(node.op_type in WEIGHTED and doubles & set(node.input) for node in model.graph.node):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _Rewriter(copy).rewrite()
    return copy


class _Rewriter:
    """Follows the values of one graph from the first weighted operator to the outputs."""

    def __init__(self, model: Any) -> None:
        self._graph = model.graph
        self._types = _types(model)
        self._singles: set[str] = set()
        self._cast: dict[str, str] = {}
        self._tensors = {tensor.name: tensor for tensor in self._graph.initializer}

    def rewrite(self) -> None:
        """Change the graph in place."""
        nodes = list(self._graph.node)
        outputs = {value.name for value in self._graph.output}
        del self._graph.node[:]
        for node in nodes:
            if self._types.get(node.output[0]) is None:
                raise Unconvertible(f"the type of what its {node.op_type} gives is not known")
            weighted = node.op_type in WEIGHTED and self._is_double(node.output[0])
            if weighted or any(name in self._singles for name in node.input):
                self._graph.node.extend(self._in_single(node, outputs))
            else:
                self._graph.node.append(node)
        used = {name for node in self._graph.node for name in node.input} | outputs
        kept = [tensor for tensor in self._graph.initializer if tensor.name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)
        # What was known of types within the graph is no longer true.
        del self._graph.value_info[:]

    def _is_double(self, name: str) -> bool:
        return self._types.get(name) == int(TensorProto.DOUBLE)

    def _in_single(self, node: Any, outputs: set[str]) -> Iterator[Any]:
        """The node in single precision, behind casts of what is still in double."""
        if node.domain == "ai.onnx.ml" and node.op_type != "ArrayFeatureExtractor":
            raise Unconvertible(f"its {node.op_type} stands behind the weights and knows no single precision")
        for place, name in enumerate(node.input):
            if self._is_double(name) and name not in self._singles:
                if name not in self._cast:
                    yield from self._to_single(name)
                node.input[place] = self._cast[name]
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.DOUBLE:
                attribute.i = TensorProto.FLOAT
        made = [name for name in node.output if self._is_double(name)]
        back = []
        for place, name in enumerate(node.output):
            if name in made and name in outputs:
                # The output of the whole graph stays in double; others that read it read the single value.
                node.output[place] = f"{name}_single"
                back.append(helper.make_node("Cast", [node.output[place]], [name], to=TensorProto.DOUBLE))
            elif name in made:
                self._singles.add(name)
        yield node
        yield from back

    def _to_single(self, name: str) -> Iterator[Any]:
        self._cast[name] = f"{name}_single"
        tensor = self._tensors.get(name)
        if tensor is None:
            yield helper.make_node("Cast", [name], [self._cast[name]], to=TensorProto.FLOAT)
            return
        with np.errstate(over="ignore"):
            values = numpy_helper.to_array(tensor).astype(np.float32)
        self._graph.initializer.append(numpy_helper.from_array(values, self._cast[name]))


def _types(model: Any) -> dict[str, int]:
    """The element type of every value in a graph that shape inference knows."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = (*graph.input, *graph.output, *graph.value_info)
    found = {value.name: value.type.tensor_type.elem_type for value in values}
    found |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    return {name: kind for name, kind in found.items() if kind}
