"""TensorFlow's tensors over gRPC: what ``tf.make_tensor_proto`` writes is read, and it reads the answers."""

from typing import Any

import numpy as np
import pytest

tf: Any = pytest.importorskip("tensorflow", reason="needs the extra tensorflow; make test-all has it")

from servable.artifact.signature import Field, Signature
from servable.protocols.base import CodecLimits
from servable.protocols.tfserving_grpc import PredictGrpcCodec
from servable.protocols.tfserving_messages import messages
from servable.tensors import Response

pytestmark = pytest.mark.frameworks
Tensor: Any = type(tf.make_tensor_proto(0))
NUMBERS = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "bool")


def of(dtype: str) -> tuple[Signature, PredictGrpcCodec]:
    signature = Signature(
        task="transform",
        inputs=(Field(name="x", kind="tensor", dtype=dtype, shape=(3,)),),
        outputs=(Field(name="y", kind="tensor", dtype=dtype, shape=(3,)),),
    )
    return signature, PredictGrpcCodec(signature, CodecLimits())


def there_and_back(array: Any, dtype: str, **how: Any) -> Any:
    """An array as the client sends it, read, answered and read by the client."""
    _, codec = of(dtype)
    request = messages()["tensorflow.serving.PredictRequest"]()
    request.model_spec.name = "m"
    request.inputs["x"].MergeFromString(tf.make_tensor_proto(array, **how).SerializeToString())
    read = codec.decode(request.SerializeToString(), "r").arrays
    assert read["x"].tolist() == [[each.decode() if isinstance(each, bytes) else each for each in row]
                                  for row in np.broadcast_to(array, (2, 3)).tolist()]  # fmt: skip
    answer = messages()["tensorflow.serving.PredictResponse"].FromString(
        codec.encode(Response({"y": read["x"]}, 2, "r", "m", 1))
    )
    return tf.make_ndarray(Tensor.FromString(answer.outputs["y"].SerializeToString()))


@pytest.mark.parametrize("dtype", NUMBERS)
def test_numbers(dtype: str) -> None:
    array = np.array([[1, 0, 2], [3, 4, 5]]).astype(dtype)
    for sent in (array, np.ones((2, 3), dtype)):
        told = there_and_back(sent, dtype)
        assert (told.dtype, told.tolist()) == (sent.dtype, sent.tolist())
    # One value and a shape: the others are not sent.
    one = there_and_back(array[0, 0], dtype, shape=(2, 3))
    assert one.tolist() == [[array[0, 0]] * 3] * 2


def test_half_of_the_other_kind() -> None:
    array = np.array([[1.5, -2.0, 3.0], [0.5, 0.25, 0.0]])
    sent = tf.constant(array, tf.bfloat16).numpy()
    _, codec = of("float32")
    request = messages()["tensorflow.serving.PredictRequest"]()
    request.inputs["x"].MergeFromString(tf.make_tensor_proto(sent).SerializeToString())
    assert codec.decode(request.SerializeToString(), "r").arrays["x"].tolist() == array.tolist()


def test_texts() -> None:
    array = np.array([["a", "grüße", ""], ["b", "c", "d"]], object)
    told = there_and_back(array, "str")
    assert [[each.decode() for each in row] for row in told.tolist()] == array.tolist()


def test_dtypes_have_tensorflows_numbers() -> None:
    known = messages().pool.FindEnumTypeByName("tensorflow.DataType")
    theirs = Tensor.DESCRIPTOR.fields_by_name
    for value in known.values:
        if value.number:
            assert tf.dtypes.as_dtype(value.number).as_datatype_enum == value.number
    ours = messages().pool.FindMessageTypeByName("tensorflow.TensorProto").fields_by_name
    assert {name: field.number for name, field in ours.items()} == {
        name: theirs[name].number for name in ours
    }
