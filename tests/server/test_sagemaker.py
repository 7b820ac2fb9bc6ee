"""A caller of a SageMaker endpoint against a real server."""

import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import requests

from servable.engines.local import LocalServer
from servable.registry.home import open_home
from servable.settings import ServerSettings
from serving.making import BIAS, CLASSES, COLUMNS, expected, publish_heavy, publish_iris
from serving.making_texts import TOKENS, add_texts

ROWS = [[5.1, 3.5, 1.4, 0.2], [6.0, 3.0, 5.0, 2.0], [7.0, 3.2, 4.7, 1.4]]
LABELS = [expected(row)[0] for row in ROWS]
CSV = "\n".join(",".join(map(str, row)) for row in ROWS)
ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
TARGET = "X-Amzn-SageMaker-Target-Model"
VARIANT = "X-Amzn-SageMaker-Target-Variant"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("sagemaker") / "home"
    publish_iris(home)
    publish_iris(home, "turned", bias=BIAS[::-1])
    publish_heavy(home, width=8, layers=1)
    add_texts(home, tmp_path_factory.mktemp("graphs"))
    with open_home(home) as opened:
        opened.models.set_alias("turned", "canary", 1)
    with LocalServer(ServerSettings(home=str(home), port=0)) as server:
        yield server.url


def ask(url: str, body: Any, kind: str = "application/json", path: str = "/invocations", **more: str) -> Any:
    content = json.dumps(body) if kind == "application/json" and not isinstance(body, bytes) else body
    headers = {"Content-Type": kind, "Accept": more.pop("accept", "*/*"), **more}
    return requests.post(f"{url}{path}", data=content, headers=headers, timeout=30)


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("body", "kind", "answer"),
    [
        (ROWS, "application/json", LABELS),
        ([{"features": row} for row in ROWS], "application/json", LABELS),
        ({"instances": [{"features": row} for row in ROWS]}, "application/json", {"predictions": LABELS}),
        ({"instances": ROWS}, "application/json", {"predictions": LABELS}),
        ({"features": ROWS[0]}, "application/json", {"predictions": LABELS[:1]}),
        (CSV, "text/csv", {"predictions": LABELS}),
        (CSV + "\n", "text/csv", {"predictions": LABELS}),
        (",".join(COLUMNS) + "\r\n" + CSV, "text/csv", {"predictions": LABELS}),
        (npy(np.array(ROWS)), "application/x-npy", {"predictions": LABELS}),
        (npy(np.array(ROWS[0], np.float32)), "application/x-npy", {"predictions": LABELS[:1]}),
    ],
)
def test_what_goes_in(url: str, body: Any, kind: str, answer: Any) -> None:
    told = ask(url, body, kind)
    assert (told.status_code, told.json()) == (200, answer)


@pytest.mark.parametrize("wrap", [lambda row: row, lambda row: {"features": row},
                                  lambda row: dict(zip(COLUMNS, row, strict=True))])  # fmt: skip
@pytest.mark.parametrize("kind", ["application/jsonlines", "application/x-ndjson"])
def test_json_lines(url: str, kind: str, wrap: Any) -> None:
    told = ask(url, "\n".join(json.dumps(wrap(row)) for row in ROWS), kind)
    assert told.headers["content-type"] == "application/jsonlines"
    assert [json.loads(line) for line in told.text.splitlines()] == LABELS


def test_what_comes_out(url: str) -> None:
    told = ask(url, CSV, "text/csv", accept="text/csv")
    assert (told.headers["content-type"], told.text.split()) == ("text/csv; charset=utf-8", LABELS)
    told = ask(url, CSV, "text/csv", accept="application/x-npy")
    assert np.load(io.BytesIO(told.content)).tolist() == LABELS
    told = ask(url, CSV, "text/csv", accept="text/html, application/jsonlines;q=0.5, application/json;q=0.4")
    assert [json.loads(line) for line in told.text.splitlines()] == LABELS
    told = ask(url, CSV, "text/csv", accept="text/html")
    assert told.json() == {"predictions": LABELS}


def test_probabilities_by_an_attribute(url: str) -> None:
    more = {ATTRIBUTES: "trace=1,probabilities=true"}
    chances = [expected(row)[1].tolist() for row in ROWS]
    told = ask(url, ROWS, **more)
    assert told.headers[ATTRIBUTES] == more[ATTRIBUTES]
    assert [list(each.values()) for each in told.json()] == [pytest.approx(each) for each in chances]
    assert list(told.json()[0]) == list(CLASSES)
    told = ask(url, ROWS, accept="text/csv", **more)
    assert [[float(cell) for cell in line.split(",")] for line in told.text.split()] == [
        pytest.approx(each) for each in chances
    ]
    told = ask(url, ROWS, accept="application/x-npy", **more)
    np.testing.assert_allclose(np.load(io.BytesIO(told.content)), chances)
    told = ask(url, [[1, 2, 3, 4]], path="/models/heavy/invoke", **more)
    assert told.status_code == 400


