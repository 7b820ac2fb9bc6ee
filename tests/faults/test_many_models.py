"""Far more models than fit into memory: each is loaded when it is called, and others make room."""

import contextlib
import http.client
import json
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from faults.load import Served, serving
from faults.many_models import expected, name_of, publish_many

ROW = [0.1, -0.4, 0.8, 0.3]
MIB = 2**20


class Course(NamedTuple):
    """What a run over many models measured."""

    base: int
    peak: int
    cold_s: list[float]
    loaded: int
    loads: int


def asked(connection: http.client.HTTPConnection, path: str, content: Any = None) -> Any:
    body = None if content is None else json.dumps(content)
    connection.request(
        "GET" if body is None else "POST",
        path,
        body,
        {} if body is None else {"content-type": "application/json"},
    )
    answer = connection.getresponse()
    said = answer.read()
    assert answer.status == 200, said
    return json.loads(said)


def states(connection: http.client.HTTPConnection) -> dict[str, str]:
    return {model["name"]: model["state"] for model in asked(connection, "/models")["models"]}


def course(server: Served, count: int, calls: list[int]) -> Course:
    """Call models in the order given; every one that was not loaded is a cold start."""
    with contextlib.closing(http.client.HTTPConnection(*server.address)) as connection:
        return _course(server, connection, count, calls)


def _course(server: Served, connection: http.client.HTTPConnection, count: int, calls: list[int]) -> Course:
    assert set(states(connection).values()) == {"cold"}
    # What the first model brings along (onnxruntime itself) belongs to the base.
    asked(connection, f"/models/{name_of(calls[0])}/predict", {"input": ROW})
    base = peak = server.resident()
    cold: list[float] = []
    live = {name_of(calls[0])}
    for number in calls[1:]:
        started = time.perf_counter()
        answer = asked(connection, f"/models/{name_of(number)}/predict", {"input": ROW})
        taken = time.perf_counter() - started
        assert answer["prediction"] == pytest.approx(expected(number, ROW), rel=1e-4, abs=1e-5)
        if name_of(number) not in live:
            cold.append(taken)
            live = {name for name, state in states(connection).items() if state == "live"}
        peak = max(peak, server.resident())
    assert asked(connection, "/readyz")["ready"]
    assert len(asked(connection, "/openapi.json")["paths"]) > 2 * min(count, 200)
    connection.request("GET", "/", headers={"Accept": "text/html"})
    page = connection.getresponse()
    assert page.status == 200
    assert f"{count} models answer here".encode() in page.read()
    return Course(base, peak, cold, len(live), len(cold))


def report(measured: Course, budget: int) -> str:
    ordered = sorted(measured.cold_s)
    return (
        f"base {measured.base / MIB:.0f} MiB, peak {measured.peak / MIB:.0f} MiB, "
        f"budget {budget / MIB:.0f} MiB; "
        f"{measured.loads} cold starts, p50 {statistics.median(ordered) * 1e3:.1f} ms, "
        f"p99 {ordered[int(len(ordered) * 0.99)] * 1e3:.1f} ms; {measured.loaded} loaded at the end"
    )


def test_sixty_models_in_the_memory_of_a_few(home: Path) -> None:
    budget = 6 * MIB
    publish_many(home, 60)
    with serving(home, memory=budget) as server:
        measured = course(server, 60, [*range(60), 59, 58, *range(0, 60, 7)])
    said = report(measured, budget)
    print(said)
    assert measured.loads >= 67, said
    assert 1 <= measured.loaded <= 6, said
    # A fresh server's heap still grows a little for other reasons.
    assert measured.peak - measured.base < budget + 12 * MIB, said
    assert statistics.median(measured.cold_s) < 0.05, said


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_thousand_models_in_the_memory_of_fifty(home: Path) -> None:
    budget = 100 * MIB
    publish_many(home, 1000)
    with serving(home, memory=budget) as server:
        measured = course(server, 1000, [*range(1000), *range(999, 980, -1), *range(0, 1000, 3)])
    said = report(measured, budget)
    print(said)
    assert measured.loads >= 1300, said
    assert 40 <= measured.loaded <= 100, said
    # The figures of every model that was ever called stay, and the heap is never quite full.
    assert measured.peak - measured.base < budget + 16 * MIB, said
    ordered = sorted(measured.cold_s)
    assert ordered[int(len(ordered) * 0.99)] < 0.05, said
