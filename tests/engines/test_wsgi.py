"""Models as a WSGI application: bodies, answers, threads and forks, behind real servers."""

import http.client
import io
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.validate import validator

import httpx
import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import make_server as make_werkzeug

import servable
from servable.engines.wsgi import EmbeddedWsgi, body_of, scope_of
from servable.errors import RequestMalformed, RequestTooLarge
from serving.making import expected, publish_heavy, publish_iris

ROW = [5.1, 3.5, 1.4, 0.2]
#: Said, because the reference server makes it text/plain where a client says nothing.
JSON = {"content-type": "application/json"}
TESTS = Path(__file__).resolve().parents[1]


class Threads(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128


class Quiet(WSGIRequestHandler):
    def log_message(self, *args: object) -> None:
        """Silent."""


@contextmanager
def serving(application: Any) -> Iterator[str]:
    """The reference server of the standard library, with a thread for each request."""
    with make_server("127.0.0.1", 0, application, Threads, Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def iris(home: Path) -> Iterator[EmbeddedWsgi]:
    publish_iris(home)
    made = servable.wsgi(home=home, max_body_bytes=100_000)
    yield made
    made.close()


def right(answer: httpx.Response) -> bool:
    return answer.status_code == 200 and answer.json()["prediction"] == expected(ROW)[0]


def test_fifty_first_callers_wait_for_one_load(iris: EmbeddedWsgi, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "servable")
    with serving(iris) as url, ThreadPoolExecutor(50) as pool:
        asked = pool.map(lambda _: httpx.post(f"{url}/predict", json={"input": ROW}, timeout=60), range(50))
        assert all(right(answer) for answer in asked)
    assert [record.message for record in caplog.records].count("model live") == 1


def test_it_keeps_to_the_letter_of_the_specification(iris: EmbeddedWsgi) -> None:
    # The validator of the standard library raises for everything that PEP 3333 forbids.
    with serving(validator(iris)) as url:
        for method, path, body in (("POST", "/predict", '{"input": [1, 2, 3, 4]}'), ("GET", "/models", "")):
            answer = httpx.request(method, url + path, content=body or None, headers=JSON)
            assert answer.status_code == 200
        head = httpx.head(f"{url}/healthz")
        assert (head.status_code, head.content) == (200, b"")
        assert httpx.request("OPTIONS", f"{url}/predict").status_code == 204
        refused = httpx.post(f"{url}/predict", content=b"{", headers=JSON)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "malformed_request")


def test_below_a_prefix_of_flask_with_chunked_bodies(iris: EmbeddedWsgi) -> None:
    app = Flask("shop")
    app.add_url_rule("/", view_func=lambda: "shop")
    server = make_werkzeug(
        "127.0.0.1", 0, DispatcherMiddleware(app.wsgi_app, {"/ml": iris, "/again": iris}), threaded=True
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    assert httpx.get(url).text == "shop"
    for prefix in ("/ml", "/again"):
        assert right(
            httpx.post(f"{url}{prefix}/predict", json={"input": ROW}, headers={"host": "shop.example"})
        )
        assert f'href="{prefix}/docs"' in httpx.get(url + prefix, headers={"accept": "text/html"}).text
        assert httpx.get(f"{url}{prefix}/openapi.json").json()["servers"] == [{"url": prefix}]
    chunked = httpx.post(f"{url}/ml/predict", content=iter([b'{"input": ', b"[5.1, 3.5, 1.4, 0.2]}"]))
    assert right(chunked)
    too_large = httpx.post(f"{url}/ml/predict", content=iter([b" " * 60_000] * 3))
    assert too_large.status_code == 413
    server.shutdown()
    thread.join()
    server.server_close()


def test_bodies_that_are_too_large_or_end_early(iris: EmbeddedWsgi) -> None:
    with serving(iris) as url:
        refused = httpx.post(f"{url}/predict", content=b" " * 100_001)
        assert (refused.status_code, refused.json()["error"]["code"]) == (413, "request_too_large")
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
        connection.putrequest("POST", "/predict")
        connection.putheader("content-length", "100")
        connection.endheaders(b'{"input":')
        connection.sock.shutdown(1)
        early = connection.getresponse()
        assert (early.status, b"ended before" in early.read()) == (400, True)
        connection.close()


def environ(**more: Any) -> dict[str, Any]:
    return {"REQUEST_METHOD": "POST", "PATH_INFO": "/", "wsgi.input": io.BytesIO(), **more}


def test_the_ways_in_which_a_body_has_a_length() -> None:
    def body(content: bytes, **more: Any) -> bytes:
        return body_of(environ(**{"wsgi.input": io.BytesIO(content)} | more), 10)

    assert body(b"12345", CONTENT_LENGTH="3") == b"123"
    assert body(b"12345", CONTENT_LENGTH="") == b""
    assert body(b"12345", **{"wsgi.input_terminated": True}) == b"12345"
    for bad in ("-1", "x", "1.5", "²", "9" * 30):
        with pytest.raises(RequestMalformed):
            body(b"", CONTENT_LENGTH=bad)
    with pytest.raises(RequestMalformed, match="no length"):
        body(b"", HTTP_TRANSFER_ENCODING="chunked")
    for more in ({"CONTENT_LENGTH": "11"}, {"wsgi.input_terminated": True}):
        with pytest.raises(RequestTooLarge):
            body(b"1" * 11, **more)

    class Gone(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise ConnectionResetError

    with pytest.raises(RequestMalformed, match="ended before"):
        body_of(environ(CONTENT_LENGTH="3", **{"wsgi.input": Gone()}), 10)


@given(path=st.binary(max_size=20), prefix=st.binary(max_size=8), query=st.binary(max_size=8))
def test_any_address_becomes_a_scope(path: bytes, prefix: bytes, query: bytes) -> None:
    texts = [part.decode("latin-1") for part in (path, prefix, query)]
    scope = scope_of(
        environ(
            PATH_INFO=texts[0], SCRIPT_NAME=texts[1], QUERY_STRING=texts[2], HTTP_X_A="é", SERVER_PORT="x"
        )
    )
    assert scope["raw_path"].isascii()
    assert scope["query_string"] == query
    assert scope["path"].startswith(scope["root_path"])
    assert (b"x-a", b"\xe9") in scope["headers"]


def test_a_client_who_leaves_takes_the_request_back(home: Path) -> None:
    publish_heavy(home, width=8, layers=1)
    made = servable.wsgi(home=home)
    said: list[str] = []
    answer = made(environ(PATH_INFO="/healthz", REQUEST_METHOD="GET"), lambda status, _: said.append(status))
    answer.close()  # type: ignore[attr-defined] - of WSGI
    assert said == ["200 OK"]
    made.close()
    # It begins again.
    again = made(environ(PATH_INFO="/readyz", REQUEST_METHOD="GET"), lambda status, _: said.append(status))
    assert b"".join(again) == b'{"ready":true,"not_live":[]}'
    made.close()
    made.close()


LINES = ("".join(f"{row}\n" for row in [ROW] * 20_000)).encode()


def lines_environ(accept: str) -> dict[str, Any]:
    return environ(
        PATH_INFO="/predict",
        CONTENT_TYPE="application/x-ndjson",
        CONTENT_LENGTH=str(len(LINES)),
        HTTP_ACCEPT=accept,
        **{"wsgi.input": io.BytesIO(LINES)},
    )


def rows_run(application: Any) -> float:
    """How many rows the model has answered."""
    text = b"".join(
        application(environ(PATH_INFO="/metrics", REQUEST_METHOD="GET"), lambda *_: None)
    ).decode()
    found = [line for line in text.splitlines() if line.startswith("servable_rows_total{")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in found)


@pytest.mark.parametrize("accept", ["application/x-ndjson", "text/event-stream"])
def test_an_answer_in_pieces_is_made_as_it_is_taken(home: Path, accept: str) -> None:
    publish_iris(home)
    made = servable.wsgi(home=home)
    said: list[Any] = []
    answer = made(lines_environ(accept), lambda *head: said.append(head))
    pieces = iter(answer)
    first = next(pieces)
    assert said[0][0] == "200 OK"
    assert dict(said[0][1])["content-type"] == accept
    # A few pieces are made ahead of the one that is taken, and no more while nobody takes them.
    assert rows_run(made) < 10_000
    whole = first + b"".join(pieces)
    assert whole.count(b'"prediction":"setosa"') == 20_000
    assert rows_run(made) == 20_000
    left = made(lines_environ(accept), lambda *_: None)
    next(iter(left))
    # The server's client left: the rest is never made.
    left.close()  # type: ignore[attr-defined] - likewise
    made.close()
    assert rows_run(made) < 30_000
    made.close()


def test_pieces_through_a_real_server(home: Path) -> None:
    publish_iris(home)
    made = servable.wsgi(home=home)
    headers = {"content-type": "application/x-ndjson", "accept": "application/x-ndjson"}
    with (
        serving(made) as url,
        httpx.stream("POST", f"{url}/predict", content=LINES, headers=headers) as answer,
    ):
        assert answer.status_code == 200
        assert "content-length" not in answer.headers
        lines = answer.iter_lines()
        assert '"setosa"' in next(lines)
        assert rows_run(made) < 20_000
        assert sum(1 for _ in lines) == 19_999
    made.close()


PREFORK = """
import contextlib, os, pathlib, sys, threading, time
sys.path[:0] = [sys.argv[2]]
import httpx
from wsgiref.simple_server import make_server
from engines.test_wsgi import Quiet
import servable

application = servable.wsgi(home=sys.argv[1])

def asked():
    with make_server("127.0.0.1", 0, application, handler_class=Quiet) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/predict"
        # The first call loads the model, which takes long where several processes do so on a busy machine.
        answer = httpx.post(url, json={"input": [1, 2, 3, 4]}, timeout=100)
        thread.join()
        return answer.status_code

def quiet():
    # Whoever forks while another thread opens a database copies SQLite's locks as they are: held, for ever.
    own, looks = str(threading.get_native_id()), 0
    while looks < 100:
        looks += 1
        for task in pathlib.Path("/proc/self/task").iterdir():
            with contextlib.suppress(OSError):
                state = (task / "stat").read_text().rpartition(")")[2].split()[0]
                if task.name != own and state != "S":
                    looks = 0
        time.sleep(0.001)

# Forked once before anything is loaded, as a server with preloading does, and once with the thread running.
for loaded_before in (False, True):
    if loaded_before:
        assert asked() == 200
        quiet()
    children = []
    for _ in range(2):
        child = os.fork()
        if not child:
            if asked() != 200:
                os._exit(1)
            # A child of a process that has loaded models cannot end in the usual way.
            os._exit(0) if loaded_before else sys.exit(0)
        children.append(child)
    for child in children:
        _, status = os.waitpid(child, 0)
        assert status == 0, status
print("all right")
"""


def test_nothing_that_forbids_a_fork_is_imported_with_the_application() -> None:
    code = "import sys, servable; servable.wsgi(); servable.asgi(); print('onnxruntime' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_every_fork_has_models_of_its_own_and_ends_by_itself(home: Path) -> None:
    publish_iris(home)
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PREFORK, str(home), str(TESTS)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "all right\n"
    assert done.stderr == ""
