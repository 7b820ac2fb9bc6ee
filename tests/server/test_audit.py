"""What a real server adds to the audit log."""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zlib import crc32

import httpx
import pytest

import grpc
from servable.artifact.bundles import make_keys
from servable.clock import SystemClock
from servable.engines.local import LocalServer
from servable.protocols.oip_messages import HEALTH_PACKAGE, HEALTH_SERVICE, messages
from servable.registry.home import open_home
from servable.security.keys import new_key
from servable.security.limits import Limits, Rate
from servable.security.scopes import parse_scopes
from servable.server.denials import EACH
from servable.settings import ServerSettings
from servable.testing import FakeClock
from servable.workflows.signing import sign
from serving.making import EXAMPLE, publish_iris

ROWS = {"inputs": [EXAMPLE]}
CANARY = "canary-7f3a"


@pytest.fixture
def keys(home: Path) -> dict[str, str]:
    """A home with a model, and keys of it."""
    publish_iris(home)
    scopes = {"asks": "predict:iris", "other": "predict:other", "admin": "admin", "gone": "admin"}
    with open_home(home) as place:
        texts = {name: place.keys.create(name, parse_scopes([scope])).text for name, scope in scopes.items()}
        place.keys.revoke("gone")
    with open_home(home, clock=FakeClock(SystemClock().now().replace(year=2020))) as place:
        texts["late"] = place.keys.create("late", parse_scopes(["admin"]), timedelta(days=9)).text
    return texts


@pytest.fixture
def server(home: Path, keys: dict[str, str]) -> Iterator[LocalServer]:
    with LocalServer(ServerSettings(home=str(home), port=0)) as running:
        yield running


def records(home: Path, what: str = "") -> list[dict[str, Any]]:
    with open_home(home) as place:
        assert place.audit.examine(place.audit.own_checkpoints()).faults == ()
        found = [json.loads(row.record) for row in place.audit.rows()]
    return [record for record in found if record["what"].startswith(what)]


def until(met: Callable[[], bool]) -> None:
    """Wait for it."""
    deadline = time.monotonic() + 20
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


def test_who_was_refused_is_recorded(home: Path, server: LocalServer, keys: dict[str, str]) -> None:
    near = keys["admin"].rsplit("_", 1)[0]
    with httpx.Client(base_url=server.url) as client:
        path = "/models/iris/predict"
        answers = [
            client.post(path, json=ROWS),
            client.post(path, json=ROWS, headers=bearer(CANARY)),
            client.post(path, json=ROWS, headers=bearer(near)),
            client.post(path, json=ROWS, headers=bearer(keys["gone"])),
            client.post(path, json=ROWS, headers=bearer(keys["late"])),
            client.post(f"{path}?{CANARY}={CANARY}", json=ROWS, headers=bearer(keys["other"])),
            client.get("/models/iris/report", headers=bearer(keys["asks"])),
            client.post(f"/models/{CANARY}/predict", json=ROWS),
            client.get(f"/{CANARY}"),
            # Neither is somebody refused: nobody has such a model, and this one may be asked.
            client.post("/models/nothing/predict", json=ROWS, headers=bearer(keys["other"])),
            client.post(path, json=ROWS, headers=bearer(keys["asks"])),
        ]
    expected = [401, 401, 401, 401, 401, 404, 403, 401, 401, 404, 200]
    assert [answer.status_code for answer in answers] == expected
    server.stop()
    found = records(home, "denied")
    assert {record["where"] for record in found} == {"address:127.0.0.1"}
    form = {"method": "POST", "route": "/models/{name}/predict"}
    none = {"code": "unauthenticated", "reason": "no key"}
    unknown = none | {"reason": "unknown key"}
    told = [(record["who"], record["details"]) for record in found]
    ids = {name: text.split("_")[1] for name, text in keys.items()}
    gone = {"code": "unauthenticated", "reason": "revoked key", "key": "gone", "id": ids["gone"]}
    late = {"code": "unauthenticated", "reason": "expired key", "key": "late", "id": ids["late"]}
    hidden = {"code": "model_not_found", "need": "predict", "model": "iris"}
    forbidden = {"code": "forbidden", "need": "read", "model": "iris"}
    assert told == [
        ("unknown", form | none),
        ("unknown", form | unknown),
        ("unknown", form | unknown),
        ("unknown", form | gone),
        ("unknown", form | late),
        ("key:other", form | hidden),
        ("key:asks", {"method": "GET", "route": "/models/{name}/report"} | forbidden),
        ("unknown", form | none),
        ("unknown", {"method": "GET", "route": "unknown"} | none),
    ]
    assert CANARY not in json.dumps(records(home))


