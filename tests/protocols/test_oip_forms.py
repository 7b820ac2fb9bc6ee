"""What clients of the Open Inference Protocol write otherwise than its examples do."""

import json
from typing import Any

import msgspec
import numpy as np
import pytest

from protocols.test_oip import ANSWER, LIMITS, MIXED, ROW, TABLE, TEXT, body, codec, decode
from servable.artifact.signature import Field, Signature
from servable.errors import RequestInvalid, RequestMalformed
from servable.protocols.base import Encoded
from servable.protocols.oip_binary import LENGTH, MEDIA_TYPE
from servable.protocols.oip_generate import GenerateCodec
from servable.protocols.oip_messages import messages
from servable.tensors import NUMBERS, PREDICTION, STRINGS, Response

DATED = Signature(
    task="regression",
    inputs=(
        Field(name="since", kind="date", dtype="datetime", missing=True),
        Field(name="n", kind="number", dtype="float64", missing=True),
    ),
    outputs=(Field(name="y", kind="number", dtype="float64"),),
)
NUMBER = Signature(
    task="regression",
    inputs=(Field(name="n", kind="number", dtype="float64"),),
    outputs=(Field(name="y", kind="number", dtype="float64"),),
)
#: What a typed client writes out for everything that its caller left away.
NOTHING = {"content_type": None, "headers": None}


def answered(**more: Any) -> bytes | Encoded:
    request = decode(TABLE, ROW, **more)
    return codec(TABLE).encode(Response(ANSWER, 1, "id", "m", 1, False, request.wish))


def test_nulls_stand_for_what_was_left_out() -> None:
    tensor = {"name": "input", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}
    plain = codec(TABLE).decode(json.dumps({"inputs": [tensor]}).encode(), "id")
    for common, own, outputs in (
        (None, None, None),
        (NOTHING, NOTHING, []),
        ({}, {}, [{"name": name, "parameters": None} for name in ANSWER]),
    ):
        content = {"id": None, "parameters": common, "inputs": [{**tensor, "parameters": own}],
                   "outputs": outputs, "more": 1}  # fmt: skip
        request = codec(TABLE).decode(json.dumps(content).encode(), "id")
        assert request.arrays[NUMBERS].tolist() == [[1, 2]]
        assert (request.wish, request.terms) == (plain.wish, None)


def test_an_output_of_its_own_goes_before_what_is_said_of_all() -> None:
    apart = {"name": PREDICTION, "parameters": {"binary_data": False}}
    found = answered(
        parameters={"binary_data_output": True}, outputs=[{"name": "probabilities"}, apart], id="7"
    )
    assert isinstance(found, Encoded)
    length = int(dict(found.headers)[LENGTH])
    content, blobs = msgspec.json.decode(found.body[:length]), found.body[length:]
    assert found.media_type == MEDIA_TYPE
    assert content["outputs"] == [
        {
            "name": "probabilities",
            "datatype": "FP64",
            "shape": [1, 3],
            "parameters": {"binary_data_size": 24},
        },
        {"name": PREDICTION, "datatype": "BYTES", "shape": [1], "data": ["yes"]},
    ]
    assert np.frombuffer(blobs, "<f8").tolist() == [0.25, 0.25, 0.5]
    # And the other way round: all plain but one.
    apart = {"name": PREDICTION, "parameters": {"binary_data": True}}
    found = answered(parameters={"binary_data_output": False}, outputs=[apart, {"name": "probabilities"}])
    assert isinstance(found, Encoded)
    length = int(dict(found.headers)[LENGTH])
    first, second = msgspec.json.decode(found.body[:length])["outputs"]
    assert (first["parameters"], "data" in first) == ({"binary_data_size": 7}, False)
    assert second["data"] == [0.25, 0.25, 0.5]
    assert found.body[length:] == b"\3\0\0\0yes"
    # Where nothing is binary, the answer is JSON and has no header that says otherwise.
    plain = [{"name": name, "parameters": {"binary_data": False}} for name in ANSWER]
    assert isinstance(answered(parameters={"binary_data_output": True}, outputs=plain), bytes)


def test_the_bytes_lie_in_the_order_of_the_inputs() -> None:
    inputs = [
        ("count", [2], "INT64", 16, np.array([7, 8]).tobytes()),
        ("plan", [2, 1], "BYTES", 16, b"\3\0\0\0pro\5\0\0\0basic"),
        ("age", [2, 1], "FP32", 8, np.array([1.5, np.nan], np.float32).tobytes()),
        ("member", [2], "BOOL", 2, b"\1\0"),
    ]
    text = json.dumps({"inputs": [
        {"name": name, "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": size}}
        for name, shape, datatype, size, _ in inputs
    ]}).encode()  # fmt: skip
    data = text + b"".join(blob for *_, blob in inputs)
    found = codec(MIXED).decode(data, "id", {LENGTH: b"%d" % len(text)}).arrays
    np.testing.assert_array_equal(found[NUMBERS], [[1.5, 7, 1], [np.nan, 8, 0]])
    assert found[STRINGS].tolist() == [["pro"], ["basic"]]


