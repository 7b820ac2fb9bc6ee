"""TorchServe's bodies: rows and lists of rows, texts, arrays and forms, and what the bytes alone say."""

import io
import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servable.artifact.signature import Field, Signature
from servable.errors import (
    InputError,
    MediaTypeUnsupported,
    RequestInvalid,
    RequestMalformed,
    RequestTooLarge,
    ServableError,
)
from servable.protocols.base import NO_HEAD, CodecLimits
from servable.protocols.multipart import parts_of
from servable.protocols.native import NativeCodec
from servable.protocols.torchserve import ERRORS, TorchServeCodec
from servable.server.formats.torchserve import STYLE
from servable.server.problems import STATUS
from servable.tensors import PREDICTION, Request, Response
from servable.testing import fake_signature
from thoroughness import examples

LIMITS = CodecLimits()
PLAIN = fake_signature(3)
TEXT = Signature(
    task="classification",
    inputs=(Field(name="text", kind="text", dtype="str"),),
    outputs=(Field(name="label", kind="category", dtype="str", values=("no", "yes")),),
)
IMAGE = Signature(
    task="transform",
    inputs=(Field(name="image", kind="tensor", dtype="float32", shape=(2, 3)),),
    outputs=(Field(name="y", kind="tensor", dtype="float32", shape=(2,)),),
)
PAIR = Signature(
    task="transform",
    inputs=(
        Field(name="a", kind="tensor", dtype="float64", shape=(2,)),
        Field(name="data", kind="tensor", dtype="int32", shape=()),
    ),
    outputs=(Field(name="sum", kind="tensor", dtype="float64", shape=()),),
)
JSON_HEAD = {b"content-type": b"application/json"}


def decode(signature: Signature, body: Any, kind: bytes = b"") -> Request:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return TorchServeCodec(signature, LIMITS).decode(data, "id", {b"content-type": kind} if kind else NO_HEAD)


def same(found: Request, signature: Signature, rows: list[Any], *, single: bool) -> None:
    expected = NativeCodec(signature).decode(json.dumps({"inputs": rows}).encode(), "id")
    assert (found.rows, found.single) == (expected.rows, single)
    for name, array in expected.arrays.items():
        assert found.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(found.arrays[name], array)


def form(**parts: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """A form of parts by name, each a content type (empty for none) and bytes."""
    pieces = []
    for name, (kind, body) in parts.items():
        line = b"content-type: " + kind + b"\r\n" if kind else b""
        head = b'--xyz\r\ncontent-disposition: form-data; name="' + name.encode() + b'"\r\n'
        pieces.append(head + line + b"\r\n" + body + b"\r\n")
    return b"".join(pieces) + b"--xyz--\r\n", b"multipart/form-data; boundary=xyz"


@given(st.lists(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3), min_size=1, max_size=5))
@settings(max_examples=examples(30), deadline=None)
def test_rows_of_a_table(rows: list[list[float]]) -> None:
    named = [dict(zip(("x0", "x1", "x2"), row, strict=True)) for row in rows]
    for many in (rows, named, {"inputs": rows}, {"data": named}, {"instances": rows}):
        same(decode(PLAIN, many), PLAIN, rows, single=False)
        same(decode(PLAIN, many, b"application/json; charset=utf-8"), PLAIN, rows, single=False)
    for one in (rows[0], named[0], {"input": rows[0]}, {"body": named[0]}):
        same(decode(PLAIN, one), PLAIN, rows[:1], single=True)
    body, kind = form(data=(b"", json.dumps(rows).encode()))
    same(decode(PLAIN, body, kind), PLAIN, rows, single=False)
    if any(value for row in rows for value in row):
        raw = np.array(rows).tobytes()
        same(decode(PLAIN, raw, b"application/octet-stream"), PLAIN, rows, single=len(rows) == 1)


def test_rows_of_tensors() -> None:
    one = [[1, 2, 3], [4, 5, 6]]
    same(decode(IMAGE, one), IMAGE, [one], single=True)
    same(decode(IMAGE, {"image": one}), IMAGE, [one], single=True)
    same(decode(IMAGE, [one, one]), IMAGE, [one, one], single=False)
    stream = io.BytesIO()
    np.save(stream, np.array([one, one], np.float32))
    same(decode(IMAGE, stream.getvalue()), IMAGE, [one, one], single=False)
    same(decode(IMAGE, stream.getvalue(), b"application/x-npy"), IMAGE, [one, one], single=False)
    wide = np.random.default_rng(0).normal(size=(200, 2, 3)).astype(np.float32).tolist()
    for many in (
        wide,
        {"instances": wide},
        {"inputs": wide},
        {"data": wide},
        [{"image": row} for row in wide],
    ):
        same(decode(IMAGE, many), IMAGE, wide, single=False)
    with pytest.raises(RequestInvalid):
        decode(IMAGE, {"inputs": {"image": wide}})
    with pytest.raises(RequestInvalid):
        decode(IMAGE, [*wide, [[1, 2, 3]]])
    pair = [[1, 2], 3]
    same(decode(PAIR, pair), PAIR, [pair], single=True)
    same(decode(PAIR, [pair, pair]), PAIR, [pair, pair], single=False)
    same(decode(PAIR, {"a": [1, 2], "data": 3}), PAIR, [pair], single=True)
    nan = decode(IMAGE, b"[[1, NaN, 3], [4, 5, Infinity]]").arrays["image"]
    np.testing.assert_array_equal(nan, np.array([[[1, np.nan, 3], [4, 5, np.inf]]], np.float32))


