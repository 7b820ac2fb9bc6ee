"""Small real networks over pictures and sounds, as ONNX files with their descriptions."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LABELS = ("red", "green", "blue")
SIDE = 8
PICTURES = f"""
[[inputs]]
name = "image"
kind = "image"

[inputs.preparation]
width = {SIDE}
height = {SIDE}
fit = "cover"
"""
_SCORES = np.array([[4, -1, -1], [-1, 4, -1], [-1, -1, 4]], np.float32)


def logits_of(tensors: Any) -> Any:
    """What the network gives: the mean of each colour, mixed."""
    return tensors.mean(axis=(2, 3)) @ _SCORES


def shares_of(tensors: Any) -> Any:
    logits = logits_of(tensors).astype(np.float64)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def colours(folder: Path, *, softmax: bool = False) -> Path:
    """A network that tells which colour a picture has most of."""
    nodes = [
        helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["logits"]),
        *([helper.make_node("Softmax", ["logits"], ["shares"])] if softmax else []),
    ]
    axes = numpy_helper.from_array(np.array([2, 3]), "axes")
    constants = [numpy_helper.from_array(_SCORES, "weights"), axes]
    output = ("shares" if softmax else "logits", [None, 3])
    return network(folder / "net.onnx", nodes, ("pixels", [None, 3, SIDE, SIDE]), output, constants)


def network(
    path: Path, nodes: Any, taken: tuple[str, Any], given: tuple[str, Any], constants: Any = ()
) -> Path:
    """A network of these nodes in a file."""
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(taken[0], TensorProto.FLOAT, taken[1])],
        [helper.make_tensor_value_info(given[0], TensorProto.FLOAT, given[1])],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path
