"""What callers send is found nowhere but in the answer to them: not in logs, figures, other answers, files.

Marked words are planted in every field of every wire format of a server in processes of its own, good
requests and bad ones, and then looked for.
"""

import http.client
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

import grpc
import servable
from e2e.conftest import free_port, servable_command
from servable.protocols import tfserving_messages
from servable.protocols.oip_messages import messages
from server.asking import FORMS, PREDICT_ROUTE, Form, Told, post
from serving.making import publish_iris
from serving.making_texts import add_texts

#: In places of values and in headers; in places of names; as a request id; as a number.
VALUE, NAME, ID, NUMBER = "canary-value-7391", "canary-name-4412", "canary-id-8261", 739184501.25
MARKS = tuple(mark.encode() for mark in (VALUE, NAME, "canary-id-8261", "739184501", "7.39185e+08"))
#: What an error may not repeat even to the caller who sent it; logs of others on the way may keep it.
UNREPEATED = tuple(mark.encode() for mark in (VALUE, "739184501", "7.39185e+08"))
#: Keys under which a format has names.
NAMED = frozenset({"columns", "model", "name"})
HEADERS = {
    "user-agent": VALUE,
    "referer": f"http://localhost/{VALUE}",
    "cookie": f"session={VALUE}",
    "x-request-note": VALUE,
    "traceparent": f"00-{VALUE}-01",
    "tracestate": f"vendor={VALUE}",
    "baggage": f"user={VALUE}",
}
#: Headers that change what becomes of a request, one at a time.
TURNS = (
    {"content-type": f"text/{VALUE}"},
    {"content-encoding": VALUE},
    {"accept": f"application/{VALUE}"},
    {"accept-encoding": VALUE},
    {"authorization": f"Bearer {VALUE}"},
    {"x-api-key": VALUE},
    {"x-request-timeout-ms": VALUE},
    {"x-servable-version": VALUE},
    {"inference-header-content-length": VALUE},
    {"expect": VALUE},
    {"host": VALUE},
    {"content-type": f"multipart/form-data; boundary={VALUE}"},
)
#: Its errors quote what it was asked, as those of libraries do.
MODEL = """
import servable


@servable.model
def quoting(word: str, x: float) -> float:
    if x < 0:
        return {"answer": f"no number for {word}"}
    try:
        return float(word) if word[:1] in "cns" and word else 0.0
    except ValueError as error:
        raise RuntimeError(f"cannot price {word} of {x}") from error
"""


