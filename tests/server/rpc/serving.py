"""A home with a table, a tensor of any size and a slow model, for tests of real clients."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

import servable

#: What ``slow`` takes, and how many rows of it keep it busy for a third of a second or so.
WIDTH, ROWS = 600, 512


def make_home(folder: Path) -> Path:
    """Deploys ``iris``, ``twice`` (any float32 times two) and ``slow``."""
    home = folder / "home"
    data, target = load_iris(return_X_y=True)
    fitted = LogisticRegression(max_iter=1000).fit(data, target)
    servable.add(fitted, name="iris", home=home, deploy=True)
    two = numpy_helper.from_array(np.array(2, np.float32), "two")
    _add("twice", [helper.make_node("Mul", ["x", "two"], ["y"])], [two], ["rows", "n"], folder, home)
    weights = numpy_helper.from_array(np.full((WIDTH, WIDTH), 1 / WIDTH, np.float32), "weights")
    names = ["x", *(f"x{index}" for index in range(60)), "y"]
    chain = [
        helper.make_node("MatMul", [first, "weights"], [second])
        for first, second in itertools.pairwise(names)
    ]
    _add("slow", chain, [weights], ["rows", WIDTH], folder, home)
    return home


def _add(name: str, nodes: Any, constants: Any, shape: Any, folder: Path, home: Path) -> None:
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    file = folder / f"{name}.onnx"
    onnx.save(model, str(file))
    servable.add(file, name=name, home=home, deploy=True)
