"""The extensions of the Open Inference Protocol and Triton's traps, with real clients and with bare HTTP."""

import base64
import contextlib
import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.auth as triton_grpc_auth
import tritonclient.http as triton
import tritonclient.http.auth as triton_auth
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tritonclient.utils import InferenceServerException

import grpc
from servable.engines.local import LocalServer
from servable.protocols.oip_messages import REFUSED
from servable.registry.home import open_home
from servable.security.scopes import parse_scopes
from servable.settings import ServerSettings
from serving.making import expected, publish_iris
from serving.making_tensors import publish_shout

LENGTH = "inference-header-content-length"
ROWS = np.array([[5.1, 3.5, 1.4, 0.2], [7.0, 7.0, 7.0, 7.0]])
LABELS = [expected(row)[0] for row in ROWS.tolist()]
CHANCES = np.array([expected(row)[1] for row in ROWS.tolist()])
INPUT = {"name": "input", "shape": [2, 4], "datatype": "FP64", "data": ROWS.ravel().tolist()}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("extensions") / "home"
    publish_iris(home)
    publish_shout(home)
    with LocalServer(ServerSettings(home=str(home), port=0)) as server:
        yield server.url


@pytest.fixture(scope="module")
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url) as client:
        yield client


@pytest.fixture
def client(url: str) -> Iterator[triton.InferenceServerClient]:
    with contextlib.closing(triton.InferenceServerClient(url.removeprefix("http://"))) as made:
        yield made


