"""ModelInfer's messages: wire-compatible with the real ones, read in any form, refused when wrong."""

import contextlib
from typing import Any

import numpy as np
import pytest
from google.protobuf.descriptor import Descriptor
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2, service_pb2

from servable.artifact.signature import Field, Signature
from servable.errors import InputError, RequestInvalid, RequestMalformed, RequestTooLarge
from servable.protocols.base import CodecLimits
from servable.protocols.oip_grpc import OipGrpcCodec, model_of
from servable.protocols.oip_grpc_wire import id_of, leading, streamed, streamed_error
from servable.protocols.oip_messages import messages
from servable.tensors import Response
from servable.testing import check_codec
from thoroughness import examples

FLOWERS = Signature(
    task="classification",
    inputs=tuple(Field(name=name, kind="number", dtype="float64") for name in "abcd"),
    outputs=(Field(name="kind", kind="category", dtype="str", values=("x", "y", "z")),),
    probabilities=True,
)
TEXTS = Signature(
    task="regression",
    inputs=(
        Field(name="size", kind="number", dtype="float64"),
        Field(name="town", kind="text", dtype="str"),
    ),
    outputs=(Field(name="price", kind="number", dtype="float64"),),
)
ROWS = np.array([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]])


def tensors(dtype: str, *shape: int) -> Signature:
    field = Field(name="x", kind="tensor", dtype=dtype, shape=shape)
    return Signature(task="transform", inputs=(field,), outputs=(field,))


def codec(signature: Signature = FLOWERS, rows: int = 100) -> OipGrpcCodec:
    return OipGrpcCodec(signature, CodecLimits(max_rows=rows))


def asked(array: Any = ROWS, datatype: str = "FP64", **fields: Any) -> Any:
    request = service_pb2.ModelInferRequest(model_name="m", **fields)
    request.inputs.add(name="input", datatype=datatype, shape=array.shape)
    request.raw_input_contents.append(array.tobytes())
    return request


def answer(body: bytes) -> Any:
    return service_pb2.ModelInferResponse.FromString(body)


def answered(wish: Any) -> Response:
    arrays = {"prediction": np.array([0, 2]), "probabilities": np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])}
    return Response(arrays, 2, "id", "m", 3, False, wish)


def _shape(message: Descriptor, theirs: Descriptor) -> None:
    for field in message.fields:
        if (message.full_name, field.name) == ("inference.ModelMetadataResponse", "properties"):
            # Of the protocol itself; Triton's description leaves it out.
            continue
        other = theirs.fields_by_name[field.name]
        mine, its = (
            (
                each.number,
                each.type,
                each.is_repeated,
                each.message_type and each.message_type.full_name,
                each.enum_type and each.enum_type.full_name,
                each.containing_oneof and each.containing_oneof.name,
            )
            for each in (field, other)
        )
        assert mine == its, field.full_name
    for nested in message.nested_types:
        if nested.name != "PropertiesEntry":
            _shape(nested, theirs.nested_types_by_name[nested.name])


def test_every_message_is_the_real_one() -> None:
    ours = messages().pool.FindFileByName("inference.proto")
    theirs = {
        **model_config_pb2.DESCRIPTOR.message_types_by_name,
        **service_pb2.DESCRIPTOR.message_types_by_name,
    }
    assert len(ours.message_types_by_name) > 40
    for name, message in ours.message_types_by_name.items():
        _shape(message, theirs[name])
    for name, enum in ours.enum_types_by_name.items():
        other = model_config_pb2.DESCRIPTOR.enum_types_by_name[name]
        assert {value.name: value.number for value in enum.values} == {
            value.name: value.number for value in other.values
        }


@pytest.mark.parametrize("own_id", ["r", ""])
def test_numbers_come_as_they_were_sent_and_again_with_a_known_head(own_id: str) -> None:
    codec_ = codec()
    for index in range(4):
        body = asked(ROWS + index, id=own_id * index).SerializeToString()
        request = codec_.decode(body, "id")
        assert request.rows == 2
        assert request.arrays["numbers"].tolist() == (ROWS + index).tolist()
        assert request.wish.id.decode() == own_id * index
    with pytest.raises(RequestInvalid):
        codec_.decode(asked(np.full((2, 4), np.inf), id=own_id).SerializeToString(), "id")
    with pytest.raises(RequestMalformed):
        codec_.decode(asked(ROWS, id=own_id).SerializeToString() + b"\x3a\0", "id")
    assert codec_.decode(asked(ROWS[:1]).SerializeToString(), "id").rows == 1


