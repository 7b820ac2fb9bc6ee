"""The examples run as a reader would run them: each in a process of its own, behind a real server."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from e2e.conftest import free_port
from serving.making import BIAS, CLASSES, expected, publish_iris, write_graph

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
LINES = {"content-type": "application/x-ndjson"}
ROW = [5.1, 3.5, 1.4, 0.2]

ASGI = """
import sys, uvicorn
uvicorn.run(sys.argv[1] + ":app", host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
"""
WSGI = """
import importlib, socketserver, sys
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
class Threads(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
class Quiet(WSGIRequestHandler):
    def log_message(self, *args): pass
application = getattr(importlib.import_module(sys.argv[1]), sys.argv[3])
make_server("127.0.0.1", int(sys.argv[2]), application, Threads, Quiet).serve_forever()
"""
ALL = [
    ("fastapi_app", ASGI, ""),
    ("starlette_app", ASGI, ""),
    ("flask_app", WSGI, "app"),
    ("django_app", WSGI, "application"),
]
#: As the examples say: one process with threads; and several, forked from one that has the application.
GUNICORN = ("--threads 8", "--threads 2 --workers 2 --preload")


@contextmanager
def running(name: str, server: str, attribute: str, home: Path, model: str) -> Iterator[str]:
    """An example behind a server; demands that it ends without a word."""
    port = free_port()
    command = ["-c", server, name, str(port), attribute]
    if server in GUNICORN:
        bound = f"--bind 127.0.0.1:{port} --log-level warning"
        command = ["-m", "gunicorn", *f"{bound} {server} {name}:{attribute}".split()]
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=EXAMPLES,
        env=os.environ | {"SERVABLE_HOME": str(home), "MODEL": model},
        stderr=subprocess.PIPE,
        text=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=url, timeout=60) as client:
            while process.poll() is None:
                try:
                    client.get("/")
                    break
                except httpx.ConnectError:
                    time.sleep(0.02)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert "servable" not in said.replace("KeyboardInterrupt", ""), said


def check(url: str, model: str) -> None:
    """The application's own page is where it was, and the model answers below its prefix as itself."""
    with httpx.Client(base_url=url, timeout=60) as client:
        assert client.get("/").json() == {"application": "shop"}
        answer = client.post("/ml/predict", json={"input": ROW})
        assert answer.status_code == 200, answer.text
        label, chances = expected(ROW, BIAS)
        said = answer.json()
        assert said["model"] == model
        # The file alone does not know what its classes are called.
        assert said["prediction"] == (label if model == "iris" else CLASSES.index(label))
        assert list(said["probabilities"].values()) == pytest.approx(list(chances))
        lines = client.post("/ml/predict", content=f"{ROW}\n" * 500, headers=LINES)
        assert lines.text.count('"prediction"') == 500
        assert client.get("/ml/readyz").json()["ready"]
        assert client.get("/ml/openapi.json").json()["servers"] == [{"url": "/ml"}]
        assert client.post("/predict", json={"input": ROW}).status_code in (404, 405)


# The others are asked so behind the server that they name.
@pytest.mark.parametrize(("name", "server", "attribute"), [one for one in ALL if one[1] == ASGI])
def test_a_deployed_model(home: Path, name: str, server: str, attribute: str) -> None:
    publish_iris(home)
    with running(name, server, attribute, home, "iris") as url:
        check(url, "iris")


@pytest.mark.parametrize("options", GUNICORN)
@pytest.mark.parametrize(("name", "attribute"), [("flask_app", "app"), ("django_app", "application")])
def test_behind_the_server_that_the_examples_name(
    home: Path, name: str, attribute: str, options: str
) -> None:
    publish_iris(home)
    with running(name, options, attribute, home, "iris") as url:
        check(url, "iris")
        with ThreadPoolExecutor(8) as pool:
            body = {"input": ROW}
            asked = [pool.submit(httpx.post, f"{url}/ml/predict", json=body, timeout=60) for _ in range(40)]
            assert {each.result().json()["prediction"] for each in asked} == {expected(ROW)[0]}


def test_the_examples_name_the_server_that_is_tested() -> None:
    for name in ("flask_app", "django_app"):
        said = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
        assert re.search(rf"gunicorn {GUNICORN[0]} {name}:app", said)


@pytest.mark.parametrize(("name", "server", "attribute"), [ALL[0], ALL[2]])
def test_a_model_file(home: Path, tmp_path: Path, name: str, server: str, attribute: str) -> None:
    path = tmp_path / "My Iris.onnx"
    write_graph(path)
    with running(name, server, attribute, home, str(path)) as url:
        check(url, "my-iris")


def test_every_example_is_tested() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {name for name, _, _ in ALL}
