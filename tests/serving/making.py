"""Real published models, small and quick: a linear classifier and a regression as ONNX graphs."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from servable.artifact.manifest import REPORT_FILE, Manifest, Variant
from servable.artifact.package import write_signature
from servable.artifact.signature import Field, Signature
from servable.registry.home import open_home, publish
from servable.registry.records import VersionRecord

COLUMNS = ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)")
CLASSES = ("setosa", "versicolor", "virginica")
EXAMPLE = dict(zip(COLUMNS, (5.1, 3.5, 1.4, 0.2), strict=True))
WEIGHTS = np.array([[0.5, 0.0, -0.5], [1.0, 0.0, -1.0], [-1.5, 0.5, 1.0], [-1.0, 0.0, 2.0]])
BIAS = np.array([1.0, 2.0, -3.0])

IRIS = Signature(
    task="classification",
    inputs=tuple(
        Field(name=name, kind="number", dtype="float64", minimum=0.1, maximum=7.9, example=EXAMPLE[name])
        for name in COLUMNS
    ),
    outputs=(Field(name="species", kind="category", dtype="str", values=CLASSES),),
    probabilities=True,
    example=EXAMPLE,
)
OPTIONS: dict[str, Any] = {
    "feeds": [{"input": "numbers", "source": "numbers", "dtype": "float64"}],
    "outputs": {"prediction": {"output": "prediction"}, "probabilities": {"output": "probabilities"}},
}


def write_graph(path: Path, bias: np.ndarray = BIAS) -> None:
    """Softmax regression over four numbers, in double."""
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["numbers", "weights"], ["product"]),
            helper.make_node("Add", ["product", "bias"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
            helper.make_node("ArgMax", ["scores"], ["prediction"], axis=1, keepdims=0),
        ],
        "linear",
        [helper.make_tensor_value_info("numbers", TensorProto.DOUBLE, [None, 4])],
        [
            helper.make_tensor_value_info("prediction", TensorProto.INT64, [None]),
            helper.make_tensor_value_info("probabilities", TensorProto.DOUBLE, [None, 3]),
        ],
        [numpy_helper.from_array(WEIGHTS, "weights"), numpy_helper.from_array(bias, "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)


def write_heavy(path: Path, width: int, layers: int) -> None:
    """Four numbers through square layers: each row costs about ``layers * width ** 2`` multiplications."""
    draw = np.random.default_rng(0)
    sizes = [4, *[width] * layers, 1]
    weights = [
        numpy_helper.from_array((draw.normal(size=(a, b)) / np.sqrt(a)).astype(np.float64), f"w{index}")
        for index, (a, b) in enumerate(itertools.pairwise(sizes))
    ]
    nodes, last = [], "numbers"
    for index in range(len(weights)):
        nodes.append(helper.make_node("MatMul", [last, f"w{index}"], [f"m{index}"]))
        nodes.append(helper.make_node("Tanh", [f"m{index}"], [f"t{index}"]))
        last = f"t{index}"
    nodes.append(helper.make_node("Flatten", [last], ["flat"], axis=0))
    nodes.append(helper.make_node("Reshape", ["flat", "shape"], ["prediction"]))
    graph = helper.make_graph(
        nodes,
        "heavy",
        [helper.make_tensor_value_info("numbers", TensorProto.DOUBLE, [None, 4])],
        [helper.make_tensor_value_info("prediction", TensorProto.DOUBLE, [None])],
        [*weights, numpy_helper.from_array(np.array([-1], np.int64), "shape")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)


def publish_heavy(home: Path, name: str = "heavy", *, width: int = 1024, layers: int = 6) -> VersionRecord:
    """Publish a regression that takes its time, and deploy it."""
    signature = Signature(
        task="regression",
        inputs=tuple(
            Field(name=f"x{index}", kind="number", dtype="float64", example=1.0) for index in range(4)
        ),
        outputs=(Field(name="y", kind="number", dtype="float64"),),
        example={f"x{index}": 1.0 for index in range(4)},
    )
    options = {**OPTIONS, "outputs": {"prediction": {"output": "prediction"}}}
    with open_home(home) as opened:
        with opened.packages.staging() as folder:
            write_signature(folder, signature)
            write_heavy(folder / "model.onnx", width, layers)
            variant = Variant(name="trained", format="onnx", path="model.onnx", options=options)
            manifest = Manifest(
                model=name, created_at="2026-01-31T12:00:00Z", framework="onnx", variants=(variant,)
            )
            record = publish(opened, folder, manifest)
        opened.deployments.deploy(record.model, record.version)
        return record


def expected(row: list[float], bias: np.ndarray = BIAS) -> tuple[str, np.ndarray]:
    """The label and the probabilities that the graph must give."""
    scores = np.array(row) @ WEIGHTS + bias
    chances = np.exp(scores - scores.max())
    return CLASSES[int(scores.argmax())], chances / chances.sum()


def publish_iris(
    home: Path,
    name: str = "iris",
    *,
    bias: np.ndarray = BIAS,
    report: bytes = b"",
    deploy: bool = True,
    signature: Signature = IRIS,
    default: bool | None = None,
) -> VersionRecord:
    """Publish the linear classifier as the next version of a name, and deploy it."""
    with open_home(home) as opened:
        with opened.packages.staging() as folder:
            write_signature(folder, signature)
            write_graph(folder / "model.onnx", bias)
            if report:
                (folder / REPORT_FILE).write_bytes(report)
            variant = Variant(name="trained", format="onnx", path="model.onnx", options=OPTIONS)
            manifest = Manifest(
                model=name,
                created_at="2026-01-31T12:00:00Z",
                framework="onnx",
                variants=(variant,),
                metrics={"accuracy": 0.96},
            )
            record = publish(opened, folder, manifest)
        if deploy:
            opened.deployments.deploy(record.model, record.version, default=default)
        return record
