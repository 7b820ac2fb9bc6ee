"""The compiled form of a recurrent network: ONNX behind the numbering of its tokens, without torch."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from servable.artifact.manifest import Variant
from servable.frameworks.base import Trained
from servable.frameworks.recurrent_weights import GATES, Recurrent
from servable.frameworks.text_program import NETWORK_FILE, Compiled, Network, Program, write_compiled
from servable.optimization.forms import FOLDER, TEXT_NETWORK, Form
from servable.optimization.graph import OPSET

NAME = TEXT_NETWORK


def forms(trained: Trained) -> tuple[Form, ...]:
    """The forms to try, see ``forms.Form``."""
    return (Form(NAME, partial(_make, trained)),)


def _make(trained: Trained, folder: Path) -> Variant:
    """Compile and write."""
    path = f"{FOLDER}/{NAME}"
    program = Program(
        signature=trained.signature, body=Network(numbering=trained.model.description.numbering)
    )
    compiled = Compiled(program=program, graphs={NETWORK_FILE: graph_of(trained.model)})
    write_compiled(compiled, folder / path)
    return Variant(name=NAME, format="text", path=path)


def graph_of(model: Recurrent) -> bytes:
    """The network as an ONNX model; inputs and output as ``text_program.Network`` says."""
    constants = _constants(model)
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        _nodes(model.description.hidden),
        "servable",
        [
            info("ids", TensorProto.INT64, ["rows", "steps"]),
            info("lengths", TensorProto.INT32, ["rows"]),
        ],
        [info("probabilities", TensorProto.FLOAT, ["rows", len(constants["out_bias"])])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(made)
    data: bytes = made.SerializeToString()
    return data


def _constants(model: Recurrent) -> dict[str, NDArray[Any]]:
    """The weights in the order of ONNX, and what the nodes compare and reshape with."""
    weights, hidden = model.weights, model.description.hidden
    both = ("l0", "l0_reverse")
    bias = [
        np.concatenate([_gates(weights[f"gru.bias_ih_{end}"]), _gates(weights[f"gru.bias_hh_{end}"])])
        for end in both
    ]
    return {
        "embedding": weights["embedding.weight"],
        "input_weights": np.stack([_gates(weights[f"gru.weight_ih_{end}"]) for end in both]),
        "state_weights": np.stack([_gates(weights[f"gru.weight_hh_{end}"]) for end in both]),
        "bias": np.stack(bias),
        "out_weights": np.ascontiguousarray(weights["out.weight"].T),
        "out_bias": weights["out.bias"],
        "least": np.asarray(np.finfo(np.float32).min, dtype=np.float32),
        "zero": np.asarray(0, dtype=np.int32),
        "one": np.asarray(1, dtype=np.int32),
        "first_axis": np.asarray([0], dtype=np.int64),
        "step_shape": np.asarray([-1, 1, 1, 1], dtype=np.int64),
        "row_shape": np.asarray([1, 1, -1, 1], dtype=np.int64),
        "flat": np.asarray([-1, 2 * hidden], dtype=np.int64),
    }


def _nodes(hidden: int) -> list[Any]:
    """From the numbers of tokens to probabilities."""
    node = helper.make_node
    return [
        node("Gather", ["embedding", "ids"], ["embedded"]),
        node("Transpose", ["embedded"], ["by_step"], perm=[1, 0, 2]),
        node(
            "GRU",
            ["by_step", "input_weights", "state_weights", "bias", "lengths"],
            ["states"],
            direction="bidirectional",
            hidden_size=hidden,
            linear_before_reset=1,
        ),
        # Which states lie beyond the end of their row: [steps, 1, rows, 1].
        node("Shape", ["by_step"], ["step_count"], start=0, end=1),
        node("Squeeze", ["step_count"], ["steps_long"]),
        node("Cast", ["steps_long"], ["steps"], to=TensorProto.INT32),
        node("Range", ["zero", "steps", "one"], ["places"]),
        node("Reshape", ["places", "step_shape"], ["places_down"]),
        node("Reshape", ["lengths", "row_shape"], ["lengths_across"]),
        node("GreaterOrEqual", ["places_down", "lengths_across"], ["beyond"]),
        node("Where", ["beyond", "least", "states"], ["states_or_least"]),
        node("ReduceMax", ["states_or_least", "first_axis"], ["largest"], keepdims=0),
        # The states beyond the end are zeros, so the sum needs no mask.
        node("ReduceSum", ["states", "first_axis"], ["sum"], keepdims=0),
        node("Cast", ["lengths_across"], ["lengths_real"], to=TensorProto.FLOAT),
        node("Squeeze", ["lengths_real", "first_axis"], ["lengths_shaped"]),
        node("Div", ["sum", "lengths_shaped"], ["mean"]),
        *_flat("mean"),
        *_flat("largest"),
        node("Concat", ["mean_flat", "largest_flat"], ["pooled"], axis=1),
        node("Gemm", ["pooled", "out_weights", "out_bias"], ["logits"]),
        node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]


def _flat(name: str) -> list[Any]:
    """Nodes that lay both directions ``[2, rows, hidden]`` side by side: ``[rows, 2 * hidden]``."""
    return [
        helper.make_node("Transpose", [name], [f"{name}_rows"], perm=[1, 0, 2]),
        helper.make_node("Reshape", [f"{name}_rows", "flat"], [f"{name}_flat"]),
    ]


def _gates(array: NDArray[Any]) -> NDArray[Any]:
    """Torch keeps reset, update and new gate in this order, ONNX update, reset and new."""
    reset, update, new = np.split(array, GATES, axis=0)
    return np.concatenate([update, reset, new], axis=0)