class Server(NamedTuple):
    """A server under watch.

    Attributes:
        url: its address.
        folder: holds its home, its temporary files, its working directory, and its log.
        process: the first of its processes.
    """

    url: str
    folder: Path
    process: int


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("watched")
    for name in ("tmp", "cwd"):
        (folder / name).mkdir()
    add_texts(folder / "home", tmp_path_factory.mktemp("graphs"))
    publish_iris(folder / "home", default=True)
    file = tmp_path_factory.mktemp("code") / "quoting.py"
    file.write_text(MODEL)
    servable.add(f"{file}:quoting", name="quoting", trust=True, deploy=True, home=folder / "home")
    port = free_port()
    words = ("--home", str(folder / "home"), "--port", str(port))
    told = {
        "TMPDIR": str(folder / "tmp"),
        "NO_COLOR": "1",
        "SERVABLE_PREDICT_ROUTE": PREDICT_ROUTE,
        "SERVABLE_LOG_LEVEL": "debug",
    }
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            servable_command("serve", *words),
            stdout=log,
            stderr=log,
            cwd=folder / "cwd",
            env=os.environ | told,
        )
        try:
            with servable.Client(f"http://127.0.0.1:{port}") as client:
                client.wait_until_ready(timeout_s=60)
            yield Server(f"http://127.0.0.1:{port}", folder, process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def planted(content: Any, *, names: bool = False) -> Iterator[Any]:
    """The content with a mark in one place at a time: each value, each key, and one key more.

    Args:
        content: of JSON.
        names: whether its texts are names, which an error may repeat to the caller.
    """
    yield NAME if names else VALUE
    if not names:
        yield NUMBER
    if isinstance(content, dict):
        yield {**content, NAME: VALUE}
        for key, value in content.items():
            rest = {other: each for other, each in content.items() if other != key}
            yield {**rest, NAME: value}
            for one in planted(value, names=key in NAMED):
                yield {**rest, key: one}
    elif isinstance(content, list):
        yield [*content, NAME if names else VALUE]
        for place, value in enumerate(content):
            for one in planted(value, names=names):
                yield [*content[:place], one, *content[place + 1 :]]


def bodies(form: Form) -> Iterator[bytes]:
    """A good body of a form with marks in it, and bad ones."""
    good = form.body(form.ways[0].model)
    if form.content_type == "text/csv":
        cells = good.split(b",")
        yield from (b",".join([*cells[:at], VALUE.encode(), *cells[at + 1 :]]) for at in range(len(cells)))
        yield good + b'\n"' + VALUE.encode()
        return
    if not form.method:
        yield from (json.dumps(one).encode() for one in planted(json.loads(good)))
    yield good[:-1] + VALUE.encode()
    yield VALUE.encode() + good


def grpc_bodies() -> Iterator[bytes]:
    """Requests of OIP's gRPC with marks in every field."""
    for field in range(8):
        request = messages()["inference.ModelInferRequest"](
            model_name=NAME if field == 0 else "iris", model_version=NAME if field == 1 else "", id=VALUE
        )
        tensor = request.inputs.add(
            name=NAME if field == 2 else "input",
            datatype=VALUE if field == 3 else "BYTES" if field == 4 else "FP64",
            shape=[1, 4],
        )
        tensor.contents.bytes_contents.append(VALUE.encode())
        request.parameters[NAME].string_param = VALUE
        tensor.parameters[NAME].string_param = VALUE
        if field == 5:
            request.outputs.add(name=NAME).parameters[NAME].string_param = VALUE
        if field == 6:
            request.raw_input_contents.append(VALUE.encode())
        yield bytes(request.SerializeToString())


def predict_bodies() -> Iterator[bytes]:
    """Requests of TensorFlow Serving's gRPC with marks in every field."""
    made = tfserving_messages.messages()["tensorflow.serving.PredictRequest"]
    for field in range(9):
        request = made()
        spec = request.model_spec
        spec.name = NAME if field == 0 else "iris"
        if field == 1:
            spec.version_label = NAME
        if field == 2:
            spec.signature_name = NAME
        if field == 3:
            request.output_filter.append(NAME)
        tensor = request.inputs[NAME if field == 4 else "input"]
        tensor.dtype = 7 if field == 5 else 2
        tensor.tensor_shape.dim.add(size=1, name=VALUE)
        tensor.tensor_shape.dim.add(size=4, name=VALUE)
        tensor.double_val.extend([NUMBER] * (3 if field == 6 else 4))
        tensor.string_val.extend([VALUE.encode()] * (4 if field == 5 else 0))
        if field == 7:
            tensor.tensor_content = VALUE.encode()
        if field == 8:
            request.inputs[NAME].CopyFrom(tensor)
        yield bytes(request.SerializeToString())


def sent_by_grpc(server: Server) -> Iterator[Told]:
    """Good calls with marks in keys and values of their metadata, and calls of the other methods."""
    metadata = {
        NAME: VALUE,
        "user-note": VALUE,
        "traceparent": VALUE,
        "authorization": f"Bearer {VALUE}",
        "x-api-key": VALUE,
        "x-servable-version": VALUE,
        "x-request-timeout-ms": VALUE,
        f"{NAME}-bin": VALUE.encode(),
    }
    asked = [(form.method, form.body("iris")) for form in FORMS if form.method]
    named = messages()["inference.ModelMetadataRequest"](name=NAME, version=NAME).SerializeToString()
    asked += [
        (f"/inference.GRPCInferenceService/{name}", named)
        for name in ("ModelMetadata", "ModelReady", "ModelConfig", "ModelStatistics")
    ]
    spec = tfserving_messages.messages()["tensorflow.serving.GetModelStatusRequest"]()
    spec.model_spec.name, spec.model_spec.signature_name = NAME, VALUE
    asked.append(("/tensorflow.serving.ModelService/GetModelStatus", spec.SerializeToString()))
    about = tfserving_messages.messages()["tensorflow.serving.GetModelMetadataRequest"]()
    about.model_spec.name = NAME
    about.metadata_field.append(VALUE)
    asked.append(("/tensorflow.serving.PredictionService/GetModelMetadata", about.SerializeToString()))
    health = messages()["grpc.health.v1.HealthCheckRequest"](service=NAME).SerializeToString()
    asked += [("/grpc.health.v1.Health/Check", health), (f"/{NAME}/{NAME}", VALUE.encode())]
    with grpc.insecure_channel(urlsplit(server.url).netloc) as channel:
        for method, body in asked:
            for name, value in metadata.items():
                call: Any = channel.unary_unary(method).future(body, metadata=[(name, value)], timeout=30)
                said = call.result() if call.code() is grpc.StatusCode.OK else call.details().encode()
                # What comes after an answer is part of it.
                yield Told(call.code().name, {}, said + repr(call.trailing_metadata()).encode())


def sent_to_tensorflow_serving(server: Server) -> Iterator[Told]:
    """Requests over HTTP with marks in fields that its good request does not have."""
    rows = [
        {"instances": [[NUMBER, VALUE, 1, 2]]},
        {"instances": [{NAME: VALUE}], "signature_name": VALUE},
        {"inputs": {NAME: [[VALUE]]}, "signature_name": NAME},
        {"instances": [{"b64": VALUE}]},
        {"examples": [{NAME: VALUE}], "context": {NAME: VALUE}},
    ]
    for verb in ("predict", "classify", "regress", VALUE):
        for row in rows:
            yield ask(server, "POST", f"/v1/models/iris:{verb}", json.dumps(row).encode(), **HEADERS)
    for path in (
        f"{NAME}",
        f"iris/versions/{NAME}",
        f"iris/labels/{NAME}",
        "iris/metadata",
        f"{NAME}/metadata",
    ):
        yield ask(server, "GET", f"/v1/models/{path}", **HEADERS)
        yield ask(server, "POST", f"/v1/models/{path}:predict", json.dumps(rows[0]).encode(), **HEADERS)


def ask(server: Server, method: str, path: str, body: bytes = b"", **headers: str) -> Told:
    """A request of any kind; a connection that is closed without an answer counts as one without a body."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
    try:
        connection.putrequest(method, path, skip_host="host" in headers, skip_accept_encoding=True)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders(body)
        answer = connection.getresponse()
        return Told(answer.status, dict(answer.getheaders()), answer.read())
    except (http.client.HTTPException, ConnectionError):
        return Told(0, {}, b"")
    finally:
        connection.close()


MARKED: dict[str, Callable[[], Iterator[bytes]]] = {
    "OIP gRPC": grpc_bodies,
    "TensorFlow Serving gRPC": predict_bodies,
}


def sent(server: Server) -> Iterator[Told]:
    """The answers to everything that is sent."""
    marked = {name.replace("-", "_"): value for name, value in HEADERS.items()}
    for form in FORMS:
        for body in (*bodies(form), *MARKED.get(form.name, lambda: iter(()))()):
            yield form.ask(server.url, form.ways[0], body, **marked, x_request_id=ID)
        if form.method:
            continue
        way = form.ways[0]
        yield ask(server, "POST", f"{way.path.replace('iris', NAME)}?query={VALUE}", form.body(way.model))
        for turn in TURNS:
            yield ask(server, "POST", f"{way.path}?{NAME}={VALUE}", form.body(way.model), **HEADERS | turn)
    yield from sent_by_grpc(server)
    yield from sent_to_tensorflow_serving(server)
    yield from sent_to_pages(server)
    yield from sent_to_quoting(server)


def sent_to_pages(server: Server) -> Iterator[Told]:
    paths = (
        f"/{NAME}",
        f"/models/{NAME}",
        f"/models/iris/versions/{NAME}/predict",
        f"/v2/models/{NAME}/config",
        f"/docs/static/{NAME}",
        f"/v2/repository/models/{NAME}/load",
        f"/models/iris/feedback?{NAME}={VALUE}",
    )
    for path in paths:
        for method in ("GET", "POST", "DELETE", "CANARY"):
            yield ask(server, method, path, json.dumps({NAME: VALUE}).encode(), **HEADERS)
    for body in planted([{"id": "x", "row": 0, "label": "setosa"}]):
        yield ask(server, "POST", "/models/iris/feedback", json.dumps(body).encode())
    part = f'--b\r\ncontent-disposition: form-data; name="{NAME}"; filename="{VALUE}"\r\n\r\n{VALUE}\r\n'
    for end in ("--b--\r\n", "--b", ""):
        yield ask(
            server,
            "POST",
            "/models/iris/predict",
            (part + end).encode(),
            **{"content-type": "multipart/form-data; boundary=b"},
        )
    for line in (f'{{"input": "{VALUE}"}}\n', f"{VALUE}\n", f'{{"input": ["{VALUE}", {NUMBER}]}}\n'):
        yield ask(
            server,
            "POST",
            "/models/iris/predict",
            line.encode(),
            **{"content-type": "application/x-ndjson"},
        )


def sent_to_quoting(server: Server) -> Iterator[Told]:
    for x in (1.0, -1.0, NUMBER):
        row = {"word": VALUE, "x": x}
        yield ask(
            server, "POST", "/models/quoting/predict", json.dumps({"input": row}).encode(), x_request_id=ID
        )
        yield ask(server, "POST", "/models/quoting/predict", json.dumps({"inputs": [row, row]}).encode())
        yield ask(server, "POST", "/v1/models/quoting:predict", json.dumps({"instances": [row]}).encode())
    # A number, but out of range of an answer in JSON.
    row = {"word": "nan", "x": NUMBER}
    yield ask(server, "POST", "/models/quoting/predict", json.dumps({"input": row}).encode())


def innocent(server: Server) -> Iterator[bytes]:
    """What somebody else is told: errors of every format, pages, figures, descriptions."""
    for form in FORMS:
        for body, _ in form.bad:
            told = form.ask(server.url, form.ways[0], body)
            yield told.body + repr(told.headers).encode()
        for way in form.absent[:1]:
            yield form.ask(server.url, way).body
    row = {"word": "seven", "x": 1.0}
    yield post(server.url, "/models/quoting/predict", json.dumps({"input": row}).encode(), {}).body
    for path in (
        "/metrics",
        "/models",
        "/models/iris",
        "/models/quoting",
        "/v2/models/stats",
        "/v2/models/quoting/stats",
        "/openapi.json",
        "/docs",
        "/nothing",
    ):
        yield ask(server, "GET", path).body


def tree(process: int) -> set[int]:
    """A process and all that it started."""
    found = {process}
    for children in Path(f"/proc/{process}/task").glob("*/children"):
        for child in children.read_text().split():
            found |= tree(int(child))
    return found


def files_with(marks: tuple[bytes, ...], *folders: Path) -> list[str]:
    """The files below some folders that hold one of the marks."""
    paths = (path for folder in folders for path in folder.rglob("*"))
    files = (path for path in paths if path.is_file() and not path.is_symlink())
    return [str(path) for path in files if holds(path.read_bytes(), marks)]


def shared_memory() -> dict[str, Path]:
    return {path.name: path for path in Path("/dev/shm").iterdir() if path.is_file()}


def test_what_callers_send_is_found_nowhere_else(watched: Server) -> None:
    before = shared_memory()
    answers = list(sent(watched))
    statuses = {str(told.status) for told in answers}
    assert {"200", "400", "404", "422", "500"} <= statuses
    assert len(answers) > 300
    repeated = [
        told.body for told in answers if told.status not in (200, "OK") and holds(told.body, UNREPEATED)
    ]
    assert not repeated, b"\n".join(repeated).decode()
    for answer in innocent(watched):
        assert not holds(answer, MARKS), answer
    log = (watched.folder / "server.log").read_text()
    assert "a model raised" in log
    # The id that a caller chose for a request is there to be found again; nothing else is.
    kept = log.replace(f"request_id={ID}", "")
    assert ID in log
    assert [line for line in kept.splitlines() if holds(line.encode(), MARKS)] == []
    places = [watched.folder / name for name in ("home", "tmp", "cwd")]
    assert files_with(MARKS, *places) == []
    late = {name: path for name, path in shared_memory().items() if name not in before}
    assert [name for name, path in late.items() if holds(path.read_bytes(), MARKS)] == []


def holds(content: bytes, marks: tuple[bytes, ...]) -> bool:
    return any(mark in content for mark in marks)


def test_the_places_are_really_looked_at(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(b"..." + VALUE.encode())
    assert files_with(MARKS, tmp_path) == [str(tmp_path / "deep" / "file")]
    assert holds(json.dumps(NUMBER).encode(), UNREPEATED)
    assert holds(f"{NUMBER:g}".encode(), UNREPEATED)


def test_no_process_of_a_server_may_leave_a_core_file(watched: Server) -> None:
    processes = tree(watched.process)
    # The model of somebody's code runs in a process of its own.
    assert len(processes) > 1
    for process in processes:
        limits = Path(f"/proc/{process}/limits").read_text()
        (line,) = (line for line in limits.splitlines() if line.startswith("Max core file size"))
        assert line.split()[4] == "0", process
