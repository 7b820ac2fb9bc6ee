"""Limits at a running server of two processes: exact, in the words of every format, and before the body."""

import collections
import http.client
import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, duration_pb2, message_factory

import grpc
import servable
from servable.protocols.oip_messages import HEALTH_PACKAGE, HEALTH_SERVICE, messages
from servable.registry.home import open_home
from servable.workflows.keys import create_key, keys
from server.asking import FORMS, PREDICT_ROUTE, ROW, Form
from serving.making import publish_iris

QUOTA = 100


class Scene(NamedTuple):
    """A running server and its keys by name."""

    home: Path
    url: str
    keys: dict[str, str]

    def headers(self, name: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self.keys[name]}"}

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=30)

    def raw(self, said: bytes) -> bytes:
        """Everything that comes back for these bytes; the client sends no more and waits."""
        with socket.create_connection(("127.0.0.1", urlsplit(self.url).port or 0), timeout=20) as own:
            own.sendall(said)
            parts = []
            while part := own.recv(65_536):
                parts.append(part)
            return b"".join(parts)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    home = tmp_path_factory.mktemp("limited") / "home"
    publish_iris(home, default=True)
    with open_home(home) as place:
        place.models.set_alias("iris", "champion", 1)
    limits: dict[str, dict[str, Any]] = {
        "free": {},
        "spent": {"rate": "1/h"},
        "day": {"quota": f"{QUOTA}/day"},
        "hour": {"rate": f"{QUOTA}/h"},
        "one": {"concurrency": 1},
        "calls": {"rate": "5/h"},
        "second": {"rate": "1/s"},
    }
    made = {name: create_key(name, ["admin"], home=home, **more).key for name, more in limits.items()}
    with servable.serve(home=home, port=0, background=True, workers=2, predict_route=PREDICT_ROUTE) as server:
        yield Scene(home, server.url, made)


BODY = json.dumps({"inputs": [ROW]})


def statuses(scene: Scene, key: str, clients: int, each: int) -> "collections.Counter[int]":
    """What so many clients get who ask at once, each on connections that reach one process or the other."""
    found: list[int] = []

    def ask() -> None:
        connection = scene.connection()
        for _ in range(each):
            connection.request("POST", "/models/iris/predict", BODY, scene.headers(key))
            answer = connection.getresponse()
            answer.read()
            found.append(answer.status)
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return collections.Counter(found)


@pytest.mark.parametrize("key", ["day", "hour"])
def test_two_processes_answer_exactly_as_many_as_are_allowed(scene: Scene, key: str) -> None:
    assert statuses(scene, key, 6, 25) == {200: QUOTA, 429: 50}
    if key == "day":
        used = {row.name: (row.used_today, row.quota) for row in keys(home=scene.home)}
        assert used["day"] == (QUOTA, QUOTA)
        assert used["hour"] == (0, 0)


def ask(scene: Scene, path: str, key: str, verb: str = "GET") -> tuple[int, dict[str, str], bytes]:
    connection = scene.connection()
    connection.request(verb, path, b"", scene.headers(key))
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, content


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_a_limit_in_the_words_of_the_format(scene: Scene, form: Form) -> None:
    ask(scene, "/version", "spent")
    told = form.ask(scene.url, **scene.headers("spent"))
    assert told.status == ("RESOURCE_EXHAUSTED" if form.method else 429)
    assert form.refused(told) == "This key may send 1 request an hour; wait before the next one."
    if form.method:
        assert 3000 < int(told.headers["grpc-retry-pushback-ms"]) / 1000 <= 3600
        return
    seconds = int(told.headers["retry-after"])
    assert 3000 < seconds <= 3600
    assert told.headers["ratelimit-policy"] == '"rate";q=1;w=3600'
    assert told.headers["ratelimit"] == f'"rate";r=0;t={seconds}'


def test_every_other_address_is_limited_too_but_signs_of_life(scene: Scene) -> None:
    ask(scene, "/version", "spent")
    signs = ("/", "/healthz", "/readyz", "/readyz?a=b", "/ping", "/v2/health/live", "/v2/health/ready")
    for path in (*signs, "/models", "/metrics", "/docs", "/openapi.json", "/nothing/here", "/models/iris"):
        for verb in ("GET", "OPTIONS"):
            status, _, _ = ask(scene, path, "spent", verb)
            assert (status == 429) == (path not in signs), (verb, path)
    status, _, figures = ask(scene, "/metrics", "free")
    assert status == 200
    lines = [line for line in figures.decode().splitlines() if 'code="rate_limited"' in line]
    assert len(lines) == 1
    assert float(lines[0].rpartition(" ")[2]) > 0


