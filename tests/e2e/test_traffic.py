"""Dividing traffic over real processes and real HTTP: two versions, keys, testers, a broken one, switches."""

import http.client
import json
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

import servable
from e2e.conftest import Serve
from servable.registry.home import open_home
from servable.registry.records import Share, Traffic
from serving.making import BIAS, COLUMNS, publish_iris

ROW = [5.1, 3.5, 1.4, 0.2]
#: Each version has an answer of its own.
BIASES = {version: BIAS + np.eye(3)[version - 1] * 100 for version in (1, 2, 3)}
ANSWERS = {1: "setosa", 2: "versicolor", 3: "virginica"}


@pytest.fixture
def three(home: Path) -> Path:
    """Three versions, of which the first is deployed."""
    for bias in BIASES.values():
        publish_iris(home, bias=bias, deploy=False)
    servable.deploy("iris:1", home=home)
    return home


class Caller:
    """One connection."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)

    def post(
        self, path: str, content: Any, headers: Mapping[str, str] = {}
    ) -> tuple[int, Mapping[str, str], Any]:
        own = {"content-type": "application/json", **headers}
        self._connection.request("POST", path, json.dumps(content), own)
        answer = self._connection.getresponse()
        body = json.loads(answer.read())
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body

    def __enter__(self) -> "Caller":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def version(self, **headers: str) -> int:
        """The version that answers, after a look whether the answer is its own."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        status, _, body = self.post("/models/iris/predict", {"input": ROW}, named)
        assert status == 200, body
        assert ANSWERS[body["version"]] == body["prediction"]
        return int(body["version"])


Call = Callable[[str], Caller]


@pytest.fixture
def call() -> Iterator[Call]:
    """Opens connections that end with the test."""
    with ExitStack() as stack:
        yield lambda url: stack.enter_context(Caller(url))


