"""What takes long is done in a thread: while it waits for one, others are answered."""

import io
import json
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

import grpc
from servable.settings import ServerSettings
from server.asking import FORMS
from server.holding import Gate, holding
from serving.making import COLUMNS, expected, publish_iris

ROWS = np.random.default_rng(0).uniform(0.1, 7.9, (2000, 4))
LABELS = [expected(row.tolist())[0] for row in ROWS]
TABLE = pa.table({name: ROWS[:, index] for index, name in enumerate(COLUMNS)})
GRPC = next(form for form in FORMS if form.name == "OIP gRPC")
HTTP = next(form for form in FORMS if form.name == "native")


class Busy(ThreadPoolExecutor):
    """The one thread of a server's loop, at work for somebody else until ``let_go``."""

    def __init__(self) -> None:
        super().__init__(1)
        self.handed_over = threading.Semaphore(0)
        self._free = threading.Event()
        super().submit(self._free.wait)

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **more: Any) -> "Future[Any]":
        future = super().submit(work, *arguments, **more)
        self.handed_over.release()
        return future

    def let_go(self) -> None:
        self._free.set()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("aside") / "home"
    publish_iris(home)
    return home


@pytest.fixture
def busy() -> Iterator[Busy]:
    made = Busy()
    yield made
    made.let_go()


@pytest.fixture
def url(filled: Path, busy: Busy) -> Iterator[str]:
    gate = Gate()
    with holding(gate, ServerSettings(home=str(filled), port=0)) as address:
        gate.loop.call_soon_threadsafe(gate.loop.set_default_executor, busy)
        yield address
        busy.let_go()


def _arrow() -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, TABLE.schema) as writer:
        writer.write_table(TABLE)
    return bytes(sink.getvalue())


def _parquet() -> bytes:
    sink = pa.BufferOutputStream()
    parquet.write_table(TABLE, sink)
    return bytes(sink.getvalue())


def _csv() -> bytes:
    text = io.StringIO()
    np.savetxt(text, ROWS, "%.17g", ",", header=",".join(COLUMNS), comments="")
    return text.getvalue().encode()


def _lines() -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in ROWS.tolist())


BODIES = {
    "Arrow": ("/predict", "application/vnd.apache.arrow.stream", _arrow()),
    "Parquet": ("/predict", "application/vnd.apache.parquet", _parquet()),
    "CSV": ("/predict", "text/csv", _csv()),
    "CSV of MLflow": ("/invocations", "text/csv", _csv()),
    "lines": ("/predict", "application/x-ndjson", _lines()),
    "lines of SageMaker": ("/invocations", "application/x-jsonlines", _lines()),
}


@pytest.mark.parametrize("kind", BODIES)
def test_long_columns_are_read_while_others_are_answered(kind: str, url: str, busy: Busy) -> None:
    path, content_type, body = BODIES[kind]
    with ThreadPoolExecutor(1) as pool:
        headers = {"content-type": content_type, "accept": "application/json"}
        long = pool.submit(httpx.post, url + path, content=body, headers=headers, timeout=60)
        # The one thread is busy, and the loop is not.
        assert busy.handed_over.acquire(timeout=60)
        told = HTTP.ask(url)
        assert HTTP.right(told.body)
        assert not long.done()
        busy.let_go()
        answer = long.result(60)
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"] == LABELS


def test_a_caller_who_leaves_while_it_is_read_is_not_answered(url: str, busy: Busy) -> None:
    path, content_type, body = BODIES["Arrow"]
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port)) as caller:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        head = f"POST {path} HTTP/1.1\r\nhost: {place.netloc}\r\ncontent-type: {content_type}\r\n"
        caller.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        assert busy.handed_over.acquire(timeout=60)
        # Left with a reset.
    # The server notices by itself, before anything was read.
    while "client_gone" not in httpx.get(f"{url}/metrics").text:
        pass
    busy.let_go()
    assert HTTP.right(HTTP.ask(url).body)
    counts = [
        line.partition("code=")[2]
        for line in httpx.get(f"{url}/metrics").text.splitlines()
        if line.startswith("servable_requests_total{")
    ]
    assert sorted(line.partition('"')[2].partition('"')[0] for line in counts) == ["client_gone", "ok"]


def test_what_is_wrong_with_long_columns_is_told_as_ever(url: str, busy: Busy) -> None:
    busy.let_go()
    path, content_type, body = BODIES["Parquet"]
    answer = httpx.post(url + path, content=body[:-9], headers={"content-type": content_type})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed_request")
    headers = {"content-type": content_type, "x-request-timeout-ms": "1"}
    late = httpx.post(url + path, content=BODIES["Parquet"][2], headers=headers)
    assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_exceeded")


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has never spoken HTTP/2."""
    monkeypatch.delitem(sys.modules, "servable.server.http2", raising=False)


@pytest.mark.usefixtures("fresh")
def test_the_first_client_of_http2_keeps_nobody_waiting(url: str, busy: Busy) -> None:
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(GRPC.ask, url)
        assert busy.handed_over.acquire(timeout=60)
        assert HTTP.right(HTTP.ask(url).body)
        assert not first.done()
        busy.let_go()
        told = first.result(60)
    assert told.status == grpc.StatusCode.OK.name
    assert GRPC.right(told.body)


@pytest.mark.usefixtures("fresh")
def test_a_client_of_http2_may_leave_before_it_is_spoken_to(url: str, busy: Busy) -> None:
    assert GRPC.ask(url, timeout_s="0.2").status in ("DEADLINE_EXCEEDED", "UNAVAILABLE")
    busy.let_go()
    assert GRPC.right(GRPC.ask(url).body)
