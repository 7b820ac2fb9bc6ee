"""What a browser is told with every answer, and what pages of somebody else cannot make it do."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import grpc
import servable
from servable.errors import HostRefused, OriginRefused
from servable.protocols.oip_messages import PACKAGE, SERVICE
from servable.server.checks import checks
from servable.server.http import HttpRequest
from servable.server.safe_headers import safe_headers
from servable.settings import ServerSettings
from server.scenes import played
from server.test_http2 import Scene
from serving.making import publish_iris

ROW = [5.1, 3.5, 1.4, 0.2]
REPORT = "<!doctype html><html><head><title>r</title></head><body><p style='x'>r</p></body></html>"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("browsers") / "home"
    publish_iris(home, report=REPORT.encode())
    with servable.serve(
        home=home, port=0, background=True, allowed_origins=("https://app.example",)
    ) as server:
        yield server.url


def asked(headers: dict[bytes, bytes], method: bytes = b"POST", **more: Any) -> None:
    request = HttpRequest()
    request.method = method
    request.headers = {b"host": b"localhost:8000", **headers}
    for passes in checks(ServerSettings(**more)):
        passes(request)


# ---------------------------------------------------------------------- origins


@pytest.mark.parametrize(
    "origin",
    [b"http://evil.example", b"null", b"", b"http://localhost:8001", b"http://localhost:8000.evil.example",
     b"https://localhost", b"http://127.0.0.1:8000", b"localhost:8000", b"://localhost:8000x"],
)  # fmt: skip
def test_a_page_of_another_origin_changes_nothing(origin: bytes) -> None:
    for method in (b"POST", b"PUT", b"PATCH", b"DELETE", b"PURGE"):
        with pytest.raises(OriginRefused, match="allowed_origins"):
            asked({b"origin": origin}, method)
        # Remembered passwords are sent for every page.
        with pytest.raises(OriginRefused):
            asked({b"origin": origin, b"authorization": b"Basic eDp5"}, method)
    for method in (b"GET", b"HEAD", b"OPTIONS"):
        asked({b"origin": origin}, method)


@pytest.mark.parametrize(
    ("host", "origin"),
    [(b"localhost:8000", b"http://localhost:8000"), (b"LOCALHOST:8000", b"http://localhost:8000"),
     (b"localhost", b"http://localhost"), (b"localhost:443", b"https://localhost"),
     (b"[::1]:80", b"http://[::1]"), (b"127.0.0.1:1", b"https://127.0.0.1:1")],
)  # fmt: skip
def test_the_own_pages_may_ask(host: bytes, origin: bytes) -> None:
    asked({b"host": host, b"origin": origin})


def test_who_shows_a_key_in_a_header_is_no_page() -> None:
    for header in ({b"authorization": b"Bearer x"}, {b"x-api-key": b"x"}, {b"authorization": b"x"}):
        asked({b"origin": b"https://other.example", **header})


def test_chosen_origins_may_ask() -> None:
    asked({b"origin": b"https://App.example"}, allowed_origins=("https://app.Example",))
    asked({b"origin": b"null"}, allowed_origins=("*",))
    with pytest.raises(OriginRefused):
        asked({b"origin": b"http://app.example"}, allowed_origins=("https://app.example",))


def test_who_names_no_origin_is_no_browser() -> None:
    asked({})


# ---------------------------------------------------------------------- names of hosts


@pytest.mark.parametrize(
    ("settings", "host", "known"),
    [
        ({}, b"localhost:1", True), ({}, b"[::1]", True), ({}, b"evil.example", False),
        ({}, b"127.0.0.1.evil.example", False), ({}, b"localhost:1:2", False), ({}, b"localhost.", False),
        ({"host": "::1"}, b"[::1]:8000", True),
        ({"host": "127.0.0.2"}, b"127.0.0.2", True),
        # What others reach has names that nobody here can know; keys are in no browser under a foreign name.
        ({"host": "0.0.0.0"}, b"any.example", True),
        ({"host": "0.0.0.0", "allowed_hosts": ("api.example",)}, b"any.example", False),
        ({"host": "0.0.0.0", "allowed_hosts": ("api.example",)}, b"API.example:443", True),
        ({"allowed_hosts": ("*",)}, b"any.example", True),
    ],
)  # fmt: skip
def test_names_under_which_a_server_answers(settings: dict[str, Any], host: bytes, known: bool) -> None:
    if known:
        asked({b"host": host}, b"GET", **settings)
        return
    with pytest.raises(HostRefused, match="allowed_hosts"):
        asked({b"host": host}, b"GET", **settings)


def test_the_name_of_every_protocol_counts(url: str) -> None:
    for path, method in (("/healthz", "GET"), ("/models/iris/predict", "POST"), ("/", "GET")):
        answer = httpx.request(method, url + path, headers={"host": "evil.example"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (421, "host_refused")
    address = url.removeprefix("http://")
    for name, status in (("evil.example", grpc.StatusCode.INVALID_ARGUMENT), ("localhost:1", None)):
        with grpc.insecure_channel(address, options=[("grpc.default_authority", name)]) as channel:
            live = channel.unary_unary(f"/{PACKAGE}.{SERVICE}/ServerLive")
            if status is None:
                assert live(b"", timeout=20) == b"\x08\x01"
                continue
            with pytest.raises(grpc.RpcError) as refused:
                live(b"", timeout=20)
            assert "allowed_hosts" in refused.value.details()


def literal(text: bytes) -> bytes:
    return bytes([len(text)]) + text


@pytest.mark.parametrize(
    ("names", "heard"),
    [
        (b"\x01" + literal(b"a.example"), b"a.example"),
        (b"\0" + literal(b"host") + literal(b"b.example"), b"b.example"),
        # Two names for one request are none.
        (b"\x01" + literal(b"a.example") + b"\0" + literal(b"host") + literal(b"b.example"), None),
        (b"\x01" + literal(b"a.example") + b"\x01" + literal(b"b.example"), None),
    ],
)
def test_the_name_of_http2_is_its_authority(names: bytes, heard: bytes | None) -> None:
    async def course(scene: Scene) -> None:
        # GET, http and a path in the form of HPACK.
        block = b"\x82\x86\x04" + literal(b"/") + names
        scene.say(len(block).to_bytes(3, "big") + b"\x01\x05" + (1).to_bytes(4, "big") + block)
        found = [exchange.request.headers[b"host"] for exchange in scene.application.exchanges]
        assert found == ([] if heard is None else [heard])

    played(course, Scene)


# ---------------------------------------------------------------------- headers


def test_every_answer_says_what_it_is(url: str) -> None:
    body = {"input": ROW}
    answers = {
        "prediction": httpx.post(f"{url}/models/iris/predict", json=body),
        "refused": httpx.post(f"{url}/models/iris/predict", json={}),
        "lines": httpx.post(f"{url}/models/iris/stream", content=b"[5.1,3.5,1.4,0.2]\n"),
        "foreign": httpx.post(f"{url}/models/iris/predict", json=body, headers={"origin": "http://x"}),
        "chosen": httpx.post(
            f"{url}/models/iris/predict", json=body, headers={"origin": "https://app.example"}
        ),
        "missing": httpx.get(f"{url}/nothing"),
        "models": httpx.get(f"{url}/models"),
        "metrics": httpx.get(f"{url}/metrics"),
        "page": httpx.get(url, headers={"accept": "text/html"}),
        "docs": httpx.get(f"{url}/docs"),
        "script": httpx.get(f"{url}/docs/static/start.js"),
        "report": httpx.get(f"{url}/models/iris/report"),
        "options": httpx.options(f"{url}/models/iris/predict"),
    }
    assert answers["foreign"].status_code == 403
    assert answers["chosen"].status_code == answers["prediction"].status_code == 200
    for name, answer in answers.items():
        assert answer.headers["x-content-type-options"] == "nosniff", name
        # There is no permission for scripts of other origins to read anything.
        assert not any(header.startswith("access-control-") for header in answer.headers), name
        if name in ("prediction", "chosen"):
            continue
        assert answer.headers["cross-origin-resource-policy"] == "same-origin", name
        assert answer.headers["content-security-policy"].startswith("default-src 'none'"), name
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"], name
        assert answer.headers["cache-control"] == (
            "private, max-age=3600" if name == "script" else "no-store"
        )
    for name in ("page", "docs", "report"):
        headers = answers[name].headers
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["x-frame-options"] == "DENY"
        assert "camera=()" in headers["permissions-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert "base-uri 'none'; form-action 'none'" in headers["content-security-policy"]
    assert answers["report"].headers["content-security-policy"].endswith("; sandbox")


def test_only_a_server_with_tls_that_others_reach_asks_for_tls_ever_after() -> None:
    def told(**given: Any) -> bytes | None:
        return dict(safe_headers(ServerSettings(**given))).get(b"strict-transport-security")

    assert told(host="0.0.0.0", tls_cert="c", tls_key="k") == b"max-age=31536000"
    assert told(host="127.0.0.1", tls_cert="c", tls_key="k") is None
    assert told(host="0.0.0.0") is None


# ---------------------------------------------------------------------- inside other applications


def test_an_application_around_it_decides_who_may_ask(home: Path) -> None:
    publish_iris(home)
    models = servable.asgi(home=home)

    async def course() -> int:
        transport = httpx.ASGITransport(models)
        headers = {"origin": "https://other.example", "host": "any.example"}
        async with models.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            answer = await client.post("/models/iris/predict", json={"input": ROW}, headers=headers)
            return answer.status_code

    assert asyncio.run(course()) == 200
