"""A real package around a graph that sums its rows, and misbehaves where a number asks for it.

Its child starts in a third of a second, which a model of scikit-learn does not.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from servable.artifact.manifest import Manifest, Variant
from servable.artifact.package import digest_of, seal, write_signature
from servable.runtime.process import ChildSpec
from servable.testing import fake_signature

#: Fails; runs for ever; allocates 4 TiB.
RAISE, LOOP, ALLOCATE = -1.0, -2.0, -3.0
OPTIONS = {
    "feeds": [{"input": "numbers", "source": "numbers", "dtype": "float64"}],
    "outputs": {"prediction": {"output": "prediction"}},
}


def _constant(name: str, values: Any, dtype: Any) -> Any:
    return numpy_helper.from_array(np.array(values, dtype), name)


def _branch(name: str, nodes: list[Any]) -> Any:
    """A branch whose output is a number."""
    output = helper.make_tensor_value_info(f"{name}_out", TensorProto.DOUBLE, None)
    return helper.make_graph(nodes, name, [], [output])


def _nothing(name: str) -> Any:
    return _branch(name, [helper.make_node("Identity", ["zero"], [f"{name}_out"])])


def _endless() -> Any:
    infos = [
        helper.make_tensor_value_info(name, kind, [])
        for name, kind in (("turn", TensorProto.INT64), ("go", TensorProto.BOOL), ("x", TensorProto.DOUBLE))
    ]
    outs = [
        helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
        helper.make_tensor_value_info("x_on", TensorProto.DOUBLE, []),
    ]
    nodes = [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Sin", ["x"], ["x_on"])]
    body = helper.make_graph(nodes, "turns", infos, outs)
    return _branch("endless", [helper.make_node("Loop", ["", "yes", "zero"], ["endless_out"], body=body)])


def _filled(name: str, size: str) -> Any:
    nodes = [
        helper.make_node(
            "ConstantOfShape", [size], [f"{name}_many"], value=_constant("v", [1.0], np.float64)
        ),
        helper.make_node("ReduceSum", [f"{name}_many"], [f"{name}_sum"], keepdims=0),
        helper.make_node("Mul", [f"{name}_sum", "zero"], [f"{name}_out"]),
    ]
    return _branch(name, nodes)


def _asked(name: str, code: float, branch: Any) -> tuple[list[Any], Any]:
    """Nodes that run a branch where a number is the code, and the code itself."""
    nodes = [
        helper.make_node("Equal", ["numbers", f"{name}_code"], [f"{name}_where"]),
        helper.make_node("Cast", [f"{name}_where"], [f"{name}_flags"], to=TensorProto.INT64),
        helper.make_node("ReduceMax", [f"{name}_flags"], [f"{name}_flag"], keepdims=0),
        helper.make_node("Cast", [f"{name}_flag"], [f"{name}_asked"], to=TensorProto.BOOL),
        helper.make_node(
            "If",
            [f"{name}_asked"],
            [f"{name}_value"],
            then_branch=branch,
            else_branch=_nothing(f"{name}_not"),
        ),
    ]
    return nodes, _constant(f"{name}_code", code, np.float64)


def write_graph(path: Path) -> None:
    """The graph."""
    missing = _branch("missing", [helper.make_node("Gather", ["one", "two"], ["missing_out"])])
    parts = {
        "raise": _asked("raise", RAISE, missing),
        "loop": _asked("loop", LOOP, _endless()),
        "allocate": _asked("allocate", ALLOCATE, _filled("allocate_some", "tera")),
    }
    nodes = [node for made, _ in parts.values() for node in made]
    nodes.append(helper.make_node("ReduceSum", ["numbers", "axis"], ["sums"], keepdims=0))
    nodes.append(helper.make_node("Sum", ["sums", *(f"{name}_value" for name in parts)], ["prediction"]))
    constants = [
        *(code for _, code in parts.values()),
        _constant("zero", 0.0, np.float64),
        _constant("one", [0.0], np.float64),
        _constant("two", 2, np.int64),
        _constant("yes", True, np.bool_),
        _constant("axis", [1], np.int64),
        _constant("tera", [2**39], np.int64),
    ]
    graph = helper.make_graph(
        nodes,
        "sum",
        [helper.make_tensor_value_info("numbers", TensorProto.DOUBLE, [None, None])],
        [helper.make_tensor_value_info("prediction", TensorProto.DOUBLE, None)],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


def make_package(folder: Path) -> ChildSpec:
    """Seal a package with the graph, and say how to load it."""
    folder.mkdir(parents=True)
    write_signature(folder, fake_signature(2))
    write_graph(folder / "model.onnx")
    variant = Variant(name="trained", format="onnx", path="model.onnx", options=OPTIONS)
    manifest = Manifest(model="sum", created_at="2026-01-31T12:00:00Z", framework="onnx", variants=(variant,))
    seal(folder, manifest)
    return ChildSpec(folder, digest_of(folder), "trained")
