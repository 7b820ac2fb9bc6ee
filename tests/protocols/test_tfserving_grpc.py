"""TensorFlow Serving over gRPC: messages, tensors as clients send them, answers, hostile messages."""

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.content import FREE, TABLE, TENSOR
from servable.artifact.signature import Field, Signature
from servable.errors import InputError, RequestInvalid, RequestMalformed, RequestTooLarge
from servable.protocols.base import CodecLimits
from servable.protocols.tfserving_grpc import PredictGrpcCodec, model_of
from servable.protocols.tfserving_messages import messages
from servable.tensors import NUMBERS, PREDICTION, PROBABILITIES, STRINGS, Response
from servable.testing import check_codec

LIMITS = CodecLimits(max_rows=100, max_bytes=100_000)
#: A dtype of TensorFlow, that of numpy, the field of its values, values, and how they stand there.
KINDS: list[tuple[int, str, str, list[Any], list[Any]]] = [
    (1, "float32", "float_val", [1.5, -2.0], [1.5, -2.0]),
    (2, "float64", "double_val", [1.5, 1e300], [1.5, 1e300]),
    (3, "int32", "int_val", [1, -(2**31)], [1, -(2**31)]),
    (4, "uint8", "int_val", [0, 255], [0, 255]),
    (5, "int16", "int_val", [-32768, 7], [-32768, 7]),
    (6, "int8", "int_val", [-128, 7], [-128, 7]),
    (9, "int64", "int64_val", [2**53 + 1, -1], [2**53 + 1, -1]),
    (10, "bool", "bool_val", [True, False], [True, False]),
    (14, "float32", "half_val", [1.5, -2.0], [0x3FC0, 0xC000]),
    (17, "uint16", "int_val", [65535, 0], [65535, 0]),
    (19, "float16", "half_val", [1.5, -2.0], [0x3E00, 0xC000]),
    (22, "uint32", "uint32_val", [2**32 - 1, 0], [2**32 - 1, 0]),
    (23, "uint64", "uint64_val", [2**64 - 1, 0], [2**64 - 1, 0]),
]


def of(dtype: str, *shape: int) -> Signature:
    return Signature(
        task="transform",
        inputs=(Field(name="x", kind="tensor", dtype=dtype, shape=shape),),
        outputs=(Field(name="y", kind="tensor", dtype=dtype, shape=shape),),
    )


def asked(**more: Any) -> Any:
    made = messages()["tensorflow.serving.PredictRequest"](**more)
    made.model_spec.name = "m"
    return made


def put(request: Any, name: str, number: int, shape: tuple[int, ...], **values: Any) -> Any:
    tensor = request.inputs[name]
    tensor.dtype = number
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    for place, given_ in values.items():
        if place == "tensor_content":
            tensor.tensor_content = given_
        else:
            getattr(tensor, place).extend(given_)
    return request


def decoded(signature: Signature, request: Any) -> Any:
    return PredictGrpcCodec(signature, LIMITS).decode(request.SerializeToString(), "r")


def answered(codec: PredictGrpcCodec, response: Response) -> Any:
    return messages()["tensorflow.serving.PredictResponse"].FromString(codec.encode(response))


@pytest.mark.parametrize(("number", "dtype", "place", "values", "held"), KINDS)
def test_tensors_of_every_dtype(
    number: int, dtype: str, place: str, values: list[Any], held: list[Any]
) -> None:
    array = np.array([values], dtype)
    bits = array.view(np.uint32) >> 16 if number == 14 else array
    raw = bits.astype(np.uint16).tobytes() if number == 14 else array.tobytes()
    for sent in ({place: held}, {"tensor_content": raw}):
        found = decoded(of(dtype, 2), put(asked(), "x", number, (1, 2), **sent)).arrays["x"]
        assert (found.dtype, found.tolist()) == (array.dtype, array.tolist())
    # The last value stands for all that follow, and no value at all for zeros.
    found = decoded(of(dtype, 2), put(asked(), "x", number, (2, 2), **{place: held})).arrays["x"]
    assert found.tolist() == [values, [values[-1]] * 2]
    assert decoded(of(dtype, 2), put(asked(), "x", number, (1, 2))).arrays["x"].tolist() == [[0, 0]]


@pytest.mark.parametrize(("number", "dtype", "place", "values", "held"), [k for k in KINDS if k[0] != 14])
def test_answers_stand_in_the_fields_of_their_types(
    number: int, dtype: str, place: str, values: list[Any], held: list[Any]
) -> None:
    codec = PredictGrpcCodec(of(dtype, 2), LIMITS)
    answer = answered(codec, Response({"y": np.array([values], dtype)}, 1, "r", "m", 3))
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("m", 3)
    tensor = answer.outputs["y"]
    assert (tensor.dtype, [each.size for each in tensor.tensor_shape.dim]) == (number, [1, 2])
    assert list(getattr(tensor, place)) == held


