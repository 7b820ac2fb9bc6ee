"""A small builder of ONNX graphs: names, constants, nodes, and graphs of others taken in whole."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

#: The operator sets written. Trees as one node in double precision came with version 5 of the second.
OPSET = 21
TREE_OPSET = 5
#: The newest operator set of ai.onnx.ml in which the older tree nodes of skl2onnx are not withdrawn.
PLAIN_ML_OPSET = 4
ML = "ai.onnx.ml"
_IR_VERSION = 10


class Unconvertible(Exception):
    """Internal to ``optimize``: this part of a model has no compiled form; the text says which and why."""


class Graph:
    """A graph in the making. Used by one thread; holds tensors by name and never computes."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._initializers: list[Any] = []
        self._inputs: list[Any] = []
        self._count = 0
        self._trees = False

    def name(self, hint: str) -> str:
        """A name that nobody else has."""
        self._count += 1
        return f"{hint}_{self._count}"

    def input(self, name: str, element: int, width: int) -> str:
        """Declare an input ``[rows, width]``."""
        self._inputs.append(helper.make_tensor_value_info(name, element, ["rows", width]))
        return name

    def constant(self, array: NDArray[Any]) -> str:
        """A tensor that is part of the model; object arrays become strings."""
        name = self.name("c")
        self._initializers.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def node(self, operator: str, inputs: list[str], domain: str = "", **attributes: Any) -> str:
        """Add an operator with one output, and return that output's name."""
        output = self.name(operator.lower())
        self._trees |= operator == "TreeEnsemble"
        self._nodes.append(helper.make_node(operator, inputs, [output], domain=domain, **attributes))
        return output

    def absorb(self, model: Any, inputs: Mapping[str, str]) -> list[str]:
        """Take in a whole model.

        Args:
            model: an ``onnx.ModelProto`` without functions.
            inputs: its input names to tensors of this graph.

        Returns:
            The names here of its outputs, in order.

        Raises:
            Unconvertible: it uses something that cannot be taken in.
        """
        graph = model.graph
        if model.functions:
            raise Unconvertible("the converted step uses functions of its own")
        prefix = self.name("part")
        renamed = dict(inputs)

        def rename(name: str) -> str:
            return renamed.setdefault(name, f"{prefix}_{name}") if name else name

        for tensor in graph.initializer:
            copy = onnx.TensorProto()
            copy.CopyFrom(tensor)
            copy.name = rename(tensor.name)
            self._initializers.append(copy)
        for node in graph.node:
            if not all(_stands_alone(attribute) for attribute in node.attribute):
                raise Unconvertible("the converted step has branches that reach outside themselves")
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = f"{prefix}_{node.name}" if node.name else ""
            copy.input[:] = [rename(name) for name in node.input]
            copy.output[:] = [rename(name) for name in node.output]
            self._nodes.append(copy)
        return [rename(output.name) for output in graph.output]

    def _publish(self, tensor: str, public: str) -> None:
        """Give a tensor its public name in every node, which is cheaper than a node that copies it."""
        if not any(tensor in node.output for node in self._nodes):
            self._nodes.append(helper.make_node("Identity", [tensor], [public]))
            return
        for node in self._nodes:
            node.input[:] = [public if name == tensor else name for name in node.input]
            node.output[:] = [public if name == tensor else name for name in node.output]

    def model(self, outputs: Mapping[str, tuple[str, int, int | None]]) -> bytes:
        """The finished model.

        Args:
            outputs: public name to tensor, element type and width (None for ``[rows]``).

        Raises:
            onnx.checker.ValidationError: the graph is not valid, which is a fault of the converter.
        """
        infos = []
        for public, (tensor, element, width) in outputs.items():
            self._publish(tensor, public)
            shape = ["rows"] if width is None else ["rows", width]
            infos.append(helper.make_tensor_value_info(public, element, shape))
        graph = helper.make_graph(self._nodes, "servable", self._inputs, infos, self._initializers)
        ml = TREE_OPSET if self._trees else PLAIN_ML_OPSET
        domains = {node.domain for node in self._nodes}
        imports = [helper.make_opsetid("", OPSET), helper.make_opsetid(ML, ml)]
        imports += [helper.make_opsetid(domain, 1) for domain in sorted(domains - {"", ML, "ai.onnx"})]
        model = helper.make_model(
            graph, opset_imports=imports, ir_version=_IR_VERSION, producer_name="servable"
        )
        if not domains - {"", ML, "ai.onnx"}:
            onnx.checker.check_model(model)
        data: bytes = model.SerializeToString()
        return data


def _stands_alone(attribute: Any) -> bool:
    """Whether an attribute holds no graph, or one that uses nothing from around it."""
    if attribute.type != onnx.AttributeProto.GRAPH:
        return bool(attribute.type != onnx.AttributeProto.GRAPHS)
    inner = attribute.g
    known = {"", *(value.name for value in inner.input), *(value.name for value in inner.initializer)}
    known |= {name for node in inner.node for name in node.output}
    used = {name for node in inner.node for name in node.input}
    return used <= known and all(_stands_alone(a) for node in inner.node for a in node.attribute)
