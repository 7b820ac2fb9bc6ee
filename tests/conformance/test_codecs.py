import io

import numpy as np
import pytest

from servable.artifact.signature import Field, Signature
from servable.protocols.codecs import JSON, NPY, RAW, native_codecs
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
