"""The Open Inference Protocol's REST codec: the real client's own encoders, and bad input of every kind."""

import base64
import contextlib
import gzip
import json
import zlib
from typing import Any

import msgspec
import numpy as np
import pytest
import tritonclient.http as triton
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tritonclient.utils import np_to_triton_dtype

from servable.artifact.signature import Field, Signature
from servable.errors import InputError, RequestInvalid, RequestMalformed, RequestTooLarge
from servable.protocols.base import NO_HEAD, CodecLimits, Encoded
from servable.protocols.oip_answers import best_of, coding_of
from servable.protocols.oip_binary import LENGTH
from servable.protocols.oip_generate import EVENTS, GenerateCodec, StreamCodec
from servable.protocols.oip_json import OipCodec
from servable.tensors import NUMBERS, PREDICTION, PROBABILITIES, STRINGS, Request, Response, Terms

LIMITS = CodecLimits(max_rows=1000)
TABLE = Signature(
    task="classification",
    inputs=tuple(Field(name=name, kind="number", dtype="float64") for name in "ab"),
    outputs=(Field(name="label", kind="category", dtype="str", values=("no", "yes", "so")),),
    probabilities=True,
)
MIXED = Signature(
    task="regression",
    inputs=(
        Field(name="age", kind="number", dtype="float64", missing=True),
        Field(name="count", kind="number", dtype="int64", missing=True),
        Field(name="plan", kind="category", dtype="str", values=("basic", "pro"), unknown="refuse"),
        Field(name="member", kind="boolean", dtype="bool"),
    ),
    outputs=(Field(name="y", kind="number", dtype="float64"),),
)
TEXT = Signature(
    task="transform",
    inputs=(Field(name="text", kind="tensor", dtype="str", shape=()),),
    outputs=(Field(name="said", kind="tensor", dtype="str", shape=()),),
)


def tensor(dtype: str, *shape: int) -> Signature:
    return Signature(
        task="transform",
        inputs=(Field(name="x", kind="tensor", dtype=dtype, shape=shape),),
        outputs=(Field(name="y", kind="tensor", dtype=dtype, shape=shape),),
    )


def codec(signature: Signature) -> OipCodec:
    return OipCodec(signature, LIMITS)


def body(*inputs: tuple[Any, ...], **more: Any) -> bytes:
    keys = ("name", "shape", "datatype", "data", "parameters")
    return json.dumps({"inputs": [dict(zip(keys, each, strict=False)) for each in inputs], **more}).encode()


def decode(signature: Signature, *inputs: tuple[Any, ...], **more: Any) -> Request:
    return codec(signature).decode(body(*inputs, **more), "id")


def sent(arrays: dict[str, Any], binary: bool, outputs: Any = None, **more: Any) -> tuple[bytes, Any]:
    """What the real client sends, and its headers."""
    inputs = []
    for name, array in arrays.items():
        inputs.append(triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype)))
        inputs[-1].set_data_from_numpy(array, binary_data=binary)
    made, length = triton.InferenceServerClient.generate_request_body(inputs, outputs, **more)
    return made, NO_HEAD if length is None else {LENGTH: str(length).encode()}


def received(encoded: bytes | Encoded) -> triton.InferResult:
    """What the real client reads from an answer."""
    if isinstance(encoded, bytes):
        return triton.InferenceServerClient.parse_response_body(encoded)
    headers = dict(encoded.headers)
    length = headers.get(LENGTH)
    return triton.InferenceServerClient.parse_response_body(
        encoded.body,
        header_length=None if length is None else int(length),
        content_encoding=headers.get(b"content-encoding", b"").decode() or None,
    )


DTYPES = [
    "float16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
]