def test_large_messages_are_looked_at_where_they_lie() -> None:
    rows = np.random.default_rng(0).random((3, 3, 64, 64), np.float32)
    body = memoryview(asked(rows, "FP32").SerializeToString())
    request = codec(tensors("float32", 3, 64, 64)).decode(body, "id")
    assert (request.arrays["x"] == rows).all()
    assert request.arrays["x"].flags.aligned


def test_the_answer_is_raw_always() -> None:
    message = answer(codec().encode(answered(None)))
    assert (message.model_name, message.model_version, message.id) == ("m", "3", "")
    assert [(each.name, each.datatype, list(each.shape)) for each in message.outputs] == [
        ("prediction", "BYTES", [2]),
        ("probabilities", "FP64", [2, 3]),
    ]
    assert message.raw_output_contents[0] == b"\1\0\0\0x\1\0\0\0z"
    assert np.frombuffer(message.raw_output_contents[1]).tolist() == [0.7, 0.2, 0.1, 0.1, 0.1, 0.8]


def test_wanted_outputs_and_the_best_classes() -> None:
    codec_, request = codec(), asked(id="7")
    request.outputs.add(name="probabilities").parameters["classification"].int64_param = 2
    request.parameters["triton_enable_empty_final_response"].bool_param = True
    message = answer(codec_.encode(answered(codec_.decode(request.SerializeToString(), "id").wish)))
    assert message.id == "7"
    assert [each.name for each in message.outputs] == ["probabilities"]
    assert message.raw_output_contents[0].startswith(b"\7\0\0\x000.7:0:x")
    assert message.parameters["triton_final_response"].bool_param is True


def test_the_parameters_of_time() -> None:
    request = asked()
    request.parameters["priority"].uint64_param = 1
    request.parameters["timeout"].int64_param = 250_000
    terms = codec().decode(request.SerializeToString(), "id").terms
    assert terms is not None
    assert (terms.limit_s, terms.weight) == (0.25, 4.0)


def test_texts_and_columns() -> None:
    request = service_pb2.ModelInferRequest(model_name="m")
    request.inputs.add(name="size", datatype="FP32", shape=[2, 1])
    request.inputs.add(name="town", datatype="BYTES", shape=[2, 1])
    request.raw_input_contents.append(np.array([1, 2], np.float32).tobytes())
    request.raw_input_contents.append(b"\1\0\0\0a\2\0\0\0bc")
    found = codec(TEXTS).decode(request.SerializeToString(), "id")
    assert found.arrays["numbers"].tolist() == [[1.0], [2.0]]
    assert found.arrays["strings"].tolist() == [["a"], ["bc"]]


_TYPED = {
    "BOOL": ("bool_contents", [True, False], "bool"),
    "INT8": ("int_contents", [-1, 2], "int8"),
    "INT32": ("int_contents", [-1, 2], "int32"),
    "INT64": ("int64_contents", [-1, 2], "int64"),
    "UINT8": ("uint_contents", [1, 2], "uint8"),
    "UINT64": ("uint64_contents", [1, 2**63], "uint64"),
    "FP32": ("fp32_contents", [0.5, 2], "float32"),
    "FP64": ("fp64_contents", [0.5, 2], "float64"),
}


@pytest.mark.parametrize("datatype", _TYPED)
def test_typed_contents(datatype: str) -> None:
    place, values, dtype = _TYPED[datatype]
    request = service_pb2.ModelInferRequest(model_name="m")
    given_ = request.inputs.add(name="x", datatype=datatype, shape=[2])
    getattr(given_.contents, place).extend(values)
    found = codec(tensors(dtype)).decode(request.SerializeToString(), "id")
    assert found.arrays["x"].tolist() == values


