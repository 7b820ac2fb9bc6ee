"""No room, no time, cold models and bad input in every wire format, one by one, over a real server."""

import json
import re
import urllib.request
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from servable.registry.home import open_home
from servable.settings import ServerSettings
from server.asking import FORMS, PREDICT_ROUTE, Form, Told, post
from server.holding import Gate, holding
from serving.making import publish_iris
from serving.making_texts import add_texts

ALL = pytest.mark.parametrize("form", FORMS, ids=[form.name for form in FORMS])
MEMORY = 2**30


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose default is ``iris``; ``iris`` and ``embedder`` have a champion."""
    home = tmp_path_factory.mktemp("formats") / "home"
    add_texts(home, tmp_path_factory.mktemp("graphs"))
    publish_iris(home, default=True)
    with open_home(home) as opened:
        for name in ("talker", "tokens"):
            opened.deployments.undeploy(name)
        for name in ("iris", "embedder"):
            opened.models.set_alias(name, "champion", 1)
    return home


@pytest.fixture
def gate() -> Gate:
    return Gate()


def settings_of(home: Path, **more: Any) -> ServerSettings:
    return ServerSettings(home=str(home), port=0, predict_route=PREDICT_ROUTE, **more)


@pytest.fixture
def url(filled: Path, gate: Gate) -> Iterator[str]:
    """A server with room for one request beside the one that runs; what it has run says nothing of time."""
    with holding(gate, settings_of(filled, queue_requests=1)) as address:
        yield address


@pytest.fixture
def cold(filled: Path, gate: Gate) -> Iterator[str]:
    """A server that loads a model when it is called."""
    with holding(gate, settings_of(filled, memory=MEMORY)) as address:
        yield address


def is_right(form: Form, told: Told) -> bool:
    assert told.status in (200, "OK"), told
    return form.right(told.body)


def states(url: str) -> dict[str, str]:
    with urllib.request.urlopen(f"{url}/models") as answer:
        return {each["name"]: each["state"] for each in json.load(answer)["models"]}


def counted(url: str, code: str) -> float:
    """How many requests the server says to have ended with a code word, wherever it counts them."""
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if f'"{code}"' in line)


@ALL
def test_when_the_queue_is_full(form: Form, url: str, gate: Gate) -> None:
    gate.hold()
    with ThreadPoolExecutor(3) as pool:
        running = pool.submit(form.ask, url)
        assert gate.begun.acquire(timeout=60)
        others = [pool.submit(form.ask, url) for _ in range(2)]
        # There is place for one of the two; the other is told at once.
        done, waiting = wait(others, timeout=60, return_when=FIRST_COMPLETED)
        assert (len(done), len(waiting)) == (1, 1)
        told = done.pop().result()
        gate.let_go()
        assert is_right(form, running.result(60))
        assert is_right(form, waiting.pop().result(60))
    assert told.status == form.full
    assert "try again" in form.refused(told)
    assert counted(url, "overloaded") == 1
    if isinstance(form.full, str):
        assert int(told.headers["grpc-retry-pushback-ms"]) >= 1000
    else:
        assert int(told.headers["retry-after"]) >= 1


@ALL
@pytest.mark.parametrize("header", [{"x_request_timeout_ms": "60"}, {"grpc_timeout": "60m"}], ids="".join)
def test_when_the_time_is_over_before_the_model_is_free(
    form: Form, header: dict[str, str], url: str, gate: Gate
) -> None:
    if isinstance(form.full, str) and "grpc_timeout" in header:
        # The client keeps this header to itself and sends it for a timeout of its own.
        header = {"timeout_s": "0.06"}
    gate.hold()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(form.ask, url)
        assert gate.begun.acquire(timeout=60)
        told = form.ask(url, **header)
        gate.let_go()
        assert is_right(form, running.result(60))
    assert told.status == form.late
    assert form.refused(told)
    assert gate.runs == 1
    assert is_right(form, form.ask(url))
    assert gate.runs == 2


@ALL
def test_the_first_call_loads_a_cold_model(form: Form, cold: str) -> None:
    assert states(cold)[form.model] == "cold"
    for way in (form.ways[0], form.ways[-1]):
        assert is_right(form, form.ask(cold, way))
        assert states(cold)[form.model] == "live"
        told = post(cold, f"/v2/repository/models/{form.model}/unload", b"", {})
        assert told.status == 200
        assert states(cold)[form.model] == "cold"


@ALL
def test_when_the_time_is_over_before_a_cold_model_is_there(form: Form, cold: str, gate: Gate) -> None:
    gate.hold()
    told = form.ask(cold, x_request_timeout_ms="60")
    assert told.status == form.late
    assert "loaded" in form.refused(told)
    gate.let_go()
    assert is_right(form, form.ask(cold))
    assert gate.runs == 1


@ALL
def test_every_way_to_name_a_version_is_the_same(form: Form, url: str) -> None:
    assert all(is_right(form, form.ask(url, way)) for way in form.ways)
    for way in form.absent:
        told = form.ask(url, way)
        assert told.status == form.missing, (way, told)
        assert form.refused(told)


@ALL
def test_bad_input_is_the_callers_fault_in_the_words_of_the_format(form: Form, url: str, gate: Gate) -> None:
    for body, status in form.bad:
        told = form.ask(url, body=body)
        assert told.status == status, (body[:60], told)
        assert form.refused(told)
    for header in ({"x_request_timeout_ms": "soon"}, {"x_request_priority": "urgent"}):
        told = form.ask(url, **header)
        assert told.status in (400, "INVALID_ARGUMENT")
        assert "header" in form.refused(told)
    assert gate.runs == 0


def described(url: str, path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The operation of an address in the description of the formats, and its schemas."""
    with urllib.request.urlopen(f"{url}/openapi-formats.json") as answer:
        document = json.load(answer)
    for template, operations in document["paths"].items():
        if re.fullmatch(re.sub(r"{\w+}", "[^/:]+", template), path) and "post" in operations:
            return operations["post"], document["components"]
    raise AssertionError(f"{path} is not described")


_DESCRIBED = [form for form in FORMS[1:] if not form.method]


@pytest.mark.parametrize("form", _DESCRIBED, ids=[form.name for form in _DESCRIBED])
def test_bodies_answers_and_errors_are_as_they_are_described(form: Form, url: str) -> None:
    for way in form.ways:
        path = way.path.replace(":1", "").replace("@champion", "")
        # The same stands below these, as the description says in words.
        path = re.sub("^/(openai/v1|v3)/", "/v1/", path)
        operation, components = described(url, path)

        def check(content: dict[str, Any], body: bytes, components: dict[str, Any] = components) -> None:
            schema = {**content["application/json"]["schema"], "components": components}
            jsonschema_rs.Draft202012Validator(schema).validate(json.loads(body))

        assert form.content_type in operation["requestBody"]["content"]
        if form.content_type == "application/json":
            check(operation["requestBody"]["content"], form.body(way.model))
        check(operation["responses"]["200"]["content"], form.ask(url, way).body)
        told = form.ask(url, way, x_request_priority="urgent")
        check(operation["responses"][str(told.status)]["content"], told.body)
        assert {str(form.full), str(form.late), str(form.missing)} <= operation["responses"].keys()