@given(
    st.sampled_from(DTYPES).flatmap(
        lambda name: hnp.arrays(name, hnp.array_shapes(min_dims=2, max_dims=3, max_side=4))
    ),
    st.booleans(),
    st.booleans(),
)
def test_tensors_come_and_go_as_the_real_client_sends_and_reads_them(
    array: Any, binary: bool, wished: bool
) -> None:
    if array.dtype.kind == "f" and not binary:
        array = np.nan_to_num(array, posinf=0, neginf=0)
    if array.dtype == np.float16:
        binary = True
    one = codec(tensor(array.dtype.name, *array.shape[1:]))
    outputs = [triton.InferRequestedOutput("y", binary_data=wished)]
    made, head = sent({"x": array}, binary, outputs, request_id="own")
    request = one.decode(made, "id", head)
    assert request.rows == len(array)
    np.testing.assert_array_equal(request.arrays["x"], array)
    answer = one.encode(Response({"y": array}, len(array), "id", "m", 3, False, request.wish))
    result = received(answer)
    back = result.as_numpy("y")
    assert back.dtype == array.dtype
    if not wished:
        # JSON has no word for infinity.
        array = np.where(np.isinf(array), np.nan, array) if array.dtype.kind == "f" else array
    np.testing.assert_array_equal(back, array)
    assert (result.get_response()["id"], result.get_response()["model_version"]) == ("own", "3")


@given(st.lists(st.text(max_size=20), min_size=1, max_size=5), st.booleans())
def test_texts_come_and_go(values: list[str], binary: bool) -> None:
    array = np.empty(len(values), object)
    array[:] = values
    made, head = sent({"text": array}, binary, [triton.InferRequestedOutput("said", binary_data=binary)])
    one = codec(TEXT)
    request = one.decode(made, "id", head)
    assert request.arrays["text"].tolist() == values
    result = received(one.encode(Response({"said": array}, len(values), "id", "m", 1, False, request.wish)))
    said = result.as_numpy("said").tolist()
    assert [each.decode() if isinstance(each, bytes) else each for each in said] == values


def test_columns_in_every_form() -> None:
    columns = [
        ("plan", [2], "BYTES", ["pro", "basic"]),
        ("age", [2, 1], "FP64", [[1.5], [None]]),
        ("member", [2], "BOOL", [True, False]),
        ("count", [2], "INT64", [None, 7]),
    ]
    forms = [
        decode(MIXED, *columns),
        decode(MIXED, *columns, parameters={"content_type": "pd"}),
        decode(
            MIXED,
            *columns[1:],
            (
                "plan",
                [2],
                "BYTES",
                [base64.b64encode(b"pro").decode(), "YmFzaWM="],
                {"content_type": "base64"},
            ),
        ),
        decode(
            MIXED,
            ("age", [2], "FP32", [1.5, None]),
            ("member", [2], "UINT8", [1, 0]),
            *columns[3:],
            columns[0],
        ),
    ]
    for request in forms:
        np.testing.assert_array_equal(request.arrays[NUMBERS], [[1.5, np.nan, 1], [np.nan, 7, 0]])
        assert request.arrays[STRINGS].tolist() == [["pro"], ["basic"]]


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**65), 2**65), st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["pro", "basic", "", "x"]), st.lists(st.integers(0, 1), max_size=1),
)  # fmt: skip


@st.composite
def requests(draw: st.DrawFn) -> tuple[Signature, list[tuple[Any, ...]]]:
    """Mostly right, and sometimes with a value, a datatype or a shape that does not fit."""
    rows = draw(st.integers(1, 3))
    if draw(st.booleans()):
        numbers = st.one_of(st.floats(-1e9, 1e9), st.integers(-9, 9))
        data = draw(st.lists(draw(st.sampled_from([numbers, VALUES])), min_size=2 * rows, max_size=2 * rows))
        nested = [data[2 * row : 2 * row + 2] for row in range(rows)]
        return TABLE, [("input", [rows, 2], "FP64", draw(st.sampled_from([data, nested])))]
    fitting = {
        ("age", "FP64"): st.one_of(st.none(), st.floats(-9, 9), st.integers(-9, 9)),
        ("count", "INT64"): st.one_of(st.none(), st.integers(-9, 9)),
        ("plan", "BYTES"): st.sampled_from(["pro", "basic"]),
        ("member", "BOOL"): st.booleans(),
    }
    inputs = []
    for (name, datatype), values in fitting.items():
        if draw(st.integers(0, 9)) == 0:
            values = VALUES
        shape = draw(st.sampled_from([[rows], [rows, 1]]))
        inputs.append((name, shape, datatype, draw(st.lists(values, min_size=rows, max_size=rows))))
    return MIXED, inputs


