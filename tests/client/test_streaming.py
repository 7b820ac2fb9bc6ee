"""Rows without end and answers line by line; each test runs over both clients."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pandas as pd
import polars as pl
import pytest

from servable.client import AsyncClient, Client, Prediction
from servable.errors import RemoteError, RequestInvalid, ServerUnreachable, SettingInvalid
from servable.testing import FakeClock

Handler = Callable[[httpx.Request], httpx.Response]
COMMON = {"model": "m", "version": 2, "request_id": "r"}


def doubled(request: httpx.Request) -> httpx.Response:
    """Answers each row with twice its first value."""
    if request.headers["content-type"] in ("application/x-npy", "application/x-ndjson"):
        return httpx.Response(415)
    rows = json.loads(request.content)["inputs"]
    firsts = [next(iter(row.values())) if isinstance(row, dict) else row[0] for row in rows]
    return httpx.Response(200, json={"predictions": [2 * first for first in firsts], **COMMON})


def sync_stream(handler: Handler, verb: str, *arguments: Any, take: int | None = None, **options: Any) -> Any:
    client_options = options.pop("client", {})
    with Client("http://x", transport=httpx.MockTransport(handler), **client_options) as client:
        answers = getattr(client, verb)(*arguments, **options)
        found = list(itertools.islice(answers, take))
        answers.close()
        return found


def async_stream(
    handler: Handler, verb: str, *arguments: Any, take: int | None = None, **options: Any
) -> Any:
    client_options = options.pop("client", {})

    async def main() -> list[Prediction]:
        transport = httpx.MockTransport(handler)
        async with AsyncClient("http://x", transport=transport, **client_options) as client:
            answers = getattr(client, verb)(*arguments, **options)
            found: list[Prediction] = []
            while take is None or len(found) < take:
                try:
                    found.append(await anext(answers))
                except StopAsyncIteration:
                    break
            await answers.aclose()
            return found

    return asyncio.run(main())


@pytest.fixture(params=[sync_stream, async_stream], ids=["sync", "async"])
def stream(request) -> Any:
    return request.param


class Counted:
    """Counts its rows as they are taken."""

    def __init__(self, end: int | None = None) -> None:
        self.taken = 0
        self._end = end

    def __iter__(self) -> Iterator[list[int]]:
        while self._end is None or self.taken < self._end:
            self.taken += 1
            yield [self.taken]


@pytest.mark.parametrize("batch_rows", [1, 3, 1000])
def test_answers_come_in_the_order_of_the_rows(stream, batch_rows):
    answers = stream(doubled, "predict_stream", "m", Counted(20), batch_rows=batch_rows, concurrency=3)
    assert [one.prediction for one in answers] == [2 * (index + 1) for index in range(20)]
    assert {(one.model, one.version) for one in answers} == {("m", 2)}


def test_an_endless_iterator_is_taken_only_as_far_as_needed(stream):
    rows = Counted()
    answers = stream(doubled, "predict_stream", "m", rows, batch_rows=5, concurrency=2, take=11)
    assert [one.prediction for one in answers] == list(range(2, 24, 2))
    assert rows.taken <= 11 + 2 * 5 + 5


def test_no_rows_no_answers(stream):
    assert stream(doubled, "predict_stream", "m", []) == []


@pytest.mark.parametrize(
    "rows",
    [
        np.arange(10.0).reshape(10, 1),
        pd.DataFrame({"a": range(10)}),
        pl.DataFrame({"a": range(10)}),
        [{"a": index} for index in range(10)],
        ([index] for index in range(10)),
    ],
    ids=["numpy", "pandas", "polars", "dicts", "generator"],
)
def test_rows_of_every_form(rows):
    found = sync_stream(doubled, "predict_stream", "m", rows, batch_rows=4)
    assert [one.prediction for one in found] == [2 * index for index in range(10)]


def test_rows_of_an_asynchronous_iterator():
    async def rows() -> AsyncIterator[list[int]]:
        for index in range(10):
            yield [index]

    found = async_stream(doubled, "predict_stream", "m", rows(), batch_rows=4)
    assert [one.prediction for one in found] == [2 * index for index in range(10)]


def test_a_failing_batch_ends_the_stream_after_the_answers_before_it(stream):
    def failing(request: httpx.Request) -> httpx.Response:
        return httpx.Response(422) if b"[7]" in request.content else doubled(request)

    got: list[int] = []

    def rows() -> Iterator[list[int]]:
        for index in range(100):
            got.append(index)
            yield [index]

    with pytest.raises(RemoteError, match="422"):
        stream(failing, "predict_stream", "m", rows(), batch_rows=2, concurrency=2)
    assert len(got) < 20


@pytest.mark.parametrize(
    ("rows", "options", "error"),
    [
        ({"a": 1}, {}, RequestInvalid),
        ("text", {}, RequestInvalid),
        (7, {}, RequestInvalid),
        ([[1]], {"batch_rows": 0}, SettingInvalid),
        ([[1]], {"concurrency": 0}, SettingInvalid),
    ],
)
def test_streams_that_cannot_be(stream, rows, options, error):
    with pytest.raises(error):
        stream(doubled, "predict_stream", "m", rows, **options)


# ---------------------------------------------------------------------- line by line


def lines(*texts: str, status: int = 200) -> Handler:
    def handler(request: httpx.Request) -> httpx.Response:
        assert request.headers["accept"].startswith("application/x-ndjson")
        assert request.headers["content-type"] == "application/x-ndjson"
        assert [json.loads(line) for line in request.content.splitlines()] == [
            [index + 1] for index in range(request.content.count(b"\n"))
        ]
        headers = {"content-type": "application/x-ndjson; charset=utf-8", "x-request-id": "r7"}
        return httpx.Response(status, headers=headers, content="\n".join(texts).encode())

    return handler


def test_answers_line_by_line(stream):
    told = lines('{"prediction": 1}', "", '{"prediction": 2, "request_id": "own", "version": 4}\n')
    first, second = stream(told, "predict_lines", "m", [[1], [2]])
    assert (first.prediction, first.request_id) == (1, "r7")
    assert (second.prediction, second.request_id, second.version) == (2, "own", 4)


def test_a_server_that_answers_all_at_once(stream):
    assert [one.prediction for one in stream(doubled, "predict_lines", "m", [[1], [2]])] == [2, 4]


def test_an_error_among_the_lines(stream):
    error = json.dumps({"error": {"code": "model_failed", "message": "It failed.", "request_id": "r9"}})
    told = lines('{"prediction": 1}', error, '{"prediction": 3}')
    assert [one.prediction for one in stream(told, "predict_lines", "m", [[1], [2], [3]], take=1)] == [1]
    with pytest.raises(RemoteError, match="It failed") as failed:
        stream(told, "predict_lines", "m", [[1], [2], [3]])
    assert (failed.value.remote_code, failed.value.request_id) == ("model_failed", "r9")


@pytest.mark.parametrize("text", ["<html>", "[]", "{}", '{"prediction'])
def test_lines_that_are_none_of_ours(stream, text):
    with pytest.raises(RemoteError, match="not an answer of Servable"):
        stream(lines(text), "predict_lines", "m", [[1]])


def test_lines_are_asked_for_again_only_before_the_first(stream):
    asked: list[int] = []

    def failing(request: httpx.Request) -> httpx.Response:
        asked.append(1)
        if len(asked) == 1:
            return httpx.Response(503)
        return lines('{"prediction": 1}', "broken")(request)

    with pytest.raises(RemoteError, match="not an answer"):
        stream(failing, "predict_lines", "m", [[1], [2]])
    assert len(asked) == 2
    with pytest.raises(RemoteError, match="422"):
        stream(lambda _: httpx.Response(422), "predict_lines", "m", [[1]])


def test_lines_that_drip_end_with_the_time(stream):
    clock = FakeClock()

    class Drip(httpx.SyncByteStream, httpx.AsyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            while True:
                clock.advance(3)
                yield b'{"prediction": 1}\n'

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for part in self:
                yield part

    def drip(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": "application/x-ndjson"}, stream=Drip())

    with pytest.raises(ServerUnreachable, match="within 10 s"):
        stream(drip, "predict_lines", "m", [[1]], client={"clock": clock, "timeout_s": 10.0})
