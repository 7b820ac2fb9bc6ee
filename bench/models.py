"""What is served: the same fitted objects and ONNX files for every server.

* ``iris``: StandardScaler and LogisticRegression, one row of 4 numbers, answers the class.
* ``forest``: a random forest of 200 trees on breast-cancer, one row of 30, answers the class.
* ``image``: a residual network with random weights, 1x3x224x224 of float32, answers 10 scores.
* ``slow``: a network of a known cost of about 35 milliseconds a row, batched or not, for overload.
"""

import pickle
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import servable

_OPSET = 18
_IR = 9


class Model(NamedTuple):
    """One model in every form.

    Attributes:
        name: its name, everywhere.
        example: one row: ``[1, ...]``, the dtype that the model takes.
        expected: the answer to it.
        onnx: the ONNX file; answers are its first output.
        trained: the pickled fitted object; None where there is none.
    """

    name: str
    example: "np.ndarray[Any, Any]"
    expected: list[float]
    onnx: Path
    trained: Path | None

    @property
    def image(self) -> bool:
        """Whether one row is too large for plain JSON to be sensible."""
        return self.example.size > 10_000


def make(folder: Path) -> dict[str, Model]:
    """All models, and a home in ``folder/home`` that serves them.

    Args:
        folder: made anew.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    home = folder / "home"
    iris, cancer = load_iris(), load_breast_cancer()
    linear = make_pipeline(StandardScaler(), LogisticRegression()).fit(iris.data, iris.target)
    forest = RandomForestClassifier(200, random_state=0).fit(cancer.data, cancer.target)
    models = {
        "iris": _fitted("iris", linear, iris.data[:1], folder, home),
        "forest": _fitted("forest", forest, cancer.data[:1], folder, home),
    }
    image = np.random.default_rng(0).random((1, 3, 224, 224), dtype=np.float32)
    models["image"] = _graph("image", residual_network(), image, folder, home)
    vector = np.random.default_rng(0).random((1, 16), dtype=np.float32)
    models["slow"] = _graph("slow", costly_network(), vector, folder, home)
    return models


def _fitted(name: str, model: Any, example: Any, folder: Path, home: Path) -> Model:
    """Pickled for the peers; its proven compiled form comes from its own package."""
    trained = folder / f"{name}.pkl"
    trained.write_bytes(pickle.dumps(model))
    added = servable.add(model, name=name, home=home, deploy=True)
    compiled = Path(added.package) / "variants" / f"{added.serving}.onnx"
    if not compiled.is_file():
        raise SystemExit(f"{name}: no compiled form was proven equal: {added.variants}")
    file = folder / f"{name}.onnx"
    shutil.copyfile(compiled, file)
    return Model(name, example, [float(model.predict(example)[0])], file, trained)


def _graph(name: str, model: onnx.ModelProto, example: Any, folder: Path, home: Path) -> Model:
    file = folder / f"{name}.onnx"
    onnx.save(model, str(file))
    servable.add(file, name=name, home=home, deploy=True)
    return Model(name, example, _bare(file, example), file, None)


def _bare(file: Path, example: Any) -> list[float]:
    answer = session(file).run(None, {"input": example})[0]
    return [float(value) for value in answer.ravel()]


def session(file: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """A bare session as anybody would make it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def residual_network() -> onnx.ModelProto:
    """Eight residual blocks; about 6 ms per image on one core."""
    build = _Builder()
    flow = build.convolution("input", 3, 28, 7, 2)
    flow = build.node("MaxPool", [flow], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 28
    for width, stride in ((28, 1), (28, 1), (56, 2), (56, 1), (112, 2), (112, 1), (224, 2), (224, 1)):
        kept = flow if stride == 1 else build.convolution(flow, channels, width, 1, stride, relu=False)
        inner = build.convolution(flow, channels, width, 3, stride)
        inner = build.convolution(inner, width, width, 3, 1, relu=False)
        flow = build.node("Relu", [build.node("Add", [inner, kept])])
        channels = width
    flow = build.node("Flatten", [build.node("GlobalAveragePool", [flow])])
    return build.finish(build.dense(flow, channels, 10), ["rows", 3, 224, 224], ["rows", 10])


def costly_network() -> onnx.ModelProto:
    """A small row blown up to a picture and convolved: about 35 ms a row on one core, batched or not."""
    build = _Builder()
    flow = build.node("Reshape", ["input", build.constant([-1, 1, 4, 4], np.int64)])
    flow = build.node("Resize", [flow, "", build.constant([1, 1, 10, 10], np.float32)], mode="nearest")
    flow = build.convolution(flow, 1, 64, 3, 1)
    for _ in range(48):
        flow = build.convolution(flow, 64, 64, 3, 1)
    flow = build.node("Flatten", [build.node("GlobalAveragePool", [flow])])
    return build.finish(build.dense(flow, 64, 4), ["rows", 16], ["rows", 4])


class _Builder:
    """Collects the nodes of a graph with random weights that keep the scale of what flows."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def node(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        out = f"t{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [out], **attributes))
        return out

    def constant(self, values: list[int], dtype: Any) -> str:
        name = f"w{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.array(values, dtype), name))
        return name

    def _weight(self, shape: tuple[int, ...], fan_in: int) -> str:
        name = f"w{len(self._weights)}"
        values = self._random.standard_normal(shape) * np.sqrt(2.0 / fan_in)
        self._weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def convolution(
        self, flow: str, given: int, made: int, size: int, stride: int, *, relu: bool = True
    ) -> str:
        weight = self._weight((made, given, size, size), given * size * size)
        flow = self.node(
            "Conv",
            [flow, weight],
            kernel_shape=[size, size],
            strides=[stride, stride],
            pads=[size // 2] * 4,
        )
        return self.node("Relu", [flow]) if relu else flow

    def dense(self, flow: str, given: int, made: int) -> str:
        return self.node("MatMul", [flow, self._weight((given, made), given)])

    def finish(self, flow: str, given: list[Any], made: list[Any]) -> onnx.ModelProto:
        self._nodes.append(helper.make_node("Identity", [flow], ["scores"]))
        graph = helper.make_graph(
            self._nodes,
            "bench",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, given)],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, made)],
            self._weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
        onnx.checker.check_model(model)
        return model