@given(requests())
def test_what_is_read_quickly_means_the_same_as_what_is_read_slowly(made: Any) -> None:
    signature, inputs = made
    found = []
    # Parameters that say nothing send a request the slow way; blanks make a text a large one.
    for more, blanks in ((), b""), (({},), b""), ((), b" " * 5000):
        text = body(*((*each, *more) for each in inputs)) + blanks
        try:
            request = codec(signature).decode(text, "id")
        except InputError:
            found.append(None)
        else:
            found.append({name: array.tolist() for name, array in request.arrays.items()})
    assert repr(found[0]) == repr(found[1]) == repr(found[2])


def test_bytes_and_json_are_mixed_in_one_request() -> None:
    texts, numbers = np.array(["pro"], object), np.array([3], np.int16)
    inputs = [
        triton.InferInput("plan", [1], "BYTES"),
        triton.InferInput("count", [1], "INT16"),
        triton.InferInput("member", [1], "BOOL"),
    ]
    inputs[0].set_data_from_numpy(texts, binary_data=True)
    inputs[1].set_data_from_numpy(numbers, binary_data=False)
    inputs[2].set_data_from_numpy(np.array([True]), binary_data=True)
    made, length = triton.InferenceServerClient.generate_request_body(inputs)
    request = codec(MIXED).decode(memoryview(bytearray(made)), "id", {LENGTH: b"%d" % length})
    np.testing.assert_array_equal(request.arrays[NUMBERS], [[np.nan, 3, 1]])
    assert request.arrays[STRINGS].tolist() == [["pro"]]


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint64"])
def test_large_texts_are_read_like_small_ones(dtype: str, nested: bool) -> None:
    array = np.arange(2 * 3 * 400).reshape(2, 3, 400).astype(dtype)
    data = (array if nested else array.ravel()).tolist()
    datatype = {"float32": "FP32", "float64": "FP64", "int32": "INT32", "uint64": "UINT64"}[dtype]
    one = tensor(dtype, 3, 400)
    for name in ("x", "a[name"):
        request = decode(one, (name, [2, 3, 400], datatype, data), id="7")
        assert request.arrays["x"].dtype == dtype
        np.testing.assert_array_equal(request.arrays["x"], array)
    ragged = [*array.ravel().tolist()[:-2], [1, 2]]
    for bad in (ragged, [*data[:-1], "1"], data[:-1], [*data[:-1], True]):
        with pytest.raises(RequestInvalid) as caught:
            decode(one, ("x", [2, 3, 400], datatype, bad))
        assert caught.value.problems[0].path.startswith("inputs[0].data")


def test_a_table_of_many_rows() -> None:
    numbers = np.arange(1600, dtype=float).reshape(800, 2)
    request = decode(TABLE, ("predict", [800, 2], "FP64", numbers.tolist()))
    np.testing.assert_array_equal(request.arrays[NUMBERS], numbers)
    with pytest.raises(RequestTooLarge):
        decode(TABLE, ("predict", [1200, 2], "FP64", [1.0] * 2400))
    with pytest.raises(RequestTooLarge):
        decode(TABLE, ("predict", [20000, 2], "FP64", [1.0] * 40000))


