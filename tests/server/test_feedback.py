"""``POST /models/NAME/feedback`` and live quality in ``/metrics``, in process."""

import asyncio
import io
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from pyarrow import parquet

from servable.monitoring.metrics import Metrics
from servable.monitoring.segments import TrafficStore
from servable.registry.home import open_home
from servable.server.app import Application
from servable.serving.desired import RegistrySource
from servable.serving.host import Host
from servable.settings import ServerSettings
from servable.testing import FakeClock
from servable.workflows.quality import refresh_quality
from serving.making import EXAMPLE, publish_iris

ADDRESS = "/models/iris/feedback"
Visit = Callable[[httpx.AsyncClient], Awaitable[Any]]


@pytest.fixture
def visit(home: Path) -> Callable[..., Any]:
    """Runs a coroutine function against the application of a home with one model, which captures."""
    publish_iris(home)
    with open_home(home) as opened:
        opened.deployments.deploy("iris", 1, wishes={"capture": 1.0})

    def run(course: Visit, **settings: Any) -> Any:
        async def inside() -> Any:
            chosen = ServerSettings(home=str(home), **settings)
            host = Host(RegistrySource(home), Metrics("1.2.3"), chosen)
            application = Application(host, chosen, "1.2.3")
            await host.reconcile()
            transport = httpx.ASGITransport(application)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
                try:
                    return await course(client)
                finally:
                    await host.close()

        return asyncio.run(inside())

    return run


def kept(home: Path) -> list[tuple[str, int, str | None, float | None]]:
    store = TrafficStore(home)
    tables = store.read(store.segments("iris", "feedback"))
    rows = [row for table in tables for row in table.to_pylist()]
    return [(row["request_id"], row["row"], row["outcome"], row["reward"]) for row in rows]


def as_parquet() -> bytes:
    file = io.BytesIO()
    parquet.write_table(pa.table({"request_id": ["c"], "outcome": ["virginica"], "row": [4]}), file)
    return file.getvalue()


