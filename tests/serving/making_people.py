"""A real published model of rows about people: who it is, how to write to them, and an amount."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from servable.artifact.manifest import Manifest, Variant
from servable.artifact.package import write_signature
from servable.artifact.signature import Field, Signature
from servable.registry.home import open_home, publish

PEOPLE = Signature(
    task="classification",
    inputs=(
        Field(name="customer", kind="category", dtype="str", example="somebody"),
        Field(name="email", kind="category", dtype="str", example="somebody@example.com"),
        Field(name="amount", kind="number", dtype="float64", example=1.0),
    ),
    outputs=(Field(name="risk", kind="category", dtype="str", values=("low", "high")),),
)


def publish_people(home: Path, signature: Signature = PEOPLE, name: str = "risk", **wishes: object) -> None:
    """A classifier: amounts above 100 are high. Deployed with wishes about how it is served.

    Args:
        home: where to.
        signature: as ``PEOPLE``, perhaps with choices of what becomes of its columns.
        name: of the model.
        wishes: by the names of ``Policy``.
    """
    nodes = [
        helper.make_node("Greater", ["numbers", "limit"], ["above"]),
        helper.make_node("Cast", ["above"], ["codes"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["codes", "flat"], ["prediction"]),
    ]
    inputs = [
        helper.make_tensor_value_info("numbers", TensorProto.DOUBLE, [None, 1]),
        helper.make_tensor_value_info("strings", TensorProto.STRING, [None, 2]),
    ]
    outputs = [helper.make_tensor_value_info("prediction", TensorProto.INT64, [None])]
    held = [
        numpy_helper.from_array(np.array([[100.0]]), "limit"),
        numpy_helper.from_array(np.array([-1], np.int64), "flat"),
    ]
    graph = helper.make_graph(nodes, "made", inputs, outputs, held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=9)
    options = {
        "feeds": [
            {"input": "numbers", "source": "numbers", "dtype": "float64"},
            {"input": "strings", "source": "strings", "dtype": "str"},
        ],
        "outputs": {"prediction": {"output": "prediction"}},
    }
    with open_home(home) as opened:
        with opened.packages.staging() as folder:
            write_signature(folder, signature)
            onnx.save(model, folder / "model.onnx")
            variant = Variant(name="trained", format="onnx", path="model.onnx", options=options)
            manifest = Manifest(
                model=name, created_at="2026-01-31T12:00:00Z", framework="onnx", variants=(variant,)
            )
            record = publish(opened, folder, manifest)
        opened.deployments.deploy(record.model, record.version, wishes=wishes)
