"""Every address and every error of the application, in process."""

import asyncio
import gzip
import html
import json
import re
import shlex
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import zstandard

from servable.monitoring.metrics import Metrics
from servable.registry.home import open_home
from servable.server.app import Application
from servable.server.pages import Place, landing_page
from servable.server.problems import STATUS, problem
from servable.serving.desired import RegistrySource
from servable.serving.host import Host
from servable.serving.live import ModelStatus
from servable.serving.table import Table
from servable.settings import ServerSettings
from serving.making import BIAS, COLUMNS, EXAMPLE, expected, publish_iris

#: What every browser says, among other things.
PAGE = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
ROW = [5.1, 3.5, 1.4, 0.2]
REPORT = b"<!doctype html><title>report</title>"
Visit = Callable[[httpx.AsyncClient, Application], Awaitable[Any]]


@pytest.fixture
def visit(home: Path) -> Callable[..., Any]:
    """Runs a coroutine function against the application of a home with one model."""
    publish_iris(home, report=REPORT)

    def run(course: Visit, **settings: Any) -> Any:
        async def inside() -> Any:
            chosen = ServerSettings(home=str(home), **settings)
            host = Host(RegistrySource(home), Metrics("1.2.3"), chosen)
            application = Application(host, chosen, "1.2.3")
            await host.reconcile()
            transport = httpx.ASGITransport(application)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
                try:
                    return await course(client, application)
                finally:
                    await host.close()

        return asyncio.run(inside())

    return run


def get(visit: Callable[..., Any], path: str, method: str = "GET", **more: Any) -> httpx.Response:
    async def course(client: httpx.AsyncClient, _: Application) -> httpx.Response:
        return await client.request(method, path, **more)

    response: httpx.Response = visit(course)
    return response


def refused(response: httpx.Response, status: int, code: str, message: str) -> list[dict[str, str]]:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert (error["code"], error["request_id"]) == (code, response.headers["x-request-id"])
    assert message in error["message"]
    assert set(error) == {"code", "message", "request_id", "details"}
    details: list[dict[str, str]] = error["details"]
    return details


@pytest.mark.parametrize(
    "path",
    ["/predict", "/models/iris/predict", "/models/iris/versions/1/predict", "/models/iris:1/predict",
     "/models/%69ris/predict"],
)  # fmt: skip
def test_one_row(visit: Callable[..., Any], path: str) -> None:
    response = get(visit, path, "POST", json={"input": ROW})
    assert response.status_code == 200
    label, chances = expected(ROW)
    answer = response.json()
    assert answer["prediction"] == label
    assert list(answer["probabilities"].values()) == pytest.approx(list(chances))
    assert (answer["model"], answer["version"]) == ("iris", 1)
    assert answer["request_id"] == response.headers["x-request-id"]


def test_several_rows(visit: Callable[..., Any]) -> None:
    rows = [EXAMPLE, dict.fromkeys(COLUMNS, 7)]
    answer = get(visit, "/models/iris/predict", "POST", json={"inputs": rows}).json()
    assert answer["predictions"] == [expected(ROW)[0], expected([7.0] * 4)[0]]
    assert len(answer["probabilities"]) == 2


def test_invalid_values_are_422_with_their_paths(visit: Callable[..., Any]) -> None:
    row = EXAMPLE | {COLUMNS[0]: "5.1"}
    response = get(visit, "/predict", "POST", json={"inputs": [EXAMPLE, row]})
    details = refused(response, 422, "invalid_request", "expected a number")
    path = 'inputs[1]["sepal length (cm)"]'
    assert details == [{"path": path, "expected": "a number", "got": "a text of 3 characters"}]


def test_malformed_bodies_are_400(visit: Callable[..., Any]) -> None:
    for body in (b"", b"{", b"[1,2]", b"[" * 200_000):
        refused(get(visit, "/predict", "POST", content=body), 400, "malformed_request", "The body is")


