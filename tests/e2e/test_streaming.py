"""Answers in pieces from a real server: every format, and everything that can go wrong on the way."""

import json
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import tritonclient.grpc as triton

import servable
from servable.engines.local import LocalServer
from servable.registry.home import open_home
from servable.settings import ServerSettings
from serving import streaming_models as models
from serving.making import publish_iris

FILE = Path(models.__file__)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home: Path = tmp_path_factory.mktemp("streams") / "home"
    for name in ("Gated", "Endless", "Echo", "Numbers"):
        servable.add(f"{FILE}:{name}", name=name.lower(), trust=True, deploy=True, home=home)
    publish_iris(home)
    with open_home(home) as opened:
        opened.deployments.deploy("iris", 1)
    with LocalServer(ServerSettings(home=str(home), port=0, confinement="off")) as server:
        yield server.url


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "gate")
    return tmp_path


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never came to pass"
        time.sleep(0.01)


def pieces_of(lines: Iterator[str]) -> Iterator[Any]:
    """The contents of the events of a stream, with the name of each where it has one."""
    name = ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))
            name = ""


def figure(url: str, name: str, model: str) -> float:
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    found = [line for line in lines if line.startswith(f"{name}{{") and f'model="{model}"' in line]
    return sum(float(line.rpartition(" ")[2]) for line in found)


# ---------------------------------------------------------------------- pieces arrive as they are made


def test_a_piece_is_there_before_the_next_is_made(url: str, gate: Path) -> None:
    with httpx.stream("POST", f"{url}/models/gated/stream", json={"input": [str(gate)]}) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["x-model-name"] == "gated"
        pieces = pieces_of(answer.iter_lines())
        for number in range(3):
            assert next(pieces) == ("", {"prediction": f"word{number} "})
            if number < 2:
                (gate / "gate").write_text("")
        name, end = next(pieces)
    assert name == "end"
    assert (end["model"], end["rows"]) == ("gated", 1)


def test_events_at_the_address_of_whole_answers(url: str) -> None:
    head = {"accept": "text/event-stream"}
    answer = httpx.post(f"{url}/models/echo/predict", json={"input": ["a b"]}, headers=head)
    told = list(pieces_of(iter(answer.text.splitlines())))
    assert [content for name, content in told if not name] == [{"prediction": "a "}, {"prediction": "b "}]


def test_json_lines(url: str) -> None:
    head = {"accept": "application/x-ndjson"}
    answer = httpx.post(f"{url}/models/numbers/stream", json={"input": [3]}, headers=head)
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line) for line in answer.text.splitlines()] == [
        {"prediction": [0.0]},
        {"prediction": [1.0]},
        {"prediction": [2.0]},
    ]


def test_a_whole_answer_is_all_pieces(url: str) -> None:
    with servable.Client(url) as client:
        assert client.predict("echo", {"prompt": "a b"}).prediction == "a b "
        assert client.predict("numbers", {"below": 3}).prediction == [0.0, 1.0, 2.0]


def test_a_model_that_answers_whole_gives_one_piece(url: str) -> None:
    rows = [[5.1, 3.5, 1.4, 0.2], [6.2, 2.9, 4.3, 1.3]]
    answer = httpx.post(f"{url}/models/iris/stream", json={"inputs": rows})
    told = [content for name, content in pieces_of(iter(answer.text.splitlines())) if not name]
    whole = httpx.post(f"{url}/models/iris/predict", json={"inputs": rows}).json()
    assert [each["prediction"] for each in told] == whole["predictions"]


def test_other_forms_are_refused(url: str) -> None:
    head = {"accept": "text/csv"}
    answer = httpx.post(f"{url}/models/echo/stream", json={"input": ["a"]}, headers=head)
    assert answer.status_code == 406
    assert httpx.post(f"{url}/models/echo/stream", json={"input": [1]}).status_code == 422
    assert httpx.get(f"{url}/models/echo/stream").status_code == 405


def test_generate_stream(url: str) -> None:
    body = {"id": "mine", "text_input": "a b"}
    answer = httpx.post(f"{url}/v2/models/echo/generate_stream", json=body)
    told = [content for _, content in pieces_of(iter(answer.text.splitlines()))]
    assert [each["text_output"] for each in told] == ["a ", "b "]
    assert {each["id"] for each in told} == {"mine"}
    whole = httpx.post(f"{url}/v2/models/echo/generate", json=body).json()
    assert whole["text_output"] == "a b "


