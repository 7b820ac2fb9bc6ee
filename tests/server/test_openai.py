"""OpenAI's own client against a real server."""

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from servable.engines.local import LocalServer
from servable.registry.home import open_home
from servable.settings import ServerSettings
from serving.making import publish_iris
from serving.making_texts import REPLY, TOKENS, add_texts, publish_column, vector_of


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home: Path = tmp_path_factory.mktemp("openai") / "home"
    add_texts(home, tmp_path_factory.mktemp("graphs"))
    publish_iris(home)
    publish_column(home)
    with open_home(home) as opened:
        opened.models.set_alias("embedder", "stable", 1)
        opened.deployments.deploy("embedder", 1)
    with LocalServer(ServerSettings(home=str(home), port=0)) as server:
        yield server.url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
        yield client


def native(url: str, model: str, rows: list[Any]) -> list[Any]:
    answer = httpx.post(f"{url}/models/{model}/predict", json={"inputs": rows})
    assert answer.status_code == 200, answer.text
    predictions: list[Any] = answer.json()["predictions"]
    return predictions


# ---------------------------------------------------------------------- embeddings


def test_embeddings_as_the_client_asks_for_them(url: str, client: openai.OpenAI) -> None:
    texts = ["good model", "bad server server", "nothing known"]
    made = client.embeddings.create(model="embedder", input=texts)
    assert [entry.index for entry in made.data] == [0, 1, 2]
    assert [entry.embedding for entry in made.data] == native(url, "embedder", texts)
    np.testing.assert_allclose([entry.embedding for entry in made.data], [vector_of(text) for text in texts])
    assert made.model == "embedder:1"
    assert (made.usage.prompt_tokens, made.usage.total_tokens) == (7, 7)


@pytest.mark.parametrize("form", ["float", "base64"])
@pytest.mark.parametrize("model", ["embedder", "embedder:1", "embedder@stable"])
def test_one_text_under_every_reference(client: openai.OpenAI, model: str, form: Any) -> None:
    made = client.embeddings.create(model=model, input="good server", encoding_format=form, user="u")
    embedding: Any = made.data[0].embedding
    if form == "base64":
        embedding = np.frombuffer(base64.b64decode(embedding), "<f4").tolist()
    assert embedding == pytest.approx(vector_of("good server").tolist())


def test_without_a_name_the_default_model_is_meant(url: str) -> None:
    answer = httpx.post(f"{url}/v1/embeddings", json={"input": "good"})
    assert answer.json()["data"][0]["embedding"] == [1, 0, 0]
    assert answer.json()["model"] == "embedder:1"


def test_fewer_dimensions_have_length_1(client: openai.OpenAI) -> None:
    made = client.embeddings.create(model="embedder", input=["bad server", "unknown"], dimensions=2)
    first, second = (np.array(entry.embedding) for entry in made.data)
    expected = vector_of("bad server")[:2]
    np.testing.assert_allclose(first, expected / np.linalg.norm(expected), rtol=1e-6)
    assert second.tolist() == [0, 0]


def test_a_column_of_text(url: str, client: openai.OpenAI) -> None:
    texts = ["good model", "bad"]
    made = client.embeddings.create(model="column", input=texts)
    assert [entry.embedding for entry in made.data] == native(url, "column", [[text] for text in texts])
    assert made.data[0].embedding == vector_of("good model").tolist()


def test_tokens(client: openai.OpenAI) -> None:
    one = client.embeddings.create(model="tokens", input=[1, 2, 3])
    assert one.data[0].embedding == TOKENS[1:4].mean(axis=0).tolist()
    two = client.embeddings.create(model="tokens", input=[[0, 1], [2, 2]])
    assert [entry.embedding for entry in two.data] == [TOKENS[:2].mean(axis=0).tolist(), TOKENS[2].tolist()]
    assert two.usage.total_tokens == 4


def test_the_async_client(url: str) -> None:
    async def course() -> list[float]:
        async with openai.AsyncOpenAI(base_url=f"{url}/openai/v1", api_key="any") as client:
            made = await client.embeddings.create(model="embedder", input="good")
            stream = await client.completions.create(model="talker", prompt="Well.", stream=True)
            assert "".join([chunk.choices[0].text async for chunk in stream]) == "Well." + REPLY
            return made.data[0].embedding

    assert asyncio.run(course()) == [1, 0, 0]


@pytest.mark.parametrize("prefix", ["/v1", "/openai/v1", "/v3"])
def test_models_in_openais_form(url: str, prefix: str) -> None:
    with openai.OpenAI(base_url=f"{url}{prefix}", api_key="any") as client:
        listed = {model.id: model for model in client.models.list()}
        assert listed.keys() == {"column", "embedder", "iris", "talker", "tokens"}
        assert client.models.retrieve("iris").created == listed["iris"].created > 1_700_000_000
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("nobody")


# ---------------------------------------------------------------------- texts