def test_numbers_and_tensors(url: str) -> None:
    native = requests.post(f"{url}/models/heavy/predict", json={"inputs": ROWS}, timeout=30).json()
    told = ask(url, CSV, "text/csv", "/models/heavy/invoke", accept="text/csv")
    assert [float(line) for line in told.text.split()] == native["predictions"]
    told = ask(url, CSV, "text/csv", "/models/heavy/invoke", accept="application/x-npy")
    assert np.load(io.BytesIO(told.content)).tolist() == native["predictions"]
    told = ask(url, "1,2\n3,4", "text/csv", "/models/tokens/invoke", accept="application/x-npy")
    assert np.load(io.BytesIO(told.content)).tolist() == [
        TOKENS[1:3].mean(axis=0).tolist(),
        TOKENS[3:5].mean(axis=0).tolist(),
    ]
    told = ask(url, '"a, ""b"""\nc\n', "text/csv", "/models/talker/invoke")
    assert [text for (text,) in told.json()["predictions"]] == ['a, "b" Indeed.', "c Indeed."]


def test_headers_are_given_back_if_they_are_harmless(url: str) -> None:
    told = ask(url, ROWS, **{ATTRIBUTES: "trace-id=abc", "X-Amzn-SageMaker-Inference-Id": "id 1"})
    assert told.headers[ATTRIBUTES] == "trace-id=abc"
    assert told.headers["X-Amzn-SageMaker-Inference-Id"] == "id 1"
    told = ask(url, ROWS, **{ATTRIBUTES: "x" * 1025, "X-Amzn-SageMaker-Inference-Id": "caf\xe9"})
    assert told.status_code == 200
    assert ATTRIBUTES not in told.headers
    assert "X-Amzn-SageMaker-Inference-Id" not in told.headers


def test_headers_that_mean_nothing_here_are_passed_over(url: str) -> None:
    told = ask(url, ROWS, **{"X-Amzn-SageMaker-Target-Container-Hostname": "other", "X-Amzn-Trace-Id": "1"})
    assert (told.status_code, told.json()) == (200, LABELS)


def test_targets(url: str) -> None:
    turned = ask(url, ROWS, path="/models/turned/invoke").json()
    assert turned != LABELS
    for headers in (
        {TARGET: "turned"},
        {TARGET: "/turned.tar.gz"},
        {TARGET: "turned:1"},
        {TARGET: "turned@canary"},
        {VARIANT: "turned@canary"},
        {TARGET: "turned", VARIANT: "canary"},
        {TARGET: "turned", VARIANT: "1"},
    ):
        assert ask(url, ROWS, **headers).json() == turned
    # The address was asked without them before and after.
    assert ask(url, ROWS).json() == LABELS
    told = ask(url, ROWS, **{TARGET: "nobody"})
    assert (told.status_code, told.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


def test_models_are_not_loaded_over_http(url: str) -> None:
    told = requests.post(f"{url}/models", json={"model_name": "iris", "url": "/x"}, timeout=30)
    assert (told.status_code, "loaded already" in told.json()["message"]) == (409, True)
    told = requests.post(f"{url}/models", json={"model_name": "new", "url": "/x"}, timeout=30)
    assert (told.status_code, "servable deploy" in told.json()["message"]) == (405, True)
    assert requests.post(f"{url}/models", timeout=30).status_code == 405
    for body in (b"[]", b'{"model_name": 1}', b"[" * 100_000):
        assert requests.post(f"{url}/models", data=body, timeout=30).status_code == 400
    told = requests.delete(f"{url}/models/iris", timeout=30)
    assert (told.status_code, "servable undeploy" in told.json()["message"]) == (405, True)
    assert requests.delete(f"{url}/models/nobody", timeout=30).status_code == 404
    names = [model["name"] for model in requests.get(f"{url}/models", timeout=30).json()["models"]]
    assert "iris" in names
    assert requests.get(f"{url}/models/iris", timeout=30).json()["state"] == "live"


@pytest.mark.parametrize(
    ("body", "kind", "path", "status"),
    [
        (b"1,2,3", "text/csv", "/invocations", 400),
        (b"1,2,x,4", "text/csv", "/invocations", 400),
        (b"1,2,inf,4", "text/csv", "/invocations", 400),
        (b'"1,2,3,4', "text/csv", "/invocations", 400),
        (b"\xff", "text/csv", "/invocations", 400),
        (b"", "text/csv", "/invocations", 400),
        (b"1,2", "text/csv", "/models/tokens:7/invoke", 404),
        (b"[1, 2]\n{", "application/jsonlines", "/invocations", 400),
        (b"\n", "application/jsonlines", "/invocations", 400),
        (npy(np.ones((2, 3))), "application/x-npy", "/invocations", 400),
        (b"PK", "application/x-npy", "/invocations", 400),
        (npy(np.ones(1)), "application/x-npy", "/models/talker/invoke", 415),
        (b"x", "application/x-recordio-protobuf", "/invocations", 415),
    ],
)
def test_bad_input(url: str, body: bytes, kind: str, path: str, status: int) -> None:
    told = ask(url, body, kind, path)
    assert told.status_code == status, told.text
    assert told.json().keys() == {"error_code", "message", "request_id"}
    assert told.headers["content-type"] == "application/json"
