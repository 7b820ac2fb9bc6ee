"""TensorFlow's own records of features are read as they were meant."""

from typing import Any

import pytest

tf: Any = pytest.importorskip("tensorflow", reason="needs the extra tensorflow; make test-all has it")

from servable.artifact.signature import Field, Signature
from servable.protocols.base import CodecLimits
from servable.protocols.tfserving_inference import ClassifyGrpcCodec
from servable.protocols.tfserving_messages import messages
from servable.tensors import NUMBERS, STRINGS

pytestmark = pytest.mark.frameworks
SIGNATURE = Signature(
    task="classification",
    inputs=(
        Field(name="age", kind="number", dtype="float64"),
        Field(name="visits", kind="number", dtype="int64"),
        Field(name="plan", kind="category", dtype="str", values=("basic", "pro"), unknown="refuse"),
        Field(name="x", kind="tensor", dtype="float32", shape=(2, 2)),
    ),
    outputs=(Field(name="label", kind="category", dtype="str", values=("no", "yes")),),
)


def feature(*values: Any) -> Any:
    lists = {bytes: ("bytes_list", tf.train.BytesList), float: ("float_list", tf.train.FloatList),
             int: ("int64_list", tf.train.Int64List)}  # fmt: skip
    name, kind = lists[type(values[0])]
    return tf.train.Feature(**{name: kind(value=values)})


def example(age: float, visits: int, plan: bytes) -> Any:
    held = {"age": feature(age), "visits": feature(visits), "plan": feature(plan),
            "x": feature(0.5, 1.0, 2.0, 4.0)}  # fmt: skip
    return tf.train.Example(features=tf.train.Features(feature=held))


def test_records_as_the_framework_writes_them() -> None:
    request = messages()["tensorflow.serving.ClassificationRequest"]()
    request.model_spec.name = "m"
    for given in (example(1.5, 3, b"pro"), example(2.5, -(2**40), b"basic")):
        request.input.example_list.examples.add().MergeFromString(given.SerializeToString())
    read = ClassifyGrpcCodec(SIGNATURE, CodecLimits()).decode(request.SerializeToString(), "r")
    assert read.arrays[NUMBERS].tolist() == [[1.5, 3.0], [2.5, -(2.0**40)]]
    assert read.arrays[STRINGS].tolist() == [["pro"], ["basic"]]
    assert read.arrays["x"].tolist() == [[[0.5, 1.0], [2.0, 4.0]]] * 2


@pytest.mark.parametrize("name", ["Example", "Features", "Feature", "BytesList", "FloatList", "Int64List"])
def test_fields_have_tensorflows_numbers(name: str) -> None:
    ours = messages().pool.FindMessageTypeByName(f"tensorflow.{name}").fields
    theirs = getattr(tf.train, name).DESCRIPTOR.fields
    assert {(each.name, each.number, each.type) for each in ours} == {
        (each.name, each.number, each.type) for each in theirs
    }