def test_calls_and_the_messages_of_streams_are_limited(scene: Scene) -> None:
    metadata = list(scene.headers("calls").items())
    request = messages()["inference.ModelMetadataRequest"](name="iris").SerializeToString()
    infer = next(form for form in FORMS if form.name == "OIP gRPC").body("iris")
    with grpc.insecure_channel(urlsplit(scene.url).netloc) as channel:
        health = channel.unary_unary(f"/{HEALTH_PACKAGE}.{HEALTH_SERVICE}/Check")
        stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        answers = list(stream(iter([infer] * 6), metadata=metadata, timeout=20))
        said = [
            messages()["inference.ModelStreamInferResponse"].FromString(answer).error_message
            for answer in answers
        ]
        # The stream itself is the first.
        assert [bool(each) for each in said] == [False] * 4 + [True] * 2
        assert said[-1].startswith("This key may send 5 requests an hour")
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary("/inference.GRPCInferenceService/ModelMetadata")(
                request, metadata=metadata, timeout=20
            )
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        details = dict(refused.value.trailing_metadata())["grpc-status-details-bin"]
        assert 600 < retry_delay(details, refused.value.details()) <= 720
        for _ in range(10):
            health(b"", metadata=metadata, timeout=20)


def retry_delay(details: bytes, message: str) -> int:
    """The seconds of the ``RetryInfo`` in a ``google.rpc.Status``, whose other fields must be right."""
    file = descriptor_pb2.FileDescriptorProto(name="rpc.proto", package="google.rpc", syntax="proto3")
    file.dependency.extend(["google/protobuf/any.proto", "google/protobuf/duration.proto"])
    status, retry = file.message_type.add(name="Status"), file.message_type.add(name="RetryInfo")
    status.field.add(name="code", number=1, type=5, label=1)
    status.field.add(name="message", number=2, type=9, label=1)
    status.field.add(name="details", number=3, type=11, label=3, type_name=".google.protobuf.Any")
    retry.field.add(name="retry_delay", number=1, type=11, label=1, type_name=".google.protobuf.Duration")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(any_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(duration_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    found: Any = message_factory.GetMessageClass(pool.FindMessageTypeByName("google.rpc.Status"))
    made = found.FromString(details)
    assert (made.code, made.message) == (8, message)
    assert made.details[0].type_url == "type.googleapis.com/google.rpc.RetryInfo"
    info: Any = message_factory.GetMessageClass(pool.FindMessageTypeByName("google.rpc.RetryInfo"))
    return int(info.FromString(made.details[0].value).retry_delay.seconds)


def head(scene: Scene, key: str, length: int) -> bytes:
    return (
        f"POST /models/iris/predict HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\nX-Request-Id: mine\r\n\r\n"
    ).encode()


def test_whoever_is_not_let_in_is_told_before_the_body_is_read(scene: Scene) -> None:
    ask(scene, "/version", "spent")
    for key, status in (("wrong", b"401 Unauthorized"), (scene.keys["spent"], b"429 Too Many Requests")):
        # The body never comes, and nobody waits for it.
        told = scene.raw(head(scene, key, 50_000_000))
        assert told.startswith(b"HTTP/1.1 " + status)
        assert b"connection: close" in told
        assert b"x-request-id: mine" in told
        assert told.count(b"HTTP/1.1") == 1
        # Where the body is there already, the connection stays; also beside others.
        valid = head(scene, scene.keys["free"], len(BODY)) + BODY.encode()
        several = valid + head(scene, key, 2) + b"{}" + valid
        told = scene.raw(several + head(scene, key, 9).replace(b"POST", b"PUT", 1))
        found = re.findall(rb"HTTP/1.1 (\d+)", told)
        assert found == [b"200", status[:3], b"200", status[:3]]


def test_requests_at_once_and_those_whose_client_left(scene: Scene) -> None:
    port = urlsplit(scene.url).port or 0
    with socket.create_connection(("127.0.0.1", port), timeout=20) as slow:
        slow.sendall(head(scene, scene.keys["one"], len(BODY)))
        # It has the one place from its headers on.
        while ask(scene, "/version", "one")[0] == 200:
            pass
        status, headers, content = ask(scene, "/models", "one")
        assert (status, headers["ratelimit-policy"]) == (429, '"concurrency";q=1;qu="concurrent-requests"')
        assert json.loads(content)["error"]["code"] == "concurrency_limited"
        slow.sendall(BODY.encode())
        assert slow.recv(65_536).startswith(b"HTTP/1.1 200")
        # The answer may be here a moment before the other process sees that it was given.
        while ask(scene, "/version", "one")[0] == 429:
            pass
        slow.sendall(head(scene, scene.keys["one"], len(BODY)))
        while ask(scene, "/version", "one")[0] == 200:
            pass
    # The client left in the middle of its body.
    while ask(scene, "/version", "one")[0] == 429:
        pass


def test_our_client_waits_as_long_as_it_is_told(scene: Scene) -> None:
    with servable.Client(scene.url, api_key=scene.keys["second"]) as client:
        for _ in range(2):
            assert client.predict("iris", ROW)
