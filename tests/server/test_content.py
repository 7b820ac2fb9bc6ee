"""Content types and forms of answers over a real server, asked by real clients."""

import gzip
import io
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pytest

import servable
from protocols.content import form
from serving.making import COLUMNS, expected, publish_heavy, publish_iris

LINES = "application/x-ndjson"
ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
ROWS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3], [5.9, 3.0, 4.2, 1.5]]
WANT = [expected(row) for row in ROWS]
LABELS = [label for label, _ in WANT]
CHANCES = np.array([chances for _, chances in WANT])
FRAME = pd.DataFrame(ROWS, columns=list(COLUMNS))


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One server with a quick model, which is the default, and one whose rows take some milliseconds."""
    home: Path = tmp_path_factory.mktemp("content") / "home"
    publish_iris(home, default=True)
    publish_heavy(home, width=512)
    server = servable.serve(home=home, port=0, background=True)
    yield server.url
    server.stop()


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=60) as opened:
        yield opened


def ask(
    client: httpx.Client, body: bytes, content_type: str, path: str = "/predict", **headers: str
) -> httpx.Response:
    return client.post(path, content=body, headers={"content-type": content_type, **headers})


def frame_bytes(write: Any) -> bytes:
    sink = io.BytesIO()
    write(sink)
    return sink.getvalue()


def bodies() -> dict[str, tuple[str, bytes]]:
    """The rows as real clients write them."""
    polars = pl.DataFrame(FRAME.to_dict("list"))
    records = FRAME.to_dict("records")
    return {
        "json": ("application/json", json.dumps({"inputs": ROWS}).encode()),
        "lines": (LINES, b"\n".join(json.dumps(row).encode() for row in ROWS)),
        "pandas csv": ("text/csv", FRAME.to_csv(index=False).encode()),
        "pandas csv without a header": ("text/csv", FRAME.to_csv(index=False, header=False).encode()),
        "pandas parquet": (PARQUET, frame_bytes(lambda sink: FRAME.to_parquet(sink, index=False))),
        "pandas lines": ("application/jsonlines", FRAME.to_json(orient="records", lines=True).encode()),
        "polars csv": ("text/csv", polars.write_csv().encode()),
        "polars parquet": ("application/x-parquet", frame_bytes(polars.write_parquet)),
        "polars arrow": (ARROW, frame_bytes(polars.write_ipc_stream)),
        "polars lines": (LINES, polars.write_ndjson().encode()),
        "messagepack": ("application/x-msgpack", msgspec.msgpack.encode({"inputs": records})),
        "npy": ("application/x-npy", frame_bytes(lambda sink: np.save(sink, np.array(ROWS)))),
        "raw": ("application/octet-stream", np.array(ROWS).tobytes()),
        "file": ("multipart/form-data; boundary=limit",
                 form([("data", "rows.csv", None, FRAME.to_csv(index=False).encode())])),
    }  # fmt: skip


@pytest.mark.parametrize("name", bodies())
def test_every_body_is_answered_alike(client: httpx.Client, name: str) -> None:
    content_type, body = bodies()[name]
    answer = ask(client, body, content_type, accept="application/json")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    said = answer.json()
    assert said["predictions"] == LABELS
    found = [list(chances.values()) for chances in said["probabilities"]]
    np.testing.assert_allclose(found, CHANCES, atol=1e-12)


@pytest.mark.parametrize("name", ["json", "lines", "pandas csv", "polars arrow", "messagepack", "raw"])
@pytest.mark.parametrize(
    "form_name",
    ["text/csv", ARROW, PARQUET, "application/x-npy", "application/msgpack", LINES, "text/event-stream"],
)
def test_any_form_of_answer_for_any_body(client: httpx.Client, name: str, form_name: str) -> None:
    content_type, body = bodies()[name]
    answer = ask(client, body, content_type, accept=form_name)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == form_name
    assert (answer.headers["x-model-name"], answer.headers["x-model-version"]) == ("iris", "1")
    assert answer.headers["x-request-id"]
    assert labels_of(form_name, answer.content) == LABELS


def labels_of(form_name: str, content: bytes) -> list[str]:
    """The predictions as the usual clients read them."""
    if form_name == "application/msgpack":
        return list(msgspec.msgpack.decode(content)["predictions"])
    if form_name == "application/x-npy":
        return list(np.load(io.BytesIO(content)))
    if form_name in (LINES, "text/event-stream"):
        texts = content.decode().splitlines()
        whole = [json.loads(text.removeprefix("data: ")) for text in texts if "prediction" in text]
        return [each["prediction"] for each in whole]
    source = io.BytesIO(content)
    if form_name == ARROW:
        return list(pl.read_ipc_stream(source)["prediction"])
    frame = pd.read_csv(source) if form_name == "text/csv" else pd.read_parquet(source)
    np.testing.assert_allclose(frame.iloc[:, 1:], CHANCES, atol=1e-12)
    return list(frame["prediction"])


def test_fields_of_a_form_are_one_row(client: httpx.Client) -> None:
    answer = client.post(
        "/predict", files={name: (None, str(value)) for name, value in zip(COLUMNS, ROWS[1], strict=True)}
    )
    assert answer.json()["prediction"] == LABELS[1]


def refused(answer: httpx.Response, status: int, code: str) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert error["code"] == code
    return str(error["message"])


def test_forms_and_types_that_there_are_not(client: httpx.Client) -> None:
    body = json.dumps({"inputs": ROWS}).encode()
    for accept in ("image/png", "application/json;q=0", "text/html, */*;q=0"):
        said = refused(ask(client, body, "application/json", accept=accept), 406, "not_acceptable")
        assert "name one of them" in said
    lines = b"[1,2,3,4]\n"
    refused(ask(client, lines, LINES, accept="image/png"), 406, "not_acceptable")
    for content_type in ("image/png", "audio/wav"):
        said = refused(ask(client, b"\x89PNG", content_type), 415, "unsupported_media_type")
        assert "takes 4 inputs (sepal length (cm)" in said
    assert "text/csv" in refused(ask(client, body, "application/xml"), 415, "unsupported_media_type")


def test_damaged_bodies_are_the_callers_fault(client: httpx.Client) -> None:
    for name, (content_type, body) in bodies().items():
        for damaged in (
            b"",
            body[: len(body) // 2],
            body[: len(body) // 2] + b"\xff\x00" + body[len(body) // 2 :],
        ):
            for accept in ("*/*", ARROW):
                answer = ask(client, damaged, content_type, accept=accept)
                assert answer.status_code < 500, (name, answer.text)


def test_lines_are_answered_one_by_one(client: httpx.Client) -> None:
    lines = [json.dumps(row) for row in ROWS]
    body = "\n".join(
        [lines[0], "nope", '{"input": [1, 2]}', "", lines[1], f'{{"input": {lines[2]}}}', '[1,2,3,"x"]']
    )
    answer = ask(client, body.encode(), LINES)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == LINES
    assert answer.headers["transfer-encoding"] == "chunked"
    said = [json.loads(line) for line in answer.text.splitlines()]
    assert [each.get("prediction") for each in said] == [LABELS[0], None, None, LABELS[1], LABELS[2], None]
    wrong = [each for each in said if "error" in each]
    assert [each["line"] for each in wrong] == [2, 3, 7]
    assert [each["error"]["code"] for each in wrong] == [
        "malformed_request",
        "invalid_request",
        "invalid_request",
    ]
    assert wrong[2]["error"]["details"][0]["path"] == "input[3]"
    assert {each["error"]["request_id"] for each in wrong} == {answer.headers["x-request-id"]}


def test_events_end_with_an_event(client: httpx.Client) -> None:
    body = b"\n".join(json.dumps(row).encode() for row in ROWS) + b"\nnope\n"
    answer = ask(client, body, LINES, accept="text/event-stream")
    assert answer.headers["content-type"] == "text/event-stream"
    events = answer.text.strip().split("\n\n")
    assert [json.loads(event.removeprefix("data: ")).get("prediction") for event in events[:3]] == LABELS
    assert json.loads(events[3].removeprefix("data: "))["line"] == 4
    assert events[4].startswith("event: end\ndata: ")
    end = json.loads(events[4].partition("data: ")[2])
    assert end == {"model": "iris", "version": 1, "request_id": answer.headers["x-request-id"], "rows": 3}


def test_many_lines_come_in_order_and_the_first_ones_early(client: httpx.Client) -> None:
    rows = [[float(index), 1.0, 2.0, 3.0] for index in range(3000)]
    body = b"\n".join(json.dumps(row).encode() for row in rows)
    whole = client.post("/models/heavy/predict", json={"inputs": rows}).json()["predictions"]
    with client.stream(
        "POST", "/models/heavy/predict", content=body, headers={"content-type": LINES}
    ) as answer:
        lines = answer.iter_lines()
        first = json.loads(next(lines))["prediction"]
        running = client.get("/models/heavy")
        rest = [json.loads(line)["prediction"] for line in lines]
    assert running.status_code == 200
    np.testing.assert_allclose([first, *rest], whole, atol=1e-9)


def test_packed_lines_and_limits(client: httpx.Client) -> None:
    body = b"\n".join(json.dumps(row).encode() for row in ROWS)
    packed = ask(client, gzip.compress(body), LINES, **{"content-encoding": "gzip"})
    assert [json.loads(line)["prediction"] for line in packed.text.splitlines()] == LABELS
    refused(ask(client, b"nope", LINES, **{"content-encoding": "gzip"}), 400, "malformed_request")
    refused(ask(client, b" \n", LINES), 422, "invalid_request")
    refused(ask(client, b"[1,2,3,4]\n" * 100_001, LINES), 413, "request_too_large")
    refused(ask(client, body, LINES, **{"x-request-timeout-ms": "soon"}), 400, "malformed_request")
    refused(ask(client, body, LINES, path="/models/nothing/predict"), 404, "model_not_found")
    assert client.get("/predict", headers={"content-type": LINES}).status_code == 405
    late = ask(
        client,
        b"[1,2,3,4]\n" * 20_000,
        LINES,
        path="/models/heavy/predict",
        **{"x-request-timeout-ms": "700"},
    )
    if late.status_code == 200:
        codes = [json.loads(line).get("error", {}).get("code") for line in late.text.splitlines()]
        assert len(codes) == 20_000
        assert codes[-1] in ("deadline_exceeded", "overloaded")
    else:
        assert late.status_code in (503, 504)


def test_a_caller_who_leaves_stops_the_work(client: httpx.Client, url: str) -> None:
    host, _, port = url.removeprefix("http://").partition(":")
    body = b"[1,2,3,4]\n" * 50_000
    head = (
        f"POST /models/heavy/predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: {LINES}\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as caller:
        caller.sendall(head.encode() + body)
        assert caller.recv(100).startswith(b"HTTP/1.1 200 OK")
    before = answered_rows(client)
    deadline = time.monotonic() + 30
    while True:
        after = answered_rows(client)
        # Two looks with nothing between them mean that nobody works for it any more.
        answer = client.post(
            "/models/heavy/predict", json={"input": [1, 2, 3, 4]}, headers={"x-request-timeout-ms": "20000"}
        )
        assert answer.status_code == 200
        if answered_rows(client) == after + 1:
            break
        assert time.monotonic() < deadline
    assert after - before < 40_000


def answered_rows(client: httpx.Client) -> int:
    text = client.get("/metrics").text
    return sum(
        int(float(line.rpartition(" ")[2]))
        for line in text.splitlines()
        if line.startswith("servable_rows_total") and 'model="heavy"' in line
    )


def test_the_documentation_names_them(client: httpx.Client) -> None:
    operation = client.get("/openapi.json").json()["paths"]["/models/iris/predict"]["post"]
    for body in ("text/csv", ARROW, PARQUET, LINES, "application/msgpack", "multipart/form-data"):
        assert operation["requestBody"]["content"][body]["schema"]
    assert set(operation["responses"]["200"]["content"]) >= {"application/json", "text/event-stream", ARROW}
    assert "406" in operation["responses"]