@pytest.mark.parametrize(
    "media_type",
    ["application/json", "application/json; charset=utf-8", "text/json", "application/x+json", "", None],
)
def test_json_under_any_of_its_names(visit: Callable[..., Any], media_type: str | None) -> None:
    headers = {} if media_type is None else {"content-type": media_type}
    response = get(visit, "/predict", "POST", content=json.dumps({"input": ROW}), headers=headers)
    assert response.status_code == 200


def test_other_media_types_are_415(visit: Callable[..., Any]) -> None:
    for headers in (
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/json", "content-encoding": "br"},
    ):
        response = get(visit, "/predict", "POST", content=b"{}", headers=headers)
        refused(response, 415, "unsupported_media_type", "send")


@pytest.mark.parametrize(
    ("path", "method", "status", "code"),
    [
        ("/models/irs/predict", "POST", 404, "model_not_found"),
        ("/models/iris/versions/7/predict", "POST", 404, "version_not_found"),
        ("/models/iris@nobody/predict", "POST", 404, "version_not_found"),
        ("/a/b/predict", "POST", 404, "route_not_found"),
        ("/nothing", "GET", 404, "route_not_found"),
        ("/models/irs", "GET", 404, "model_not_found"),
        ("/models/irs/report", "GET", 404, "model_not_found"),
        ("/docs/static/secret.js", "GET", 404, "route_not_found"),
        ("/docs/static/..%2f..%2fLICENSE", "GET", 404, "route_not_found"),
        ("/models/../../etc/predict", "POST", 404, "route_not_found"),
    ],
)
def test_what_is_not_there(visit: Callable[..., Any], path: str, method: str, status: int, code: str) -> None:
    refused(get(visit, path, method), status, code, "")


def test_close_names_are_suggested(visit: Callable[..., Any]) -> None:
    response = get(visit, "/models/irsi/predict", "POST", json={})
    refused(response, 404, "model_not_found", 'did you mean "iris"')


def test_wrong_verbs_are_405_and_say_what_is_allowed(visit: Callable[..., Any]) -> None:
    response = get(visit, "/models/iris/predict")
    refused(response, 405, "method_not_allowed", "POST")
    assert response.headers["allow"] == "POST, OPTIONS"
    response = get(visit, "/healthz", "DELETE")
    refused(response, 405, "method_not_allowed", "GET")
    assert response.headers["allow"] == "GET, HEAD"


def test_options_and_head(visit: Callable[..., Any]) -> None:
    response = get(visit, "/predict", "OPTIONS")
    assert (response.status_code, response.headers["allow"], response.content) == (204, "POST, OPTIONS", b"")
    response = get(visit, "/healthz", "HEAD")
    assert (response.status_code, response.content) == (200, b"")
    assert get(visit, "/nothing", "HEAD").content == b""


def test_request_ids(visit: Callable[..., Any]) -> None:
    answer = get(visit, "/predict", "POST", json={"input": ROW}, headers={"x-request-id": "a-1.b:2_c"})
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "a-1.b:2_c"
    for bad in ("a b", "x" * 129, "<script>", ""):
        other = get(visit, "/healthz", headers={"x-request-id": bad}).headers["x-request-id"]
        assert other != bad
        assert len(other) == 20


def test_foreign_host_names_are_refused_on_loopback(visit: Callable[..., Any]) -> None:
    refused(get(visit, "/healthz", headers={"host": "evil.example"}), 421, "host_refused", "allowed_hosts")
    for host in ("127.0.0.1:9", "LOCALHOST", "[::1]:80"):
        assert get(visit, "/healthz", headers={"host": host}).status_code == 200

    async def course(client: httpx.AsyncClient, _: Application) -> list[int]:
        hosts = ("api.example:443", "evil.example")
        return [(await client.get("/healthz", headers={"host": host})).status_code for host in hosts]

    assert visit(course, allowed_hosts=("api.example",)) == [200, 421]
    assert visit(course, allowed_hosts=("*",)) == [200, 200]


