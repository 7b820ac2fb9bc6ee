"""TensorFlow Serving over gRPC: records of features, what classifies and regresses, hostile messages."""

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.content import BYTES, FREE, TABLE, TENSOR
from servable.artifact.signature import Field, Signature
from servable.errors import InputError, RequestInvalid, RequestMalformed, RequestTooLarge
from servable.protocols.base import Codec, CodecLimits
from servable.protocols.tfserving_inference import (
    CLASSIFY,
    REGRESS,
    ClassifyGrpcCodec,
    MultiInferenceGrpcCodec,
    RegressGrpcCodec,
    task_model_of,
)
from servable.protocols.tfserving_messages import messages
from servable.tensors import NUMBERS, PREDICTION, PROBABILITIES, STRINGS, Response
from servable.testing import check_codec

LIMITS = CodecLimits(max_rows=100, max_bytes=10_000)
ROW: dict[str, Any] = {"age": [1.5], "plan": [b"pro"], "member": [1], "visits": [3]}
NUMBER_TABLE = Signature(
    task="regression",
    inputs=(Field(name="a", kind="number", dtype="float64"), Field(name="b", kind="number", dtype="float64")),
    outputs=(Field(name="y", kind="number", dtype="float64"),),
)
CHANCES = Response(
    {PREDICTION: np.array([1, 0]), PROBABILITIES: np.array([[0.25, 0.75], [0.5, 0.5]])}, 2, "r", "m", 3
)
VALUES = Response({PREDICTION: np.array([1.5, -2.0])}, 2, "r", "m", 3)


def tensors_of(dtype: str, *shape: int) -> Signature:
    return Signature(
        task="regression",
        inputs=(Field(name="x", kind="tensor", dtype=dtype, shape=shape),),
        outputs=(Field(name="y", kind="number", dtype="float64"),),
    )


def message(name: str) -> Any:
    return messages()[f"tensorflow.serving.{name}"]()


def put(example: Any, row: dict[str, Any]) -> None:
    """Write a row into an ``Example``: the type of the first value says which list it is."""
    for name, values in row.items():
        feature = example.features.feature[name]
        lists = {bytes: feature.bytes_list, float: feature.float_list, int: feature.int64_list}
        if values:
            lists[type(values[0])].value.extend(values)
        else:
            feature.float_list.SetInParent()


def asked(
    kind: str, *rows: dict[str, Any], context: dict[str, Any] | None = None, signature: str = ""
) -> Any:
    made = message(f"{kind}Request")
    if kind != "MultiInference":
        made.model_spec.name, made.model_spec.signature_name = "m", signature
    held = made.input.example_list
    if context is not None:
        held = made.input.example_list_with_context
        put(held.context, context)
    for row in rows:
        put(held.examples.add(), row)
    return made


def tasks(request: Any, *wanted: tuple[str, str]) -> Any:
    for called, signature in wanted:
        task = request.tasks.add(method_name=called)
        task.model_spec.name, task.model_spec.signature_name = "m", signature
    return request


