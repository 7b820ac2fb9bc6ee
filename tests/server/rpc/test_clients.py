"""Real clients of gRPC against a real server: every method, every error, large tensors, many connections."""

import asyncio
import contextlib
import queue
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from google.protobuf import descriptor_pool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tritonclient.utils import InferenceServerException

import grpc
from faults.load import Served, serving
from servable.protocols.oip_messages import messages
from servable.server.http2 import RETIRE_AFTER
from server.rpc.serving import ROWS, WIDTH, make_home

INFER = "/inference.GRPCInferenceService/ModelInfer"
ROW = np.array([[5.1, 3.5, 1.4, 0.2]])
MOST = 12 * 1024 * 1024


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("rpc"))


@pytest.fixture(scope="module")
def served(home: Path) -> Iterator[Served]:
    with serving(home, max_body_bytes=MOST) as server:
        yield server


@pytest.fixture(scope="module")
def address(served: Served) -> str:
    return served.url.removeprefix("http://")


@pytest.fixture
def client(address: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(address) as opened:
        yield opened


@pytest.fixture
def channel(address: str) -> Iterator[grpc.Channel]:
    sizes = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(address, options=sizes) as opened:
        yield opened


def given(array: Any = ROW, name: str = "input") -> list[Any]:
    tensor = triton.InferInput(name, array.shape, {"float64": "FP64", "float32": "FP32"}[array.dtype.name])
    tensor.set_data_from_numpy(array)
    return [tensor]


def message(array: Any = ROW, model: str = "iris", name: str = "input") -> bytes:
    request = messages()["inference.ModelInferRequest"](model_name=model)
    datatype = {"float64": "FP64", "float32": "FP32"}[array.dtype.name]
    request.inputs.add(name=name, datatype=datatype, shape=array.shape)
    request.raw_input_contents.append(array.tobytes())
    return bytes(request.SerializeToString())


def metric(served: Served, *words: str) -> float:
    with urllib.request.urlopen(f"{served.url}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    found = [line for line in lines if all(word in line for word in words) and not line.startswith("#")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in found)


# ---------------------------------------------------------------------- every method


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("iris")
    assert client.is_model_ready("iris", "1")
    assert not client.is_model_ready("iris", "2")
    assert not client.is_model_ready("nothing")
    server = client.get_server_metadata()
    assert server.name == "servable"
    assert "statistics" in server.extensions
    model = client.get_model_metadata("iris")
    assert list(model.versions) == ["1"]
    assert [(each.name, each.datatype, list(each.shape)) for each in model.inputs] == [
        ("input", "FP64", [-1, 4])
    ]
    config = client.get_model_config("iris").config
    assert (config.name, list(config.input[0].dims)) == ("iris", [4])


def test_statistics_and_repository(client: Any) -> None:
    before = client.get_inference_statistics("iris").model_stats[0].inference_count
    client.infer("iris", given(np.repeat(ROW, 5, axis=0)))
    assert client.get_inference_statistics("iris").model_stats[0].inference_count == before + 5
    assert {each.name for each in client.get_inference_statistics().model_stats} == {"iris", "twice", "slow"}
    index = client.get_model_repository_index()
    assert {(each.name, each.state) for each in index.models} >= {("iris", "READY"), ("slow", "READY")}
    client.load_model("iris")
    with pytest.raises(InferenceServerException, match="servable undeploy iris"):
        client.unload_model("iris")
    with pytest.raises(InferenceServerException, match="not taken from a call"):
        client.load_model("iris", config="{}")


def test_answers_are_the_models_own(client: Any, served: Served) -> None:
    answer = client.infer("iris", given(), request_id="mine")
    assert answer.get_response().id == "mine"
    assert answer.as_numpy("prediction").tolist() == [0]
    assert answer.as_numpy("probabilities").sum() == pytest.approx(1)
    wanted = [triton.InferRequestedOutput("probabilities", class_count=1)]
    best = client.infer("iris", given(), outputs=wanted).as_numpy("probabilities")
    assert best.shape == (1, 1)
    assert best[0, 0].endswith(b":0:0")


@pytest.mark.parametrize("reference", ["iris", "iris:1"])
def test_references(client: Any, reference: str) -> None:
    assert client.infer(reference, given()).as_numpy("prediction").tolist() == [0]
    assert client.infer("iris", given(), model_version="1").as_numpy("prediction").tolist() == [0]


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_in_both_directions(client: Any, algorithm: str) -> None:
    rows = np.tile(np.arange(4, dtype=np.float32), (300, 2))
    answer = client.infer("twice", given(rows, "x"), compression_algorithm=algorithm)
    assert (answer.as_numpy("y") == rows * 2).all()


@pytest.mark.parametrize("shape", [(1, 3 * 224 * 224), (2, 1_048_576)])
def test_large_tensors_both_ways(channel: grpc.Channel, shape: tuple[int, int]) -> None:
    rows = np.random.default_rng(0).random(shape, np.float32)
    answer = channel.unary_unary(INFER)(message(rows, "twice", "x"), timeout=60)
    found = messages()["inference.ModelInferResponse"].FromString(answer).raw_output_contents[0]
    assert (np.frombuffer(found, np.float32).reshape(shape) == rows * 2).all()


def test_aio(address: str) -> None:
    async def course() -> None:
        async with triton_aio.InferenceServerClient(address) as client:
            answers = await asyncio.gather(*(client.infer("iris", given()) for _ in range(300)))
        assert all(answer.as_numpy("prediction").tolist() == [0] for answer in answers)

    asyncio.run(course())


def test_streams_answer_in_order_and_go_on_after_errors(client: Any) -> None:
    got: queue.Queue[Any] = queue.Queue()
    client.start_stream(callback=lambda result, error: got.put((result, error)))
    for index in range(300):
        final = index == 299
        name = "nothing" if index == 7 else "twice" if index % 2 else "iris"
        inputs = given(np.full((1, 3), index, np.float32), "x") if index % 2 else given()
        client.async_stream_infer(name, inputs, request_id=str(index), enable_empty_final_response=final)
    for index in range(300):
        result, error = got.get(timeout=30)
        if index == 7:
            assert "nothing" in str(error)
        elif index % 2:
            assert result.get_response().id == str(index)
            assert result.as_numpy("y").tolist() == [[2.0 * index] * 3]
        if index == 299:
            assert result.get_response().parameters["triton_final_response"].bool_param
    client.stop_stream()


def test_a_strict_stream_ends_with_its_first_error(channel: grpc.Channel) -> None:
    stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
    asked = iter([message(), message(model="nothing"), message()])
    answers = stream(asked, metadata=[("triton_grpc_error", "true")], timeout=30)
    with pytest.raises(grpc.RpcError) as caught:
        list(answers)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_health_service(channel: grpc.Channel) -> None:
    request, response = (messages()[f"grpc.health.v1.HealthCheck{kind}"] for kind in ("Request", "Response"))
    check = channel.unary_unary("/grpc.health.v1.Health/Check")
    for name in ("", "inference.GRPCInferenceService", "iris"):
        assert response.FromString(check(request(service=name).SerializeToString())).status == 1
    with pytest.raises(grpc.RpcError) as caught:
        check(request(service="nothing").SerializeToString())
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(request().SerializeToString())
    assert response.FromString(next(watch)).status == 1
    watch.cancel()


def test_reflection(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    assert "inference.GRPCInferenceService" in database.get_services()
    pool = descriptor_pool.DescriptorPool(database)
    service = pool.FindServiceByName("inference.GRPCInferenceService")
    assert service.FindMethodByName("ModelInfer").input_type.fields_by_name["raw_input_contents"].number == 7
    serving = pool.FindServiceByName("tensorflow.serving.PredictionService")
    tensors = serving.FindMethodByName("Predict").input_type.fields_by_name["inputs"].message_type
    assert tensors.fields_by_name["value"].message_type.full_name == "tensorflow.TensorProto"
    assert "tensorflow.serving.ModelService" in database.get_services()
    with pytest.raises(KeyError):
        pool.FindMessageTypeByName("inference.Nothing")


# ---------------------------------------------------------------------- errors

_ERRORS: dict[str, tuple[str, Callable[[], bytes], grpc.StatusCode]] = {
    "no such method": ("/inference.GRPCInferenceService/Nothing", message, grpc.StatusCode.UNIMPLEMENTED),
    "no such service": ("/a.B/C", message, grpc.StatusCode.UNIMPLEMENTED),
    "shared memory": (
        "/inference.GRPCInferenceService/SystemSharedMemoryStatus", bytes, grpc.StatusCode.UNIMPLEMENTED,
    ),
    "no message": (INFER, lambda: b"\xff\xff", grpc.StatusCode.INVALID_ARGUMENT),
    "no model": (INFER, lambda: message(model="nothing"), grpc.StatusCode.NOT_FOUND),
    "no version": (INFER, lambda: message(model="iris:9"), grpc.StatusCode.NOT_FOUND),
    "nothing": (INFER, bytes, grpc.StatusCode.INVALID_ARGUMENT),
    "values": (INFER, lambda: message(ROW * np.inf), grpc.StatusCode.INVALID_ARGUMENT),
    "oversize": (INFER, lambda: b"x" * (MOST + 1), grpc.StatusCode.RESOURCE_EXHAUSTED),
}  # fmt: skip


@pytest.mark.parametrize("fault", _ERRORS)
@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_errors(channel: grpc.Channel, fault: str) -> None:
    path, body, code = _ERRORS[fault]
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(path)(body(), timeout=30)
    assert caught.value.code() == code, caught.value.details()
    assert caught.value.details()
    assert "Traceback" not in caught.value.details()


def test_deadlines_and_cancelled_calls(channel: grpc.Channel, served: Served) -> None:
    call = channel.unary_unary(INFER)
    slow = message(np.ones((ROWS, WIDTH), np.float32), "slow", "x")
    before = metric(served, "client_gone")
    with pytest.raises(grpc.RpcError) as caught:
        call(slow, timeout=0.02)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    running = [call.future(slow) for _ in range(4)]
    assert call(message(), timeout=30)
    for future in running:
        future.cancel()
    assert call(slow, timeout=60)
    assert metric(served, "client_gone") >= before + 4


def test_a_wrong_content_type_and_plain_requests(served: Served) -> None:
    def curl(path: str, *words: str) -> str:
        command = ["curl", "-s", "--http2-prior-knowledge", "-w", "\n%{http_code} %{http_version}", *words]
        return subprocess.run(
            [*command, served.url + path], capture_output=True, text=True, check=True
        ).stdout

    assert curl(INFER, "-H", "content-type: application/grpc+json", "-d", "x").endswith("415 2")
    assert curl("/healthz").endswith("200 2")
    assert curl("/models/nothing").endswith("404 2")
    answer = curl(
        "/models/iris/predict",
        "-H",
        "content-type: application/json",
        "-d",
        '{"inputs": [[5.1, 3.5, 1.4, 0.2]]}',
    )
    assert answer.endswith("200 2")
    assert curl("/models", "-I").endswith("200 2") or curl("/models", "-I").endswith("405 2")


# ---------------------------------------------------------------------- many calls


def hammer(address: str, calls: int, at_once: int) -> list[str]:
    """Asks so often over one channel; what went wrong."""
    body = message()
    wrong: list[str] = []
    places = threading.Semaphore(at_once)

    def ended(call: Any) -> None:
        if call.code() is not grpc.StatusCode.OK:
            wrong.append(f"{call.code()}: {call.details()}")
        places.release()

    with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        call = channel.unary_unary(INFER)
        for _ in range(calls):
            places.acquire()
            call.future(body, timeout=60).add_done_callback(ended)
        for _ in range(at_once):
            places.acquire()
    return wrong


def test_many_calls_over_many_connections_lose_none(address: str, served: Served) -> None:
    before = metric(served, "connections_total")
    calls, channels = 10_000, 2
    with futures.ThreadPoolExecutor(channels) as pool:
        for wrong in pool.map(lambda _: hammer(address, calls, 16), range(channels)):
            assert wrong == []
    assert metric(served, "connections_total") - before >= channels * calls // RETIRE_AFTER


def test_a_server_that_stops_answers_what_it_has_and_ends_what_waits(home: Path) -> None:
    request = messages()["grpc.health.v1.HealthCheckRequest"]().SerializeToString()
    waits: queue.Queue[bytes] = queue.Queue()
    with contextlib.ExitStack() as stack:
        with serving(home) as server:
            channel = stack.enter_context(grpc.insecure_channel(server.url.removeprefix("http://")))
            watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(request)
            assert next(watch) == b"\x08\1"
            open_stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
            stream = open_stream(iter(waits.get, b""))
            waits.put(message())
            assert next(stream)
            call = channel.unary_unary(INFER)
            running = call.future(message(np.ones((ROWS, WIDTH), np.float32), "slow", "x"))
            # Streams of one connection begin in their order.
            assert call(message())
        # The server has ended with status 0, and not because it ran out of time.
        assert running.result(timeout=30)
        assert list(watch) == [b"\x08\2"]
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        waits.put(b"")


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_million_calls_lose_none(address: str, served: Served) -> None:
    calls, channels = 250_000, 4
    before, connections = served.resident(), metric(served, "connections_total")
    started = time.monotonic()
    with futures.ThreadPoolExecutor(channels) as pool:
        for wrong in pool.map(lambda _: hammer(address, calls, 32), range(channels)):
            assert wrong == []
    seconds = time.monotonic() - started
    opened = metric(served, "connections_total") - connections
    grown = served.resident() - before
    print(
        f"{channels * calls:,} calls in {seconds:.0f} s, {channels * calls / seconds:,.0f} a second, ", end=""
    )
    print(f"over {opened:,.0f} connections; memory {before >> 20} MiB before, {grown >> 20} MiB more after")
    assert opened >= channels * calls // RETIRE_AFTER
    assert grown < 64 * 1024 * 1024
