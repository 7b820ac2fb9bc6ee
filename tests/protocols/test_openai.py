"""OpenAI's codecs: what they accept, and that nothing breaks them."""

import base64
import contextlib
import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servable.artifact.signature import Field, Signature
from servable.errors import (
    ConflictError,
    InputError,
    ModelFailed,
    ModelNotFound,
    Overloaded,
    RequestInvalid,
    RequestMalformed,
    RequestTooLarge,
    ServableError,
    VersionNotFound,
)
from servable.protocols.base import CodecLimits
from servable.protocols.openai import EmbeddingsCodec, error_body, model_of
from servable.protocols.openai_text import COMPLETION, EVENTS, TextCodec, prompt_of
from servable.tensors import Response
from servable.testing import fake_signature
from thoroughness import examples

VECTOR = Field(name="vector", kind="tensor", dtype="float32", shape=(4,))
PROMPT = Field(name="prompt", kind="text", dtype="str")
IDS = Field(name="ids", kind="tensor", dtype="int32", shape=(3,))


def signature(taken: Field, given: Field) -> Signature:
    return Signature(task="transform", inputs=(taken,), outputs=(given,))


EMBEDDER = EmbeddingsCodec(signature(PROMPT, VECTOR))
TOKENS = EmbeddingsCodec(signature(IDS, VECTOR))
CHATTER = TextCodec(signature(PROMPT, PROMPT))
COMPLETER = TextCodec(signature(PROMPT, PROMPT), form=COMPLETION)
CODECS = (EMBEDDER, TOKENS, CHATTER, COMPLETER)

PLAIN = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5)
VALUES = st.recursive(
    PLAIN,
    lambda part: (
        st.lists(part, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "include_usage"]), part, max_size=3
        )
    ),
    max_leaves=10,
)
KEYS = (
    "model",
    "input",
    "prompt",
    "messages",
    "encoding_format",
    "dimensions",
    "stop",
    "stream",
    "n",
    "tools",
)


@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4) | VALUES)
@settings(max_examples=examples(150))
def test_any_json_is_read_or_refused(content: Any) -> None:
    body = json.dumps(content).encode()
    for codec in CODECS:
        with contextlib.suppress(InputError):
            assert codec.decode(body, "id").rows
    with contextlib.suppress(InputError):
        assert isinstance(model_of(body), str)


@given(st.binary(max_size=60))
@settings(max_examples=examples(60))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    for codec in CODECS:
        with contextlib.suppress(InputError):
            assert codec.decode(body, "id").rows


@given(
    st.lists(
        st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=4, max_size=4),
        min_size=1,
        max_size=3,
    )
)
@settings(max_examples=examples(60))
def test_base64_and_lists_hold_the_same(rows: list[list[float]]) -> None:
    vectors = np.array(rows, np.float32)
    told = {}
    for form in ("float", "base64"):
        wish = EMBEDDER.decode(json.dumps({"input": "x", "encoding_format": form}).encode(), "id").wish
        response = Response({"vector": vectors}, len(rows), "id", "net", 2, wish=wish)
        told[form] = [entry["embedding"] for entry in json.loads(EMBEDDER.encode(response))["data"]]
    packed = [np.frombuffer(base64.b64decode(each), "<f4") for each in told["base64"]]
    assert np.array_equal(packed, vectors)
    assert np.array_equal(np.array(told["float"], np.float32), vectors)


def test_the_prompt_of_a_chat() -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Good "}, {"type": "text", "text": "day."}],
        },
        {"role": "assistant", "content": "Yes?"},
    ]
    assert prompt_of(messages) == "developer: Be brief.\nuser: Good day.\nassistant: Yes?\nassistant:"
    with pytest.raises(RequestInvalid) as caught:
        prompt_of([{"role": "tool", "content": None}, 1, {"role": "user", "content": [{"type": "text"}]}])
    assert [problem.path for problem in caught.value.problems] == [
        "messages[0].role", "messages[0].content", "messages[1]", "messages[2].content[0]"
    ]  # fmt: skip