def test_limits(visit: Callable[..., Any]) -> None:
    async def course(client: httpx.AsyncClient, _: Application) -> list[httpx.Response]:
        async def parts() -> Any:
            for _ in range(3):
                yield b" " * 1000

        return [
            await client.post("/predict", content=b" " * 3000),
            await client.post("/predict", content=parts()),
            await client.post("/predict", json={"inputs": [ROW] * 3}),
            await client.post(
                "/predict", content=gzip.compress(b" " * 3000), headers={"content-encoding": "gzip"}
            ),
        ]

    limits = {"max_body_bytes": 2000, "max_rows": 2}
    for response in visit(course, **limits):
        refused(response, 413, "request_too_large", "allowed")


def test_several_models_need_a_name_or_a_default(visit: Callable[..., Any], home: Path) -> None:
    publish_iris(home, "other")
    with open_home(home) as opened:
        opened.deployments.set_default(None)

    async def course(client: httpx.AsyncClient, application: Application) -> list[httpx.Response]:
        first = await client.post("/predict", json={"input": ROW})
        with open_home(home) as opened:
            opened.deployments.set_default("other")
        await application.host.reconcile()
        return [first, await client.post("/predict", json={"input": ROW})]

    before, after = visit(course)
    refused(before, 409, "conflict", "/models/iris/predict, /models/other/predict")
    assert after.json()["model"] == "other"


def test_the_pages_and_their_policies(visit: Callable[..., Any]) -> None:
    landing, docs = get(visit, "/", headers=PAGE), get(visit, "/docs")
    assert b'href="/models/iris/report"' in landing.content
    assert "script-src" not in landing.headers["content-security-policy"]
    assert "script-src 'self';" in docs.headers["content-security-policy"]
    assert b"://" not in docs.content
    for name in (b"swagger-ui.css", b"swagger-ui-bundle.js", b"start.js"):
        assert b"/docs/static/" + name in docs.content
        file = get(visit, f"/docs/static/{name.decode()}")
        assert file.status_code == 200
        assert len(file.content) > 300
    report = get(visit, "/models/iris/report")
    assert report.content == REPORT
    assert report.headers["content-security-policy"].startswith("default-src 'none'; img-src data:;")
    for page in (landing, docs, report):
        assert page.headers["content-type"].startswith("text/html")
        assert page.headers["x-content-type-options"] == "nosniff"