def test_completions(url: str, client: openai.OpenAI) -> None:
    prompts = ["It rains.", "It is late."]
    made = client.completions.create(model="talker", prompt=prompts, temperature=0.1, max_tokens=5)
    assert [choice.text for choice in made.choices] == [prompt + REPLY for prompt in prompts]
    assert [[choice.text] for choice in made.choices] == native(url, "talker", [[text] for text in prompts])
    assert (made.object, made.choices[1].index, made.choices[1].finish_reason) == (
        "text_completion",
        1,
        "stop",
    )
    assert made.created > 1_700_000_000
    assert made.usage is not None
    assert (made.usage.prompt_tokens, made.usage.completion_tokens) == (5, 7)


def test_a_stop_ends_the_text(client: openai.OpenAI) -> None:
    made = client.completions.create(model="talker", prompt="a b c", stop=["deed", " c"])
    assert made.choices[0].text == "a b"


def test_chat(client: openai.OpenAI) -> None:
    parts: list[Any] = [{"type": "text", "text": "Good "}, {"type": "text", "text": "morning."}]
    made = client.chat.completions.create(
        model="talker",
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": parts}],
    )
    prompt = "system: Be brief.\nuser: Good morning.\nassistant:"
    assert made.choices[0].message.content == prompt + REPLY
    assert made.choices[0].message.role == "assistant"
    assert made.id.startswith("chatcmpl-")


def test_a_streamed_chat(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="talker",
            messages=[{"role": "user", "content": "Hi."}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    told = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(told) == "user: Hi.\nassistant:" + REPLY
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 7
    assert len({chunk.id for chunk in chunks}) == 1


def test_the_events_on_the_wire(url: str) -> None:
    body = {"model": "talker", "prompt": "x", "stream": True}
    answer = httpx.post(f"{url}/v1/completions", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *lines, end = answer.text.removesuffix("\n\n").split("\n\n")
    assert end == "data: [DONE]"
    assert [json.loads(line.removeprefix("data: "))["object"] for line in lines] == ["text_completion"] * 2


# ---------------------------------------------------------------------- errors

BAD: list[tuple[str, Any, int, str | None]] = [
    ("embeddings", {"model": "nobody", "input": "x"}, 404, "model"),
    ("embeddings", {"model": "embedder:9", "input": "x"}, 404, "model"),
    ("embeddings", {"model": 1, "input": "x"}, 400, "model"),
    ("embeddings", {"model": "iris", "input": "x"}, 400, "model"),
    ("embeddings", {"model": "embedder"}, 400, "input"),
    ("embeddings", {"model": "embedder", "input": []}, 400, "input"),
    ("embeddings", {"model": "embedder", "input": ["a", 1]}, 400, "input[1]"),
    ("embeddings", {"model": "embedder", "input": [1, 2]}, 400, "input"),
    ("embeddings", {"model": "tokens", "input": "text"}, 400, "input"),
    ("embeddings", {"model": "tokens", "input": [[1, "2"]]}, 400, "input[0][1]"),
    ("embeddings", {"model": "tokens", "input": [[1], [1, 2]]}, 400, "input"),
    ("embeddings", {"model": "embedder", "input": "x", "encoding_format": "hex"}, 400, "encoding_format"),
    ("embeddings", {"model": "embedder", "input": "x", "dimensions": 4}, 400, "dimensions"),
    ("completions", {"model": "embedder", "prompt": "x"}, 400, "model"),
    ("completions", {"model": "talker"}, 400, "prompt"),
    ("completions", {"model": "talker", "prompt": "x", "n": 2}, 400, "n"),
    ("completions", {"model": "talker", "prompt": "x", "stream": 1}, 400, "stream"),
    ("completions", {"model": "talker", "prompt": "x", "stop": ""}, 400, "stop"),
    ("chat/completions", {"model": "talker", "messages": []}, 400, "messages"),
    ("chat/completions", {"model": "talker", "messages": [{"role": "x", "content": ""}]}, 400,
     "messages[0].role"),
    ("chat/completions", {"model": "talker", "messages": [{"role": "user", "content": [{"type": "image"}]}]},
     400, "messages[0].content[0]"),
    ("chat/completions", {"model": "talker", "messages": "x", "tools": [{}]}, 400, "tools"),
    ("embeddings", [1], 400, None),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "status", "param"), BAD)
def test_errors_are_openais(url: str, path: str, body: Any, status: int, param: str | None) -> None:
    answer = httpx.post(f"{url}/v1/{path}", json=body)
    assert answer.status_code == status, answer.text
    assert answer.json().keys() == {"error"}
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b'{"model": "\xff"}', b'{"a":' * 5000])
def test_garbage(url: str, body: bytes) -> None:
    for path in ("embeddings", "completions", "chat/completions"):
        answer = httpx.post(f"{url}/v1/{path}", content=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed_request")


def test_other_verbs_and_addresses(url: str, client: openai.OpenAI) -> None:
    assert httpx.get(f"{url}/v1/embeddings").json()["error"]["code"] == "method_not_allowed"
    assert httpx.post(f"{url}/openai/v1/images").json()["error"]["type"] == "invalid_request_error"
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="embedder", input="x", dimensions=99)
    assert caught.value.param == "dimensions"


def test_limits_hold(url: str) -> None:
    answer = httpx.post(
        f"{url}/v1/embeddings",
        json={"model": "embedder", "input": "x"},
        headers={"x-request-timeout-ms": "never"},
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed_request")
