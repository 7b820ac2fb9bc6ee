import io

import numpy as np
import pytest

from servable.artifact.signature import Field, Signature
from servable.protocols.base import CodecLimits
from servable.protocols.codecs import JSON, NPY, RAW, native_codecs
from servable.protocols.mlflow import MlflowCodec
from servable.protocols.oip_generate import GenerateCodec, StreamCodec
from servable.protocols.oip_json import OipCodec
from servable.protocols.openai import EmbeddingsCodec
from servable.protocols.openai_text import CHAT, COMPLETION, TextCodec
from servable.protocols.sagemaker import InvocationsCodec
from servable.protocols.tfserving import ClassifyCodec, PredictCodec, RegressCodec
from servable.protocols.torchserve import TorchServeCodec
from servable.tensors import PREDICTION, PROBABILITIES, Response
from servable.testing import check_codec, fake_signature

CLASSIFIER = Signature(
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
TENSOR = Signature(
    task="transform",
    inputs=(Field(name="x", kind="tensor", dtype="float32", shape=(2, 2)),),
    outputs=(Field(name="y", kind="tensor", dtype="float32", shape=(2,)),),
)

CASES = {
    "regression": (
        fake_signature(2),
        {b'{"input": [1, 2.5]}': 1, b'{"inputs": [{"x0": 1, "x1": 2}, [3, 4]]}': 2},
        [b'{"input": [1]}', b'{"inputs": []}', b"{}", b'{"input": {"x0": 1}}', b'{"input": [1, "2"]}'],
        Response({PREDICTION: np.array([1.5, 2.5])}, 2, "id", "sum", 1),
    ),
    "classification": (
        CLASSIFIER,
        {
            b'{"input": {"age": null, "plan": "pro", "member": true, "since": "2026-01-31"}}': 1,
            b'{"inputs": [[1, "basic", false, null]]}': 1,
        },
        [b'{"input": [1, "gold", true, null]}', b'{"input": [true, "pro", true, null]}'],
        Response(
            {PREDICTION: np.array([1, 0]), PROBABILITIES: np.array([[0.25, 0.75], [0.5, 0.5]])},
            2,
            "id",
            "churn",
            3,
        ),
    ),
    "tensor": (
        TENSOR,
        {b'{"inputs": [[[1, 2], [3, 4]]]}': 1},
        [b'{"input": [[1, 2], [3]]}'],
        Response({"y": np.ones((2, 2), dtype=np.float32)}, 2, "id", "net", 1),
    ),
}


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


WIDE = Signature(
    task="transform",
    inputs=(Field(name="x", kind="tensor", dtype="float64", shape=(3, 5)),),
    outputs=(Field(name="y", kind="tensor", dtype="float32", shape=(2,)),),
)
BINARY = {
    "raw tensor": (
        RAW,
        WIDE,
        {np.ones((3, 5)).tobytes(): 1, np.ones((7, 3, 5)).tobytes(): 7},
        [b"", b"x" * 119, b"x" * 121],
    ),
    "raw table": (
        RAW,
        fake_signature(3),
        {np.ones(3).tobytes(): 1, np.ones((2, 3)).tobytes(): 2},
        [np.array([1, np.nan, 2]).tobytes(), np.array([1, np.inf, 2]).tobytes(), b"x" * 8],
    ),
    "npy tensor": (
        NPY,
        WIDE,
        {npy(np.ones((2, 3, 5), np.float32)): 2, npy(np.asfortranarray(np.ones((3, 5)))): 1},
        [npy(np.ones((3, 4))), npy(np.array(["a"])), npy(np.ones((0, 3, 5))), npy(np.ones((3, 5), bool))],
    ),
    "npy table": (
        NPY,
        fake_signature(3),
        {npy(np.arange(3)): 1, npy(np.ones((4, 3), np.float16)): 4},
        [npy(np.array([[1, np.nan, 2]])), npy(np.array([[1, 2, -np.inf]])), npy(np.ones((3, 1)))],
    ),
}


@pytest.mark.parametrize("case", BINARY.values(), ids=BINARY.keys())
def test_binary(case):
    media_type, signature, good, invalid = case
    response = Response({"y": np.ones((2, 2), dtype=np.float32)}, 2, "id", "net", 1)
    check_codec(native_codecs(signature)[media_type], good=good, invalid=invalid, response=response)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_native(case):
    signature, good, invalid, response = case
    check_codec(native_codecs(signature)[JSON], good=good, invalid=invalid, response=response)


ROWS = {
    b'{"instances": [[1, 2.5], {"x0": 3, "x1": 4}]}': 2,
    b'{"inputs": {"x0": [1, 2, 3], "x1": [4, 5, 6]}}': 3,
    b'{"inputs": {"x1": 2, "x0": 1}, "params": {"a": 1}}': 1,
    b'{"dataframe_records": [{"x0": 1, "x1": 2, "more": 3}]}': 1,
    b'{"dataframe_split": {"columns": ["x1", "x0"], "data": [[1, 2]], "index": [0]}}': 1,
}
WRONG_ROWS = [
    b'{"instances": []}',
    b'{"instances": [[1]]}',
    b'{"instances": [[1, "2"]]}',
    b'{"inputs": {"x0": [1]}}',
    b'{"inputs": {"x0": [1], "x1": [1, 2]}}',
    b'{"dataframe_records": [{"x0": 1, "X1": 2}]}',
    b'{"dataframe_split": {"columns": ["x0", "x0"], "data": [[1, 2]]}}',
    b'{"inputs": [[1, NaN]]}',
    b'{"inputs": [[1, -Infinity]]}',
    b'{"inputs": [[1, 2]], "params": {"probabilities": true}}',
]


@pytest.mark.parametrize("codec", [MlflowCodec, InvocationsCodec])
def test_mlflow_and_sagemaker(codec):
    response = Response({PREDICTION: np.array([1.5, 2.5])}, 2, "id", "sum", 1)
    check_codec(codec(fake_signature(2), CodecLimits()), good=ROWS, invalid=WRONG_ROWS, response=response)


def test_a_plain_list_for_sagemaker():
    good = {b"[[1, 2]]": 1, b'[{"features": [1, 2]}, [3, 4]]': 2, b'{"features": [1, 2]}': 1}
    response = Response({PREDICTION: np.array([1.5])}, 1, "id", "sum", 1)
    check_codec(InvocationsCodec(fake_signature(2)), good=good, invalid=[b"[]", b"[[1]]"], response=response)


TEXT = Field(name="text", kind="text", dtype="str")
VECTOR = Field(name="vector", kind="tensor", dtype="float32", shape=(3,))
TOKENS = Field(name="ids", kind="tensor", dtype="int64", shape=(-1,))
CELL = Field(name="prompt", kind="tensor", dtype="str", shape=(1,))


@pytest.mark.parametrize(
    ("field", "good", "invalid"),
    [
        (TEXT, {b'{"input": "a b"}': 1, b'{"input": ["a", "b"], "dimensions": 2}': 2}, [b'{"input": [1]}']),
        (CELL, {b'{"input": ["a"], "encoding_format": "base64"}': 1}, [b'{"input": [["a"]]}', b"{}"]),
        (
            TOKENS,
            {b'{"input": [1, 2]}': 1, b'{"input": [[1, 2], [3, 4]]}': 2},
            [b'{"input": "a"}', b'{"input": [1.5]}', b'{"input": [[1], [1, 2]]}',
             b'{"input": [[]], "dimensions": 0}'],
        ),
    ],
    ids=["column", "tensor", "tokens"],
)  # fmt: skip
def test_embeddings(field, good, invalid):
    signature = Signature(task="transform", inputs=(field,), outputs=(VECTOR,))
    response = Response({"vector": np.ones((2, 3), np.float32)}, 2, "id", "net", 1)
    check_codec(EmbeddingsCodec(signature), good=good, invalid=invalid, response=response)


@pytest.mark.parametrize("form", [CHAT, COMPLETION])
def test_texts(form):
    said = Field(name="said", kind="tensor", dtype="str", shape=(1,))
    signature = Signature(task="transform", inputs=(CELL,), outputs=(said,))
    response = Response({"said": np.array([["yes"]], object)}, 1, "id", "net", 1)
    good = {
        CHAT: {b'{"messages": [{"role": "user", "content": "a"}], "stream": true}': 1},
        COMPLETION: {b'{"prompt": "a"}': 1, b'{"prompt": ["a", "b"], "stop": "x"}': 2},
    }[form]
    invalid = [b"{}", b'{"prompt": 1, "messages": 1}', b'{"messages": [{}], "prompt": [], "n": 3}']
    check_codec(TextCodec(signature, form=form), good=good, invalid=invalid, response=response)


NUMBERS_OF_3 = Response({PREDICTION: np.array([1.5, 2.5])}, 2, "id", "sum", 1)
CHANCES = CASES["classification"][3]
ROW_FORMATS = {
    "tfserving predict": (
        PredictCodec,
        CLASSIFIER,
        {
            b'{"signature_name": "predict_proba", "instances": [[1, "basic", false, null]]}': 1,
            b'{"inputs": {"age": [[1], [NaN]], "plan": ["pro", {"b64": "cHJv"}], "member": [true, true]}}': 2,
        },
        [
            b'{"instances": [[1, "gold", true, null]]}',
            b'{"instances": [[Infinity, "pro", true, null]]}',
            b'{"inputs": {"plan": ["pro"], "member": [true, false]}}',
            b'{"instances": [[1, "pro", true, null]], "inputs": {}}',
            b'{"instances": [[1, "pro", true, null]], "signature_name": "other"}',
            b"{}",
        ],
        CHANCES,
    ),
    "tfserving predict, tensor": (
        PredictCodec,
        TENSOR,
        {b'{"instances": [[[1, NaN], [-Infinity, 4]]]}': 1, b'{"inputs": {"any": [[[1, 2], [3, 4]]]}}': 1},
        [b'{"instances": [[[1, 2], [3]]]}', b'{"inputs": 1}'],
        CASES["tensor"][3],
    ),
    "tfserving classify": (
        ClassifyCodec,
        CLASSIFIER,
        {b'{"context": {"plan": "pro"}, "examples": [{"age": [1.5], "member": true}, {"member": false}]}': 2},
        [b'{"examples": [{"age": 1}]}', b'{"examples": []}', b'{"context": 1, "examples": [{}]}', b"{}"],
        CHANCES,
    ),
    "tfserving regress": (
        RegressCodec,
        fake_signature(3),
        {b'{"examples": [{"x0": 1, "x1": [2], "x2": 3}]}': 1},
        [b'{"examples": [{"x0": 1, "x1": 2}]}', b'{"examples": 1}'],
        NUMBERS_OF_3,
    ),
    "torchserve": (
        TorchServeCodec,
        fake_signature(3),
        {
            b"[1, 2, 3]": 1,
            b"[[1, 2, 3], [4, 5, 6]]": 2,
            b'{"x0": 1, "x1": 2, "x2": 3}': 1,
            b'{"instances": [[1, 2, 3]]}': 1,
            np.ones(3).tobytes(): 1,
            npy(np.ones((4, 3))): 4,
        },
        [b"[1, 2]", b'[{"x0": 1}]', b"[]", np.array([1, np.inf, 2]).tobytes()],
        NUMBERS_OF_3,
    ),
}


@pytest.mark.parametrize("case", ROW_FORMATS.values(), ids=ROW_FORMATS.keys())
def test_formats_of_rows(case):
    maker, signature, good, invalid, response = case
    codec = maker(signature, CodecLimits())
    check_codec(codec, good=good, invalid=invalid, response=response)


def oip(*inputs: str, more: str = "") -> bytes:
    return f'{{"inputs": [{", ".join(inputs)}]{more}}}'.encode()


AGE = '{"name": "age", "shape": [2, 1], "datatype": "FP64", "data": [null, 4]}'
PLAN = '{"name": "plan", "shape": [2], "datatype": "BYTES", "data": ["pro", "basic"]}'
MEMBER = '{"name": "member", "shape": [2], "datatype": "BOOL", "data": [true, false]}'
SINCE = '{"name": "since", "shape": [2], "datatype": "BYTES", "data": ["2026-01-31", null]}'
OIP = {
    "regression": (
        {
            oip('{"name": "input", "shape": [1, 2], "datatype": "FP64", "data": [1, 2.5]}'): 1,
            oip('{"name": "input", "shape": [2, 2], "datatype": "INT8", "data": [[1, 2], [3, 4]]}'): 2,
            oip(
                '{"name": "x0", "shape": [1], "datatype": "FP32", "data": [1]}',
                '{"name": "x1", "shape": [1, 1], "datatype": "FP64", "data": [[1]]}',
                more=', "id": "a", "outputs": [{"name": "prediction"}]',
            ): 1,
        },
        [
            oip(),
            oip('{"name": "input", "shape": [1, 3], "datatype": "FP64", "data": [1, 2, 3]}'),
            oip('{"name": "x0", "shape": [1], "datatype": "FP64", "data": [1]}'),
            b'{"input": [1, 2]}',
        ],
    ),
    "classification": (
        {oip(AGE, PLAN, MEMBER, SINCE): 2, oip(SINCE, PLAN, MEMBER): 2},
        [
            oip(AGE, PLAN),
            oip(AGE, PLAN.replace("pro", "gold"), MEMBER, SINCE),
            oip(MEMBER, PLAN.replace("[2]", "[1]")),
        ],
    ),
    "tensor": (
        {
            oip('{"name": "x", "shape": [1, 2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}'): 1,
            oip('{"name": "any", "shape": [1, 2, 2], "datatype": "FP64", "data": [[[1, 2], [3, 4]]]}'): 1,
        },
        [
            oip('{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}'),
            oip('{"name": "x", "shape": [1, 2, 2], "datatype": "FP32", "data": [[1, 2, 3, 4]]}'),
        ],
    ),
}


@pytest.mark.parametrize("name", OIP)
def test_open_inference_protocol(name):
    good, invalid = OIP[name]
    signature, _, _, response = CASES[name]
    check_codec(OipCodec(signature, CodecLimits()), good=good, invalid=invalid, response=response)


@pytest.mark.parametrize("kind", [GenerateCodec, StreamCodec])
def test_generate(kind):
    signature = Signature(
        task="transform",
        inputs=(Field(name="text", kind="text", dtype="str"),),
        outputs=(
            Field(name="said", kind="tensor", dtype="str", shape=()),
            Field(name="sure", kind="tensor", dtype="float32", shape=()),
        ),
    )
    said = np.array(["a", "b"], object)
    check_codec(
        kind(signature, CodecLimits()),
        good={b'{"text_input": "a"}': 1, b'{"text_input": ["a", "b"]}': 2},
        invalid=[b'{"text_input": 5}', b"{}", b'{"text_input": []}'],
        response=Response({"said": said, "sure": np.ones(2, np.float32)}, 2, "id", "m", 1),
    )
