"""The Open Inference Protocol's real REST clients against a real server."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

from servable.engines.local import LocalServer
from servable.registry.home import open_home
from servable.settings import ServerSettings
from serving.making import EXAMPLE, expected, publish_iris
from serving.making_tensors import cost_of, publish_image, publish_plans, publish_shout, scores_of

ROWS = np.array([[5.1, 3.5, 1.4, 0.2], [7.0, 7.0, 7.0, 7.0]])
PLAIN = {"name": "input", "shape": [2, 4], "datatype": "FP64", "data": ROWS.ravel().tolist()}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    home = tmp_path_factory.mktemp("oip") / "home"
    for publish in (publish_iris, publish_image, publish_plans, publish_shout):
        publish(home)
    publish_iris(home, "spare", deploy=False)
    with open_home(home) as opened:
        opened.models.set_alias("iris", "champion", 1)
    with LocalServer(ServerSettings(home=str(home), port=0)) as running:
        yield running


@pytest.fixture(scope="module")
def http(server: LocalServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url) as client:
        yield client


@pytest.fixture(scope="module")
def client(server: LocalServer) -> Iterator[triton.InferenceServerClient]:
    with contextlib.closing(triton.InferenceServerClient(server.url.removeprefix("http://"))) as made:
        yield made


def given(name: str, array: Any, *, binary: bool = True) -> triton.InferInput:
    datatype = (
        "BYTES" if array.dtype == object else {"f4": "FP32", "f8": "FP64", "b1": "BOOL"}[array.dtype.str[1:]]
    )
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def texts(*values: str) -> Any:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def right(result: triton.InferResult) -> None:
    """The answers for ``ROWS``."""
    for row, label, chances in zip(
        ROWS, result.as_numpy("prediction"), result.as_numpy("probabilities"), strict=True
    ):
        wanted, probable = expected(row.tolist())
        assert (label.decode() if isinstance(label, bytes) else label) == wanted
        np.testing.assert_allclose(chances, probable)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("model", ["iris", "iris@champion", "iris:1"])
def test_numbers(client: triton.InferenceServerClient, binary: bool, model: str) -> None:
    right(client.infer(model, [given("input", ROWS, binary=binary)]))
    outputs = [
        triton.InferRequestedOutput(name, binary_data=binary) for name in ("probabilities", "prediction")
    ]
    version = "1" if model == "iris" else ""
    result = client.infer(
        model, [given("any", ROWS, binary=binary)], version, outputs, "my id", priority=1, timeout=10**7
    )
    right(result)
    assert result.get_response()["id"] == "my id"
    assert [each["name"] for each in result.get_response()["outputs"]] == ["probabilities", "prediction"]


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("coding", [None, "gzip", "deflate"])
def test_images_compressed_or_not(
    client: triton.InferenceServerClient, binary: bool, coding: str | None
) -> None:
    images = np.random.default_rng(1).random((1, 3, 224, 224), np.float32)
    result = client.infer(
        "image",
        [given("image", images, binary=binary)],
        request_compression_algorithm=coding,
        response_compression_algorithm=coding,
    )
    np.testing.assert_allclose(result.as_numpy("scores"), scores_of(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_long_answers_come_compressed(client: triton.InferenceServerClient, coding: str) -> None:
    rows = np.repeat(ROWS, 100, axis=0)
    for binary in (True, False):
        outputs = [triton.InferRequestedOutput("probabilities", binary_data=binary)]
        result = client.infer(
            "iris", [given("x", rows)], outputs=outputs, response_compression_algorithm=coding
        )
        np.testing.assert_allclose(result.as_numpy("probabilities")[150], expected(ROWS[1].tolist())[1])


def test_texts_and_missing_values_mixed(client: triton.InferenceServerClient) -> None:
    result = client.infer(
        "plans", [given("age", np.array([1.0, np.nan])), given("plan", texts("pro", "basic"), binary=False)]
    )
    assert result.as_numpy("prediction").tolist() == [cost_of(1.0, "pro"), cost_of(None, "basic")]
    assert client.infer("shout", [given("t", texts("hä", ""))]).as_numpy("shouted").tolist() == [
        "hä!".encode(),
        b"!",
    ]


def test_classes(client: triton.InferenceServerClient) -> None:
    outputs = [triton.InferRequestedOutput("probabilities", class_count=1)]
    found = client.infer("iris", [given("input", ROWS)], outputs=outputs).as_numpy("probabilities")
    assert [each[0].decode().split(":")[1:] for each in found] == [["0", "setosa"], ["2", "virginica"]]


def test_the_asynchronous_client(server: LocalServer) -> None:
    async def course() -> None:
        async with triton_aio.InferenceServerClient(server.url.removeprefix("http://")) as client:
            assert await client.is_server_ready()
            right(await client.infer("iris", [given("input", ROWS)]))
            many = [
                client.infer(
                    "iris", [given("x", np.repeat(ROWS, 100, axis=0))], response_compression_algorithm="gzip"
                )
                for _ in range(4)
            ]
            for result in await asyncio.gather(*many):
                assert result.as_numpy("prediction").shape == (200,)
            with pytest.raises(InferenceServerException, match="No model"):
                await client.infer("nobody", [given("input", ROWS)])

    asyncio.run(course())


def test_what_is_told_of_server_and_models(client: triton.InferenceServerClient, http: httpx.Client) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert (client.is_model_ready("iris"), client.is_model_ready("iris", "1")) == (True, True)
    assert (client.is_model_ready("nobody"), client.is_model_ready("iris", "9")) == (False, False)
    assert client.get_server_metadata()["name"] == "servable"
    assert "binary_tensor_data" in http.get("/v2/").json()["extensions"]
    assert client.get_model_metadata("image", "1") == {
        "name": "image",
        "versions": ["1"],
        "platform": "servable",
        "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 3, 224, 224]}],
        "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, 5]}],
    }
    config = client.get_model_config("plans")
    assert [(each["name"], each["data_type"], each["dims"]) for each in config["input"]] == [
        ("age", "TYPE_FP64", [1]), ("plan", "TYPE_STRING", [1]),
    ]  # fmt: skip
    assert config["output"] == [
        {"name": "prediction", "data_type": "TYPE_FP64", "dims": [1], "reshape": {"shape": []}}
    ]
    assert http.get("/v2/models").json() == {"models": ["image", "iris", "plans", "shout"]}
    assert http.get("/v2/health/live").json() == {"live": True}
    assert http.get("/v2/health/ready").json() == {"ready": True}
    assert http.get("/v2/models/iris/ready").json() == {"name": "iris", "ready": True}


def test_figures_are_true(client: triton.InferenceServerClient, http: httpx.Client) -> None:
    def of(name: str) -> dict[str, Any]:
        (found,) = client.get_inference_statistics(name)["model_stats"]
        return dict(found)

    before, began = of("iris"), time.time()
    for _ in range(3):
        client.infer("iris", [given("input", ROWS)])
    with pytest.raises(InferenceServerException):
        client.infer("iris", [given("input", ROWS[:, :3])])
    after = of("iris")
    grown = {
        key: {
            part: after["inference_stats"][key][part] - before["inference_stats"][key][part]
            for part in ("count", "ns")
        }
        for key in ("success", "fail", "queue", "compute_infer")
    }
    assert after["inference_count"] - before["inference_count"] == 6
    assert after["execution_count"] - before["execution_count"] == 3
    assert {key: each["count"] for key, each in grown.items()} == {
        "success": 3, "fail": 1, "queue": 3, "compute_infer": 3,
    }  # fmt: skip
    assert grown["success"]["ns"] >= grown["queue"]["ns"] + grown["compute_infer"]["ns"] > 0
    assert began - 1 <= after["last_inference"] / 1000 <= time.time() + 1
    sizes = {each["batch_size"]: each["compute_infer"] for each in after["batch_stats"]}
    assert sum(each["count"] for each in sizes.values()) == after["execution_count"]
    assert sizes[2]["count"] >= 3
    names = [each["name"] for each in http.get("/v2/models/stats").json()["model_stats"]]
    assert names == ["image", "iris", "plans", "shout"]


def test_the_repository(client: triton.InferenceServerClient, http: httpx.Client) -> None:
    entries = client.get_model_repository_index()
    assert entries[1] == {"name": "iris", "version": "1", "state": "READY", "reason": ""}
    for path in ("/v2/repository/index", "/v2/repository/any/index"):
        assert http.post(path, json={"ready": True}).json() == entries
    # The client sends no body at all, MLServer's callers an empty object.
    assert http.post("/v2/repository/index").json() == http.post("/v2/repository/index", json={}).json()
    client.load_model("iris")
    for call, match in (
        (lambda: client.load_model("spare"), "servable deploy"),
        (lambda: client.load_model("nobody"), "servable deploy"),
        (lambda: client.load_model("iris", config="{}"), "servable add"),
        (lambda: client.unload_model("iris"), "servable undeploy"),
    ):
        with pytest.raises(InferenceServerException, match=match) as caught:
            call()
        assert caught.value.status() == "400"
    assert client.is_model_ready("iris")


def test_a_model_on_demand_is_loaded_and_unloaded(tmp_path: Path) -> None:
    publish_iris(tmp_path / "home")
    settings = ServerSettings(home=str(tmp_path / "home"), port=0, memory=10**9)
    with (
        LocalServer(settings) as running,
        contextlib.closing(triton.InferenceServerClient(running.url.removeprefix("http://"))) as client,
    ):

        def state() -> str:
            (entry,) = client.get_model_repository_index()
            return str(entry["state"])

        assert (state(), client.is_model_ready("iris")) == ("UNAVAILABLE", True)
        assert client.get_model_metadata("iris")["inputs"][0]["shape"] == [-1, 4]
        assert client.get_model_config("iris")["max_batch_size"] == settings.max_rows
        assert client.get_inference_statistics("iris")["model_stats"][0]["execution_count"] == 0
        client.load_model("iris")
        assert state() == "READY"
        client.unload_model("iris")
        client.unload_model("iris", unload_dependents=True)
        assert state() == "UNAVAILABLE"
        right(client.infer("iris", [given("input", ROWS)]))
        assert state() == "READY"


def test_texts_are_generated(http: httpx.Client) -> None:
    answer = http.post("/v2/models/shout/versions/1/generate", json={"text_input": "hi", "id": "7"})
    assert answer.json() == {"id": "7", "model_name": "shout", "model_version": "1", "text_output": "hi!"}
    with http.stream("POST", "/v2/models/shout/generate_stream", json={"text_input": "hi"}) as stream:
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        lines = list(stream.iter_lines())
    assert lines[0].startswith('data: {"model_name":"shout"')
    refused(http.post("/v2/models/iris/generate", json={"text_input": "hi"}), 400)
    refused(http.post("/v2/models/shout/generate_stream", json={}), 400)


def refused(answer: httpx.Response, status: int) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    (key, message), *others = answer.json().items()
    assert (key, others) == ("error", [])
    assert isinstance(message, str)
    assert message


@pytest.mark.parametrize(
    "request_of",
    [
        {"inputs": [PLAIN]},
        {"id": "a", "parameters": {"content_type": "np"}, "inputs": [{**PLAIN, "data": ROWS.tolist()}]},
        {
            "parameters": {"content_type": "pd"},
            "inputs": [
                {"name": name, "shape": [2], "datatype": "FP64", "data": ROWS[:, index].tolist()}
                for index, name in enumerate(EXAMPLE)
            ],
            "outputs": [{"name": "prediction"}],
        },
    ],
)
def test_plain_json_without_a_library(http: httpx.Client, request_of: dict[str, Any]) -> None:
    answer = http.post("/v2/models/iris/infer", json=request_of)
    assert answer.status_code == 200
    found = answer.json()
    assert found.get("id") == request_of.get("id")
    assert found["outputs"][0]["data"] == ["setosa", "virginica"]


@pytest.mark.parametrize(
    ("verb", "path", "status"),
    [
        ("GET", "/v2/nothing", 404), ("POST", "/v2/models/nobody/infer", 404),
        ("GET", "/v2/models/nobody", 404),
        ("POST", "/v2/models/iris/versions/v10/infer", 404), ("GET", "/v2/models/iris/versions/v10", 404),
        ("GET", "/v2/models/nobody/stats", 404), ("GET", "/v2/models/nobody/ready", 404),
        ("GET", "/v2/models/iris%40nobody", 404), ("POST", "/v2/models/a%2Fb/infer", 404),
        ("GET", "/v2/models/iris/infer", 405), ("DELETE", "/v2/models/iris", 405), ("POST", "/v2", 405),
        ("GET", "/v2/repository/index", 405), ("PUT", "/v2/logging", 405), ("GET", "/v2/logging", 501),
        ("POST", "/v2/trace/setting", 501), ("GET", "/v2/models/iris/trace/setting", 501),
        ("POST", "/v2/systemsharedmemory/region/a/register", 501),
    ],
)  # fmt: skip
def test_errors_are_worded_as_the_clients_expect(
    http: httpx.Client, verb: str, path: str, status: int
) -> None:
    refused(http.request(verb, path), status)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b'{"inputs":[]}', b'{"input": [1, 2, 3, 4]}', b"\xff\xfe", b"[" * 100_000,
        b'{"inputs":[{"name":"input","shape":[1,4],"datatype":"FP64","data":[1,2,3]}]}',
        b'{"inputs":[{"name":"input","shape":[100001,4],"datatype":"FP64","data":[1,2,3]}]}',
    ],
)  # fmt: skip
def test_bad_bodies_are_400(http: httpx.Client, content: bytes) -> None:
    refused(http.post("/v2/models/iris/infer", content=content), 400)
    refused(http.post("/v2/models/iris/infer", content=content, headers={"content-type": "text/csv"}), 400)
    for length in ("5", "999999999", "x"):
        refused(
            http.post(
                "/v2/models/iris/infer",
                content=content,
                headers={"inference-header-content-length": length},
            ),
            400,
        )


def test_too_little_time(http: httpx.Client) -> None:
    call: Callable[[dict[str, Any]], httpx.Response] = lambda more: http.post(  # noqa: E731 - one line of three uses
        "/v2/models/iris/infer", json={"inputs": [PLAIN], "parameters": more}
    )
    assert call({"timeout": 10_000_000, "priority": 3}).status_code == 200
    refused(call({"timeout": 1}), 503)
    refused(call({"sequence_id": 1}), 400)
