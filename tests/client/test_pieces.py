"""Answers in pieces: what is read of events and lines, and when it is asked again; over both clients."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.test_streaming import async_stream, sync_stream
from servable.client import Piece, parts
from servable.errors import RemoteError, ServerUnreachable
from servable.testing import FakeClock

HEAD = {"x-model-name": "m", "x-model-version": "7", "x-request-id": "r"}
EVENTS = {"content-type": "text/event-stream; charset=utf-8", **HEAD}
LINES = {"content-type": "application/x-ndjson", **HEAD}
END = b'event: end\ndata: {"model": "m", "version": 7, "request_id": "r", "rows": 1}\n\n'
ERROR = json.dumps({"error": {"code": "model_failed", "message": "It failed.", "request_id": "r9"}}).encode()


@pytest.fixture(params=[sync_stream, async_stream], ids=["sync", "async"])
def stream(request) -> Any:
    return request.param


class Bytes(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that comes in parts, before each of which something happens."""

    def __init__(self, *parts: bytes, before: Callable[[], None] = lambda: None) -> None:
        self._parts, self._before = parts, before
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            self._before()
            yield part

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self:
            yield part

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


def event(prediction: Any) -> bytes:
    return b"data: " + json.dumps({"prediction": prediction}, ensure_ascii=False).encode() + b"\n\n"


def telling(*told: bytes, headers: dict[str, str] = EVENTS) -> Callable[[httpx.Request], httpx.Response]:
    return lambda _: httpx.Response(200, headers=headers, stream=Bytes(*told))


def test_a_row_is_asked_for_in_pieces(stream):
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return telling(event("a "), event("b"), END)(request)

    found = stream(handler, "stream", "m@best", {"prompt": "x"}, version=None, request_id="own")
    assert found == [
        Piece(prediction="a ", model="m", version=7, request_id="r"),
        Piece(prediction="b", model="m", version=7, request_id="r"),
    ]
    (request,) = seen
    assert (request.method, request.url.path) == ("POST", "/models/m@best/stream")
    assert request.headers["accept"].startswith("text/event-stream")
    assert request.headers["x-request-id"] == "own"
    assert json.loads(request.content) == {"input": {"prompt": "x"}}
    # Without a time of its own it may last as long as the server lets it.
    assert "x-request-timeout-ms" not in request.headers


def test_the_versions_address_and_a_time_for_the_whole(stream):
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return telling(END)(request)

    assert stream(handler, "stream", "m", ["x"], version=3, timeout_s=5) == []
    assert seen[0].url.path == "/models/m/versions/3/stream"
    assert 0 < int(seen[0].headers["x-request-timeout-ms"]) <= 5000


def test_the_bytes_of_a_file_go_as_they_are_where_the_model_reads_them(stream):
    seen: list[tuple[str, str]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append((request.url.path, request.headers["content-type"]))
        return httpx.Response(415) if len(seen) == 1 else telling(event("a"), END)(request)

    assert [one.prediction for one in stream(handler, "stream", "m", b"bytes")] == ["a"]
    assert seen == [
        ("/models/m/stream", "application/octet-stream"),
        ("/models/m/stream", "application/json"),
    ]


@pytest.mark.parametrize("text", ["a\u2028b", "a\u2029", "\x85", "a\x0bb\x1c", "\r\n", "data: x", ": x"])
def test_no_sign_of_a_text_ends_a_line(stream, text):
    line = json.dumps({"prediction": text}, ensure_ascii=False).encode() + b"\n"
    assert [one.prediction for one in stream(telling(event(text), END), "stream", "m", ["x"])] == [text]
    told = telling(line, line, headers=LINES)
    assert [one.prediction for one in stream(told, "stream", "m", ["x"])] == [text, text]
    assert [one.prediction for one in stream(told, "predict_lines", "m", [["x"]])] == [text, text]


def test_other_events_comments_and_foreign_ends_of_lines_are_passed_over(stream):
    told = telling(
        b": hello\r\n\r\nevent: ping\r\ndata: {}\r\n\r\nid: 4\r\nretry: 5\r\n",
        b'data:{\r\ndata:"prediction": 1}\r\n\r\n\r\n' + END,
    )
    assert [one.prediction for one in stream(told, "stream", "m", ["x"])] == [1]


@given(
    st.lists(st.one_of(st.text(), st.lists(st.floats(allow_nan=False, allow_infinity=False)))),
    st.lists(st.integers(1, 40), min_size=1),
)
def test_the_pieces_are_the_same_however_the_bytes_are_cut(predictions, sizes):
    whole = b"".join(map(event, predictions)) + END
    lines = b"".join(
        json.dumps({"prediction": each}, ensure_ascii=False).encode() + b"\n" for each in predictions
    )
    for body, headers in ((whole, EVENTS), (lines, LINES), (lines.removesuffix(b"\n"), LINES)):
        reader = parts.of_pieces(httpx.Headers(headers), Piece)
        assert reader is not None
        found, place, number = [], 0, 0
        while place < len(body):
            size = sizes[number % len(sizes)]
            found += reader.feed(body[place : place + size])
            place, number = place + size, number + 1
        found += reader.finish()
        assert [one.prediction for one in found] == predictions


# ---------------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("error", "headers"), [(b"event: error\ndata: " + ERROR + b"\n\n", EVENTS), (ERROR, LINES)]
)
def test_an_error_in_the_middle(stream, error, headers):
    first = event("a") if headers is EVENTS else b'{"prediction": "a"}\n'
    told = telling(first, error, headers=headers)
    assert [one.prediction for one in stream(told, "stream", "m", ["x"], take=1)] == ["a"]
    with pytest.raises(RemoteError, match="It failed") as failed:
        stream(told, "stream", "m", ["x"])
    assert (failed.value.remote_code, failed.value.request_id) == ("model_failed", "r9")


