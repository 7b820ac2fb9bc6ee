"""Models as an ASGI application inside others: loaded once, wherever the loop is, and closed."""

import asyncio
import multiprocessing
import os
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.routing import Mount

import servable
from servable.artifact.bundles import make_keys
from servable.engines.embedded import Embedded
from servable.errors import ConflictError, FileMissing, NotFoundError, SettingInvalid
from servable.workflows.signing import sign
from serving.making import BIAS, expected, publish_heavy, publish_iris, write_graph

ROW = [5.1, 3.5, 1.4, 0.2]


def talk(application: Any, course: Callable[[httpx.AsyncClient], Awaitable[Any]]) -> Any:
    """Run a conversation with an application in a loop of its own, as its server would."""

    async def inside() -> Any:
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="https://shop.example") as client:
            return await course(client)

    return asyncio.run(inside())


def mounted(*models: Embedded) -> Starlette:
    return Starlette(routes=[Mount(f"/m{index}", model) for index, model in enumerate(models)])


@pytest.fixture
def iris(home: Path) -> Any:
    publish_iris(home)
    made = servable.asgi(home=home)
    yield made
    asyncio.run(made.close())


def right(answer: httpx.Response, bias: np.ndarray = BIAS) -> bool:
    return answer.status_code == 200 and answer.json()["prediction"] == expected(ROW, bias)[0]


def loads(answer: httpx.Response) -> float:
    """How many versions were ever loaded, by the models that have figures."""
    lines = answer.text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("servable_models_loaded "))


async def eventually(client: httpx.AsyncClient, path: str, good: Callable[[Any], bool]) -> httpx.Response:
    """Ask again and again until the answer is a good one, or half a minute is over."""
    until = time.monotonic() + 30
    while True:
        # An answer that is there at once does not let the loop turn, in which the change is followed.
        await asyncio.sleep(0)
        answer = await client.post(path, json={"input": ROW})
        if good(answer.json()) or time.monotonic() > until:
            return answer


def test_what_nobody_signed_is_served_inside_another_application_neither(home: Path, tmp_path: Path) -> None:
    publish_iris(home)
    public = make_keys(tmp_path / "release.pem")
    model = servable.asgi(home=home, signatures="require", trusted_keys=(str(public),))

    async def course(client: httpx.AsyncClient) -> None:
        assert (await client.post("/m0/models/iris/predict", json={"input": ROW})).status_code != 200
        sign("iris", key=tmp_path / "release.pem", home=home)
        await eventually(client, "/m0/models/iris/predict", lambda said: "prediction" in said)
        assert right(await client.post("/m0/models/iris/predict", json={"input": ROW}))
        await model.close()

    talk(mounted(model), course)


def test_its_start_and_end_are_recorded(home: Path) -> None:
    publish_iris(home)
    model = servable.asgi(home=home)

    async def course(client: httpx.AsyncClient) -> None:
        assert right(await client.post("/m0/models/iris/predict", json={"input": ROW}))
        await model.close()

    talk(mounted(model), course)
    started, stopped = servable.audit_records(what="server", home=home)
    assert (started.what, stopped.what) == ("server.start", "server.stop")
    assert started.details["embedded"] is True
    assert "port" not in started.details
    assert started.details["process"] == stopped.details["process"] == os.getpid()


def test_fifty_first_callers_wait_for_one_load(iris: Embedded, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "servable")

    async def course(client: httpx.AsyncClient) -> None:
        asked = [client.post("/m0/models/iris/predict", json={"input": ROW}) for _ in range(50)]
        assert all(right(answer) for answer in await asyncio.gather(*asked))
        assert loads(await client.get("/m0/metrics")) == 1

    talk(mounted(iris), course)
    assert [record.message for record in caplog.records].count("model live") == 1


def test_links_and_addresses_carry_the_prefix(iris: Embedded) -> None:
    outer = Starlette(routes=[Mount("/shop", FastAPI(routes=[Mount("/ml", iris)]))])

    async def course(client: httpx.AsyncClient) -> None:
        at = "/shop/ml"
        page = (await client.get(f"{at}/", headers={"accept": "text/html"})).text
        for path in ("/docs", "/models", "/models/iris", "/metrics"):
            assert f'href="{at}{path}"' in page
        assert f"https://shop.example{at}/models/iris/predict" in page
        docs = (await client.get(f"{at}/docs")).text
        assert f"{at}/docs/static/swagger-ui-bundle.js" in docs
        assert (await client.get(f"{at}/docs/static/start.js")).status_code == 200
        assert (await client.get(f"{at}/openapi.json")).json()["servers"] == [{"url": at}]
        listed = (await client.get(f"{at}/models")).json()["models"]
        assert right(await client.post(listed[0]["predict"], json={"input": ROW}))
        assert right(await client.post(f"{at}/models/%69ris/predict", json={"input": ROW}))

    talk(outer, course)