def eventually(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline


def shares(url: str, home: Path) -> dict[int, tuple[str, float]]:
    server = servable.status(home=home, url=url).server
    assert server is not None
    return {each.version: (each.state, round(each.share, 6)) for each in server.models}


def test_shares_keys_and_testers(three: Path, serve: Serve, call: Call) -> None:
    servable.deploy("iris", split={1: 70, 2: 30}, sticky="X-Customer", home=three)
    url = serve(three)
    caller = call(url)
    drawn = Counter(caller.version() for _ in range(1000))
    # Five standard deviations of a binomial distribution.
    assert abs(drawn[2] - 300) < 5 * math.sqrt(1000 * 0.3 * 0.7)
    keys = {f"customer-{number}": caller.version(x_customer=f"customer-{number}") for number in range(60)}
    assert set(keys.values()) == {1, 2}
    other = call(url)
    assert all(other.version(x_customer=key) == version for key, version in list(keys.items())[:10])
    assert {caller.version(x_servable_version=f"{version}") for version in (1, 2)} == {1, 2}
    status, _, body = caller.post("/models/iris/predict", {"input": ROW}, {"x-servable-version": "3"})
    assert (status, body["error"]["code"]) == (404, "version_not_found")
    assert shares(url, three) == {1: ("live", 0.7), 2: ("live", 0.3)}
    offered = httpx.get(f"{url}/openapi.json").json()["components"]["parameters"]
    assert offered["iris.Version"]["schema"]["enum"] == [1, 2]
    assert offered["iris.Key"]["name"] == "X-Customer"
    # A canary that is raised takes customers over and gives none back.
    servable.deploy("iris", split={1: 20, 2: 80}, home=three)
    eventually(lambda: shares(url, three)[2] == ("live", 0.8))
    later = {key: caller.version(x_customer=key) for key in keys}
    assert all(later[key] == 2 for key, version in keys.items() if version == 2)
    assert later != keys


def test_every_format_names_the_version_that_answered(three: Path, serve: Serve, call: Call) -> None:
    servable.deploy("iris", split={1: 50, 2: 50}, home=three)
    caller = call(serve(three))
    columns = dict(zip(COLUMNS, ROW, strict=True))
    single = [
        {"name": name, "datatype": "FP64", "shape": [1, 1], "data": [value]}
        for name, value in columns.items()
    ]
    invoked = {"dataframe_records": [columns]}
    asked: list[tuple[str, Any, Callable[[Mapping[str, str], Any], Any]]] = [
        ("/models/iris/predict", {"input": ROW}, lambda _, body: body["version"]),
        ("/v2/models/iris/infer", {"inputs": single}, lambda _, body: body["model_version"]),
        ("/v1/models/iris:predict", {"instances": [columns]}, lambda head, _: head["x-servable-version"]),
        ("/predictions/iris", columns, lambda head, _: head["x-servable-version"]),
        ("/models/iris/invocations", invoked, lambda head, _: head["x-servable-version"]),
    ]
    for path, content, told in asked:
        for version in ("1", "2"):
            status, head, body = caller.post(path, content, {"x-servable-version": version})
            assert status == 200, (path, body)
            assert str(told(head, body)) == version, path
            assert ANSWERS[int(version)] in json.dumps(body), path
        seen = {str(told(*caller.post(path, content, {"x-servable-key": f"k{n}"})[1:])) for n in range(30)}
        assert seen == {"1", "2"}, path
        # What is wrong with a request is told by the version whose signature it does not fit.
        _, head, _ = caller.post(path, {"input": "x", "instances": "x"}, {"x-servable-version": "2"})
        assert head.get("x-servable-version") == "2", path


def test_a_version_that_cannot_be_loaded_gets_no_traffic(three: Path, serve: Serve, call: Call) -> None:
    with open_home(three) as opened:
        graph = opened.packages.folder(opened.models.resolve("iris:3").package) / "model.onnx"
        graph.chmod(0o644)
        graph.write_bytes(graph.read_bytes()[:-1] + b"x")
        url = serve(three)
        parts = (Share(version=1, weight=50), Share(version=3, weight=50))
        opened.deployments.divide("iris", Traffic(shares=parts))
    eventually(lambda: shares(url, three).get(3) == ("failed", 0.0))
    assert shares(url, three)[1] == ("live", 1.0)
    caller = call(url)
    assert {caller.version() for _ in range(100)} == {1}
    found = servable.status(home=three, url=url).server
    assert found is not None
    assert next(each.reason for each in found.models if each.version == 3).startswith("model.onnx of the")


def test_switches_under_load_lose_nothing_and_mix_nothing(three: Path, serve: Serve) -> None:
    url = serve(three)
    over = threading.Event()
    wrong: list[BaseException] = []
    counts: list[Counter[int]] = []

    def ask() -> None:
        seen = Counter[int]()
        counts.append(seen)
        try:
            with Caller(url) as caller:
                while not over.is_set():
                    seen[caller.version()] += 1
        except BaseException as error:  # noqa: BLE001 - told to the test below
            wrong.append(error)

    callers = [threading.Thread(target=ask) for _ in range(4)]
    for each in callers:
        each.start()
    try:
        for turn in range(4):
            version = 2 + turn % 2
            servable.deploy("iris", split={1: 50, version: 50}, home=three)
            eventually(lambda version=version: shares(url, three).get(version) == ("live", 0.5))
            servable.deploy(f"iris:{version}", home=three)
            eventually(lambda version=version: shares(url, three).get(version) == ("live", 1.0))
            assert shares(url, three)[1] == ("warm", 0.0)
            servable.rollback("iris", home=three)
            eventually(lambda: shares(url, three)[1] == ("live", 1.0))
    finally:
        over.set()
        for each in callers:
            each.join()
    assert wrong == []
    assert set(sum(counts, Counter())) == {1, 2, 3}


def test_a_rollback_is_there_within_two_looks(
    three: Path, serve: Serve, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVABLE_POLL_S", "2")
    url = serve(three)
    caller = call(url)
    servable.deploy("iris:2", home=three)
    eventually(lambda: caller.version() == 2)
    servable.rollback("iris", home=three)
    began = time.monotonic()
    eventually(lambda: caller.version() == 1)
    assert time.monotonic() - began < 4
    assert shares(url, three) == {1: ("live", 1.0), 2: ("warm", 0.0)}
