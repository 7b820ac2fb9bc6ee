"""TensorFlow Serving, KServe V1, TorchServe and Vertex AI as their callers see them: a real server."""

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

import servable
from servable.registry.home import open_home
from servable.server.formats import asked_for, doors_of
from servable.server.formats.tfserving import STYLE
from servable.server.problems import NATIVE
from servable.settings import ServerSettings
from serving.making import publish_iris
from serving.making_mixed import embedded, publish_churn, publish_image, publish_mood
from serving.making_tensors import cost_of, publish_plans

IRIS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]
CHURN = [
    {"age": 31, "plan": "pro", "member": False},
    {"age": None, "plan": "basic", "member": True},
    {"plan": "pro", "member": True},
]
IMAGES = np.random.default_rng(1).normal(size=(2, 3, 8, 8)).astype(np.float32)
MAX_BODY = 200_000


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One server of five models: iris is the default, its second version is the one that is served."""
    home = tmp_path_factory.mktemp("formats") / "home"
    publish_iris(home, deploy=False)
    publish_iris(home, default=True)
    with open_home(home) as opened:
        opened.models.set_alias("iris", "champion", 2)
    publish_churn(home)
    publish_mood(home)
    publish_image(home)
    publish_plans(home)
    server = servable.serve(
        home=home,
        port=0,
        background=True,
        max_body_bytes=MAX_BODY,
        predict_route="/vertex/models/7:predict",
        health_route="/vertex/health",
    )
    assert server is not None
    yield server.url
    server.stop()


def post(url: str, path: str, body: Any, **more: Any) -> Any:
    answer = requests.post(f"{url}{path}", json=body, timeout=30, **more)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def get(url: str, path: str, status: int = 200) -> Any:
    answer = requests.get(f"{url}{path}", timeout=30)
    assert answer.status_code == status, answer.text
    return answer.json()


def natively(url: str, name: str, rows: Any) -> Any:
    return post(url, f"/models/{name}/predict", {"inputs": rows})


@pytest.mark.parametrize(
    ("name", "rows"),
    [("iris", IRIS), ("churn", CHURN), ("mood", [{"review": "good"}, {"review": "bad"}]),
     ("net", IMAGES.tolist())],
)  # fmt: skip
def test_answers_are_those_of_the_native_address(url: str, name: str, rows: Any) -> None:
    expected = natively(url, name, rows)
    predict = f"/v1/models/{name}:predict"
    assert post(url, predict, {"instances": rows}) == {"predictions": expected["predictions"]}
    assert post(url, f"/predictions/{name}", rows) == expected["predictions"]
    assert post(url, f"/predictions/{name}", rows[0]) == expected["predictions"][0]
    assert post(url, f"/predictions/{name}", {"instances": rows}) == {"predictions": expected["predictions"]}
    if "probabilities" in expected:
        chances = [list(row.values()) for row in expected["probabilities"]]
        asked = {"instances": rows, "signature_name": "predict_proba"}
        assert post(url, predict, asked) == {"predictions": chances}
        pairs = [[list(pair) for pair in row.items()] for row in expected["probabilities"]]
        assert post(url, f"/v1/models/{name}:classify", {"examples": rows}) == {"results": pairs}


def test_numbers_for_examples_over_a_context(url: str) -> None:
    wanted = {"results": [cost_of(1.0, "pro"), cost_of(None, "basic")]}
    examples = {"context": {"plan": "pro"}, "examples": [{"age": 1}, {"plan": "basic"}]}
    for path in ("/v1/models/plans:regress", "/v1/models/plans/versions/1:regress"):
        assert post(url, path, examples) == wanted
    named = {**examples, "signature_name": "regression"}
    assert post(url, "/v1/models/plans:regress", named) == wanted


def test_what_the_content_type_says_is_not_looked_at(url: str) -> None:
    """``curl -d`` says that it sends a form."""
    expected = natively(url, "iris", IRIS)["predictions"]
    for kind in ("application/x-www-form-urlencoded", "text/plain", "application/json; charset=utf-8"):
        for verb, body, key in (
            ("predict", {"instances": IRIS}, "predictions"),
            ("predict", {"inputs": IRIS}, "outputs"),
        ):
            answer = requests.post(
                f"{url}/v1/models/iris:{verb}",
                data=json.dumps(body),
                headers={"content-type": kind},
                timeout=30,
            )
            assert (answer.status_code, answer.json()) == (200, {key: expected}), kind


def test_a_model_of_several_outputs_in_mlflows_records(url: str) -> None:
    found = post(url, "/models/net/invocations", {"instances": IMAGES.tolist()})["predictions"]
    assert [each.keys() for each in found] == [{"embedding", "peak"}] * 2
    np.testing.assert_allclose([each["embedding"] for each in found], embedded(IMAGES), rtol=1e-5)


def test_columns_are_answered_in_columns(url: str) -> None:
    named = {
        "age": [[31], [None], [float("nan")]],
        "plan": ["pro", "basic", "pro"],
        "member": [False, True, True],
    }
    body = json.dumps({"inputs": named}).encode()
    assert b"NaN" in body
    answer = requests.post(f"{url}/v1/models/churn:predict", data=body, timeout=30)
    assert answer.json() == {"outputs": natively(url, "churn", CHURN)["predictions"]}
    found = post(url, "/v1/models/net:predict", {"inputs": IMAGES.tolist()})["outputs"]
    np.testing.assert_allclose(found["embedding"], embedded(IMAGES), rtol=1e-5)
    np.testing.assert_allclose(found["peak"], embedded(IMAGES).max(axis=1), rtol=1e-5)
    texts = {"inputs": {"review": [{"b64": "Z29vZA=="}, {"b64": "YmFk"}]}}
    assert post(url, "/v1/models/mood:predict", texts) == {"outputs": ["up", "down"]}


@pytest.mark.parametrize(
    "path",
    ["/v1/models/iris:predict", "/v1/models/iris/versions/2:predict",
     "/v1/models/iris/labels/champion:predict",
     "/v1/models/iris:2:predict", "/v1/models/iris@champion:predict", "/v1/models/%69ris:predict",
     "/vertex/models/7:predict", "/predictions/iris", "/predictions/iris/2", "/predictions/iris/2.0",
     "/predictions/iris/champion", "/predictions/iris@champion", "/predictions/iris:2",
     "/v1/models/iris/versions/champion:predict"],
)  # fmt: skip
def test_versions_and_aliases_are_found_everywhere(url: str, path: str) -> None:
    expected = natively(url, "iris", IRIS)["predictions"]
    assert post(url, path, {"instances": IRIS, "parameters": {"a": 1}}) == {"predictions": expected}
    assert post(url, "/models/iris/versions/champion/predict", {"inputs": IRIS})["predictions"] == expected


def refused(answer: requests.Response, shape: str) -> str:
    """The message of an error in the shape of one format."""
    body = answer.json()
    assert answer.headers["content-type"] == "application/json"
    if shape == "torchserve":
        assert body.keys() == {"code", "type", "message"}
        assert body["code"] == answer.status_code
        return str(body["message"])
    assert body.keys() == {"error"}
    assert isinstance(body["error"], str)
    return str(body["error"])


BAD = [
    b"",
    b"{",
    b"\xff\xfe",
    b"[1",
    b'{"instances": 3}',
    b'{"instances": [[1, 2, 3, "x"]]}',
    b'{"inputs": {}}',
]


@pytest.mark.parametrize(
    ("path", "shape"),
    [("/v1/models/iris:predict", "tfs"), ("/v1/models/iris:classify", "tfs"),
     ("/v1/models/iris:regress", "tfs"), ("/vertex/models/7:predict", "tfs"),
     ("/predictions/iris", "torchserve")],
)  # fmt: skip
def test_bad_input_is_refused_in_the_words_of_the_format(url: str, path: str, shape: str) -> None:
    for body in BAD:
        answer = requests.post(
            url + path, data=body, headers={"content-type": "application/json"}, timeout=30
        )
        assert answer.status_code == 400, body
        refused(answer, shape)
    assert refused(requests.get(url + path, timeout=30), shape)
    late = requests.post(url + path, data=b"{}", headers={"x-request-timeout-ms": "x"}, timeout=30)
    assert (late.status_code, "X-Request-Timeout-Ms" in refused(late, shape)) == (400, True)
    large = requests.post(url + path, data=b" " * (MAX_BODY + 1), timeout=30)
    assert (large.status_code, "larger" in refused(large, shape)) == (413, True)
    packed = gzip.compress(b" " * (MAX_BODY + 1))
    large = requests.post(url + path, data=packed, headers={"content-encoding": "gzip"}, timeout=30)
    assert (large.status_code, bool(refused(large, shape))) == (413, True)
    foreign = requests.post(url + path, data=b"{}", headers={"host": "no.example"}, timeout=30)
    assert (foreign.status_code, bool(refused(foreign, shape))) == (421, True)


@pytest.mark.parametrize(
    ("method", "path", "status", "shape"),
    [
        ("POST", "/v1/models/nope:predict", 404, "tfs"),
        ("POST", "/v1/models/iris/versions/9:predict", 404, "tfs"),
        ("POST", "/v1/models/iris/labels/none:classify", 404, "tfs"),
        ("POST", "/v1/models/iris:explain", 501, "tfs"),
        ("POST", "/v1/models/nope:explain", 404, "tfs"),
        ("POST", "/v1/models/iris:guess", 405, "tfs"),
        ("GET", "/v1/models/nope", 404, "tfs"),
        ("GET", "/v1/models/iris/versions/9", 404, "tfs"),
        ("GET", "/v1/models/iris/labels/none/metadata", 404, "tfs"),
        ("GET", "/v1/models/iris/more/and/more", 404, "tfs"),
        ("GET", "/monitoring/prometheus", 404, "tfs"),
        ("GET", "/v1/models/iris:predict", 405, "tfs"),
        ("POST", "/predictions/nope", 404, "torchserve"),
        ("POST", "/predictions/iris/9.0", 404, "torchserve"),
        ("POST", "/predictions/iris/2/more", 404, "torchserve"),
        ("GET", "/predictions/iris", 405, "torchserve"),
        ("POST", "/explanations/iris", 501, "torchserve"),
        ("POST", "/explanations/iris/9", 404, "torchserve"),
    ],
)
def test_what_is_not_there_is_refused_in_the_words_of_the_format(
    url: str, method: str, path: str, status: int, shape: str
) -> None:
    answer = requests.request(method, url + path, json={"instances": IRIS}, timeout=30)
    assert answer.status_code == status
    assert refused(answer, shape)


def test_the_list_of_models_serves_kserve_and_openai(url: str) -> None:
    found = get(url, "/v1/models")
    assert (found["models"], found["object"]) == (["churn", "iris", "mood", "net", "plans"], "list")
    assert [each["id"] for each in found["data"]] == found["models"]
    assert found["data"][0] == {
        "id": "churn",
        "object": "model",
        "created": 1769860800,
        "owned_by": "servable",
    }


@pytest.mark.parametrize("further", ["", "/versions/2", "/labels/champion", "@champion", ":2"])
def test_one_model_serves_kserve_tensorflow_serving_and_openai(url: str, further: str) -> None:
    found = get(url, f"/v1/models/iris{further}")
    assert (found["name"], found["ready"], found["id"], found["object"]) == ("iris", True, "iris", "model")
    assert found["model_version_status"] == [
        {"version": "2", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    ]
    spec = get(url, f"/v1/models/iris{further}/metadata")
    assert spec["model_spec"] == {"name": "iris", "signature_name": "", "version": "2"}


def test_metadata_says_what_predict_takes(url: str) -> None:
    """As a client that builds its request from the metadata alone."""
    found = get(url, "/v1/models/net/metadata")["metadata"]["signature_def"]["signature_def"][
        "serving_default"
    ]
    ((name, tensor),) = found["inputs"].items()
    assert tensor["dtype"] == "DT_FLOAT"
    shape = [int(dim["size"]) for dim in tensor["tensor_shape"]["dim"]]
    body = {"inputs": {name: np.zeros([2, *shape[1:]]).tolist()}}
    assert post(url, "/v1/models/net:predict", body)["outputs"].keys() == found["outputs"].keys()


def test_metrics_are_at_the_address_of_tensorflow_serving_too(url: str) -> None:
    answer = requests.get(f"{url}/monitoring/prometheus/metrics", timeout=30)
    assert answer.status_code == 200
    assert answer.text.startswith("# HELP servable_")


def test_torchserve_takes_what_its_clients_send(url: str) -> None:
    expected = natively(url, "net", IMAGES.tolist())["predictions"]
    stream = io.BytesIO()
    np.save(stream, IMAGES)
    for more in (
        {"data": stream.getvalue()},
        {"data": IMAGES.tobytes(), "headers": {"content-type": "application/octet-stream"}},
        {"files": {"data": ("images.npy", stream.getvalue())}},
        {"files": {"data": json.dumps(IMAGES.tolist())}},
    ):
        answer = requests.post(f"{url}/predictions/net", timeout=30, **more)
        assert answer.json() == expected
    for text, mood in ((b"good", "up"), (b"bad", "down")):
        assert requests.post(f"{url}/predictions/mood", data=text, timeout=30).json() == mood
    unread = requests.post(
        f"{url}/predictions/net", data=b"\xff\xd8", headers={"content-type": "image/x-none"}, timeout=30
    )
    assert (unread.status_code, bool(refused(unread, "torchserve"))) == (415, True)


def test_vertex_asks_at_the_addresses_that_it_chose(url: str) -> None:
    assert get(url, "/vertex/health") == {"ready": True}
    expected = natively(url, "iris", IRIS)["predictions"]
    assert post(url, "/vertex/models/7:predict", {"instances": IRIS}) == {"predictions": expected}


def test_an_address_that_vertex_chose_goes_before_our_own() -> None:
    doors = doors_of(ServerSettings(predict_route="/predict"))
    asked = asked_for("/predict", {}, doors)
    assert asked is not None
    assert (asked.door.style, asked.reference) == (STYLE, "")
    asked = asked_for("/predict", {}, doors_of(ServerSettings()))
    assert asked is not None
    assert asked.door.style is NATIVE


def test_a_model_that_is_not_ready_says_so_to_every_client(tmp_path: Path) -> None:
    home = tmp_path / "home"
    publish_iris(home)
    with open_home(home) as opened:
        graph = opened.packages.folder(opened.models.resolve("iris").package) / "model.onnx"
        graph.chmod(0o644)
        graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    publish_churn(home)
    server = servable.serve(home=home, port=0, background=True, health_route="/healthz")
    assert server is not None
    with_status = get(server.url, "/v1/models/iris", 503)
    assert get(server.url, "/healthz", 503) == {"ready": False}
    assert get(server.url, "/v2/health/ready", 503) == {"ready": False}
    assert get(server.url, "/ping", 503) == {"status": "Unhealthy"}
    for path in ("/health", "/models/iris/ping", "/v2/models/iris/ready"):
        assert requests.get(f"{server.url}{path}", timeout=30).status_code == 503, path
    # A sign of life is none of readiness.
    assert get(server.url, "/v2/health/live") == {"live": True}
    (entry,) = [
        each
        for each in requests.post(f"{server.url}/v2/repository/index", timeout=30).json()
        if each["name"] == "iris"
    ]
    assert (entry["state"], bool(entry["reason"])) == ("UNAVAILABLE", True)
    server.stop()
    assert (with_status["name"], with_status["ready"]) == ("iris", False)
    (status,) = with_status["model_version_status"]
    assert (status["state"], status["status"]["error_code"]) == ("END", "UNKNOWN")
    assert "iris" in with_status["error"]