@pytest.fixture
def channel(url: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(url.removeprefix("http://")) as opened:
        yield opened


def given() -> list[Any]:
    tensor = triton.InferInput("input", [2, 4], "FP64")
    tensor.set_data_from_numpy(ROWS)
    return [tensor]


# ---------------------------------------------------------------------- bytes


def test_a_body_of_nothing_but_one_tensor(http: httpx.Client) -> None:
    answer = http.post("/v2/models/iris/infer", content=ROWS.tobytes(), headers={LENGTH: "0"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/octet-stream")
    result = triton.InferResult.from_response_body(answer.content, header_length=int(answer.headers[LENGTH]))
    assert [each.decode() for each in result.as_numpy("prediction")] == LABELS
    np.testing.assert_allclose(result.as_numpy("probabilities"), CHANCES)


@pytest.mark.parametrize(("coding", "unpack"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)])
def test_the_header_counts_the_json_before_it_is_compressed(
    http: httpx.Client, coding: str, unpack: Any
) -> None:
    many = np.tile(ROWS, (100, 1))
    body = {"inputs": [{**INPUT, "shape": [200, 4], "data": many.ravel().tolist()}],
            "parameters": {"binary_data_output": True}, "outputs": [{"name": "probabilities"}]}  # fmt: skip
    with http.stream(
        "POST", "/v2/models/iris/infer", json=body, headers={"accept-encoding": coding}
    ) as answer:
        raw = b"".join(answer.iter_raw())
    assert (answer.status_code, answer.headers["content-encoding"]) == (200, coding)
    plain, length = unpack(raw), int(answer.headers[LENGTH])
    (told,) = json.loads(plain[:length])["outputs"]
    assert told["parameters"]["binary_data_size"] == len(plain) - length == 200 * 3 * 8
    np.testing.assert_allclose(np.frombuffer(plain[length:]).reshape(200, 3)[:2], CHANCES)


def test_texts_in_a_shape_of_two_axes(http: httpx.Client) -> None:
    """As MLServer's client writes a list of texts."""
    tensor = {"name": "text", "shape": [2, 1], "datatype": "BYTES", "parameters": {"content_type": "str"},
              "data": ["hä", ""]}  # fmt: skip
    answer = http.post("/v2/models/shout/infer", json={"id": None, "inputs": [tensor], "outputs": []})
    assert (answer.status_code, answer.json()["outputs"][0]["data"]) == (200, ["hä!", "!"])


# ---------------------------------------------------------------------- extensions


def test_the_extensions_are_named_as_clients_look_for_them(client: triton.InferenceServerClient) -> None:
    named = set(client.get_server_metadata()["extensions"])
    assert {"binary_tensor_data", "classification", "generate", "model_configuration", "model_repository",
            "model_repository(unload_dependents)", "schedule_policy", "statistics"} <= named  # fmt: skip
    # Nor is anything promised that is refused.
    assert not named & {"sequence", "system_shared_memory", "cuda_shared_memory", "trace", "logging"}


def test_figures_and_configuration_of_one_version(client: triton.InferenceServerClient) -> None:
    client.infer("iris", given())
    (found,) = client.get_inference_statistics("iris", "1")["model_stats"]
    assert found.keys() == {
        "name", "version", "last_inference", "inference_count", "execution_count", "inference_stats",
        "response_stats", "batch_stats", "memory_usage",
    }  # fmt: skip
    assert found["inference_stats"].keys() == {
        "success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit",
        "cache_miss",
    }  # fmt: skip
    assert all(each.keys() == {"count", "ns"} for each in found["inference_stats"].values())
    assert client.get_model_config("iris", "1")["name"] == "iris"
    for ask in (client.get_inference_statistics, client.get_model_config, client.get_model_metadata):
        with pytest.raises(InferenceServerException) as caught:
            ask("iris", "9")
        assert caught.value.status() == "404"


def test_loading_as_kserve_and_with_a_repository(http: httpx.Client) -> None:
    for prefix in ("/v2/repository", "/v2/repository/any"):
        answer = http.post(f"{prefix}/models/iris/load")
        assert (answer.status_code, answer.json()) == (200, {"name": "iris", "load": True})
        for verb in ("load", "unload"):
            told = http.post(f"{prefix}/models/nobody/{verb}", json={"parameters": {}})
            assert (told.status_code, told.json().keys()) == (400, {"error"})
    files = {"file:1/model.onnx": base64.b64encode(b"x").decode(), "config": "{}"}
    told = http.post("/v2/repository/models/iris/load", json={"parameters": files})
    assert (told.status_code, "servable add" in told.json()["error"]) == (400, True)
    told = http.post("/v2/repository/models/iris/load", content=b"[]")
    assert (told.status_code, told.json().keys()) == (400, {"error"})


def test_clients_that_tidy_up_shared_memory_go_on(client: triton.InferenceServerClient) -> None:
    """perf_analyzer begins by taking back every region, also where none is used."""
    for kind in ("system", "cuda"):
        getattr(client, f"unregister_{kind}_shared_memory")()
        getattr(client, f"unregister_{kind}_shared_memory")("mine")
        assert getattr(client, f"get_{kind}_shared_memory_status")() == []
    with pytest.raises(InferenceServerException, match="Shared memory") as caught:
        client.register_system_shared_memory("mine", "/mine", 8)
    assert caught.value.status() == "501"


def test_what_is_not_served_over_http(http: httpx.Client) -> None:
    for path in ("/v2/models/iris/infer_stream", "/v2/models/iris/explain", "/v2/models/iris/versions/1/x"):
        answer = http.post(path, json={"inputs": [INPUT]})
        assert (answer.status_code, answer.json().keys()) == (404, {"error"}), path


# ---------------------------------------------------------------------- gRPC


@pytest.mark.parametrize(
    "path",
    [
        *(f"/inference.GRPCInferenceService/{name}" for name in REFUSED),
        "/inference.model_repository.ModelRepositoryService/RepositoryIndex",
    ],
)
def test_methods_that_are_not_served(channel: grpc.Channel, path: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(path)(b"", timeout=30)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert caught.value.details()


def test_the_repository_over_grpc(url: str) -> None:
    with triton_grpc.InferenceServerClient(url.removeprefix("http://")) as client:
        assert [each.name for each in client.get_model_repository_index().models] == ["iris", "shout"]
        client.load_model("iris")
        for unload in ({}, {"unload_dependents": True}):
            with pytest.raises(InferenceServerException, match="servable undeploy"):
                client.unload_model("iris", **unload)
        with pytest.raises(InferenceServerException, match="servable add"):
            client.load_model("iris", config="{}", files={"file:1/model.onnx": b"x"})
        stats = client.get_inference_statistics("iris", "1").model_stats
        assert [(each.name, each.version) for each in stats] == [("iris", "1")]


def test_reflection_in_the_newer_package(channel: grpc.Channel) -> None:
    """``grpcurl`` asks the newer one first; the messages are the same."""
    old, new = "/grpc.reflection.v1alpha.", "/grpc.reflection.v1."

    class Newer:
        def stream_stream(self, path: str, *arguments: Any, **more: Any) -> Any:
            return channel.stream_stream(path.replace(old, new), *arguments, **more)

    assert "inference.GRPCInferenceService" in ProtoReflectionDescriptorDatabase(Newer()).get_services()


# ---------------------------------------------------------------------- keys


def test_the_clients_own_plugin_for_keys(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("keyed") / "home"
    publish_iris(home)
    with open_home(home) as opened:
        key = opened.keys.create("mine", parse_scopes(["predict:iris"])).text
    with LocalServer(ServerSettings(home=str(home), port=0)) as server:
        address = server.url.removeprefix("http://")
        with contextlib.closing(triton.InferenceServerClient(address)) as client:
            with pytest.raises(InferenceServerException) as caught:
                client.infer("iris", given())
            assert caught.value.status() == "401"
            client.register_plugin(triton_auth.BasicAuth("any", key))
            found = client.infer("iris", given()).as_numpy("prediction")
            assert [each.decode() for each in found] == LABELS
        with triton_grpc.InferenceServerClient(address) as client:
            tensor = triton_grpc.InferInput("input", [2, 4], "FP64")
            tensor.set_data_from_numpy(ROWS)
            with pytest.raises(InferenceServerException, match="key"):
                client.infer("iris", [tensor])
            client.register_plugin(triton_grpc_auth.BasicAuth("any", key))
            found = client.infer("iris", [tensor]).as_numpy("prediction")
            assert [each.decode() for each in found] == LABELS