def test_words_that_are_no_json_mean_what_they_say() -> None:
    text = b'{"inputs":[{"name":"x","shape":[3],"datatype":"FP32","data":[NaN,-Infinity,1e0]}]}'
    assert codec(tensor("float32")).decode(text, "id").arrays["x"].tolist()[1:] == [-np.inf, 1.0]
    with pytest.raises(InputError):
        codec(tensor("float32")).decode(text.replace(b"1e0", b"1e999"), "id")


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("FP64", [1.0, "2"]), ("FP64", [1.0]), ("FP64", [1.0, True]), ("FP64", 5), ("FP64", {}), ("FP64", []),
        ("FP64", [[1], [2]]), ("FP64", [[1.0, [2.0]]]), ("FP64", [10**400, 1]), ("FP64", [None, 1]),
        ("FP32", [1e39, 1]), ("INT8", [128, 1]), ("UINT8", [-1, 1]), ("UINT64", [2**64, 1]),
        ("INT64", [1.5, 1]), ("BYTES", ["a", "b"]), ("BYTES", [1, 2]), ("BOOL", [2, 1]),
    ],
)  # fmt: skip
def test_values_that_do_not_fit_are_named(datatype: str, data: Any) -> None:
    with pytest.raises(RequestInvalid) as caught:
        decode(TABLE, ("input", [1, 2], datatype, data))
    assert all(problem.path for problem in caught.value.problems)


@pytest.mark.parametrize("text", [
    b"", b"[]", b"{", b"{}", b'{"inputs":[]}', b'{"inputs":{}}', b'{"inputs":[5]}', b'{"inputs":[{}]}',
    b'{"inputs":[{"name":"input","shape":[1,2],"datatype":"FP64"}]}', b"\xff", b"[" * 10_000, b"NaN",
    b'{"inputs":[{"name":"input","shape":[1,2],"datatype":"FP16","data":[1,2]}]}',
    b'{"inputs":[{"name":"input","shape":[1,2],"datatype":"BF16","data":[1,2]}]}',
    b'{"inputs":[{"name":"input","shape":[1,2],"datatype":"FP8","data":[1,2]}]}',
    b'{"inputs":[{"name":"input","shape":[1,-2],"datatype":"FP64","data":[1,2]}]}',
    b'{"inputs":[{"name":"input","shape":[99999999999999999999999,2],"datatype":"FP64","data":[1,2]}]}',
    b'{"inputs":[{"name":"input","shape":[4611686018427387904,4611686018427387904,0],"datatype":"FP64","data":[]}]}',
    b'{"inputs":[{"name":"input","shape":"12","datatype":"FP64","data":[1,2]}]}',
    b'{"inputs":[{"name":"input","shape":[1,2],"datatype":"FP64","data":[1,2],"parameters":{"a":[]}}]}',
    b'{"inputs":[{"name":"input","shape":[1,2],"datatype":"FP64","data":[1],"parameters":{"content_type":"x"}}]}',
    b'{"inputs":[{"name":"input","shape":[1,2],"datatype":"FP64","parameters":{"binary_data_size":16}}]}',
    b'{"inputs":[{"name":"input","shape":[1,2],"datatype":"FP64","data":[1,2],"parameters":{"binary_data_size":0}}]}',
    b'{"inputs":[{"name":"input","shape":[1,2],"datatype":"FP64","parameters":{"shared_memory_region":"r"}}]}',
    b'{"inputs":[{"name":"a","shape":[1],"datatype":"FP64","data":[1]},{"name":"a","shape":[1],"datatype":"FP64","data":[1]}]}',
])  # fmt: skip
def test_bodies_that_are_none_are_the_callers_fault(text: bytes) -> None:
    with pytest.raises(InputError):
        codec(TABLE).decode(text, "id")
    with pytest.raises(InputError):
        codec(TABLE).decode(text + b" " * 5000, "id")


GOOD = b'{"inputs":[{"name":"input","shape":[1,2],"datatype":"FP64","parameters":{"binary_data_size":16}}]}'


@pytest.mark.parametrize(
    ("length", "blob"),
    [
        (b"x", b""),
        (b"-1", b""),
        (b"99999", b""),
        (b"", b""),
        (b"%d", b"1" * 15),
        (b"%d", b"1" * 17),
        (b"5", b""),
    ],
)
def test_lies_about_bytes(length: bytes, blob: bytes) -> None:
    length = length % len(GOOD) if b"%" in length else length
    with pytest.raises(InputError):
        codec(TABLE).decode(GOOD + blob, "id", {LENGTH: length})