@pytest.mark.parametrize(
    ("datatype", "blob"),
    [
        ("BYTES", b"\xff\xff\xff\x7fa\0\0\0\0"),
        ("BYTES", b"\1\0\0\0a\0\0"),
        ("BYTES", b"\1\0\0\0a\0\0\0\0x"),
        ("BYTES", b"\1\0\0\0a\0\0\0\0\0\0\0\0"),
        ("BYTES", b"\1\0\0\0a"),
        ("BOOL", b"\1\2"),
        ("FP64", b"\0" * 15),
        ("FP8", b"\0\0"),
    ],
)
def test_bytes_that_lie_about_themselves(datatype: str, blob: bytes) -> None:
    parameters = {"binary_data_size": len(blob)}
    tensor = {"name": "text", "shape": [2], "datatype": datatype, "parameters": parameters}
    text = json.dumps({"inputs": [tensor]}).encode()
    with pytest.raises(RequestMalformed):
        codec(TEXT).decode(text + blob, "id", {LENGTH: b"%d" % len(text)})


@pytest.mark.parametrize("common", [None, "pd", "np"])
def test_content_types_of_a_request_and_of_its_inputs(common: str | None) -> None:
    """As MLServer's codecs write a data frame with a column of times."""
    request = decode(
        DATED,
        ("since", [2, 1], "BYTES", ["2026-01-31T12:00:00", None], {"content_type": "datetime"}),
        ("n", [2, 1], "FP64", [1.5, None], {"content_type": "np"}),
        parameters={"content_type": common, "headers": None},
    )
    np.testing.assert_array_equal(request.arrays[NUMBERS], [[1769860800, 1.5], [np.nan, np.nan]])


@pytest.mark.parametrize("many", [False, True])
def test_headers_that_mlserver_keeps_in_parameters_are_let_be(many: bool) -> None:
    kept = {"headers": {"ce-id": "7", "x-tries": 2, "x-none": None}}
    values = [0.5, 1.5] * (450 if many else 1)
    tensor = {"name": "n", "shape": [len(values), 1], "datatype": "FP64", "data": values, "parameters": kept}
    body = json.dumps({"inputs": [tensor], "parameters": kept}).encode()
    request = codec(NUMBER).decode(body, "id", {})
    np.testing.assert_array_equal(request.arrays[NUMBERS].ravel(), values)


@pytest.mark.parametrize("turned", [False, True])
def test_what_stands_beside_all_columns_is_named_first(turned: bool) -> None:
    both = [ROW, ("nope", [1, 2], "FP64", [1, 2])]
    with pytest.raises(RequestInvalid, match=r"^nope: expected no input of this name"):
        decode(TABLE, *(both[::-1] if turned else both))


@pytest.mark.parametrize("name", ["priority", "timeout", "sequence_id", "binary_data_output", "content_type"])
def test_parameters_with_a_meaning_are_no_objects(name: str) -> None:
    with pytest.raises((RequestInvalid, RequestMalformed), match=r"parameters|sequence"):
        decode(NUMBER, ("n", [1, 1], "FP64", [1.0]), parameters={name: {"a": 1}})


@pytest.mark.parametrize("shape", [[2], [2, 1]])
@pytest.mark.parametrize("place", ["of the request", "of the input"])
def test_texts_as_mlserver_sends_them(shape: list[int], place: str) -> None:
    kind = {"content_type": "str"}
    own, more = ({}, {"parameters": kind}) if place == "of the request" else (kind, {})
    request = decode(TEXT, ("text", shape, "BYTES", ["grüße", ""], own), **more)
    assert (request.rows, request.arrays["text"].tolist()) == (2, ["grüße", ""])


@pytest.mark.parametrize("kind", ["hf_json", "", 5, True])
def test_content_types_that_nobody_reads_are_refused_by_name(kind: Any) -> None:
    with pytest.raises(RequestInvalid, match=r"inputs\[0\]\.parameters\.content_type") as caught:
        decode(TEXT, ("text", [1], "BYTES", ["a"], {"content_type": kind}))
    assert "base64, datetime, np, pd, str" in str(caught.value)


def test_a_text_to_generate_from_has_company() -> None:
    content = {"id": None, "text_input": "a", "parameters": None, "stream": True, "max_tokens": 5,
               "bad_words": ["x"]}  # fmt: skip
    request = GenerateCodec(TEXT, LIMITS).decode(json.dumps(content).encode(), "id")
    assert (request.arrays["text"].tolist(), request.wish.id, request.terms) == (["a"], None, None)


def test_properties_of_a_model_stand_where_the_protocol_puts_them() -> None:
    fields = messages()["inference.ModelMetadataResponse"].DESCRIPTOR.fields_by_name
    assert {name: field.number for name, field in fields.items()} == {
        "name": 1, "versions": 2, "platform": 3, "inputs": 4, "outputs": 5, "properties": 6,
    }  # fmt: skip


def test_parameters_are_plain_values() -> None:
    for value in ("x", 1, 1.5, True, None, {"a": "b"}):
        text = body(ROW, parameters={"own": value})
        assert codec(TABLE).decode(text, "id").arrays[NUMBERS].tolist() == [[1, 2]]
    for value in ({"a": {"b": 1}}, [1]):
        with pytest.raises(RequestInvalid, match="parameters"):
            decode(TABLE, ROW, parameters={"own": value})