def test_the_landing_page_shows_each_model_with_a_call_to_copy(visit: Callable[..., Any], home: Path) -> None:
    publish_iris(home, "plain", default=True)
    page = get(visit, "/", headers=PAGE).content.decode()
    assert "2 models answer here." in page
    assert "Classification of" in page
    assert page.count('<span class="chip live">live</span>') == 2
    assert page.count('<span class="chip">default</span>') == 1
    assert 'href="/models/plain/report"' not in page
    for name in ("iris", "plain"):
        assert f'href="/docs#/{name}/predict_{name}"' in page
    calls = [shlex.split(html.unescape(call)) for call in re.findall(r"<pre>(.*?)</pre>", page)]
    assert [words[1] for words in calls] == [
        f"http://localhost:8000/models/{name}/predict" for name in ("iris", "plain")
    ]
    for words in calls:
        path, body = words[1].removeprefix("http://localhost:8000"), words[-1]
        answer = get(visit, path, "POST", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 200


def test_whoever_asks_for_no_page_gets_a_sign_of_life(visit: Callable[..., Any]) -> None:
    for accept in ("*/*", "application/json", ""):
        answer = get(visit, "/", headers={"accept": accept})
        assert (answer.status_code, answer.json(), answer.headers["vary"]) == (
            200,
            {"status": "alive"},
            "accept",
        )


def test_the_landing_page_without_models() -> None:
    page = landing_page(Table(), (), frozenset(), Place("http://localhost:8000")).decode()
    assert "No model is deployed yet." in page


def test_the_landing_page_says_why_a_model_is_not_live() -> None:
    status = ModelStatus(model="a", version=2, state="failed", reason="The file <x> is damaged.")
    page = landing_page(
        Table(statuses=(status,)), (status,), frozenset(), Place("http://localhost:8000")
    ).decode()
    assert "The file &lt;x&gt; is damaged." in page
    assert "<pre>" not in page


def test_a_model_without_a_report(visit: Callable[..., Any], home: Path) -> None:
    publish_iris(home, "bare")
    refused(get(visit, "/models/bare/report"), 404, "not_found", "no evaluation report")


def test_what_is_served(visit: Callable[..., Any]) -> None:
    listed = get(visit, "/models").json()
    assert listed["default"] == "iris"
    (model,) = listed["models"]
    assert (model["name"], model["version"], model["state"], model["task"]) == (
        "iris",
        1,
        "live",
        "classification",
    )
    one = get(visit, "/models/iris").json()
    assert one["signature"]["inputs"][0]["name"] == COLUMNS[0]
    assert one["metrics"] == {"accuracy": 0.96}
    assert one["serving"]["executor"] == "inline"


def test_readiness_and_health(visit: Callable[..., Any]) -> None:
    async def course(client: httpx.AsyncClient, application: Application) -> list[Any]:
        ready = await client.get("/readyz")
        application.draining = True
        draining = await client.get("/readyz")
        healthy = await client.get("/healthz")
        return [(each.status_code, each.json()) for each in (ready, draining, healthy)]

    assert visit(course) == [
        (200, {"ready": True, "not_live": []}),
        (503, {"ready": False, "not_live": []}),
        (200, {"status": "ok"}),
    ]


def test_metrics_never_take_labels_from_callers(visit: Callable[..., Any]) -> None:
    async def course(client: httpx.AsyncClient, _: Application) -> str:
        for number in range(50):
            await client.post(f"/models/made-up-{number}/predict", json={})
        await client.post("/predict", json={"input": ROW})
        return (await client.get("/metrics")).text

    text = visit(course)
    assert "made-up" not in text
    assert 'servable_rejected_requests_total{code="model_not_found"} 50.0' in text
    assert "servable_build_info{python=" in text
    assert "servable_models_loaded 1.0" in text


def test_the_document_follows_the_table(visit: Callable[..., Any], home: Path) -> None:
    async def course(client: httpx.AsyncClient, application: Application) -> list[set[str]]:
        before = (await client.get("/openapi.json")).json()
        publish_iris(home, "other")
        await application.host.reconcile()
        return [set(before["paths"]), set((await client.get("/openapi.json")).json()["paths"])]

    before, after = visit(course)
    assert "/models/iris/predict" in before
    assert "/predict" in before
    new = {"/models/other/predict", "/models/other/versions/1/predict", "/models/other/feedback"}
    assert after - before == new


def test_a_caller_who_hangs_up_is_not_answered(visit: Callable[..., Any]) -> None:
    async def course(_: httpx.AsyncClient, application: Application) -> list[Any]:
        messages = iter(
            [{"type": "http.request", "body": b'{"inp', "more_body": True}, {"type": "http.disconnect"}]
        )
        sent: list[Any] = []

        async def receive() -> Any:
            return next(messages)

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/predict", "headers": []}
        await application(scope, receive, send)
        return sent

    assert visit(course) == []


def test_many_at_once(visit: Callable[..., Any]) -> None:
    async def course(client: httpx.AsyncClient, _: Application) -> list[tuple[str, str]]:
        async def one(number: int) -> tuple[str, str]:
            row = [float(number % 7), 1.0, float(number % 5), 0.3]
            headers = {"x-request-id": str(number)}
            answer = (await client.post("/predict", json={"input": row}, headers=headers)).json()
            assert answer["request_id"] == str(number)
            return answer["prediction"], expected(row)[0]

        return await asyncio.gather(*(one(number) for number in range(200)))

    assert all(got == wanted for got, wanted in visit(course))


def test_failures_inside_leak_nothing(visit: Callable[..., Any]) -> None:
    class Broken:
        media_type = "application/json"

        def decode(self, body: bytes, request_id: str, head: Any) -> Any:
            raise ZeroDivisionError("/secret/path")

    async def course(client: httpx.AsyncClient, application: Application) -> list[httpx.Response]:
        application.host.find("iris").codecs = {"application/json": Broken()}  # stands in for a fault
        return [await client.post("/predict", json={"input": ROW}), await client.get("/metrics")]

    response, metrics = visit(course)
    refused(response, 500, "internal_error", "its log knows more")
    assert "secret" not in response.text
    assert 'servable_requests_total{code="internal_error",model="iris",version="1"} 1.0' in metrics.text


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "identity"])
def test_compressed_bodies(visit: Callable[..., Any], encoding: str) -> None:
    pack = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstandard.compress, "identity": bytes}
    body = pack[encoding](json.dumps({"input": ROW}).encode())
    headers = {"content-encoding": encoding, "content-type": "application/json"}
    assert get(visit, "/predict", "POST", content=body, headers=headers).status_code == 200
    if encoding != "identity":
        broken = get(visit, "/predict", "POST", content=body[:-3], headers=headers)
        refused(broken, 400, "malformed_request", "")