def read(signature: Signature, *rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The arrays of rows, by whichever of the two the model answers."""
    classifies = bool(signature.classes)
    codec = (ClassifyGrpcCodec if classifies else RegressGrpcCodec)(signature, LIMITS)
    request = asked("Classification" if classifies else "Regression", *rows, **more)
    return codec.decode(request.SerializeToString(), "r").arrays


def told(kind: str, data: bytes) -> Any:
    return messages()[f"tensorflow.serving.{kind}Response"].FromString(data)


def test_columns_of_every_kind() -> None:
    second = {"since": [b"1970-01-01T00:01:00"], "plan": [b"basic"], "member": [0], "visits": [-7], "age": []}
    arrays = read(TABLE, ROW, second)
    np.testing.assert_array_equal(arrays[NUMBERS], [[1.5, 1.0, np.nan, 3.0], [np.nan, 0.0, 60.0, -7.0]])
    assert arrays[STRINGS].tolist() == [["pro", ""], ["basic", ""]]


def test_a_context_is_part_of_every_example() -> None:
    context, own = {"plan": [b"pro"], "age": [9.0]}, {"member": [1], "visits": [3]}
    arrays = read(TABLE, own, {**own, "age": [1.0]}, context=context)
    assert arrays[STRINGS][:, 0].tolist() == ["pro", "pro"]
    assert arrays[NUMBERS][:, 0].tolist() == [9.0, 1.0]


@pytest.mark.parametrize(
    ("dtype", "shape", "sent", "found"),
    [
        ("float32", (2, 2), [0.5, 1.0, 2.0, 4.0], [[0.5, 1.0], [2.0, 4.0]]),
        ("int64", (2,), [2**53 + 1, -1], [2**53 + 1, -1]),
        ("uint8", (2,), [0, 255], [0, 255]),
        ("bool", (2,), [1, 0], [True, False]),
        ("str", (2,), ["grün".encode(), b""], ["grün", ""]),
        ("float64", (-1, 2), [1, 2, 3, 4], [[1.0, 2.0], [3.0, 4.0]]),
    ],
)
def test_tensors_are_shaped(dtype: str, shape: tuple[int, ...], sent: list[Any], found: list[Any]) -> None:
    arrays = read(tensors_of(dtype, *shape), {"x": sent}, {"x": sent})
    assert arrays["x"].tolist() == [found, found]
    assert arrays["x"].dtype == (object if dtype == "str" else dtype)


def test_a_single_input_and_a_table_of_numbers_take_any_name() -> None:
    assert read(FREE, {"anything": [1.0, 2.0]})["x"].tolist() == [[1.0, 2.0]]
    by_name = read(NUMBER_TABLE, {"a": [1.0], "b": [2]}, {"a": [3.0], "b": [4]})
    whole = read(NUMBER_TABLE, {"rows": [1.0, 2.0]}, {"rows": [3.0, 4.0]})
    assert by_name[NUMBERS].tolist() == whole[NUMBERS].tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_rows_that_leave_everything_out_are_missing_where_that_is_allowed() -> None:
    inputs = (Field(name="note", kind="text", dtype="str", missing=True),
              Field(name="age", kind="number", dtype="float64", missing=True))  # fmt: skip
    signature = msgspec.structs.replace(NUMBER_TABLE, inputs=inputs)
    arrays = read(signature, {}, {})
    assert np.isnan(arrays[NUMBERS]).tolist() == [[True], [True]]
    assert arrays[STRINGS].tolist() == [[""], [""]]


BAD: dict[str, tuple[Signature, list[dict[str, Any]], str]] = {
    "no example": (TABLE, [], r"examples"),
    "an unknown name": (TABLE, [{**ROW, "plam": [b"pro"]}], r'examples\.plam.*did you mean "plan"'),
    "a column left out": (TABLE, [{**ROW, "visits": []}], r"examples\[0\]\.visits"),
    "everything left out": (TABLE, [{}], r"examples\[0\]\.plan"),
    "two values": (TABLE, [ROW, {**ROW, "visits": [1, 2]}], r"examples\[1\]\.visits"),
    "a text as a number": (TABLE, [{**ROW, "visits": [b"3"]}], "visits"),
    "a number as a text": (TABLE, [{**ROW, "plan": [3.0]}], "plan"),
    "a category unknown": (TABLE, [{**ROW, "plan": [b"gold"]}], "plan"),
    "no truth value": (TABLE, [{**ROW, "member": [2]}], "member"),
    "no UTF-8": (TABLE, [{**ROW, "plan": [b"\xff"]}], "plan"),
    "no date": (TABLE, [{**ROW, "since": [b"soon"]}], "since"),
    "texts and numbers": (TABLE, [ROW, {**ROW, "plan": [3]}], r"examples\[1\]\.plan"),
    "a tensor too short": (TENSOR, [{"x": [1.0] * 5}], r"examples\[0\]\.x.*a list of 6 values"),
    "tensors of two lengths": (FREE, [{"x": [1.0]}, {"x": [1.0, 2.0]}], r"examples\[1\]\.x"),
    "no whole pairs": (tensors_of("float32", -1, 2), [{"x": [1.0] * 3}], "x"),
    "two free axes": (tensors_of("float32", -1, -1), [{"x": [1.0] * 4}], "x"),
    "beyond the dtype": (tensors_of("uint8", 1), [{"x": [256]}], "x"),
    "no truth values": (tensors_of("bool", 1), [{"x": [2]}], "x"),
    "rows of two lengths": (NUMBER_TABLE, [{"z": [1.0, 2.0]}, {"z": [1.0]}], r"examples\[1\]\.z"),
    "texts in a table of numbers": (NUMBER_TABLE, [{"z": [b"1", b"2"]}], r"examples\[0\]\.z"),
    "one of two columns": (NUMBER_TABLE, [{"a": [1.0]}], r"examples\[0\]\.b"),
    "two whole tables": (NUMBER_TABLE, [{"y": [1.0, 2.0], "z": [1.0, 2.0]}], r"examples\.y"),
}


@pytest.mark.parametrize("fault", BAD)
def test_features_that_do_not_fit_are_named(fault: str) -> None:
    signature, rows, said = BAD[fault]
    signature = msgspec.structs.replace(
        signature, task="regression", outputs=FREE.outputs, probabilities=False
    )
    with pytest.raises(RequestInvalid, match=said):
        read(signature, *rows)


def test_more_than_is_allowed() -> None:
    with pytest.raises(RequestTooLarge, match="101 rows"):
        read(FREE, *[{"x": [1.0]}] * 101)
    # A context is sent once and unfolds to one for each example.
    with pytest.raises(RequestTooLarge, match="context"):
        read(FREE, *[{}] * 100, context={"x": [1.0] * 100})
    assert len(read(FREE, *[{}] * 10, context={"x": [1.0] * 100})["x"]) == 10


def test_classes_and_numbers_are_answered() -> None:
    codec = ClassifyGrpcCodec(TABLE, LIMITS)
    wish = codec.decode(asked("Classification", ROW).SerializeToString(), "r").wish
    answer = told("Classification", codec.encode(msgspec.structs.replace(CHANCES, wish=wish)))
    found = [[(each.label, each.score) for each in row.classes] for row in answer.result.classifications]
    assert found == [[("no", 0.25), ("yes", 0.75)], [("no", 0.5), ("yes", 0.5)]]
    spec = answer.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("m", 3, "serving_default")
    labels = msgspec.structs.replace(CHANCES, arrays={PREDICTION: np.array([1, 0])}, wish="classification")
    answer = told("Classification", codec.encode(labels))
    found = [[(each.label, each.score) for each in row.classes] for row in answer.result.classifications]
    assert found == [[("yes", 1.0)], [("no", 1.0)]]
    assert answer.model_spec.signature_name == "classification"
    numbers = RegressGrpcCodec(FREE, LIMITS).encode(msgspec.structs.replace(VALUES, wish="regression"))
    assert [each.value for each in told("Regression", numbers).result.regressions] == [1.5, -2.0]


def test_several_tasks_are_answered_in_their_order() -> None:
    codec = MultiInferenceGrpcCodec(TABLE, LIMITS)
    request = tasks(asked("MultiInference", ROW, ROW), (CLASSIFY, ""), (CLASSIFY, "classification"))
    read_ = codec.decode(request.SerializeToString(), "r")
    assert read_.rows == 2
    answer = told("MultiInference", codec.encode(msgspec.structs.replace(CHANCES, wish=read_.wish)))
    assert [each.model_spec.signature_name for each in answer.results] == [
        "serving_default",
        "classification",
    ]
    assert [len(each.classification_result.classifications) for each in answer.results] == [2, 2]
    request = tasks(asked("MultiInference", {"x": [1.0]}), (REGRESS, ""))
    codec = MultiInferenceGrpcCodec(FREE, LIMITS)
    wish = codec.decode(request.SerializeToString(), "r").wish
    answer = told("MultiInference", codec.encode(msgspec.structs.replace(VALUES, wish=wish)))
    assert [each.value for each in answer.results[0].regression_result.regressions] == [1.5, -2.0]


@pytest.mark.parametrize(
    ("signature", "wanted", "error"),
    [
        (TABLE, [], RequestInvalid),
        (TABLE, [("tensorflow/serving/predict", "")], RequestInvalid),
        (TABLE, [(CLASSIFY, ""), (CLASSIFY, "")], RequestInvalid),
        (TABLE, [(CLASSIFY, "regression")], RequestInvalid),
        (TABLE, [(CLASSIFY, ""), (REGRESS, "regression")], RequestMalformed),
        (FREE, [(CLASSIFY, "")], RequestMalformed),
    ],
)
def test_tasks_that_cannot_be(signature: Signature, wanted: list[Any], error: type[InputError]) -> None:
    request = tasks(asked("MultiInference", ROW), *wanted)
    with pytest.raises(error):
        MultiInferenceGrpcCodec(signature, LIMITS).decode(request.SerializeToString(), "r")


def test_tasks_are_about_one_model() -> None:
    request = tasks(asked("MultiInference", ROW), (CLASSIFY, ""), (CLASSIFY, "classify"))
    assert task_model_of(request.SerializeToString()) == {"name": "m", "version": "", "label": ""}
    for other in ("name", "version_label"):
        changed = type(request).FromString(request.SerializeToString())
        setattr(changed.tasks[1].model_spec, other, "other")
        with pytest.raises(RequestInvalid, match=r"tasks\[1\]\.model_spec"):
            MultiInferenceGrpcCodec(TABLE, LIMITS).decode(changed.SerializeToString(), "r")
    assert task_model_of(b"")["name"] == ""


def test_a_model_that_answers_otherwise_says_so() -> None:
    body = asked("Regression", ROW).SerializeToString()
    with pytest.raises(RequestMalformed, match="no single number"):
        RegressGrpcCodec(TABLE, LIMITS).decode(body, "r")
    with pytest.raises(RequestMalformed, match="no classifier"):
        ClassifyGrpcCodec(FREE, LIMITS).decode(body, "r")
    named = asked("Classification", ROW, signature="predict_proba").SerializeToString()
    with pytest.raises(RequestInvalid, match="signature_name"):
        ClassifyGrpcCodec(TABLE, LIMITS).decode(named, "r")


def test_conformance() -> None:
    bad = asked("Regression", {"x": [b"1"]}), asked("Regression"), asked("Regression", {"x": []})
    good = {asked("Regression", {"x": [1.0]}, {"x": [2.0]}).SerializeToString(): 2}
    invalid = [each.SerializeToString() for each in bad]
    check_codec(RegressGrpcCodec(FREE, LIMITS), good=good, invalid=invalid, response=VALUES)
    check_codec(
        ClassifyGrpcCodec(TABLE, LIMITS),
        good={asked("Classification", ROW, {**ROW, "visits": [4]}).SerializeToString(): 2},
        invalid=[asked("Classification", {**ROW, "visits": [b"x"]}).SerializeToString()],
        response=CHANCES,
    )
    check_codec(
        MultiInferenceGrpcCodec(FREE, LIMITS),
        good={tasks(asked("MultiInference", {"x": [1.0]}), (REGRESS, "")).SerializeToString(): 1},
        invalid=[tasks(asked("MultiInference"), (REGRESS, "")).SerializeToString()],
        response=VALUES,
    )


@given(st.binary(max_size=200), st.sampled_from([TABLE, TENSOR, FREE, BYTES]))
def test_noise_is_the_callers_fault(noise: bytes, signature: Signature) -> None:
    codecs: dict[str, Codec] = {
        "Classification": ClassifyGrpcCodec(TABLE, LIMITS),
        "Regression": RegressGrpcCodec(
            msgspec.structs.replace(signature, task="regression", outputs=FREE.outputs), LIMITS
        ),
        "MultiInference": MultiInferenceGrpcCodec(TABLE, LIMITS),
    }
    for kind, codec in codecs.items():
        for body in (noise, asked(kind, ROW).SerializeToString() + noise):
            try:
                task_model_of(body)
                codec.decode(body, "r")
            except InputError:
                pass
