"""Whatever bytes arrive: a Request that fits, or the caller's fault with a clear word. Nothing else."""

import io
import json
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faults.json_corpus import Case, bodies, cases
from servable.artifact.signature import Field, Signature
from servable.errors import InputError, RequestMalformed, RequestTooLarge
from servable.protocols.codecs import native_codecs
from servable.protocols.native import NativeCodec
from servable.protocols.native_depth import deeper_than
from servable.protocols.native_large import LARGE_BYTES
from servable.tensors import Request, row_count
from thoroughness import examples

VALUE = Field(name="value", kind="number", dtype="float64")
CASES = cases()


def signature(*inputs: Field) -> Signature:
    return Signature(task="regression", inputs=inputs, outputs=(VALUE,))


TABLE = signature(
    Field(name="value", kind="number", dtype="float64", missing=True),
    Field(name="count", kind="number", dtype="int64"),
    Field(name="plan", kind="category", dtype="str", values=("a", "b"), missing=True),
    Field(name="on", kind="boolean", dtype="bool"),
    Field(name="day", kind="date", dtype="datetime"),
)
TABLE_ROW = [1.5, 3, "a", True, "2026-01-31"]
NUMBERS = signature(*(Field(name=f"n{index}", kind="number", dtype="float64") for index in range(3)))
TENSOR = signature(Field(name="x", kind="tensor", dtype="float32", shape=(2, 2)))
FREE = signature(Field(name="x", kind="tensor", dtype="int16", shape=(-1, 2)))
TEXTS = signature(Field(name="t", kind="tensor", dtype="str", shape=(-1,)))
PAIR = signature(
    Field(name="a", kind="tensor", dtype="float32", shape=(2,)),
    Field(name="b[", kind="tensor", dtype="uint8", shape=(1, 2)),
)
SIGNATURES = {"value": signature(VALUE), "table": TABLE, "numbers": NUMBERS, "tensor": TENSOR, "free": FREE,
              "texts": TEXTS, "pair": PAIR}  # fmt: skip


def outcome(codec: Any, body: bytes) -> Request | InputError:
    """What a codec makes of a body; any other exception fails the test."""
    try:
        request: Request = codec.decode(body, "id")
    except InputError as error:
        refusal = error
    else:
        return fitting(request)
    assert refusal.message
    assert "Traceback" not in refusal.message
    assert len(refusal.message) < 1_000
    return refusal


def fitting(request: Request) -> Request:
    """A request whose rows and arrays agree."""
    assert request.rows == row_count(request.arrays) >= 1
    for array in request.arrays.values():
        assert len(array) == request.rows
    return request


def is_json(body: bytes) -> bool:
    """Whether it is JSON, as another parser sees it; one that is strict about its tokens."""

    def refuse(word: str) -> None:
        raise ValueError(word)

    if body.startswith(b"\xef\xbb\xbf"):
        return False
    try:
        json.loads(body.decode("utf-8"), parse_constant=refuse)
    except RecursionError:
        # Never by a text that is both well-formed and shallow enough to be read.
        return False
    except ValueError as error:
        return "integer string conversion" in str(error)
    return True


@pytest.mark.parametrize("kind", sorted({case.kind for case in CASES}))
@pytest.mark.parametrize("name", ["value", "table", "tensor", "texts"])
def test_the_corpus_in_every_place(name: str, kind: str) -> None:
    if kind in ("depth", "size") and name in ("table", "texts"):
        pytest.skip("the large ones are read by two codecs, not by four")
    codec = NativeCodec(SIGNATURES[name])
    for case in CASES:
        if case.kind != kind:
            continue
        for body in bodies(case):
            found = outcome(codec, body)
            if case.verdict != "refused" and not is_json(body):
                assert isinstance(found, RequestMalformed), body[:80]
            elif case.verdict == "fine":
                assert not isinstance(found, RequestMalformed) or body == case.text, body[:80]


def test_the_corpus_is_what_it_says() -> None:
    assert len(CASES) >= 500
    for case in CASES:
        if case.verdict != "refused":
            assert is_json(case.text) == (case.verdict == "fine"), case.text[:80]
    verdicts = Counter(case.verdict for case in CASES)
    assert min(verdicts["fine"], verdicts["wrong"], verdicts["refused"]) >= 50


@pytest.mark.parametrize("case",
[case for case in CASES if case.verdict == "fine" and case.kind == "number"],
                         ids=lambda case: case.text.decode())  # fmt: skip
def test_numbers_are_read_exactly(case: Case) -> None:
    value = float(json.loads(case.text))
    one = NativeCodec(signature(VALUE)).decode(b'{"input":[%s]}' % case.text, "id")
    assert one.arrays["numbers"][0, 0] == value
    many = NativeCodec(signature(VALUE)).decode(
        b'{"inputs":[%s[%s]]}' % (b"[1]," * LARGE_BYTES, case.text), "id"
    )
    assert many.arrays["numbers"][-1, 0] == value