def test_completions_and_chats(url: str) -> None:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
        told = list(client.completions.create(model="echo", prompt="a b", stream=True))
        assert [each.choices[0].text for each in told] == ["a ", "b ", ""]
        assert told[-1].choices[0].finish_reason == "stop"
        said = client.chat.completions.create(
            model="echo",
            messages=[{"role": "user", "content": "one two END three"}],
            stream=True,
            stream_options={"include_usage": True},
            stop=["END t"],
        )
        chunks = list(said)
    texts = [each.choices[0].delta.content for each in chunks if each.choices]
    assert "".join(text for text in texts if text) == "user: one two "
    assert chunks[-1].usage is not None


# ---------------------------------------------------------------------- leaving, slowness, several


def test_a_client_that_leaves_stops_the_model(url: str, tmp_path: Path) -> None:
    with httpx.stream("POST", f"{url}/models/endless/stream", json={"input": [str(tmp_path)]}) as answer:
        next(answer.iter_lines())
    until((tmp_path / "closed").exists)
    until(lambda: figure(url, "servable_streams", "endless") == 0)
    assert 'code="client_gone",model="endless"' in httpx.get(f"{url}/metrics").text


def test_a_chat_that_is_left_stops_the_model(url: str, tmp_path: Path) -> None:
    body = {"model": "endless", "prompt": str(tmp_path), "stream": True}
    with httpx.stream("POST", f"{url}/v1/completions", json=body) as answer:
        next(answer.iter_lines())
    until((tmp_path / "closed").exists)


def test_a_slow_reader_stops_the_model_for_as_long_as_it_does_not_read(url: str, tmp_path: Path) -> None:
    made = tmp_path / "made"
    host, port = url.removeprefix("http://").split(":")
    body = json.dumps({"input": [str(tmp_path)]}).encode()
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect((host, int(port)))
        head = f"POST /models/endless/stream HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(body)}\r\n\r\n"
        reader.sendall(head.encode() + body)
        until(made.exists)
        count, since = 0, time.monotonic()
        while time.monotonic() - since < 0.5:
            if made.stat().st_size != count:
                count, since = made.stat().st_size, time.monotonic()
            # What the kernel holds for a socket is some megabytes at most.
            assert count * models.LARGE < 64 * 2**20
            time.sleep(0.02)
        while made.stat().st_size <= count + 8:
            assert reader.recv(1 << 20)
    until((tmp_path / "closed").exists)


def test_streams_and_whole_answers_share_a_process(url: str, tmp_path: Path) -> None:
    with httpx.stream("POST", f"{url}/models/endless/stream", json={"input": [str(tmp_path)]}) as answer:
        first = answer.iter_lines()
        next(first)
        other = tmp_path / "other"
        other.mkdir()
        with httpx.stream("POST", f"{url}/models/endless/stream", json={"input": [str(other)]}) as second:
            others = second.iter_lines()
            next(others)
            with servable.Client(url) as client:
                assert client.predict("endless", {"prompt": ""}).prediction == "once"
            assert figure(url, "servable_streams", "endless") == 2
        until((other / "closed").exists)
        assert not (tmp_path / "closed").exists()
        assert next(line for line in first if line)


# ---------------------------------------------------------------------- failures


def test_a_model_that_raises_in_the_middle(url: str) -> None:
    answer = httpx.post(f"{url}/models/echo/stream", json={"input": ["a raise b"]})
    told = list(pieces_of(iter(answer.text.splitlines())))
    assert told[0] == ("", {"prediction": "a "})
    name, content = told[1]
    assert (name, content["error"]["code"]) == ("error", "model_failed")
    assert "ValueError" in content["error"]["message"]
    assert "secret" not in answer.text
    assert len(told) == 2


