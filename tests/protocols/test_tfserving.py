"""TensorFlow Serving's bodies: rows, columns, examples, base64, and numbers that JSON does not have."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servable.artifact.signature import Field, Signature
from servable.errors import InputError, RequestInvalid, RequestMalformed, RequestTooLarge
from servable.protocols.base import CodecLimits
from servable.protocols.native import NativeCodec
from servable.protocols.tfserving import ClassifyCodec, PredictCodec, RegressCodec
from servable.protocols.tfserving_metadata import metadata, version_status
from servable.tensors import PREDICTION, PROBABILITIES, Request, Response
from servable.testing import fake_signature
from thoroughness import examples

LIMITS = CodecLimits()
MIXED = Signature(
    task="classification",
    inputs=(
        Field(name="age", kind="number", dtype="float64", missing=True),
        Field(name="plan", kind="category", dtype="str", values=("basic", "pro"), unknown="refuse"),
        Field(name="member", kind="boolean", dtype="bool"),
        Field(name="since", kind="date", dtype="datetime", missing=True),
    ),
    outputs=(Field(name="label", kind="category", dtype="str", values=("no", "yes")),),
    probabilities=True,
)
TEXT = Signature(
    task="classification",
    inputs=(Field(name="text", kind="text", dtype="str"),),
    outputs=(Field(name="label", kind="category", dtype="bool", values=(False, True)),),
)
IMAGE = Signature(
    task="transform",
    inputs=(Field(name="image", kind="tensor", dtype="float32", shape=(2, -1)),),
    outputs=(Field(name="y", kind="tensor", dtype="float32", shape=(2,)),),
)
PAIR = Signature(
    task="transform",
    inputs=(
        Field(name="a", kind="tensor", dtype="float64", shape=(2,)),
        Field(name="b", kind="tensor", dtype="int32", shape=()),
    ),
    outputs=(
        Field(name="sum", kind="tensor", dtype="float64", shape=()),
        Field(name="word_bytes", kind="tensor", dtype="str", shape=()),
    ),
)
PLAIN = fake_signature(3)


def decode(signature: Signature, body: Any, codec: type = PredictCodec) -> Request:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request: Request = codec(signature, LIMITS).decode(data, "id")
    return request


def native(signature: Signature, rows: list[Any]) -> Request:
    return NativeCodec(signature).decode(json.dumps({"inputs": rows}).encode(), "id")


def same(one: Request, other: Request) -> None:
    assert one.rows == other.rows
    assert one.arrays.keys() == other.arrays.keys()
    for name, array in one.arrays.items():
        assert array.dtype == other.arrays[name].dtype
        np.testing.assert_array_equal(array, other.arrays[name])


def problems(signature: Signature, body: Any, codec: type = PredictCodec) -> dict[str, str]:
    with pytest.raises(RequestInvalid) as caught:
        decode(signature, body, codec)
    return {problem.path: problem.expected for problem in caught.value.problems}


def encode(signature: Signature, asked: Any, arrays: dict[str, Any], codec: type = PredictCodec) -> Any:
    request = decode(signature, asked, codec)
    rows = len(next(iter(arrays.values())))
    response = Response(arrays, rows, "id", "m", 1, request.single, request.wish)
    return json.loads(codec(signature, LIMITS).encode(response))


mixed_rows = st.lists(
    st.fixed_dictionaries(
        {
            "age": st.none() | st.floats(-1e6, 1e6) | st.integers(0, 99),
            "plan": st.sampled_from(["basic", "pro"]),
            "member": st.booleans(),
            "since": st.none() | st.dates().map(str),
        }
    ),
    min_size=1,
    max_size=5,
)


@given(mixed_rows, st.booleans())
@settings(max_examples=examples(40), deadline=None)
def test_every_way_to_write_a_table_is_what_the_native_format_reads(rows: list[Any], boxed: bool) -> None:
    expected = native(MIXED, rows)
    named = {field.name: [row[field.name] for row in rows] for field in MIXED.inputs}
    same(decode(MIXED, {"instances": rows, "parameters": {"a": [1]}}), expected)
    same(decode(MIXED, {"instances": [list(each) for each in zip(*named.values(), strict=True)]}), expected)
    if boxed:
        named = {name: [[value] for value in values] for name, values in named.items()}
    same(decode(MIXED, {"signature_name": "serving_default", "inputs": named}), expected)
    boxes = [{name: [value] for name, value in row.items()} for row in rows]
    same(decode(MIXED, {"instances": boxes}), expected)
    same(decode(MIXED, {"examples": boxes}, ClassifyCodec), expected)


@given(st.lists(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3), min_size=1, max_size=400))
@settings(max_examples=examples(20), deadline=None)
def test_numbers_are_one_tensor_or_columns(rows: list[list[float]]) -> None:
    expected = native(PLAIN, rows)
    same(decode(PLAIN, {"instances": rows}), expected)
    same(decode(PLAIN, {"inputs": rows}), expected)
    same(decode(PLAIN, {"inputs": {"input": rows}}), expected)
    same(decode(PLAIN, {"instances": [{"input": row} for row in rows]}), expected)
    named = dict(zip(("x0", "x1", "x2"), map(list, zip(*rows, strict=True)), strict=True))
    same(decode(PLAIN, {"inputs": named}), expected)
    same(decode(PLAIN, {"examples": rows}, RegressCodec), expected)


@given(st.integers(1, 5), st.integers(1, 300))
@settings(max_examples=examples(20), deadline=None)
def test_a_tensor_stands_bare_or_under_any_name(rows: int, size: int) -> None:
    array = np.arange(rows * 2 * size).reshape(rows, 2, size) / 7
    expected = native(IMAGE, array.tolist())
    same(decode(IMAGE, {"instances": array.tolist()}), expected)
    same(decode(IMAGE, {"inputs": array.tolist()}), expected)
    same(decode(IMAGE, {"inputs": {"pixels": array.tolist()}}), expected)
    same(decode(IMAGE, {"instances": [{"image": each} for each in array.tolist()]}), expected)


@pytest.mark.parametrize("rows", [1, 2, 3, 400])
def test_the_form_of_an_answer_does_not_depend_on_the_size_of_a_body(rows: int) -> None:
    table = np.random.default_rng(0).normal(size=(rows, 3)).tolist()
    images = np.random.default_rng(0).normal(size=(rows, 2, 4)).tolist()
    for signature, values, name in ((PLAIN, table, "input"), (IMAGE, images, "image")):
        expected = native(signature, values)
        for body, columns in (
            ({"instances": values}, False),
            ({"inputs": values}, True),
            ({"inputs": {name: values}}, True),
            ({"inputs": {"any": values}, "more": {}}, True),
        ):
            request = decode(signature, body)
            same(request, expected)
            assert (request.wish.columns, request.single) == (columns, False)
        assert problems(signature, {"inputs": {name: [*values, 1]}})
        assert problems(signature, {"inputs": {name: values, "more": values}})
    column = [row[0] for row in table]
    assert problems(PLAIN, {"inputs": {"x0": column}}).keys() == {"inputs.x1", "inputs.x2"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["b64", "age", "plan", "x0", "image", "text"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(
        st.sampled_from(["instances", "inputs", "examples", "context", "signature_name"]), json_values
    ),
    st.sampled_from([MIXED, TEXT, IMAGE, PAIR, PLAIN]),
    st.sampled_from([PredictCodec, ClassifyCodec, RegressCodec]),
)
@settings(max_examples=examples(300), deadline=None)
def test_whatever_comes_is_read_or_refused(body: Any, signature: Signature, codec: type) -> None:
    try:
        request = decode(signature, body, codec)
    except InputError:
        return
    assert all(len(array) == request.rows for array in request.arrays.values())


def test_texts_stand_bare_in_lists_and_in_base64() -> None:
    expected = native(TEXT, [["a"], ["bé"]])
    encoded = {"b64": "YsOp"}
    for body in (
        {"instances": ["a", "bé"]},
        {"instances": [{"text": "a"}, {"text": encoded}]},
        {"instances": ["a", encoded]},
        {"inputs": ["a", "bé"]},
        {"inputs": {"text": [["a"], [encoded]]}},
        {"inputs": {"input_1": ["a", encoded]}},
    ):
        same(decode(TEXT, body), expected)


@pytest.mark.parametrize("text", ["/w==", "not base64", "YQ"])
def test_base64_that_is_none_is_named(text: str) -> None:
    assert problems(TEXT, {"instances": ["a", {"b64": text}]}) == {
        "instances[1].b64": "a text in UTF-8, written in base64"
    }


def test_nan_is_missing_in_a_column_and_itself_in_a_tensor() -> None:
    request = decode(MIXED, b'{"instances": [[NaN, "pro", true, null]]}')
    assert math.isnan(request.arrays["numbers"][0, 0])
    request = decode(IMAGE, b'{"inputs": [[[1, NaN], [-Infinity, Infinity]]], "note": "NaN"}')
    np.testing.assert_array_equal(
        request.arrays["image"], np.array([[[1, np.nan], [-np.inf, np.inf]]], np.float32)
    )
    assert problems(MIXED, b'{"instances": [[-Infinity, "pro", true, NaN]]}') == {
        "instances[0][0]": "a number or null (age)"
    }
    assert problems(PAIR, b'{"instances": [{"a": [1, NaN], "b": 1}]}').keys() == {"instances[0].a[1]"}
    assert problems(PLAIN, b'{"instances": [[1, 1e999, 2]]}').keys() == {"instances[0][1]"}


def test_problems_in_columns_are_named_by_column_and_row() -> None:
    body = {"inputs": {"age": [1, "x"], "plan": ["gold", "pro"], "member": [True, None]}}
    assert problems(MIXED, body) == {
        "inputs.age[1]": "a number or null (age)",
        "inputs.plan[0]": 'one of "basic", "pro" (plan)',
        "inputs.member[1]": "true or false (member)",
    }
    assert problems(MIXED, {"inputs": {"plan": ["pro"], "membre": [True], "age": 3}}) == {
        "inputs.membre": 'no input of this name; did you mean "member"?',
        "inputs.age": "a list with one value for each row",
        "inputs.member": "true or false",
    }
    body = {"inputs": {"plan": ["pro"], "member": [True, False]}}
    assert problems(MIXED, body) == {"inputs.member": "a list as long as the first, 1"}
    assert problems(PAIR, {"inputs": {"a": [[1, 2]], "b": [0.5]}}).keys() == {"inputs.b[0]"}


def test_bodies_that_ask_for_nothing_are_named() -> None:
    assert "instances" in problems(PLAIN, {"instance": [[1, 2, 3]]})
    assert "did you mean" in problems(PLAIN, {"instance": [[1, 2, 3]]})["instances"]
    assert "instances" in problems(PLAIN, {"instances": [[1, 2, 3]], "inputs": [[1, 2, 3]]})
    assert problems(PLAIN, {"instances": {}}) == {"instances": "a list of rows"}
    assert problems(PLAIN, {"inputs": []}) == {"inputs": "a list of at least one row"}
    with pytest.raises(RequestMalformed, match="instances"):
        decode(PLAIN, [[1, 2, 3]])


def test_limits_hold() -> None:
    codec = PredictCodec(PLAIN, CodecLimits(max_rows=2, max_depth=8))
    for body in (
        {"instances": [[1, 2, 3]] * 3},
        {"instances": [{"x0": 1, "x1": 2, "x2": 3}] * 3},
        {"inputs": {name: [1, 2, 3] for name in ("x0", "x1", "x2")}},
        {"instances": [[1, 2, 3]] * 5000},
        {"instances": [[]] * 50_000},
    ):
        with pytest.raises(RequestTooLarge):
            codec.decode(json.dumps(body).encode(), "id")
    with pytest.raises(RequestMalformed, match="levels"):
        codec.decode(b'{"instances": ' + b"[" * 9 + b"]" * 9 + b"}", "id")
    with pytest.raises(RequestMalformed, match="levels"):
        codec.decode(b'{"instances": [[1, 2, 3]], "x": ' + b"[" * 10**6 + b"]" * 10**6 + b"}", "id")


def test_a_classifier_answers_with_labels_or_with_probabilities() -> None:
    row = [1, "pro", True, None]
    arrays = {PREDICTION: np.array([1]), PROBABILITIES: np.array([[0.25, 0.75]])}
    assert encode(MIXED, {"instances": [row]}, arrays) == {"predictions": ["yes"]}
    named = {"plan": ["pro"], "member": [True]}
    assert encode(MIXED, {"inputs": named}, arrays) == {"outputs": ["yes"]}
    chances = {"instances": [row], "signature_name": "predict_proba"}
    assert encode(MIXED, chances, arrays) == {"predictions": [[0.25, 0.75]]}
    chances = {"inputs": named, "signature_name": "predict_proba"}
    assert encode(MIXED, chances, arrays) == {"outputs": [[0.25, 0.75]]}
    found = encode(MIXED, {"examples": [row]}, arrays, ClassifyCodec)
    assert found == {"results": [[["no", 0.25], ["yes", 0.75]]]}


def test_a_classifier_without_probabilities_is_sure_of_its_label() -> None:
    arrays = {PREDICTION: np.array([1, 0])}
    found = encode(TEXT, {"examples": ["a", "b"]}, arrays, ClassifyCodec)
    assert found == {"results": [[["true", 1.0]], [["false", 1.0]]]}
    assert encode(TEXT, {"instances": ["a", "b"]}, arrays) == {"predictions": [True, False]}
    body = {"instances": ["a"], "signature_name": "predict_proba"}
    assert problems(TEXT, body) == {"signature_name": '"serving_default"'}


def test_several_outputs_have_names_and_bytes_are_base64() -> None:
    arrays = {"sum": np.array([1.5, np.nan]), "word_bytes": np.array(["hé", b"\xff"], object)}
    rows = [{"a": [1, 2], "b": 3}] * 2
    assert encode(PAIR, {"instances": rows}, arrays) == {
        "predictions": [
            {"sum": 1.5, "word_bytes": {"b64": "aMOp"}},
            {"sum": None, "word_bytes": {"b64": "/w=="}},
        ]
    }
    named = {"a": [[1, 2]] * 2, "b": [3, 3]}
    assert encode(PAIR, {"inputs": named}, arrays) == {
        "outputs": {"sum": [1.5, None], "word_bytes": [{"b64": "aMOp"}, {"b64": "/w=="}]}
    }


def test_only_one_number_a_row_is_a_regression() -> None:
    found = encode(PLAIN, {"examples": [[1, 2, 3]]}, {PREDICTION: np.array([2.5])}, RegressCodec)
    assert found == {"results": [2.5]}
    with pytest.raises(RequestMalformed, match="to classify"):
        decode(MIXED, {"examples": [[1, "pro", True, None]]}, RegressCodec)
    with pytest.raises(RequestMalformed, match="no classifier"):
        decode(PLAIN, {"examples": [[1, 2, 3]]}, ClassifyCodec)
    with pytest.raises(RequestMalformed):
        decode(IMAGE, {"examples": [[[1], [2]]]}, RegressCodec)


def test_a_context_stands_for_what_examples_leave_out() -> None:
    rows = [{"age": 1, "plan": "pro", "member": True}, {"age": None, "plan": "basic", "member": True}]
    body = {"context": {"plan": "pro", "member": [True]},
            "examples": [{"age": [1]}, {"age": None, "plan": {"b64": "YmFzaWM="}}]}  # fmt: skip
    same(decode(MIXED, body, ClassifyCodec), native(MIXED, rows))
    same(decode(MIXED, {"context": {}, "examples": rows}, ClassifyCodec), native(MIXED, rows))
    same(
        decode(PLAIN, {"context": {"x2": 3}, "examples": [{"x0": 1, "x1": 2}] * 2}, RegressCodec),
        native(PLAIN, [[1, 2, 3]] * 2),
    )
    for context in (5, [{"plan": "pro"}]):
        assert problems(MIXED, {"context": context, "examples": rows}, ClassifyCodec) == {
            "context": "an object by column name"
        }
    unknown = {"context": {"plam": "pro"}, "examples": [{"member": True}]}
    assert "examples[0].plam" in problems(MIXED, unknown, ClassifyCodec)


@pytest.mark.parametrize("name", [None, "", "serving_default", "predict"])
def test_a_signature_that_is_named_or_not(name: str | None) -> None:
    row = [1, "pro", True, None]
    for body in ({"instances": [row]}, {"inputs": {"age": [1], "plan": ["pro"], "member": [True]}}):
        request = decode(MIXED, {**body, "signature_name": name})
        assert (request.rows, request.wish.chances) == (1, False)
    for wrong in ("classify_all", 5, ["serving_default"]):
        assert "signature_name" in problems(MIXED, {"instances": [row], "signature_name": wrong})


def test_metadata_names_what_predict_takes_and_gives() -> None:
    found = metadata("churn", 3, MIXED)
    assert found["model_spec"] == {"name": "churn", "signature_name": "", "version": "3"}
    signatures = found["metadata"]["signature_def"]["signature_def"]
    assert signatures.keys() == {"serving_default", "predict_proba"}
    inputs = signatures["serving_default"]["inputs"]
    assert {name: each["dtype"] for name, each in inputs.items()} == {
        "age": "DT_DOUBLE",
        "plan": "DT_STRING",
        "member": "DT_BOOL",
        "since": "DT_STRING",
    }
    chances = signatures["predict_proba"]["outputs"]
    dims = [each["size"] for each in chances["probabilities"]["tensor_shape"]["dim"]]
    assert (chances.keys(), dims) == ({"probabilities"}, ["-1", "2"])
    signatures = metadata("net", 1, PAIR)["metadata"]["signature_def"]["signature_def"]
    assert signatures.keys() == {"serving_default"}
    assert signatures["serving_default"]["outputs"]["sum"]["dtype"] == "DT_DOUBLE"


def test_a_version_that_failed_says_why() -> None:
    assert version_status(2, "END", "It is broken.") == {
        "version": "2",
        "state": "END",
        "status": {"error_code": "UNKNOWN", "error_message": "It is broken."},
    }