def test_a_stream_and_a_whole_answer_hold_the_same() -> None:
    for codec in (CHATTER, COMPLETER):
        content = {"prompt": ["a", "b"], "messages": [{"role": "user", "content": "a"}], "stop": ["!", "?"]}
        told = {}
        for stream in (False, True):
            request = codec.decode(json.dumps(content | {"stream": stream}).encode(), "id")
            texts = np.array([["yes? no!"], ["no"]][: request.rows], object)
            made = codec.at(123).encode(
                Response({"text": texts}, request.rows, "id", "net", 2, wish=request.wish)
            )
            told[stream] = made
        whole = json.loads(told[False])
        assert (whole["created"], whole["model"]) == (123, "net:2")
        assert told[True].media_type == EVENTS
        *lines, done = told[True].body.decode().strip().split("\n\n")
        assert done == "data: [DONE]"
        pieces = [json.loads(line.removeprefix("data: ")) for line in lines]
        assert {piece["id"] for piece in pieces} == {whole["id"]}
        joined = [""] * len(whole["choices"])
        for piece in pieces:
            (choice,) = piece["choices"]
            joined[choice["index"]] += choice.get("text") or choice.get("delta", {}).get("content", "")
        wholes = [choice.get("text") or choice["message"]["content"] for choice in whole["choices"]]
        assert joined == wholes == ["yes", "no"][: len(wholes)]


def test_models_that_do_not_fit_are_refused() -> None:
    for codec in (
        EmbeddingsCodec(fake_signature(2)),
        TextCodec(fake_signature(2)),
        TextCodec(signature(IDS, PROMPT)),
    ):
        with pytest.raises(RequestInvalid) as caught:
            codec.decode(b'{"input": "x", "messages": [{"role": "user", "content": "x"}]}', "id")
        assert caught.value.problems[0].path == "model"


def test_limits() -> None:
    codec = EmbeddingsCodec(signature(PROMPT, VECTOR), CodecLimits(max_rows=2))
    with pytest.raises(RequestTooLarge):
        codec.decode(b'{"input": ["a", "b", "c"]}', "id")
    with pytest.raises(RequestMalformed, match="nested"):
        codec.decode(b'{"input": ' + b"[" * 100 + b"]" * 100 + b"}", "id")


def test_another_number_of_texts_is_no_answer() -> None:
    with pytest.raises(ValueError, match="number of texts"):
        CHATTER.encode(Response({"text": np.array(["a", "b"], object)}, 1, "id", "net", 1))


def test_the_model_of_a_body() -> None:
    assert model_of(b'{"model": "net@best", "input": [[1]]}') == "net@best"
    assert model_of(b'{"input": 1}') == model_of(b'{"model": null}') == ""
    with pytest.raises(RequestInvalid):
        model_of(b'{"model": ["net"]}')
    for body in (b"", b"[]", b"{", b'"model"', b'{"a": ' * 100_000):
        with pytest.raises(RequestMalformed):
            model_of(body)


@pytest.mark.parametrize(
    ("error", "kind", "parameter", "code"),
    [
        (RequestMalformed("x"), "invalid_request_error", None, "malformed_request"),
        (ModelNotFound("x"), "invalid_request_error", "model", "model_not_found"),
        (VersionNotFound("x"), "invalid_request_error", "model", "model_not_found"),
        (ConflictError("x"), "invalid_request_error", "model", "conflict"),
        (Overloaded("x"), "server_error", None, "overloaded"),
        (ModelFailed("x"), "server_error", None, "model_failed"),
        (ServableError("x"), "server_error", None, "internal_error"),
    ],
)
def test_errors(error: ServableError, kind: str, parameter: str | None, code: str) -> None:
    told = msgspec.json.decode(error_body(error, "id"))
    assert told == {"error": {"message": "x", "type": kind, "param": parameter, "code": code}}