def test_binary_bodies(visit: Callable[..., Any]) -> None:
    body = np.array(ROW, "<f8").tobytes()
    response = get(
        visit, "/predict", "POST", content=body, headers={"content-type": "application/octet-stream"}
    )
    assert response.json()["prediction"] == expected(ROW)[0]
    response = get(
        visit, "/predict", "POST", content=body[:-1], headers={"content-type": "application/octet-stream"}
    )
    refused(response, 422, "invalid_request", "bytes")


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"x-request-timeout-ms": "250"}, 200, ""),
        ({"grpc-timeout": "250m"}, 200, ""),
        ({"x-request-priority": "high"}, 200, ""),
        ({"x-request-timeout-ms": "0"}, 400, "malformed_request"),
        ({"grpc-timeout": "0S"}, 400, "malformed_request"),
        ({"grpc-timeout": "1n"}, 504, "deadline_exceeded"),
        ({"x-request-timeout-ms": "-1"}, 400, "malformed_request"),
        ({"x-request-timeout-ms": "soon"}, 400, "malformed_request"),
        ({"grpc-timeout": "250"}, 400, "malformed_request"),
        ({"grpc-timeout": "999999999S"}, 400, "malformed_request"),
        ({"x-request-priority": "mine"}, 400, "malformed_request"),
    ],
)
def test_what_a_caller_may_ask_for(
    visit: Callable[..., Any], headers: dict[str, str], status: int, code: str
) -> None:
    response = get(visit, "/predict", "POST", json={"input": ROW}, headers=headers)
    assert response.status_code == status
    if code:
        refused(response, status, code, "")


def test_swapping_under_load_fails_nothing(visit: Callable[..., Any], home: Path) -> None:
    async def course(client: httpx.AsyncClient, application: Application) -> set[tuple[int, str]]:
        seen: set[tuple[int, str]] = set()
        stop = asyncio.Event()

        async def load() -> None:
            while not stop.is_set():
                response = await client.post("/models/iris/predict", json={"input": ROW})
                assert response.status_code == 200
                seen.add((response.json()["version"], response.json()["prediction"]))
                # The transport answers without ever waiting, so the others get their turn here.
                await asyncio.sleep(0)

        callers = [asyncio.create_task(load()) for _ in range(4)]
        for number in range(4):
            bias = BIAS + np.array([0, 0, 100 if number % 2 == 0 else 0])
            await asyncio.to_thread(publish_iris, home, bias=bias)
            await application.host.reconcile()
            await asyncio.sleep(0.02)
        stop.set()
        await asyncio.gather(*callers)
        return seen

    labels = {1: "setosa", 2: "virginica", 3: "setosa", 4: "virginica", 5: "setosa"}
    seen = visit(course)
    assert {version for version, _ in seen} == set(labels)
    assert all(labels[version] == label for version, label in seen)


def test_what_is_not_in_the_table_is_a_plain_500() -> None:
    told = problem(KeyError("/etc/passwd"), "r")
    assert (told.status, told.code) == (500, "internal_error")
    assert b"passwd" not in told.body
    assert all(400 <= status < 600 for status in STATUS.values())
