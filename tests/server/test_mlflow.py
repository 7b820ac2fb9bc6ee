"""MLflow's own scoring client against a real server."""

import io
import warnings
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pandas as pd
import pytest

from servable.engines.local import LocalServer
from servable.registry.home import open_home
from servable.settings import ServerSettings
from serving.making import BIAS, CLASSES, COLUMNS, EXAMPLE, expected, publish_iris
from serving.making_texts import TOKENS, add_texts

with warnings.catch_warnings():
    # The library warns about itself as it is imported.
    warnings.simplefilter("ignore")
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

ROWS = [[5.1, 3.5, 1.4, 0.2], [6.0, 3.0, 5.0, 2.0], [7.0, 3.2, 4.7, 1.4]]
LABELS = [expected(row)[0] for row in ROWS]
FRAME = pd.DataFrame(ROWS, columns=list(COLUMNS))


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("mlflow") / "home"
    publish_iris(home)
    publish_iris(home, "turned", bias=BIAS[::-1])
    add_texts(home, tmp_path_factory.mktemp("graphs"))
    with open_home(home) as opened:
        opened.models.set_alias("iris", "champion", 1)
    with LocalServer(ServerSettings(home=str(home), port=0)) as server:
        yield server.url


@pytest.fixture(scope="module")
def client(url: str) -> ScoringServerClient:
    parts = urlsplit(url)
    return ScoringServerClient(parts.hostname, parts.port)


def ask(url: str, body: Any, path: str = "/invocations", **headers: str) -> httpx.Response:
    return httpx.post(f"{url}{path}", json=body, headers=headers)


def predictions(url: str, body: Any, **more: str) -> Any:
    answer = ask(url, body, **more)
    assert answer.status_code == 200, answer.text
    assert answer.json().keys() == {"predictions"}
    return answer.json()["predictions"]


def test_the_client_waits_and_asks(client: ScoringServerClient) -> None:
    client.wait_server_ready(timeout=10)
    assert client.get_version()
    answer = client.invoke(FRAME)
    assert answer.get_predictions()[0].tolist() == LABELS


def test_the_client_of_one_model(client: ScoringServerClient, url: str) -> None:
    for reference in ("turned", "turned:1"):
        one = ScoringServerClient("127.0.0.1", 0)
        one.url_prefix = f"{url}/models/{reference}"
        one.ping()
        assert one.get_version() == client.get_version()
        answer = one.invoke(FRAME).get_predictions()[0].tolist()
        native = httpx.post(f"{url}/models/turned/predict", json={"inputs": ROWS}).json()
        assert answer == native["predictions"] != LABELS


def test_the_client_sends_arrays_lists_and_missing_values(client: ScoringServerClient, url: str) -> None:
    assert client.invoke(np.array(ROWS)).get_predictions()[0].tolist() == LABELS
    assert client.invoke(ROWS).get_predictions()[0].tolist() == LABELS
    # Their frame's NaN travels as a word that JSON does not have.
    with pytest.raises(Exception, match=r"error code 400.*data\[1\]") as caught:
        client.invoke(FRAME.mask(FRAME == 6.0))
    assert "null" in str(caught.value)


def test_the_client_asks_for_probabilities(client: ScoringServerClient) -> None:
    frame = client.invoke(FRAME, params={"probabilities": True, "unknown": 1}).get_predictions()
    assert list(frame.columns) == list(CLASSES)
    np.testing.assert_allclose(frame.to_numpy(), [expected(row)[1] for row in ROWS])


RECORDS = [dict(zip(COLUMNS, row, strict=True)) for row in ROWS]
MIXED = [dict(reversed(record.items())) | {"id": 7} for record in RECORDS]


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": list(COLUMNS), "data": ROWS}},
        {"dataframe_split": {"index": [3, 4, 5], "columns": COLUMNS[::-1], "data": [r[::-1] for r in ROWS]}},
        {"dataframe_split": {"columns": ["id", *COLUMNS], "data": [[9, *row] for row in ROWS]}},
        {"dataframe_split": {"columns": [0, 1, 2, 3], "data": ROWS}},
        {"dataframe_split": {"data": ROWS}},
        {"dataframe_records": RECORDS},
        {"dataframe_records": MIXED},
        {"instances": RECORDS},
        {"instances": ROWS},
        {"inputs": ROWS},
        {"inputs": RECORDS, "params": None},
        {"inputs": {name: [row[index] for row in ROWS] for index, name in enumerate(COLUMNS)}},
        {"inputs": {"more": "x", **{name: FRAME[name].tolist() for name in COLUMNS}}, "params": {"a": 1}},
    ],
)  # fmt: skip
def test_the_four_forms(url: str, body: Any) -> None:
    assert predictions(url, body) == LABELS


def test_one_row_of_plain_values(url: str) -> None:
    assert predictions(url, {"inputs": EXAMPLE}) == [expected(list(EXAMPLE.values()))[0]]