@given(st.binary(max_size=200), st.integers(0, 200))
def test_any_bytes_behind_any_header(data: bytes, length: int) -> None:
    for signature in (TABLE, MIXED, TEXT):
        for each in (data, GOOD + data):
            with contextlib.suppress(InputError):
                codec(signature).decode(each, "id", {LENGTH: b"%d" % length})


def test_a_body_without_json_is_the_one_input() -> None:
    head = {LENGTH: b"0"}
    numbers = np.arange(4.0)
    request = codec(TABLE).decode(numbers.tobytes(), "id", head)
    assert request.arrays[NUMBERS].tolist() == [[0, 1], [2, 3]]
    answer = codec(TABLE).encode(
        Response(
            {PREDICTION: np.array([1]), PROBABILITIES: np.ones((1, 3))}, 1, "id", "m", 1, False, request.wish
        )
    )
    assert isinstance(answer, Encoded)
    assert answer.media_type == "application/octet-stream"
    assert received(answer).as_numpy(PREDICTION).tolist() == [b"yes"]
    assert codec(tensor("float32", 2, -1)).decode(b"\0" * 24, "id", head).arrays["x"].shape == (1, 2, 3)
    assert codec(TEXT).decode("ä b".encode(), "id", head).arrays["text"].tolist() == ["ä b"]
    for signature, data in (
        (TABLE, b"123"),
        (TABLE, b""),
        (MIXED, b"12345678"),
        (tensor("int8", -1, -1), b"1"),
    ):
        with pytest.raises(InputError):
            codec(signature).decode(data, "id", head)


def test_bf16_arrives_as_bytes() -> None:
    bits = (np.array([1.5, -2.0], np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
    text = GOOD.replace(b"FP64", b"BF16").replace(b"16}", b"4}")
    assert codec(TABLE).decode(text + bits, "id", {LENGTH: b"%d" % len(text)}).arrays[NUMBERS].tolist() == [
        [1.5, -2]
    ]


ROW = ("input", [1, 2], "FP64", [1, 2])
ANSWER = {PREDICTION: np.array([1]), PROBABILITIES: np.array([[0.25, 0.25, 0.5]])}


def answered(request: Request) -> dict[str, Any]:
    made = codec(TABLE).encode(Response(ANSWER, 1, "id", "m", 1, False, request.wish))
    return msgspec.json.decode(made if isinstance(made, bytes) else made.body)


def test_the_answer_follows_the_wish() -> None:
    assert answered(decode(TABLE, ROW)) == {
        "model_name": "m",
        "model_version": "1",
        "outputs": [
            {"name": "prediction", "datatype": "BYTES", "shape": [1], "data": ["yes"]},
            {"name": "probabilities", "datatype": "FP64", "shape": [1, 3], "data": [0.25, 0.25, 0.5]},
        ],
    }
    wished = decode(
        TABLE, ROW, id="", outputs=[{"name": "probabilities", "parameters": {"classification": 2}}]
    )
    assert answered(wished) == {
        "model_name": "m",
        "model_version": "1",
        "id": "",
        "outputs": [
            {"name": "probabilities", "datatype": "BYTES", "shape": [1, 2], "data": ["0.5:2:so", "0.25:0:no"]}
        ],
    }
    for outputs in (
        [{"name": "nope"}],
        [{"name": "prediction"}, {"name": "prediction"}],
        [{"name": "prediction", "parameters": {"classification": 1}}],
        [{"name": "probabilities", "parameters": {"classification": "1"}}],
        [{"name": "probabilities", "parameters": {"binary_data": 1}}],
        [{"name": "probabilities", "parameters": {"shared_memory_region": "a"}}],
        [{}],
    ):
        with pytest.raises(InputError):
            decode(TABLE, ROW, outputs=outputs)


def test_the_best_of_each_row() -> None:
    values = np.array([[1, 3, 3], [5, 4, 9]], np.uint8)
    assert best_of(values, 2, ()).tolist() == [["3:1", "3:2"], ["9:2", "5:0"]]
    assert best_of(np.array([[np.nan, -1.0]]), 5, ("a", "b")).tolist() == [["-1.0:1:b", "nan:0:a"]]


def test_parameters_about_time() -> None:
    assert decode(TABLE, ROW, parameters={"priority": 0, "timeout": 0, "own": "x"}).terms is None
    assert decode(TABLE, ROW, parameters={"priority": 1, "timeout": 250}).terms == Terms(0.00025, 4.0)
    assert decode(TABLE, ROW, parameters={"priority": 4}).terms == Terms(None, 1.0)
    assert decode(TABLE, ROW, parameters={"priority": 99}).terms == Terms(None, 0.25)
    assert decode(TABLE, ROW, parameters={"sequence_id": 0, "sequence_start": False}).terms is None
    for wrong in (
        {"priority": -1}, {"priority": 1.5}, {"timeout": "1"}, {"timeout": True}, {"sequence_id": 5},
        {"sequence_id": "a"}, {"sequence_start": True}, {"binary_data_output": "yes"},
        {"content_type": "image"},
    ):  # fmt: skip
        with pytest.raises(InputError):
            decode(TABLE, ROW, parameters=wrong)


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        (b"gzip", "gzip"), (b"deflate", "deflate"), (b"gzip, deflate, br", "gzip"), (b"gzip;q=0", ""),
        (b"*", ""),
        (b"gzip;q=0.1, deflate;q=0.5", "deflate"), (b"br", ""), (b"gzip;q=x", ""), (b"GZIP ; q=1", "gzip"),
    ],
)  # fmt: skip
def test_codings(accepted: bytes, coding: str) -> None:
    assert coding_of(accepted) == coding


