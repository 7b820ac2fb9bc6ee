"""Whom a header is about, by every way in: rows are sealed for that person, handed out, and erased."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

import grpc
from servable.engines.local import LocalServer
from servable.errors import SettingInvalid
from servable.settings import ServerSettings
from servable.workflows.deploy import deploy
from servable.workflows.privacy import erase_subject, export_subject
from server.asking import FORMS, ROW
from serving.making import publish_iris

ANN, BOB = "ann-canary", "bob-canary"


@pytest.fixture
def captured(home: Path) -> Iterator[LocalServer]:
    publish_iris(home, default=True)
    deploy("iris", capture=1.0, capture_subject="header:X-Customer", home=home)
    with LocalServer(ServerSettings(home=str(home), port=0)) as running:
        yield running


def called(server: LocalServer, form_name: str, who: str) -> None:
    form = next(each for each in FORMS if each.name == form_name)
    with grpc.insecure_channel(urlsplit(server.url).netloc) as channel:
        call = channel.unary_unary(form.method)
        call(form.body("iris"), metadata=[("x-customer", who), ("x-request-id", f"{form_name[:2]}-{who}")])


def ask(server: LocalServer) -> None:
    """Five requests of Ann's by five ways, one of Bob's, and one that says nobody."""
    with httpx.Client(base_url=server.url, headers={"x-customer": ANN}) as client:
        assert client.post("/predict", json={"input": ROW}).status_code == 200
        assert client.post("/v1/models/iris:predict", json={"instances": [ROW]}).status_code == 200
        lines = (json.dumps({"input": ROW}) + "\n").encode()
        kinds = {"content-type": "application/x-ndjson", "accept": "application/x-ndjson"}
        assert client.post("/models/iris/predict", content=lines, headers=kinds).status_code == 200
    called(server, "OIP gRPC", ANN)
    called(server, "TensorFlow Serving gRPC", ANN)
    httpx.post(f"{server.url}/predict", json={"input": ROW}, headers={"x-customer": BOB})
    httpx.post(f"{server.url}/predict", json={"input": ROW})


def test_a_person_named_by_a_header_is_found_and_erased(home: Path, captured: LocalServer) -> None:
    ask(captured)
    captured.stop()
    assert [export_subject(who, home=home).rows for who in (ANN, BOB)] == [5, 1]
    everything = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert ANN.encode() not in everything
    erased = erase_subject(ANN, home=home)
    assert (erased.keys, erased.sealed, erased.rows, erased.complete) == (1, 5, 0, True)
    assert [export_subject(who, home=home).rows for who in (ANN, BOB)] == [0, 1]


@pytest.mark.parametrize("name", ["header:", "header:x y", "header:\u00e4"])
def test_what_is_no_header_is_refused(home: Path, name: str) -> None:
    publish_iris(home, default=True)
    with pytest.raises(SettingInvalid, match="names no header of HTTP"):
        deploy("iris", capture=1.0, capture_subject=name, home=home)