def test_mounted_twice_and_two_models(home: Path, tmp_path: Path, iris: Embedded) -> None:
    other_home = tmp_path / "other"
    publish_heavy(other_home, width=4, layers=1)
    other = servable.asgi(home=other_home)

    async def course(client: httpx.AsyncClient) -> None:
        assert right(await client.post("/m0/predict", json={"input": ROW}))
        assert right(await client.post("/m1/predict", json={"input": ROW}))
        answer = await client.post("/m2/predict", json={"input": [1.0] * 4})
        assert answer.json()["model"] == "heavy"
        assert (await client.get("/m2/models/iris")).status_code == 404
        await other.close()

    talk(mounted(iris, iris, other), course)


def test_a_deployment_is_followed(home: Path) -> None:
    publish_iris(home)
    made = servable.asgi("iris", home=home, poll_s=0.01)
    bias = np.array([-9.0, 9.0, -9.0])

    async def course(client: httpx.AsyncClient) -> None:
        async with made.lifespan():
            assert right(await client.post("/m0/predict", json={"input": ROW}))
            publish_iris(home, bias=bias)
            answer = await eventually(client, "/m0/predict", lambda said: said["version"] == 2)
            assert right(answer, bias)

    talk(mounted(made), course)


def test_the_host_speaks_for_its_names_and_limits_hold(home: Path) -> None:
    publish_iris(home)
    made = servable.asgi(home=home, max_body_bytes=2000, max_rows=2)

    async def course(client: httpx.AsyncClient) -> None:
        answer = await client.post("/m0/predict", json={"input": ROW}, headers={"x-request-id": "mine"})
        assert right(answer)
        assert answer.headers["x-request-id"] == "mine"
        for body in (b" " * 3000, b'{"inputs": [[1,2,3,4],[1,2,3,4],[1,2,3,4]]}'):
            refused = await client.post("/m0/predict", content=body)
            assert (refused.status_code, refused.json()["error"]["code"]) == (413, "request_too_large")
        late = await client.post("/m0/predict", json={"input": ROW}, headers={"x-request-timeout-ms": "none"})
        assert late.status_code == 400
        lost = await client.post("/m0/nothing", content=b" " * 3000)
        assert (lost.status_code, lost.json()["error"]["code"]) == (404, "route_not_found")
        await made.close()

    talk(mounted(made), course)


@pytest.mark.parametrize("forwarded", [True, False])
def test_with_the_lifespan_of_fastapi_and_without(iris: Embedded, forwarded: bool) -> None:
    app = FastAPI(lifespan=iris.lifespan) if forwarded else FastAPI()
    app.mount("/ml", iris)
    for _ in range(2):  # It may begin again.
        with TestClient(app) as client:
            assert client.get("/ml/readyz").json()["ready"]
            assert client.post("/ml/predict", json={"input": ROW}).json()["version"] == 1
    # Without a block, every request of this client has a loop of its own.
    client = TestClient(app)
    assert all(client.post("/ml/predict", json={"input": ROW}).status_code == 200 for _ in range(3))


def test_its_own_lifespan(iris: Embedded, tmp_path: Path) -> None:
    with TestClient(iris) as client:
        assert client.post("/predict", json={"input": ROW}).json()["version"] == 1
    missing = servable.asgi(tmp_path / "missing.onnx", home=tmp_path / "home")
    with pytest.raises(FileMissing), TestClient(missing):
        pass


def test_lifespans_are_counted_and_keep_to_one_loop(iris: Embedded) -> None:
    async def course(client: httpx.AsyncClient) -> None:
        async with iris.lifespan():
            async with iris.lifespan():
                assert right(await client.post("/m0/predict", json={"input": ROW}))
            before = threading.active_count()
            assert right(await client.post("/m0/predict", json={"input": ROW}))
            assert threading.active_count() == before
            assert "servable-embedded" not in {thread.name for thread in threading.enumerate()}

            async def elsewhere() -> None:
                async with iris.lifespan():
                    pass

            with pytest.raises(ConflictError):
                await asyncio.to_thread(asyncio.run, elsewhere())
            # A request from another loop is carried over.
            other = await asyncio.to_thread(
                talk, mounted(iris), lambda there: there.post("/m0/predict", json={"input": ROW})
            )
            assert right(other)

    talk(mounted(iris), course)