def _changed(change: str) -> Any:
    request = asked()
    first = request.inputs[0]
    if change == "typed and raw":
        request.inputs.add(name="more", datatype="FP64", shape=[1])
    elif change == "size":
        request.raw_input_contents[0] = b"1234"
    elif change == "datatype":
        first.datatype = "FLOAT"
    elif change == "half typed":
        del request.raw_input_contents[:]
        first.datatype = "FP16"
    elif change == "too few":
        del request.raw_input_contents[:]
        first.contents.fp64_contents.append(1.0)
    elif change == "beyond":
        del request.raw_input_contents[:]
        first.datatype, first.shape[:] = "INT8", [1, 4]
        first.contents.int_contents.extend([1, 2, 3, 400])
    elif change == "same name":
        request.inputs.add().CopyFrom(first)
        request.raw_input_contents.append(request.raw_input_contents[0])
    elif change == "output":
        request.outputs.add(name="nothing")
    elif change == "shared memory":
        first.parameters["shared_memory_region"].string_param = "a"
    elif change == "sequence":
        request.parameters["sequence_id"].int64_param = 4
    else:
        first.shape[:] = [2**62, 4]
    return request


@pytest.mark.parametrize(
    "change",
    ["typed and raw", "size", "datatype", "half typed", "too few", "beyond", "same name", "output",
     "shared memory", "sequence", "shape"],
)  # fmt: skip
def test_what_does_not_fit_is_refused(change: str) -> None:
    with pytest.raises((RequestMalformed, RequestInvalid)):
        codec().decode(_changed(change).SerializeToString(), "id")


def test_too_many_rows() -> None:
    with pytest.raises(RequestTooLarge):
        codec(rows=1).decode(asked().SerializeToString(), "id")


def test_the_model_is_found_from_the_first_bytes_or_from_all() -> None:
    body = asked(model_version="3").SerializeToString()
    assert leading(body) == b"\n\1m\x12\0013"
    assert model_of(body) == ("m", "3")
    # Fields in another order, as the format allows.
    turned = body[len(leading(body)) :] + leading(body)
    assert leading(turned) == b""
    assert model_of(turned) == ("m", "3")
    assert codec().decode(turned, "id").rows == 2
    with pytest.raises(RequestMalformed, match="more than once"):
        model_of(body + b"\n\1n")
    assert model_of(b"") == ("", "")


def test_streams() -> None:
    message = service_pb2.ModelStreamInferResponse.FromString(streamed(codec().encode(answered(None))))
    assert message.infer_response.model_name == "m"
    assert not message.error_message
    message = service_pb2.ModelStreamInferResponse.FromString(streamed_error("no", b"7"))
    assert (message.error_message, message.infer_response.id) == ("no", "7")
    assert id_of(asked(id="7").SerializeToString()) == b"7"
    assert id_of(b"\xff") == b""


@settings(max_examples=examples(200))
@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    codec_ = codec()
    for use in (lambda: codec_.decode(body, "id"), lambda: model_of(body)):
        with contextlib.suppress(InputError):
            use()
    leading(body)


@settings(max_examples=examples(100))
@given(st.data())
def test_a_damaged_message_is_read_or_refused(data: st.DataObject) -> None:
    body = bytearray(asked(id="abc").SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(body)))
    for piece in (bytes(body), bytes(body[:cut])):
        with contextlib.suppress(InputError):
            codec().decode(piece, "id")


@settings(max_examples=examples(60))
@given(st.lists(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=4, max_size=4),
                min_size=1, max_size=5), st.text(max_size=20))  # fmt: skip
def test_what_is_asked_arrives(rows: list[list[float]], own_id: str) -> None:
    array = np.array(rows)
    request = codec().decode(asked(array, id=own_id).SerializeToString(), "id")
    assert request.arrays["numbers"].tolist() == array.tolist()
    assert request.wish.id.decode() == own_id


def test_the_codec_keeps_the_seam() -> None:
    good = {asked().SerializeToString(): 2, asked(ROWS[:1]).SerializeToString(): 1}
    invalid = [
        asked(ROWS[:, :3].copy()).SerializeToString(),
        asked(np.full((1, 4), np.inf)).SerializeToString(),
    ]
    check_codec(codec(), good=good, invalid=invalid, response=answered(None))