def test_a_wrong_secret_of_a_known_key_is_told(home: Path, server: LocalServer, keys: dict[str, str]) -> None:
    other = new_key().text.split("_", 2)
    mixed = f"sv_{keys['admin'].split('_')[1]}_{other[2][:-8]}"
    text = f"{mixed}{crc32(mixed.encode()):08x}"
    assert httpx.get(f"{server.url}/models", headers=bearer(text)).status_code == 401
    server.stop()
    (record,) = records(home, "denied")
    assert (record["details"]["reason"], record["details"]["key"]) == ("wrong secret", "admin")


@pytest.mark.parametrize("way", ["Check", "Watch", "ModelReady"])
def test_who_asks_by_grpc_for_a_model_hidden_from_them_is_recorded(
    home: Path, server: LocalServer, keys: dict[str, str], way: str
) -> None:
    metadata = list(bearer(keys["other"]).items())
    with grpc.insecure_channel(urlsplit(server.url).netloc) as channel:
        for model in ("iris", "nowhere"):
            if way == "ModelReady":
                ready = messages()["inference.ModelReadyRequest"](name=model).SerializeToString()
                call = channel.unary_unary("/inference.GRPCInferenceService/ModelReady")
                # As of a model that is not there.
                assert call(ready, metadata=metadata, timeout=20) == b""
                continue
            asked = messages()["grpc.health.v1.HealthCheckRequest"](service=model).SerializeToString()
            if way == "Watch":
                watch = channel.unary_stream(f"/{HEALTH_PACKAGE}.{HEALTH_SERVICE}/Watch")
                told = watch(asked, metadata=metadata, timeout=20)
                assert messages()["grpc.health.v1.HealthCheckResponse"].FromString(next(told)).status == 3
                told.cancel()
                continue
            with pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary(f"/{HEALTH_PACKAGE}.{HEALTH_SERVICE}/Check")(
                    asked, metadata=metadata, timeout=20
                )
            assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    server.stop()
    (record,) = records(home, "denied")
    assert (record["who"], record["where"]) == ("key:other", "address:127.0.0.1")
    assert (record["details"]["model"], record["details"]["need"]) == ("iris", "see")
    assert record["details"]["route"].endswith(way)