def test_feedback_in_each_form_is_kept(visit: Callable[..., Any], home: Path) -> None:
    async def course(client: httpx.AsyncClient) -> list[httpx.Response]:
        return [
            await client.post(ADDRESS, json={"request_id": "a", "outcome": "setosa"}),
            await client.post("/models/iris:1/feedback", content=b"request_id,reward\nb,0.5\nb,1\n",
                              headers={"content-type": "text/csv"}),
            await client.post("/models/iris:1/feedback", content=as_parquet(),
                              headers={"content-type": "application/vnd.apache.parquet"}),
            await client.post(ADDRESS, content=b'{"request_id": "d", "reward": 2}'),
        ]  # fmt: skip

    answers = visit(course)
    assert [each.status_code for each in answers] == [200] * 4
    assert [each.json()["accepted"] for each in answers] == [1, 2, 1, 1]
    assert answers[0].json()["request_id"] == answers[0].headers["x-request-id"]
    assert kept(home) == [
        ("a", 0, "setosa", None), ("b", 0, None, 0.5), ("b", 0, None, 1.0), ("c", 4, "virginica", None),
        ("d", 0, None, 2.0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("how", "status", "code", "message"),
    [
        (
            {"json": {"request_id": "a", "outcome": "rose"}},
            422,
            "invalid_request",
            "one of the classes setosa",
        ),
        ({"json": []}, 422, "invalid_request", "at least one row"),
        ({"content": b"{"}, 400, "malformed_request", "not JSON"),
        (
            {"content": b"x", "headers": {"content-type": "text/html"}},
            415,
            "unsupported_media_type",
            "text/csv",
        ),
        ({"json": [{"request_id": "a", "reward": 1}] * 3}, 413, "request_too_large", "3 rows and 2"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(
    visit: Callable[..., Any], home: Path, how: dict[str, Any], status: int, code: str, message: str
) -> None:
    async def course(client: httpx.AsyncClient) -> httpx.Response:
        return await client.post(ADDRESS, **how)

    answer = visit(course, max_rows=2)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code)
    assert message in error["message"]
    assert kept(home) == []


def test_addresses_and_verbs(visit: Callable[..., Any]) -> None:
    async def course(client: httpx.AsyncClient) -> list[int]:
        return [
            (await client.post("/models/rose/feedback", json={})).status_code,
            (await client.get(ADDRESS)).status_code,
        ]

    assert visit(course) == [404, 405]


def test_the_storage_of_feedback_is_away(visit: Callable[..., Any], home: Path) -> None:
    async def course(client: httpx.AsyncClient) -> httpx.Response:
        (home / "traffic").write_text("in the way")
        answer = await client.post(ADDRESS, json={"request_id": "a", "reward": 1})
        (home / "traffic").unlink()
        return answer

    answer = visit(course)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"] == "1"
    assert str(home) not in answer.text


def test_live_quality_is_in_the_metrics(visit: Callable[..., Any], home: Path) -> None:
    async def ask(client: httpx.AsyncClient) -> None:
        for number in range(4):
            await client.post("/predict", json={"input": EXAMPLE}, headers={"x-request-id": f"r{number}"})
        rows = [
            {"request_id": f"r{number}", "outcome": "setosa" if number else "virginica"}
            for number in range(4)
        ]
        await client.post(ADDRESS, json=rows)

    async def look(client: httpx.AsyncClient) -> str:
        return (await client.get("/metrics")).text

    assert "servable_quality{" not in visit(look)
    visit(ask)
    with open_home(home) as opened:
        assert refresh_quality(opened, FakeClock()) == ("iris",)
    text = visit(look)
    assert 'servable_quality{metric="accuracy",model="iris",version="1",window="all"} 0.75' in text
    assert 'servable_quality_labels{model="iris",version="1",window="recent"} 4.0' in text
    assert 'servable_quality_low{metric="accuracy",model="iris",version="1",window="all"} 0.3' in text


def test_drift_and_alerts_are_in_the_metrics(visit: Callable[..., Any], home: Path) -> None:
    columns = [
        {"name": "a", "side": "input", "state": "drift", "effect": 0.5},
        {"name": "b", "side": "input", "state": "steady"},
    ]
    states = [{"alert": "inputs-drift", "model": "iris", "version": 1, "status": "firing"}]

    async def look(client: httpx.AsyncClient) -> str:
        return (await client.get("/metrics")).text

    assert "servable_drift{" not in visit(look)
    with open_home(home) as opened:
        opened.findings.put("iris", "drift", {1: {"columns": columns}, 2: {"columns": "of a newer program"}})
        opened.findings.put("iris", "alerts", {0: {"states": states}})
    text = visit(look)
    assert 'servable_drift{column="a",model="iris",side="input",version="1"} 0.5' in text
    assert 'servable_drifting{column="a",model="iris",side="input",version="1"} 1.0' in text
    assert 'servable_drifting{column="b",model="iris",side="input",version="1"} 0.0' in text
    assert 'servable_alert_firing{alert="inputs-drift",model="iris",version="1"} 1.0' in text
    assert 'version="2"' not in text


def test_lines_that_are_answered_as_they_come_keep_their_places(
    visit: Callable[..., Any], home: Path
) -> None:
    lines = b"\n".join([json.dumps(list(EXAMPLE.values())).encode()] * 700)
    media = {"content-type": "application/x-ndjson", "x-request-id": "long"}

    async def course(client: httpx.AsyncClient) -> httpx.Response:
        return await client.post("/predict", content=lines, headers=media)

    assert len(visit(course).text.splitlines()) == 700
    store = TrafficStore(home)
    (table,) = store.read(store.segments("iris", "predictions"))
    assert set(table["request_id"].to_pylist()) == {"long"}
    assert sorted(table["row"].to_pylist()) == list(range(700))