@pytest.mark.parametrize("binary", [False, True])
def test_long_answers_are_compressed_for_those_who_accept_it(binary: bool) -> None:
    one = codec(tensor("float32", 400))
    array = np.ones((1, 400), np.float32)
    made, head = sent({"x": array}, True, [triton.InferRequestedOutput("y", binary_data=binary)])
    for coding, unpack in ((b"gzip", gzip.decompress), (b"deflate", zlib.decompress)):
        request = one.decode(made, "id", {**head, b"accept-encoding": coding})
        answer = one.encode(Response({"y": array}, 1, "id", "m", 1, False, request.wish))
        assert isinstance(answer, Encoded)
        assert (b"content-encoding", coding) in answer.headers
        assert len(answer.body) < len(unpack(answer.body))
        np.testing.assert_array_equal(received(answer).as_numpy("y"), array)
    short = one.encode(Response({"y": array[:, :4]}, 1, "id", "m", 1, False, request.wish))
    assert isinstance(short, Encoded)
    assert b"content-encoding" not in dict(short.headers)


def test_texts_are_generated() -> None:
    one, stream = GenerateCodec(TEXT, LIMITS), StreamCodec(TEXT, LIMITS)
    request = one.decode(b'{"id":"7","text_input":"hi","parameters":{"priority":1},"stream":false}', "id")
    assert (request.arrays["text"].tolist(), request.terms) == (["hi"], Terms(None, 4.0))
    said = np.array(["ho"], object)
    answer = one.encode(Response({"said": said}, 1, "id", "m", 2, False, request.wish))
    expected = {"id": "7", "model_name": "m", "model_version": "2", "text_output": "ho"}
    assert msgspec.json.decode(answer) == expected
    event = stream.encode(Response({"said": said}, 1, "id", "m", 2, False, request.wish))
    assert event == b"data: " + answer + b"\n\n"
    assert stream.media_type == EVENTS
    several = one.decode(b'{"text_input":["a","b"]}', "id")
    assert several.rows == 2
    for wrong in (b"{}", b'{"text_input":5}', b'{"text_input":[]}', b'{"text_input":"a","id":5}', b"",
                  b'{"text_input":"a","parameters":[1]}', b'{"text_input":[null]}'):  # fmt: skip
        with pytest.raises(InputError):
            one.decode(wrong, "id")
    with pytest.raises(RequestMalformed):
        GenerateCodec(TABLE, LIMITS).decode(b'{"text_input":"a"}', "id")