def test_a_version_that_is_refused_for_its_signature_is_recorded_once(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("ERROR", "servable")
    publish_iris(home)
    public = make_keys(tmp_path / "release.pem")
    sign("iris", key=tmp_path / "release.pem", home=home)
    told = ServerSettings(home=str(home), port=0, signatures="require", trusted_keys=(str(public),))
    for newest in (2, 3):
        # Two servers stand for two HTTP processes of one: they refuse the same on the same machine.
        with LocalServer(told) as server, LocalServer(told):
            publish_iris(home)
            with open_home(home) as place:
                place.deployments.deploy("iris", newest)
            # It is tried again and again.
            until(lambda: caplog.text.count("the model cannot be loaded") >= 4)
            caplog.clear()
            assert httpx.post(f"{server.url}/models/iris/predict", json=ROWS).status_code == 200
            with open_home(home) as place:
                place.deployments.deploy("iris", 1)
    found = records(home, "version.refuse")
    assert [each["details"]["version"] for each in found] == [2, 3]
    for each in found:
        assert each["who"] == "service:server"
        assert "is not signed" in each["details"]["reason"]
        assert each["details"]["model"] == "iris"


def test_a_servers_life_and_what_its_callers_change(
    home: Path, server: LocalServer, keys: dict[str, str]
) -> None:
    answer = httpx.post(f"{server.url}/v2/repository/models/iris/load", headers=bearer(keys["admin"]))
    assert answer.status_code == 200
    server.stop()
    start, load, stop = records(home, "server") + records(home, "model")
    if load["what"] == "server.stop":
        load, stop = stop, load
    assert (start["what"], stop["what"]) == ("server.start", "server.stop")
    assert (start["details"]["host"], start["details"]["insecure"]) == ("127.0.0.1", False)
    assert (load["what"], load["who"], load["where"]) == ("model.load", "key:admin", "address:127.0.0.1")
    assert load["details"] == {"model": "iris", "version": 1}


def test_limits_that_are_reached_are_recorded_once_and_then_as_a_number(
    home: Path, keys: dict[str, str]
) -> None:
    with open_home(home) as place:
        scopes, limits = parse_scopes(["predict:iris"]), Limits(Rate(2, 3600))
        text = place.keys.create("slow", scopes, limits=limits).text
    with LocalServer(ServerSettings(home=str(home), port=0)) as server:
        with httpx.Client(base_url=server.url, headers=bearer(text)) as client:
            found = [client.post("/models/iris/predict", json=ROWS).status_code for _ in range(40)]
        assert found == [200] * 2 + [429] * 38
        until(lambda: len(records(home, "limited")) == 1)
    first, more = records(home, "limited")
    assert (first["what"], first["who"], first["where"]) == ("limited", "key:slow", "address:127.0.0.1")
    assert first["details"] == {
        "code": "rate_limited", "method": "POST", "route": "/models/{name}/predict",
    }  # fmt: skip
    assert (more["what"], more["who"], more["where"]) == ("limited.more", "key:slow", "")
    assert more["details"]["code"] == "rate_limited"
    assert more["details"]["more"] == 37


def test_nothing_is_changed_that_cannot_be_recorded_and_predictions_go_on(
    home: Path, server: LocalServer, keys: dict[str, str]
) -> None:
    with closing(sqlite3.connect(home / "registry.db")) as connection, connection:
        connection.execute("CREATE TRIGGER t BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'full'); END")
    for _ in range(2):
        answer = httpx.post(f"{server.url}/v2/repository/models/iris/load", headers=bearer(keys["admin"]))
        assert (answer.status_code, str(home) in answer.text) == (503, False)
        assert "nothing was changed" in answer.text
        refused = httpx.post(f"{server.url}/models/iris/predict", json=ROWS)
        assert refused.status_code == 401
        answer = httpx.post(f"{server.url}/models/iris/predict", json=ROWS, headers=bearer(keys["asks"]))
        assert answer.status_code == 200


def test_feedback_is_recorded_as_a_number(home: Path, server: LocalServer, keys: dict[str, str]) -> None:
    row = {"request_id": CANARY, "outcome": "setosa"}
    for rows in ([row], [row, row]):
        answer = httpx.post(
            f"{server.url}/models/iris/feedback", json={"feedback": rows}, headers=bearer(keys["admin"])
        )
        assert answer.status_code == 200, answer.text
    server.stop()
    (record,) = records(home, "feedback")
    assert (record["who"], record["where"]) == ("key:admin", "address:127.0.0.1")
    assert record["details"] == {"model": "iris", "count": 3}


def test_what_could_not_be_written_is_counted(
    home: Path, server: LocalServer, keys: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    with httpx.Client(base_url=server.url) as client:
        with closing(sqlite3.connect(home / "registry.db")) as connection, connection:
            connection.execute(
                "CREATE TRIGGER t BEFORE INSERT ON audit WHEN NEW.record LIKE '%denied%' "
                "BEGIN SELECT RAISE(ABORT, 'full'); END"
            )
        client.get("/models")
        client.get("/models")
        until(lambda: "the audit log cannot be written" in caplog.messages)
        with closing(sqlite3.connect(home / "registry.db")) as connection, connection:
            connection.execute("DROP TRIGGER t")
        client.get("/version")
    server.stop()
    (lost,) = records(home, "audit.lost")
    assert lost["details"]["count"] in (1, 2)
    assert lost["details"]["count"] + len(records(home, "denied")) == 3


def test_a_flood_of_refusals_leaves_good_requests_and_the_disk_alone(
    home: Path, server: LocalServer, keys: dict[str, str]
) -> None:
    good = 0
    with httpx.Client(base_url=server.url) as client:
        for number in range(600):
            valid = number % 3 == 0
            headers = bearer(keys["asks"]) if valid else {}
            answer = client.post("/models/iris/predict", json=ROWS, headers=headers)
            assert answer.status_code == (200 if valid else 401)
            good += valid
    assert good == 200
    server.stop()
    denied = records(home, "denied")
    (more,) = [record for record in denied if record["what"] == "denied.more"]
    assert (len(denied) - 1, more["details"]["more"]) == (EACH, 400 - EACH)
    assert more["where"] == "address:127.0.0.1"