def test_an_answer_that_is_cut_off_is_not_taken_for_whole(stream):
    with pytest.raises(ServerUnreachable, match="broke off in the middle"):
        stream(telling(event("a"), event("b")[:-2]), "stream", "m", ["x"])


def test_a_connection_that_breaks_in_the_middle(stream):
    def broken() -> None:
        raise httpx.ReadError("reset")

    answer = httpx.Response(200, headers=EVENTS, stream=Bytes(b"", before=broken))
    with pytest.raises(ServerUnreachable, match=r"broke off in the middle \(reset\)"):
        stream(lambda _: answer, "stream", "m", ["x"])


@pytest.mark.parametrize(
    ("told", "headers"),
    [
        (b"data: {}\n\n", EVENTS),
        (b"data: \xff\n\n", EVENTS),
        (b"data: [1]\n\n", EVENTS),
        (b"<html>", LINES),
        (b'{"prediction": 1}', {"content-type": "application/json"}),
        (b"<html>", {"content-type": "text/html"}),
        (b"", {}),
    ],
)
def test_something_else_than_pieces(stream, told, headers):
    with pytest.raises(RemoteError, match="not an answer of Servable"):
        stream(telling(told, headers=headers), "stream", "m", ["x"])


def test_it_is_asked_again_only_before_the_first_piece(stream):
    asked: list[int] = []

    def failing(request: httpx.Request) -> httpx.Response:
        asked.append(1)
        return httpx.Response(503) if len(asked) == 1 else telling(event("a"))(request)

    with pytest.raises(ServerUnreachable, match="broke off"):
        stream(failing, "stream", "m", ["x"])
    assert len(asked) == 2
    with pytest.raises(RemoteError, match="422"):
        stream(lambda _: httpx.Response(422), "stream", "m", ["x"])


def test_leaving_closes_the_connection(stream):
    body = Bytes(event("a"), event("b"), END)
    answer = httpx.Response(200, headers=EVENTS, stream=body)
    assert len(stream(lambda _: answer, "stream", "m", ["x"], take=1)) == 1
    assert body.closed


# ---------------------------------------------------------------------- time


def test_the_clients_time_is_for_each_piece(stream):
    clock = FakeClock()
    slow = Bytes(*[event("a")] * 5, END, before=lambda: clock.advance(6))
    found = stream(
        lambda _: httpx.Response(200, headers=EVENTS, stream=slow),
        "stream",
        "m",
        ["x"],
        client={"clock": clock, "timeout_s": 10.0},
    )
    assert len(found) == 5
    drip = Bytes(*[bytes([each]) for each in event("abc")], before=lambda: clock.advance(3))
    with pytest.raises(ServerUnreachable, match="within 10 s"):
        stream(
            lambda _: httpx.Response(200, headers=EVENTS, stream=drip),
            "stream",
            "m",
            ["x"],
            client={"clock": clock, "timeout_s": 10.0},
        )


def test_a_time_of_its_own_is_for_the_whole(stream):
    clock = FakeClock()
    slow = Bytes(*[event("a")] * 5, END, before=lambda: clock.advance(6))
    with pytest.raises(ServerUnreachable, match="within 20 s"):
        stream(
            lambda _: httpx.Response(200, headers=EVENTS, stream=slow),
            "stream",
            "m",
            ["x"],
            timeout_s=20,
            client={"clock": clock},
        )