def test_texts() -> None:
    same(decode(TEXT, b"so good"), TEXT, [["so good"]], single=True)
    same(decode(TEXT, b"so good", b"application/x-www-form-urlencoded"), TEXT, [["so good"]], single=True)
    same(decode(TEXT, b'"so good"', b"text/plain"), TEXT, [['"so good"']], single=True)
    same(decode(TEXT, "so good"), TEXT, [["so good"]], single=True)
    same(decode(TEXT, ["so", "good"]), TEXT, [["so"], ["good"]], single=False)
    same(decode(TEXT, {"text": "good"}), TEXT, [["good"]], single=True)
    body, kind = form(other=(b"", b"x"), data=(b"text/plain", b"so good"))
    same(decode(TEXT, body, kind), TEXT, [["so good"]], single=True)
    with pytest.raises(RequestMalformed, match="UTF-8"):
        decode(TEXT, b"\xff\xfe", b"text/plain")
    same(decode(PLAIN, b"[1, 2, 3]", b"text/plain"), PLAIN, [[1, 2, 3]], single=True)


def test_what_does_not_fit_is_named() -> None:
    for body, path in (
        ([1, 2], "body"),
        ([[1, 2, 3], [1, 2, "x"]], "body[1][2]"),
        ({"data": [1, 2]}, "data"),
    ):
        with pytest.raises(RequestInvalid) as caught:
            decode(PLAIN, body)
        assert [problem.path for problem in caught.value.problems] == [path]
    with pytest.raises(MediaTypeUnsupported, match="application/x-npy"):
        decode(PLAIN, b"\xff\xd8", b"image/jpeg")
    with pytest.raises(MediaTypeUnsupported, match="text/plain"):
        decode(TEXT, b"\xff\xd8", b"image/jpeg")


def test_forms_that_are_none_are_refused() -> None:
    body, kind = form(other=(b"", b"[1, 2, 3]"))
    with pytest.raises(RequestMalformed, match='part "data"'):
        decode(PLAIN, body, kind)
    good, kind = form(data=(b"", b"[1, 2, 3]"))
    for body in (b"", b"--xyz", good[:-6], good.replace(b"xyz", b"abc"), b"nothing"):
        with pytest.raises(RequestMalformed):
            decode(PLAIN, body, kind)
    for head in (b"multipart/form-data", b"multipart/form-data; boundary=" + b"x" * 71):
        with pytest.raises(RequestMalformed, match="boundary"):
            decode(PLAIN, good, head)
    many = b'--xyz\r\ncontent-disposition: form-data; name="a"\r\n\r\n1\r\n' * 1001 + b"--xyz--\r\n"
    with pytest.raises(RequestTooLarge, match="1000 parts"):
        decode(PLAIN, many, kind)


@given(st.binary(max_size=200))
@settings(max_examples=examples(100), deadline=None)
def test_a_part_is_what_was_put_into_the_form(content: bytes) -> None:
    body, kind = form(data=(b"a/b", content), more=(b"", b"1"))
    if b"--xyz" in content:
        return
    first, second = parts_of(body, kind)
    assert (first.name, first.body, first.head) == ("data", content, {b"content-type": b"a/b"})
    assert (second.name, second.body, second.head) == ("more", b"1", {})


@given(
    st.binary(max_size=60) | st.text('[]{}":,0123 datex', max_size=40).map(str.encode),
    st.sampled_from(
        [b"", b"application/json", b"text/plain", b"application/octet-stream", b"application/x-npy"]
    ),
    st.sampled_from([PLAIN, TEXT, IMAGE, PAIR]),
)
@settings(max_examples=examples(300), deadline=None)
def test_whatever_comes_is_read_or_refused(body: bytes, kind: bytes, signature: Signature) -> None:
    try:
        request = decode(signature, body, kind)
    except InputError:
        return
    assert all(len(array) == request.rows for array in request.arrays.values())


def test_answers_are_bare() -> None:
    codec = TorchServeCodec(TEXT, LIMITS)
    arrays = {PREDICTION: np.array([1, 0])}
    for body, expected in (
        (["a", "b"], ["yes", "no"]),
        ({"instances": ["a", "b"]}, {"predictions": ["yes", "no"]}),
    ):
        request = decode(TEXT, body)
        response = Response(arrays, 2, "id", "m", 1, request.single, request.wish)
        assert json.loads(codec.encode(response)) == expected
    response = Response({PREDICTION: np.array([1])}, 1, "id", "m", 1, True)
    assert json.loads(codec.encode(response)) == "yes"
    numbers = TorchServeCodec(PLAIN, LIMITS)
    response = Response({PREDICTION: np.array([np.nan])}, 1, "id", "m", 1, True)
    assert numbers.encode(response) == b"null"


def test_every_error_carries_the_status_that_it_is_sent_with() -> None:
    for code, status in STATUS.items():
        sent = STYLE.statuses.get(status, status)
        error = type("Error", (ServableError,), {"code": code})("Why.")
        body = msgspec.json.decode(STYLE.body(error, "id"))
        assert (body["code"], body["message"]) == (sent, "Why."), code
    assert ERRORS.keys() <= STATUS.keys()