def test_the_thread_ends_with_close_and_a_lifespan_takes_it_over(iris: Embedded) -> None:
    async def course(client: httpx.AsyncClient) -> None:
        assert right(await client.post("/m0/predict", json={"input": ROW}))
        assert "servable-embedded" in {thread.name for thread in threading.enumerate()}
        async with iris.lifespan():
            assert right(await client.post("/m0/predict", json={"input": ROW}))
        assert "servable-embedded" not in {thread.name for thread in threading.enumerate()}
        assert right(await client.post("/m0/predict", json={"input": ROW}))

    talk(mounted(iris), course)


def test_what_cannot_begin_is_503_with_the_reason_and_recovers(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "late.onnx"
    made = servable.asgi(path, home=home)

    async def course(client: httpx.AsyncClient) -> None:
        refused = await client.post("/m0/predict", json={"input": ROW}, headers={"x-request-id": "mine"})
        assert refused.status_code == 503
        error = refused.json()["error"]
        assert (error["code"], error["request_id"]) == ("model_not_ready", "mine")
        assert "late.onnx is not there" in error["message"]
        assert int(refused.headers["retry-after"]) >= 1
        assert (await client.head("/m0/healthz")).content == b""
        with pytest.raises(FileMissing):
            async with servable.asgi(path, home=home).lifespan():
                pass
        write_graph(path)
        answer = await eventually(client, "/m0/predict", lambda said: "model" in said)
        assert answer.json()["model"] == "late"
        await made.close()

    talk(mounted(made), course)


def test_a_version_that_cannot_be_loaded_is_503_until_another_is_deployed(home: Path) -> None:
    record = publish_iris(home)
    (graph,) = home.glob(f"**/{record.package.rpartition(':')[2]}*/model.onnx")
    graph.chmod(0o644)
    graph.write_bytes(b"damaged")
    made = servable.asgi("iris", home=home, poll_s=0.01)

    async def course(client: httpx.AsyncClient) -> None:
        async with made.lifespan():
            refused = await client.post("/m0/models/iris/predict", json={"input": ROW})
            assert refused.status_code == 503
            assert "iris:1 is not ready" in refused.json()["error"]["message"]
            publish_iris(home, bias=BIAS * 2)
            answer = await eventually(client, "/m0/models/iris/predict", lambda said: "version" in said)
            assert answer.json()["version"] == 2

    talk(mounted(made), course)


def test_wrong_settings_are_refused_at_once_and_wrong_references_at_the_beginning(home: Path) -> None:
    with pytest.raises(SettingInvalid, match=r"max.rowz"):
        servable.asgi(home=home, max_rowz=1)

    async def begin() -> None:
        async with servable.asgi("nobody", home=home).lifespan():
            pass

    with pytest.raises(NotFoundError):
        asyncio.run(begin())


def test_websockets_are_closed(iris: Embedded) -> None:
    said: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        said.append(message)

    asyncio.run(iris({"type": "websocket", "path": "/"}, receive, send))
    assert [message["type"] for message in said] == ["websocket.close"]


def test_a_caller_who_hangs_up_takes_the_request_back(home: Path) -> None:
    publish_heavy(home, width=512, layers=40)
    made = servable.asgi(home=home)
    scope = {
        "type": "http", "method": "POST", "path": "/predict", "headers": [], "query_string": b"",
        "root_path": "", "scheme": "http",
    }  # fmt: skip
    said: list[Any] = []

    async def course() -> None:
        messages = [
            {"type": "http.request", "body": b'{"inputs": %s}' % str([[1.0] * 4] * 3000).encode()},
            {"type": "http.disconnect"},
        ]

        async def receive() -> Any:
            return messages.pop(0)

        async def send(message: Any) -> None:
            said.append(message)

        async with made.lifespan():
            await made(scope, receive, send)

    asyncio.run(course())
    assert said == []


def _in_child(made: Embedded, answers: Any) -> None:
    async def course(client: httpx.AsyncClient) -> None:
        answers.put((await client.post("/m0/predict", json={"input": ROW})).status_code)
        await made.close()

    talk(mounted(made), course)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_gets_models_of_its_own(iris: Embedded) -> None:
    forking = multiprocessing.get_context("fork")
    answers = forking.SimpleQueue()
    talk(mounted(iris), lambda client: client.post("/m0/predict", json={"input": ROW}))
    child = forking.Process(target=_in_child, args=(iris, answers))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert answers.get() == 200