def test_a_model_that_raises_at_once_has_a_status_of_its_own(url: str) -> None:
    answer = httpx.post(f"{url}/models/echo/stream", json={"input": ["raise"]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "model_failed")
    body = {"model": "echo", "prompt": "raise", "stream": True}
    assert httpx.post(f"{url}/v1/completions", json=body).status_code == 500


def test_failures_in_the_middle_in_the_words_of_the_format(url: str) -> None:
    lines = httpx.post(f"{url}/v2/models/echo/generate_stream", json={"text_input": "a raise"}).text
    assert "error" in [content for _, content in pieces_of(iter(lines.splitlines()))][1]
    body = {"model": "echo", "prompt": "a raise", "stream": True}
    events = httpx.post(f"{url}/v1/completions", json=body).text
    assert "[DONE]" not in events
    last = json.loads(events.strip().splitlines()[-1].removeprefix("data: "))
    assert last["error"]["code"] == "model_failed"


def test_a_process_that_dies_in_the_middle(url: str) -> None:
    answer = httpx.post(f"{url}/models/echo/stream", json={"input": ["a die b"]})
    told = list(pieces_of(iter(answer.text.splitlines())))
    assert told[0] == ("", {"prediction": "a "})
    assert told[1][1]["error"]["code"] == "model_died"
    with servable.Client(url) as client:
        assert client.predict("echo", {"prompt": "again"}).prediction == "again "


def test_the_deadline_counts_for_the_whole(url: str, gate: Path) -> None:
    head = {"x-request-timeout-ms": "300"}
    with httpx.stream(
        "POST", f"{url}/models/gated/stream", json={"input": [str(gate)]}, headers=head
    ) as answer:
        told = list(pieces_of(answer.iter_lines()))
    assert told[1][1]["error"]["code"] == "deadline_exceeded"
    # The model still waits in its step, and is closed when that ends.
    (gate / "gate").write_text("")
    until(lambda: figure(url, "servable_streams", "gated") == 0)


def test_figures(url: str) -> None:
    before = figure(url, "servable_pieces_total", "numbers")
    firsts = figure(url, "servable_first_piece_seconds_count", "numbers")
    httpx.post(f"{url}/models/numbers/stream", json={"input": [5]})
    assert figure(url, "servable_pieces_total", "numbers") == before + 5
    assert figure(url, "servable_first_piece_seconds_count", "numbers") == firsts + 1


# ---------------------------------------------------------------------- gRPC


class Call:
    """A bidirectional stream of the Triton client."""

    def __init__(self, url: str) -> None:
        self.answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
        self._client = triton.InferenceServerClient(url.removeprefix("http://"))
        self._client.start_stream(lambda result, error: self.answers.put((result, error)))

    def ask(self, model: str, text: str, own_id: str, *, final: bool = False) -> None:
        given = triton.InferInput("prompt", [1, 1], "BYTES")
        given.set_data_from_numpy(np.array([[text]], object))
        self._client.async_stream_infer(model, [given], request_id=own_id, enable_empty_final_response=final)

    def next(self) -> Any:
        result, error = self.answers.get(timeout=30)
        if error is not None:
            raise error
        return result

    def close(self) -> None:
        self._client.stop_stream(cancel_requests=True)
        self._client.close()


@pytest.fixture
def call(url: str) -> Iterator[Call]:
    made = Call(url)
    yield made
    made.close()


def text_of(result: Any) -> str:
    return result.as_numpy("text")[0].decode()


def test_several_answers_to_one_request(call: Call, gate: Path) -> None:
    call.ask("gated", str(gate), "one", final=True)
    call.ask("echo", "a b", "two")
    for number in range(3):
        result = call.next()
        assert (text_of(result), result.get_response().id) == (f"word{number} ", "one")
        if number < 2:
            (gate / "gate").write_text("")
    last = call.next().get_response()
    assert last.parameters["triton_final_response"].bool_param
    assert not last.outputs
    assert [text_of(call.next()) for _ in range(2)] == ["a ", "b "]


def test_a_failure_is_a_message_and_the_next_is_answered(call: Call) -> None:
    call.ask("echo", "a raise", "one")
    call.ask("echo", "c", "two")
    assert text_of(call.next()) == "a "
    with pytest.raises(Exception, match="ValueError"):
        call.next()
    assert text_of(call.next()) == "c "


def test_a_call_that_is_left_stops_the_model(url: str, tmp_path: Path) -> None:
    left = Call(url)
    left.ask("endless", str(tmp_path), "one")
    left.next()
    closing = threading.Thread(target=left.close)
    closing.start()
    until((tmp_path / "closed").exists)
    closing.join()


def test_one_call_is_answered_whole(url: str) -> None:
    with triton.InferenceServerClient(url.removeprefix("http://")) as client:
        given = triton.InferInput("prompt", [1, 1], "BYTES")
        given.set_data_from_numpy(np.array([["a b"]], object))
        assert text_of(client.infer("echo", [given])) == "a b "
