"""Every method of gRPC against every kind of key, and keys that come and go while a server runs."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

import grpc
import servable
from security.issuing import AUDIENCE, ISSUER, Issuer
from servable.errors import RemoteError
from servable.protocols import tfserving_messages as tensorflow
from servable.protocols.oip_messages import (
    HEALTH_PACKAGE,
    HEALTH_SERVICE,
    PACKAGE,
    REFLECTION_PACKAGES,
    REFLECTION_SERVICE,
    REFUSED,
    SERVICE,
    messages,
)
from servable.registry.home import open_home
from servable.security.scopes import parse_scopes
from serving.making import publish_iris

#: What a caller needs for each method: ``any`` valid key, ``sign`` none at all.
POLICY = {
    "ServerLive": "sign",
    "ServerReady": "sign",
    "ServerMetadata": "any",
    "ModelReady": "any",
    "ModelMetadata": "see",
    "ModelConfig": "see",
    "ModelStatistics": "read",
    "RepositoryIndex": "any",
    "RepositoryModelLoad": "deploy",
    "RepositoryModelUnload": "deploy",
    "ModelInfer": "predict",
    "ModelStreamInfer": "predict",
    **dict.fromkeys(REFUSED, "any"),
}
#: The same for the services of TensorFlow Serving, by address.
TENSORFLOW = {
    **dict.fromkeys(
        (
            f"/{tensorflow.PACKAGE}.{tensorflow.PREDICTION_SERVICE}/{name}"
            for name in ("Predict", "Classify", "Regress", "MultiInference")
        ),
        "predict",
    ),
    f"/{tensorflow.PACKAGE}.{tensorflow.PREDICTION_SERVICE}/GetModelMetadata": "see",
    f"/{tensorflow.PACKAGE}.{tensorflow.MODEL_SERVICE}/GetModelStatus": "see",
}
SCOPES = {
    "predict:iris": {"any", "see", "predict"},
    "read:iris": {"any", "see", "read"},
    "deploy:iris": {"any", "see", "read", "deploy"},
    "admin": {"any", "see", "read", "deploy", "predict"},
    "admin:other": {"any"},
}
#: Scopes that come in tokens as well.
IN_TOKENS = ("predict:iris", "read:iris", "admin:other")
MINE, OTHER = Issuer(), Issuer()
UNKNOWN_CALLER, NOT_ALLOWED = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED


class Scene:
    """A running server and its keys."""

    def __init__(self, home: Path, url: str, keys: dict[str, str]) -> None:
        self.home, self.url, self.keys = home, url, keys

    def status(self, path: str, request: bytes, key: str | None, stream: bool = False) -> grpc.StatusCode:
        """What a call ends with."""
        metadata = [] if key is None else [("authorization", f"Bearer {key}")]
        with grpc.insecure_channel(self.url.removeprefix("http://")) as channel:
            try:
                if stream:
                    list(channel.stream_stream(path)(iter([request]), metadata=metadata, timeout=20))
                else:
                    channel.unary_unary(path)(request, metadata=metadata, timeout=20)
            except grpc.RpcError as error:
                return error.code()  # type: ignore[no-any-return]
            return grpc.StatusCode.OK


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    home = tmp_path_factory.mktemp("keyed") / "home"
    publish_iris(home)
    with open_home(home) as place:
        keys = {
            scope: place.keys.create(f"k{at}", parse_scopes([scope])).text for at, scope in enumerate(SCOPES)
        }
        keys["revoked"] = place.keys.create("gone", parse_scopes(["admin"])).text
        place.keys.revoke("gone")
        keys["expired"] = place.keys.create("late", parse_scopes(["admin"]), timedelta(0)).text
    keys["wrong"] = "secret"
    keys |= {f"token {scope}": MINE.token(scope=scope) for scope in IN_TOKENS}
    keys |= {
        "forged": OTHER.token(scope="admin:*"),
        "late": MINE.token(exp=1),
        "token of no scope": MINE.token(scope=""),
    }
    (home / "jwks.json").write_bytes(MINE.jwks)
    given = {"oidc_issuer": ISSUER, "oidc_audience": AUDIENCE, "oidc_jwks": str(home / "jwks.json")}
    with servable.serve(home=home, port=0, background=True, **given) as server:
        yield Scene(home, server.url, keys)


def request_of(name: str) -> bytes:
    if name in REFUSED:
        return b""
    made: Any = messages()[f"{PACKAGE}.{name.replace('Stream', '')}Request"]()
    for field in ("name", "model_name"):
        if field in {each.name for each in made.DESCRIPTOR.fields}:
            setattr(made, field, "iris")
    data: bytes = made.SerializeToString()
    return data


def tensorflow_request(path: str) -> bytes:
    service, _, name = path.removeprefix("/").rpartition("/")
    found: Any = tensorflow.messages().pool.FindServiceByName(service)
    made: Any = tensorflow.messages()[found.methods_by_name[name].input_type.full_name]()
    spec = made.tasks.add().model_spec if name == "MultiInference" else made.model_spec
    spec.name = "iris"
    data: bytes = made.SerializeToString()
    return data


def test_every_method_has_a_policy() -> None:
    other: Any = tensorflow.messages()[f"{tensorflow.PACKAGE}.PredictRequest"].DESCRIPTOR.file
    named = {method.name for service in other.services_by_name.values() for method in service.methods}
    assert {path.rpartition("/")[2] for path in TENSORFLOW} >= named
    file: Any = messages()[f"{PACKAGE}.ModelInferRequest"].DESCRIPTOR.file
    assert {method.name for method in file.services_by_name[SERVICE].methods} | set(REFUSED) == set(POLICY)


@pytest.mark.parametrize("kind", [None, "wrong", "expired", "revoked", "forged", "late"])
def test_without_a_valid_key_only_signs_of_life_are_answered(scene: Scene, kind: str | None) -> None:
    key = None if kind is None else scene.keys[kind]
    for name, need in POLICY.items():
        path = f"/{PACKAGE}.{SERVICE}/{name}"
        status = scene.status(path, request_of(name), key, name == "ModelStreamInfer")
        assert status == (grpc.StatusCode.OK if need == "sign" else UNKNOWN_CALLER), name
    for path in TENSORFLOW:
        assert scene.status(path, tensorflow_request(path), key) == UNKNOWN_CALLER, path
    for package in REFLECTION_PACKAGES:
        path = f"/{package}.{REFLECTION_SERVICE}/ServerReflectionInfo"
        assert scene.status(path, b"", key, stream=True) == UNKNOWN_CALLER
    assert scene.status("/nothing/Here", b"", key) == UNKNOWN_CALLER
    check = f"/{HEALTH_PACKAGE}.{HEALTH_SERVICE}/Check"
    asked = messages()["grpc.health.v1.HealthCheckRequest"]
    assert scene.status(check, b"", key) == grpc.StatusCode.OK
    assert scene.status(check, asked(service="iris").SerializeToString(), key) == UNKNOWN_CALLER
    assert scene.status(check, asked(service="siri").SerializeToString(), key) == UNKNOWN_CALLER


@pytest.mark.parametrize("kind", [*SCOPES, *(f"token {scope}" for scope in IN_TOKENS), "token of no scope"])
def test_a_caller_gets_what_the_scope_says(scene: Scene, kind: str) -> None:
    met = SCOPES.get(kind.removeprefix("token "), {"any"})
    for name, need in POLICY.items():
        path, stream = f"/{PACKAGE}.{SERVICE}/{name}", name == "ModelStreamInfer"
        if stream:
            continue  # Each answer of a stream says for itself what is wrong with its request.
        expect(need, met, scene.status(path, request_of(name), scene.keys[kind]), name)
    for path, need in TENSORFLOW.items():
        expect(need, met, scene.status(path, tensorflow_request(path), scene.keys[kind]), path)


def expect(need: str, met: set[str], status: grpc.StatusCode, name: str) -> None:
    if need in ("sign", *met):
        assert status not in (UNKNOWN_CALLER, NOT_ALLOWED, grpc.StatusCode.NOT_FOUND), name
    elif "see" in met:
        assert status == NOT_ALLOWED, name
    else:
        assert status == grpc.StatusCode.NOT_FOUND, name


def within_a_second(true: Callable[[], bool]) -> float:
    started = time.monotonic()
    while not true():
        assert time.monotonic() - started < 1.0
        time.sleep(0.01)
    return time.monotonic() - started


def test_keys_come_and_go_within_a_second(scene: Scene) -> None:
    made = servable.create_key("new", ["predict:iris"], home=scene.home)
    row = {"sepal length (cm)": 5.1}

    def status() -> int:
        headers = {"authorization": f"Bearer {made.key}"}
        return httpx.post(f"{scene.url}/models/iris/predict", json=row, headers=headers).status_code

    within_a_second(lambda: status() != 401)
    turned = servable.rotate_key("new", overlap="1h", home=scene.home)
    assert turned.until
    assert status() != 401
    servable.revoke_key(made.row.id, home=scene.home)
    within_a_second(lambda: status() == 401)
    assert [key.state for key in servable.keys(home=scene.home) if key.name == "new"] == ["revoked", "active"]


class Open:
    """A call that stays open, as somebody with a key or without."""

    def __init__(self, scene: Scene, path: str, request: bytes, key: str | None) -> None:
        self._channel = grpc.insecure_channel(scene.url.removeprefix("http://"))
        self._done = threading.Event()
        metadata = [] if key is None else [("authorization", f"Bearer {key}")]
        self._call = self._channel.stream_stream(path)(self._requests(request), metadata=metadata, timeout=20)
        next(iter(self._call))

    def _requests(self, request: bytes) -> Iterator[bytes]:
        yield request
        self._done.wait()

    @property
    def over(self) -> bool:
        return bool(self._call.done())

    def close(self) -> grpc.StatusCode:
        """End it from this side; what it ended with."""
        self._done.set()
        self._call.cancel()
        code: grpc.StatusCode = self._call.code()
        self._channel.close()
        return code


WATCH = f"/{HEALTH_PACKAGE}.{HEALTH_SERVICE}/Watch"
STREAMS = {
    "watch": (WATCH, b"\x0a\x04iris"),
    "infer": (f"/{PACKAGE}.{SERVICE}/ModelStreamInfer", request_of("ModelInfer")),
    "reflection": (f"/{REFLECTION_PACKAGES[0]}.{REFLECTION_SERVICE}/ServerReflectionInfo", b"\x3a\x00"),
}


@pytest.mark.parametrize("end", ["revoked", "expired"])
def test_open_streams_end_with_their_key(scene: Scene, end: str) -> None:
    with open_home(scene.home) as place:
        lasts = timedelta(seconds=1.5) if end == "expired" else None
        key = place.keys.create(f"stays-{end}", parse_scopes(["predict:iris"]), lasts).text
    path = f"/{PACKAGE}.{SERVICE}/ServerMetadata"
    within_a_second(lambda: scene.status(path, b"", key) == grpc.StatusCode.OK)
    opened = [Open(scene, path, request, key) for path, request in STREAMS.values()]
    others = [Open(scene, path, request, scene.keys["admin"]) for path, request in STREAMS.values()]
    others.append(Open(scene, WATCH, b"", None))
    assert not any(call.over for call in opened)
    if end == "revoked":
        servable.revoke_key("stays-revoked", home=scene.home)
    started = time.monotonic()
    while not all(call.over for call in opened):
        assert time.monotonic() - started < 3
        time.sleep(0.01)
    assert [call.close() for call in opened] == [UNKNOWN_CALLER] * len(opened)
    assert not any(call.over for call in others)
    assert [call.close() for call in others] == [grpc.StatusCode.CANCELLED] * len(others)


def test_the_client_takes_the_key_of_the_environment(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    with servable.Client(scene.url) as client, pytest.raises(RemoteError, match="wants an API key") as caught:
        client.models()
    assert caught.value.remote_code == "unauthenticated"
    monkeypatch.setenv("SERVABLE_API_KEY", scene.keys["read:iris"])
    with servable.Client(scene.url) as client:
        assert [model.name for model in client.models()] == ["iris"]
    with servable.Client(scene.url, api_key="") as client, pytest.raises(RemoteError):
        client.models()
    with pytest.raises(RemoteError, match="scope read"):
        servable.status(url=scene.url, home=scene.home)
    monkeypatch.setenv("SERVABLE_API_KEY", scene.keys["admin"])
    assert servable.status(url=scene.url, home=scene.home).reachable


def test_refused_calls_are_recorded(tmp_path: Path) -> None:
    home = tmp_path / "home"
    publish_iris(home)
    with open_home(home) as place:
        key = place.keys.create("other", parse_scopes(["predict:other"])).text
    with servable.serve(home=home, port=0, background=True) as server:
        scene = Scene(home, server.url, {})
        metadata, infer = f"/{PACKAGE}.{SERVICE}/ModelMetadata", f"/{PACKAGE}.{SERVICE}/ModelInfer"
        assert scene.status(metadata, request_of("ModelMetadata"), None) == UNKNOWN_CALLER
        assert scene.status(infer, request_of("ModelInfer"), key) == grpc.StatusCode.NOT_FOUND
        assert scene.status("/nothing/Here", b"", None) == UNKNOWN_CALLER
    with open_home(home) as place:
        found = [json.loads(row.record) for row in place.audit.rows() if '"what":"denied"' in row.record]
    assert [(each["who"], each["where"], each["details"]["route"]) for each in found] == [
        ("unknown", "address:127.0.0.1", metadata),
        ("key:other", "address:127.0.0.1", infer),
        ("unknown", "address:127.0.0.1", "unknown"),
    ]
