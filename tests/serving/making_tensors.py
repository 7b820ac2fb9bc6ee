"""Real published models of tensors: images to scores, texts to texts, and rows with texts in them."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from servable.artifact.manifest import Manifest, Variant
from servable.artifact.package import write_signature
from servable.artifact.signature import Field, Signature
from servable.registry.home import open_home, publish

IMAGE = Signature(
    task="transform",
    inputs=(Field(name="image", kind="tensor", dtype="float32", shape=(3, 224, 224)),),
    outputs=(Field(name="scores", kind="tensor", dtype="float32", shape=(5,)),),
)
SHOUT = Signature(
    task="transform",
    inputs=(Field(name="text", kind="tensor", dtype="str", shape=()),),
    outputs=(Field(name="shouted", kind="tensor", dtype="str", shape=()),),
)
PLANS = Signature(
    task="regression",
    inputs=(
        Field(name="age", kind="number", dtype="float64", missing=True, example=40.0),
        Field(name="plan", kind="category", dtype="str", values=("basic", "pro"), unknown="refuse"),
    ),
    outputs=(Field(name="cost", kind="number", dtype="float64"),),
)
_MIX = np.random.default_rng(3).normal(size=(3, 5)).astype(np.float32)
_OPSETS = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 2)]
_STRING, _FLOAT, _DOUBLE = TensorProto.STRING, TensorProto.FLOAT, TensorProto.DOUBLE


def scores_of(images: Any) -> Any:
    """What the image model gives: the mean of each colour, mixed."""
    return images.mean(axis=(2, 3)) @ _MIX


def cost_of(age: float | None, plan: str) -> float:
    """What the model of plans gives."""
    return (50.0 if age is None else age) * 2.0 + (10.0 if plan == "pro" else 1.0)


def publish_image(home: Path, name: str = "image") -> None:
    """Images of three colours to five scores."""
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["colours"], keepdims=0),
        helper.make_node("MatMul", ["colours", "mix"], ["scores"]),
    ]
    _publish(
        home,
        name,
        IMAGE,
        helper.make_graph(
            nodes,
            "image",
            [helper.make_tensor_value_info("image", _FLOAT, [None, 3, 224, 224])],
            [helper.make_tensor_value_info("scores", _FLOAT, [None, 5])],
            [numpy_helper.from_array(_MIX, "mix"), numpy_helper.from_array(np.array([2, 3]), "axes")],
        ),
        {
            "feeds": [{"input": "image", "source": "image", "dtype": "float32"}],
            "outputs": {"scores": {"output": "scores"}},
        },
    )


def publish_shout(home: Path, name: str = "shout") -> None:
    """Texts to the same with an exclamation mark."""
    node = helper.make_node("StringConcat", ["text", "mark"], ["shouted"])
    _publish(
        home,
        name,
        SHOUT,
        helper.make_graph(
            [node],
            "shout",
            [helper.make_tensor_value_info("text", _STRING, [None])],
            [helper.make_tensor_value_info("shouted", _STRING, [None])],
            [helper.make_tensor("mark", _STRING, [1], [b"!"])],
        ),
        {
            "feeds": [{"input": "text", "source": "text", "dtype": "str"}],
            "outputs": {"shouted": {"output": "shouted"}},
        },
    )


def publish_plans(home: Path, name: str = "plans") -> None:
    """A regression over a number that may be missing and a category."""
    nodes = [
        helper.make_node("IsNaN", ["numbers"], ["absent"]),
        helper.make_node("Where", ["absent", "typical", "numbers"], ["age"]),
        helper.make_node(
            "LabelEncoder", ["strings"], ["coded"], domain="ai.onnx.ml",
            keys_strings=["basic", "pro"], values_floats=[1.0, 10.0],
        ),
        helper.make_node("Cast", ["coded"], ["plan"], to=_DOUBLE),
        helper.make_node("Mul", ["age", "two"], ["doubled"]),
        helper.make_node("Add", ["doubled", "plan"], ["sum"]),
        helper.make_node("Reshape", ["sum", "flat"], ["prediction"]),
    ]  # fmt: skip
    _publish(
        home,
        name,
        PLANS,
        helper.make_graph(
            nodes,
            "plans",
            [
                helper.make_tensor_value_info("numbers", _DOUBLE, [None, 1]),
                helper.make_tensor_value_info("strings", _STRING, [None, 1]),
            ],
            [helper.make_tensor_value_info("prediction", _DOUBLE, [None])],
            [
                numpy_helper.from_array(np.array([[50.0]]), "typical"),
                numpy_helper.from_array(np.array([[2.0]]), "two"),
                numpy_helper.from_array(np.array([-1], np.int64), "flat"),
            ],
        ),
        {
            "feeds": [
                {"input": "numbers", "source": "numbers", "dtype": "float64"},
                {"input": "strings", "source": "strings", "dtype": "str"},
            ],
            "outputs": {"prediction": {"output": "prediction"}},
        },
    )


def _publish(home: Path, name: str, signature: Signature, graph: Any, options: dict[str, Any]) -> None:
    with open_home(home) as opened:
        with opened.packages.staging() as folder:
            write_signature(folder, signature)
            onnx.save(helper.make_model(graph, opset_imports=_OPSETS, ir_version=9), folder / "model.onnx")
            variant = Variant(name="trained", format="onnx", path="model.onnx", options=options)
            manifest = Manifest(
                model=name, created_at="2026-01-31T12:00:00Z", framework="onnx", variants=(variant,)
            )
            record = publish(opened, folder, manifest)
        opened.deployments.deploy(record.model, record.version)