def test_depth_is_a_matter_of_brackets_outside_of_texts() -> None:
    assert not deeper_than(b"[" * 64 + b"]" * 64, 64)
    assert deeper_than(b"[" * 65 + b"]" * 65, 64)
    assert not deeper_than(json.dumps(["[" * 100, "\\" * 3 + '"' + "{" * 100]).encode(), 64)
    assert not deeper_than(b"[]" * 1_000_000, 64)
    assert deeper_than(b"[]" * 1_000_000 + b"[" * 65, 64)


@settings(max_examples=examples(300), deadline=None)
@given(
    st.recursive(
        st.none() | st.text('["\\]{}', max_size=6),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text('["\\', max_size=3), inner, max_size=3)
        ),
        max_leaves=12,
    )
)
def test_depth_is_counted_right(value: Any) -> None:
    def levels(value: Any) -> int:
        if isinstance(value, dict):
            value = list(value.values())
        return 1 + max(map(levels, value), default=0) if isinstance(value, list) else 0

    body, deepest = json.dumps(value).encode(), levels(value)
    assert not deeper_than(body, deepest)
    assert not deepest or deeper_than(body, deepest - 1)


@pytest.mark.parametrize("levels", [65, 1_000, 100_000, 250_000])
@pytest.mark.parametrize(
    "place", [b'{"input":%}', b'{"inputs":[%]}', b'{"input":[1],"other":%}', b'{"input":{"no":%}}', b"%"]
)
def test_deep_nesting_is_malformed_wherever_it_stands(place: bytes, levels: int) -> None:
    for known in (signature(VALUE), TENSOR, TEXTS):
        codec = NativeCodec(known)
        for text in (b"[" * levels + b"]" * levels, b'{"a":' * levels + b"1" + b"}" * levels):
            with pytest.raises(RequestMalformed, match="levels deep"):
                codec.decode(place.replace(b"%", text), "id")
        # Not closed, it is not JSON either.
        with pytest.raises(RequestMalformed):
            codec.decode(place.replace(b"%", b"[" * levels), "id")


def test_far_too_many_values_are_counted_and_not_read() -> None:
    for known in (signature(VALUE), TEXTS, signature(Field(name="t", kind="text", dtype="str"))):
        codec = NativeCodec(known, max_rows=2)
        for row in (b"[1]", b'["a"]', b"1", b"[]", b'","', b'"\\\\"'):
            with pytest.raises(InputError):
                codec.decode(b'{"inputs":[%s]}' % b",".join([row] * 20_000), "id")
    texts = NativeCodec(signature(Field(name="t", kind="text", dtype="str")), max_rows=2)
    # Commas in texts are no values, also beside quotes and backslashes.
    for text in ("," * 50_000, '",\\\\' * 50_000, "\\," * 50_000):
        assert (
            texts.decode(json.dumps({"inputs": [[text]] * 2}).encode(), "id").arrays["strings"][1, 0] == text
        )
        with pytest.raises(RequestTooLarge, match="3 rows and 2"):
            texts.decode(json.dumps({"inputs": [[text]] * 3}).encode(), "id")


def test_the_limit_of_depth_can_be_chosen_and_never_keeps_the_signature_out() -> None:
    body = b'{"input":[1],"other":[[[[1]]]]}'
    with pytest.raises(RequestMalformed, match="more than 4 levels"):
        NativeCodec(signature(VALUE), max_depth=4).decode(body, "id")
    deep = signature(Field(name="x", kind="tensor", dtype="str", shape=(1,) * 8))
    body = b'{"inputs":[{"x":' + b"[" * 8 + b'"a"' + b"]" * 8 + b"}]}"
    assert NativeCodec(deep, max_depth=4).decode(body, "id").rows == 1


def test_a_repeated_key_counts_as_it_was_given_last_and_is_checked() -> None:
    codec = NativeCodec(signature(VALUE))
    for body in (
        b'{"input":["x"],"input":[2]}',
        b'{"input":[1],"input":[2]}',
        b'{"input":{"value":1,"value":2}}',
    ):
        assert codec.decode(body, "id").arrays["numbers"].tolist() == [[2.0]]
    for body in (b'{"input":[1],"input":["x"]}', b'{"input":{"value":1,"value":"x"}}'):
        with pytest.raises(InputError):
            codec.decode(body, "id")
    # Also where many numbers are read at once.
    large = b"[" + b"[1]," * LARGE_BYTES + b"[2]]"
    with pytest.raises(InputError):
        codec.decode(b'{"inputs":%s,"inputs":[["x"]]}' % large, "id")
    assert codec.decode(b'{"inputs":[["x"]],"inputs":%s}' % large, "id").rows == LARGE_BYTES + 1


# ---------------------------------------------------------------- properties


def _npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