def test_tables_and_texts() -> None:
    request = asked()
    put(request, "age", 2, (2,), double_val=[1.5, 2.5])
    put(request, "plan", 7, (2, 1), string_val=[b"pro", b"basic"])
    put(request, "member", 10, (2, 1), bool_val=[True])
    put(request, "visits", 9, (2,), int64_val=[3, 4])
    found = decoded(TABLE, request).arrays
    assert found[NUMBERS][:, 1].tolist() == [1.0, 1.0]
    assert found[STRINGS][:, 0].tolist() == ["pro", "basic"]
    del request.inputs["plan"]
    with pytest.raises(RequestInvalid, match="plan"):
        decoded(TABLE, request)


RESPONSE = Response(
    {PREDICTION: np.array([1, 0]), PROBABILITIES: np.array([[0.25, 0.75], [0.5, 0.5]])}, 2, "r", "m", 3
)


def test_the_signature_and_the_filter_choose_what_is_answered() -> None:
    codec = PredictGrpcCodec(TABLE, LIMITS)

    def outputs(signature: str = "", *names: str) -> dict[str, list[Any]]:
        request = asked(output_filter=names)
        request.model_spec.signature_name = signature
        put(request, "plan", 7, (2,), string_val=[b"pro"])
        put(request, "member", 10, (2,), bool_val=[True])
        put(request, "visits", 9, (2,), int64_val=[3])
        wish = codec.decode(request.SerializeToString(), "r").wish
        answer = answered(codec, msgspec.structs.replace(RESPONSE, wish=wish))
        chosen = signature if signature == "predict_proba" else "serving_default"
        assert answer.model_spec.signature_name == chosen
        return {
            name: list(tensor.string_val) or list(tensor.double_val)
            for name, tensor in answer.outputs.items()
        }

    labels, chances = {"prediction": [b"yes", b"no"]}, {"probabilities": [0.25, 0.75, 0.5, 0.5]}
    assert outputs() == outputs("serving_default") == outputs("", "prediction", "prediction") == labels
    assert outputs("predict_proba") == chances
    assert outputs("", "probabilities", "prediction") == labels | chances
    with pytest.raises(RequestInvalid, match="signature_name"):
        outputs("nothing")
    with pytest.raises(RequestInvalid, match=r"output_filter\[1\]"):
        outputs("", "prediction", "nothing")


def test_models_are_named_by_version_or_label() -> None:
    request = asked()
    assert model_of(request.SerializeToString()) == {"name": "m", "version": "", "label": ""}
    request.model_spec.version_label = "champion"
    assert model_of(request.SerializeToString())["label"] == "champion"
    for version, said in ((3, "3"), (0, "")):
        request.model_spec.version.value = version
        assert model_of(request.SerializeToString()) == {"name": "m", "version": said, "label": ""}


def test_conformance() -> None:
    good = {
        put(asked(), "x", 1, (2, 2, 3), float_val=[1.0]).SerializeToString(): 2,
        put(asked(), "y", 1, (1, 2, 3), tensor_content=bytes(24)).SerializeToString(): 1,
    }
    response = Response({"y": np.array([[1.5, 2.0], [0.0, -1.0]], np.float32)}, 2, "id", "m", 3)
    bad = [
        put(asked(), "x", 1, (1, 2, 2), float_val=[1.0]),
        put(asked(), "x", 7, (1,), string_val=[b"x"]),
        put(asked(), "x", 1, (0, 2, 3)),
        put(put(asked(), "x", 1, (1, 2, 3)), "z", 1, (1, 2, 3)),
        asked(),
    ]
    check_codec(
        PredictGrpcCodec(TENSOR, LIMITS),
        good=good,
        invalid=[each.SerializeToString() for each in bad],
        response=response,
    )


@pytest.mark.parametrize(
    ("number", "shape", "values", "error"),
    [
        (1, (2, 2**50), {"float_val": [1.0]}, RequestMalformed),
        (1, (100, 10_000), {"float_val": [1.0]}, RequestTooLarge),
        (7, (2**38,), {}, RequestTooLarge),
        (1, (101, 1), {}, RequestTooLarge),
        (1, (1, -1), {}, RequestMalformed),
        (1, (1, 1), {"float_val": [1.0, 2.0]}, RequestMalformed),
        (1, (1, 1), {"tensor_content": b"12345"}, RequestMalformed),
        (4, (1, 1), {"int_val": [256]}, RequestMalformed),
        (4, (1, 1), {"int_val": [-1]}, RequestMalformed),
        (19, (1, 1), {"half_val": [-1]}, RequestMalformed),
        (8, (1, 1), {}, RequestMalformed),
        (0, (), {}, RequestMalformed),
        (2, (), {"double_val": [1.0]}, RequestInvalid),
    ],
)
def test_tensors_that_are_none_or_too_large(
    number: int, shape: tuple[int, ...], values: dict[str, Any], error: type[InputError]
) -> None:
    with pytest.raises(error):
        decoded(FREE, put(asked(), "x", number, shape, **values))


@given(st.binary(max_size=200))
def test_noise_is_the_callers_fault(noise: bytes) -> None:
    codec = PredictGrpcCodec(FREE, LIMITS)
    for body in (noise, asked().SerializeToString() + noise):
        try:
            codec.decode(body, "r")
            model_of(body)
        except InputError:
            pass
