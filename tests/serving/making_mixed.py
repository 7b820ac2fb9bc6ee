"""Real published models of other kinds: columns with missing values, texts, and images."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from servable.artifact.manifest import Manifest, Variant
from servable.artifact.package import write_signature
from servable.artifact.signature import Field, Signature
from servable.registry.home import open_home, publish

CHURN = Signature(
    task="classification",
    inputs=(
        Field(name="age", kind="number", dtype="float64", missing=True, example=40.0),
        Field(name="plan", kind="category", dtype="str", values=("basic", "pro"), unknown="refuse"),
        Field(name="member", kind="boolean", dtype="bool"),
    ),
    outputs=(Field(name="churn", kind="category", dtype="str", values=("no", "yes")),),
    probabilities=True,
)
MOOD = Signature(
    task="classification",
    inputs=(Field(name="review", kind="text", dtype="str", example="good"),),
    outputs=(Field(name="mood", kind="category", dtype="str", values=("down", "up")),),
)
IMAGE = Signature(
    task="transform",
    inputs=(Field(name="image", kind="tensor", dtype="float32", shape=(3, 8, 8)),),
    outputs=(
        Field(name="embedding", kind="tensor", dtype="float32", shape=(5,)),
        Field(name="peak", kind="tensor", dtype="float32", shape=()),
    ),
)
WEIGHTS = np.random.default_rng(0).normal(size=(192, 5)).astype(np.float32)
_ANSWERS = {"prediction": {"output": "prediction"}, "probabilities": {"output": "probabilities"}}
_OPSETS = [helper.make_opsetid("", 13), helper.make_opsetid("ai.onnx.ml", 2)]


def embedded(images: Any) -> Any:
    """What the image model must give as ``embedding``."""
    return images.reshape(len(images), -1) @ WEIGHTS


def publish_churn(home: Path, name: str = "churn") -> None:
    """A classifier of a number that may be missing, a category and a boolean, with probabilities."""
    nodes = [
        helper.make_node("IsNaN", ["numbers"], ["absent"]),
        helper.make_node("Where", ["absent", "typical", "numbers"], ["filled"]),
        _codes(["basic", "pro"], [0.0, 1.0]),
        helper.make_node("Cast", ["coded"], ["plans"], to=TensorProto.DOUBLE),
        helper.make_node("Concat", ["filled", "plans"], ["all"], axis=1),
        helper.make_node("MatMul", ["all", "weights"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["scores"], ["prediction"], axis=1, keepdims=0),
    ]
    constants = {
        "typical": np.array([[50.0, 0.0]]),
        "weights": np.array([[0.02, 0.01], [0.5, -0.5], [-0.3, 0.6]]),
    }
    inputs = [
        helper.make_tensor_value_info("numbers", TensorProto.DOUBLE, [None, 2]),
        helper.make_tensor_value_info("strings", TensorProto.STRING, [None, 1]),
    ]
    outputs = [
        helper.make_tensor_value_info("prediction", TensorProto.INT64, [None]),
        helper.make_tensor_value_info("probabilities", TensorProto.DOUBLE, [None, 2]),
    ]
    feeds = [
        {"input": "numbers", "source": "numbers", "dtype": "float64"},
        {"input": "strings", "source": "strings", "dtype": "str"},
    ]
    graph = _graph(nodes, inputs, outputs, constants)
    _publish(home, name, CHURN, graph, {"feeds": feeds, "outputs": _ANSWERS})


def publish_mood(home: Path, name: str = "mood") -> None:
    """A classifier of one text, without probabilities: ``good`` is up, everything else down."""
    nodes = [
        _codes(["good"], [1.0]),
        helper.make_node("Cast", ["coded"], ["codes"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["codes", "flat"], ["prediction"]),
    ]
    inputs = [helper.make_tensor_value_info("strings", TensorProto.STRING, [None, 1])]
    outputs = [helper.make_tensor_value_info("prediction", TensorProto.INT64, [None])]
    feeds = [{"input": "strings", "source": "strings", "dtype": "str"}]
    graph = _graph(nodes, inputs, outputs, {"flat": np.array([-1], np.int64)})
    _publish(home, name, MOOD, graph, {"feeds": feeds, "outputs": {"prediction": {"output": "prediction"}}})


def publish_image(home: Path, name: str = "net") -> None:
    """A model of images with two outputs of its own."""
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["embedding"]),
        helper.make_node("ReduceMax", ["embedding"], ["peak"], keepdims=0, axes=[1]),
    ]
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, [None, 3, 8, 8])]
    outputs = [
        helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [None, 5]),
        helper.make_tensor_value_info("peak", TensorProto.FLOAT, [None]),
    ]
    feeds = [{"input": "image", "source": "image", "dtype": "asis"}]
    graph = _graph(nodes, inputs, outputs, {"weights": WEIGHTS})
    given = {"embedding": {"output": "embedding"}, "peak": {"output": "peak"}}
    _publish(home, name, IMAGE, graph, {"feeds": feeds, "outputs": given})


def _codes(words: list[str], codes: list[float]) -> Any:
    return helper.make_node(
        "LabelEncoder",
        ["strings"],
        ["coded"],
        domain="ai.onnx.ml",
        keys_strings=words,
        values_floats=codes,
        default_float=0.0,
    )


def _graph(nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: dict[str, Any]) -> Any:
    held = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "made", inputs, outputs, held)
    return helper.make_model(graph, opset_imports=_OPSETS, ir_version=9)


def _publish(home: Path, name: str, signature: Signature, model: Any, options: dict[str, Any]) -> None:
    with open_home(home) as opened:
        with opened.packages.staging() as folder:
            write_signature(folder, signature)
            onnx.save(model, folder / "model.onnx")
            variant = Variant(name="trained", format="onnx", path="model.onnx", options=options)
            manifest = Manifest(
                model=name, created_at="2026-01-31T12:00:00Z", framework="onnx", variants=(variant,)
            )
            record = publish(opened, folder, manifest)
        opened.deployments.deploy(record.model, record.version)