def test_other_models(url: str) -> None:
    for rows in (["a", "b"], [["a"], ["b"]]):
        said = predictions(url, {"inputs": rows}, path="/models/talker/invocations")
        assert said == [["a Indeed."], ["b Indeed."]]
    tokens = predictions(url, {"instances": [[1, 2]]}, path="/models/tokens/invocations")
    assert tokens == [TOKENS[1:3].mean(axis=0).tolist()]
    named = predictions(url, {"inputs": {"ids": [[1, 2]]}}, path="/models/tokens/invocations")
    split = {"dataframe_split": {"columns": ["ids"], "data": [[[1, 2]]]}}
    wide = {"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2]]}}
    assert tokens == named == predictions(url, split, path="/models/tokens/invocations")
    assert tokens == predictions(url, wide, path="/models/tokens/invocations")


def test_csv(url: str) -> None:
    for frame in (FRAME, FRAME[FRAME.columns[::-1]].assign(target="x")):
        stream = io.StringIO()
        frame.to_csv(stream, index=False)
        answer = httpx.post(
            f"{url}/models/iris@champion/invocations",
            content=stream.getvalue(),
            headers={"content-type": "text/csv; charset=utf-8"},
        )
        assert (answer.status_code, answer.json()) == (200, {"predictions": LABELS})


def test_bodies_of_language_models_are_told_where_to_go(url: str) -> None:
    """MLflow takes them at the same address; here they are OpenAI's."""
    for body in ({"messages": [{"role": "user", "content": "Hi."}]}, {"prompt": "Hi."}, {"input": "Hi."}):
        answer = ask(url, body, "/models/talker/invocations")
        assert (answer.status_code, answer.json()["error_code"]) == (400, "BAD_REQUEST")
        assert "dataframe_split" in answer.json()["message"]


def test_the_small_addresses(url: str) -> None:
    for path in ("/ping", "/health", "/models/iris/ping", "/models/iris@champion/health"):
        assert httpx.get(url + path).status_code == 200
    assert httpx.get(f"{url}/ping").json() == {"status": "Healthy"}
    assert httpx.get(f"{url}/version").headers["content-type"].startswith("text/plain")
    for path in ("ping", "version"):
        answer = httpx.get(f"{url}/models/nobody/{path}")
        assert (answer.status_code, answer.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


BAD: list[tuple[Any, str]] = [
    ([1], "rows[0]"),
    ("x", "a text of 1 character"),
    ({}, "holds none of them"),
    ({"instances": ROWS, "inputs": ROWS}, "holds instances and inputs"),
    ({"input": ROWS[0]}, "holds none of them"),
    ({"inputs": 1}, "an object of columns or a list of rows"),
    ({"inputs": []}, "at least one row"),
    ({"inputs": {}}, "sepal"),
    ({"inputs": {name: [1, 2] if name == COLUMNS[0] else [1] for name in COLUMNS}}, "as many values"),
    ({"inputs": {name: [1] if name == COLUMNS[0] else 1 for name in COLUMNS}}, "a list, one value"),
    ({"inputs": {"petal length": [1]}}, "petal length"),
    ({"instances": {"a": 1}}, "instances: expected a list"),
    ({"instances": ROWS, "params": [1]}, "params: expected an object"),
    ({"dataframe_records": [1]}, "dataframe_records[0]"),
    ({"dataframe_records": [EXAMPLE | {COLUMNS[0]: "5"}]}, 'dataframe_records[0]["sepal length (cm)"]'),
    ({"dataframe_records": [{"sepal lenght (cm)": 1}]}, "did you mean"),
    ({"dataframe_split": ROWS}, "dataframe_split: expected an object"),
    ({"dataframe_split": {"columns": list(COLUMNS)}}, "dataframe_split.data: expected a list, got nothing"),
    ({"dataframe_split": {"columns": ["a", COLUMNS[0], COLUMNS[0]], "data": [[1, 2, 3]]}}, "once"),
    ({"dataframe_split": {"columns": list(COLUMNS)[:2], "data": [[1, 2]]}}, "missing"),
    ({"dataframe_split": {"columns": list(COLUMNS)[:2], "data": [[1]]}}, "data[0]: expected a list of 2"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "words"), BAD)
def test_bad_input_is_400_in_mlflows_words(url: str, body: Any, words: str) -> None:
    answer = ask(url, body)
    assert answer.status_code == 400
    assert answer.json().keys() == {"error_code", "message", "request_id"}
    assert answer.json()["error_code"] == "BAD_REQUEST"
    assert words in answer.json()["message"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[" * 100_000, b"\xff", b'{"inputs": NaN', b'{"inputs": [[1e999]]}']
)
def test_garbage(url: str, body: bytes) -> None:
    for kind in ("application/json", "text/csv"):
        answer = httpx.post(f"{url}/invocations", content=body, headers={"content-type": kind})
        assert (answer.status_code, answer.json()["error_code"]) == (400, "BAD_REQUEST")


def test_infinity_is_refused_by_its_place(url: str) -> None:
    body = b'{"inputs": [[1, 2, 3, Infinity]]}'
    answer = httpx.post(f"{url}/invocations", content=body)
    assert answer.status_code == 400
    assert "inputs[0][3]" in answer.json()["message"]


@pytest.mark.parametrize(
    "kind", ["text/html", "application/json; charset=latin-1", "text/csv; header=present"]
)
def test_other_content_types_are_415(url: str, kind: str) -> None:
    answer = httpx.post(f"{url}/invocations", content=b"{}", headers={"content-type": kind})
    assert (answer.status_code, answer.json()["error_code"]) == (415, "BAD_REQUEST")


def test_other_errors(url: str) -> None:
    assert httpx.get(f"{url}/invocations").json()["error_code"] == "BAD_REQUEST"
    answer = ask(url, {"inputs": ROWS}, "/models/iris:9/invocations")
    assert (answer.status_code, answer.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    answer = ask(url, {"inputs": ["a"], "params": {"probabilities": True}}, "/models/talker/invocations")
    assert (answer.status_code, "params.probabilities" in answer.json()["message"]) == (400, True)
