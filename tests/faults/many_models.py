"""Many small models in one home: neural networks with random weights, every one with a file of its own."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from servable.artifact.manifest import Manifest, Variant
from servable.artifact.package import write_signature
from servable.artifact.signature import Field, Signature
from servable.registry.home import Home, open_home, publish

SIGNATURE = Signature(
    task="regression",
    inputs=tuple(Field(name=name, kind="number", dtype="float64", example=0.5) for name in "abcd"),
    outputs=(Field(name="y", kind="number", dtype="float64"),),
    example=dict.fromkeys("abcd", 0.5),
)
_OPTIONS = {
    "feeds": [{"input": "numbers", "source": "numbers", "dtype": "float64"}],
    "outputs": {"prediction": {"output": "prediction"}},
}


def name_of(number: int) -> str:
    """Of a model."""
    return f"m{number:04d}"


def _weights(number: int, width: int) -> list[np.ndarray]:
    chance = np.random.default_rng(number)
    shapes = ((4, width), (width, width), (width, 1))
    return [(chance.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32) for shape in shapes]


def expected(number: int, row: list[float], width: int = 512) -> float:
    """What a model must answer."""
    first, second, third = _weights(number, width)
    hidden = np.tanh(np.tanh(np.array([row], np.float32) @ first) @ second)
    return float((hidden @ third)[0, 0])


def write_network(path: Path, number: int, width: int = 512, rows: int | None = None) -> None:
    """Two hidden layers; ``width`` 512 makes a file of about 1 MB. ``rows`` fixes the batch dimension."""
    nodes = [
        helper.make_node("Cast", ["numbers"], ["x0"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x0", "w0"], ["a1"]),
        helper.make_node("Tanh", ["a1"], ["x1"]),
        helper.make_node("MatMul", ["x1", "w1"], ["a2"]),
        helper.make_node("Tanh", ["a2"], ["x2"]),
        helper.make_node("MatMul", ["x2", "w2"], ["a3"]),
        helper.make_node("Squeeze", ["a3", "axes"], ["y"]),
        helper.make_node("Cast", ["y"], ["prediction"], to=TensorProto.DOUBLE),
    ]
    kept = [numpy_helper.from_array(array, f"w{i}") for i, array in enumerate(_weights(number, width))]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("numbers", TensorProto.DOUBLE, [rows, 4])],
        [helper.make_tensor_value_info("prediction", TensorProto.DOUBLE, [rows])],
        [*kept, numpy_helper.from_array(np.array([1], np.int64), "axes")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


def publish_many(home: Path, count: int) -> None:
    """Publish and deploy so many models."""
    with open_home(home) as opened:
        for number in range(count):
            publish_one(opened, number)


def publish_one(
    opened: Home,
    number: int,
    *,
    width: int = 512,
    rows: int | None = None,
    policy: dict[str, Any] | None = None,
) -> None:
    """Publish and deploy one more."""
    with opened.packages.staging() as folder:
        write_signature(folder, SIGNATURE)
        write_network(folder / "model.onnx", number, width, rows)
        variant = Variant(name="trained", format="onnx", path="model.onnx", options=_OPTIONS)
        manifest = Manifest(
            model=name_of(number), created_at="2026-01-31T12:00:00Z", framework="onnx", variants=(variant,)
        )
        record = publish(opened, folder, manifest)
    opened.deployments.deploy(record.model, record.version, policy=policy)