SEEDS = {
    "table": [json.dumps({"input": TABLE_ROW}).encode(), json.dumps({"inputs": [TABLE_ROW] * 3}).encode(),
              json.dumps({"input": dict(zip(["value", "count", "plan", "on", "day"], TABLE_ROW,
              strict=True))}).encode()],
    "numbers": [b'{"input":[1,2,3.5]}', b'{"inputs":[[1,2,3],[4,5,6]]}'],
    "tensor": [b'{"input":[[1,2],[3,4]]}', b'{"inputs":[[[1,2],[3,4]]]}', b'{"input":{"x":[[1,2],[3,4]]}}'],
    "free": [b'{"input":[[1,2],[3,4],[5,6]]}', b'{"inputs":[[[1,2]],[[3,4]]]}'],
    "pair": [b'{"input":{"a":[1,2],"b[":[[3,4]]}}',
        b'{"inputs":[{"a":[1,2],"b[":[[3,4]]},[[1,2],[[3,4]]]]}'],
}  # fmt: skip
BINARY = {
    "numbers": [np.arange(6.0).reshape(2, 3).tobytes(), _npy(np.arange(6.0).reshape(2, 3)),
        _npy(np.arange(3))],
    "tensor": [np.ones((2, 2), np.float32).tobytes(), _npy(np.ones((3, 2, 2), np.float32)),
        _npy(np.ones((2, 2), ">f8", "F"))],
    "free": [_npy(np.ones((2, 3, 2), np.int16)), _npy(np.ones((3, 2), np.uint64))],
}  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A good body with up to four changes: bytes taken out, put in, replaced, doubled, cut off."""
    body = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(body)))
        end = min(len(body), start + draw(st.integers(0, 6)))
        change = draw(st.sampled_from(["put", "take", "double", "cut", "token"]))
        if change == "put":
            body[start:end] = draw(st.binary(max_size=4))
        elif change == "take":
            del body[start:end]
        elif change == "double":
            body[start:start] = body[start:end] * draw(st.integers(1, 50))
        elif change == "cut":
            del body[start:]
        else:
            tokens = [b"null", b"true", b"[", b"]", b"{", b"}", b",", b":", b'"', b"1e999", b"-",
                b"NaN", b"[]", b"\\", b"9" * 400,
                      b"1.5", b'"x"', b"-1", b"70000", b"\xff", b"\x00"]  # fmt: skip
            body[start:end] = draw(st.sampled_from(tokens))
    return bytes(body)


@pytest.mark.parametrize("name", SEEDS)
@settings(max_examples=examples(250), deadline=None)
@given(data=st.data())
def test_mutated_bodies(name: str, data: st.DataObject) -> None:
    body = data.draw(mutated(SEEDS[name]))
    found = outcome(NativeCodec(SIGNATURES[name]), body)
    if not is_json(body):
        assert isinstance(found, RequestMalformed)


@pytest.mark.parametrize("name", SIGNATURES)
@settings(max_examples=examples(100), deadline=None)
@given(body=st.binary(max_size=200) | st.text(max_size=60).map(str.encode))
def test_arbitrary_bytes(name: str, body: bytes) -> None:
    for codec in native_codecs(SIGNATURES[name]).values():
        outcome(codec, body)


@pytest.mark.parametrize("name", BINARY)
@settings(max_examples=examples(250), deadline=None)
@given(data=st.data())
def test_mutated_arrays(name: str, data: st.DataObject) -> None:
    body = data.draw(mutated(BINARY[name]))
    for codec in native_codecs(SIGNATURES[name]).values():
        outcome(codec, body)


@pytest.mark.parametrize("name", ["numbers", "tensor", "free", "pair"])
@settings(max_examples=examples(250), deadline=None)
@given(data=st.data())
def test_many_numbers_at_once_are_read_as_one_by_one(name: str, data: st.DataObject) -> None:
    """White space makes a body large; it must not matter otherwise."""
    body = data.draw(mutated(SEEDS[name]) | st.sampled_from(SEEDS[name]))
    codec = NativeCodec(SIGNATURES[name])
    small, large = outcome(codec, body), outcome(codec, body + b" " * LARGE_BYTES)
    assert type(small) is type(large)
    if isinstance(small, Request) and isinstance(large, Request):
        assert small.rows == large.rows
        assert small.single == large.single
        for key, array in small.arrays.items():
            assert array.dtype == large.arrays[key].dtype
            assert array.shape == large.arrays[key].shape
            np.testing.assert_array_equal(array, large.arrays[key])


@settings(max_examples=examples(200), deadline=None)
@given(
    st.lists(
        st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70),
        min_size=1,
        max_size=30,
    )
)
def test_many_numbers_are_read_exactly(values: list[float]) -> None:
    codec = NativeCodec(signature(Field(name="x", kind="tensor", dtype="float64", shape=(-1,))))
    body = json.dumps({"input": values}).encode()
    for size in (0, LARGE_BYTES):
        array = codec.decode(body + b" " * size, "id").arrays["x"]
        assert array.tolist() == [[float(value) for value in values]]
        assert all(map(math.isfinite, array[0]))
