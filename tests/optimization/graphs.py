"""ONNX files of known form and cost."""

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save_model


def convolution(path: Path, *, batch: int | str = "rows", side: int = 8, channels: int = 4) -> Path:
    """Two convolutions over ``[batch, channels, side, side]`` and the mean of each channel."""
    random = np.random.default_rng(0)
    shape = (channels, channels, 3, 3)
    weights = [
        numpy_helper.from_array(random.standard_normal(shape).astype(np.float32) / channels, f"w{index}")
        for index in range(2)
    ]
    nodes = [
        helper.make_node("Conv", ["image", "w0"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w1"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["c"], ["d"]),
        helper.make_node("Flatten", ["d"], ["scores"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, channels, side, side])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, channels])
    graph = helper.make_graph(nodes, "convolution", [image], [scores], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    save_model(model, str(path))
    return path
