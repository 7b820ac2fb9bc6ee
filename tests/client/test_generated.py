"""Generated clients at work: against a server that fails as it is told, and against a real one."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import servable
from protocols.client_signatures import ALL, CREDIT, GROUPS, NO_CHANCES, PRICE, SEVERAL
from servable.artifact.signature import Signature
from servable.protocols.client_python import python_client
from servable.protocols.client_shape import Subject
from servable.protocols.client_typescript import typescript_client
from servable.protocols.native import NativeCodec
from servable.protocols.native_schema import example_row
from serving.making import COLUMNS, EXAMPLE, IRIS, expected, publish_iris

from .conftest import Answer

COMMON = {"model": "m", "version": 3, "request_id": "r1"}
ROW = {"age": 40.0, "city": "Oslo", "member": True, "grade": 1}
GOOD = {"prediction": 1, "probabilities": {"0": 0.25, "1": 0.75}, **COMMON}


def loaded(name: str, signature: Signature) -> ModuleType:
    module = ModuleType("generated")
    exec(compile(python_client(Subject(name, 3, "", signature)), "generated.py", "exec"), module.__dict__)
    return module


@pytest.fixture(scope="module")
def credit() -> ModuleType:
    return loaded("credit", CREDIT)


def test_an_answer_is_typed(server, credit):
    server.say_json(GOOD)
    with credit.CreditClient(server.url, api_key="key", version=3) as client:
        answer = client.predict({**ROW, "since": None, "age": float("nan")}, timeout=5)
    assert answer == credit.CreditAnswer(1, {0: 0.25, 1: 0.75}, "m", 3, "r1")
    (seen,) = server.seen
    assert (seen.method, seen.path) == ("POST", "/models/credit/versions/3/predict")
    assert seen.headers["authorization"] == "Bearer key"
    assert 0 < int(seen.headers["x-request-timeout-ms"]) <= 5000
    assert json.loads(seen.body) == {"input": {**ROW, "since": None, "age": None}}


def test_many_rows_go_in_one_request(server, credit):
    two = [{"0": 0.25, "1": 0.75}, {"0": 1.0, "1": None}]
    server.say_json({"predictions": [1, 0], "probabilities": two, **COMMON})
    client = credit.CreditClient(server.url + "/")
    answers = client.predict_many(iter([ROW, ROW]))
    assert [(one.prediction, one.probabilities[1]) for one in answers] == [(1, 0.75), (0, None)]
    assert client.predict_many([]) == []
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("signature", "prediction", "read"),
    [
        (PRICE, 1.5, 1.5),
        (PRICE, None, None),
        (GROUPS, 2, 2),
        (NO_CHANCES, "a", "a"),
        (SEVERAL, {"class": 1, "all scores": [[1.0, None]]}, {"class": 1, "all scores": [[1.0, None]]}),
    ],
)
def test_answers_of_every_task(server, signature, prediction, read):
    server.say_json({"prediction": prediction, **COMMON})
    answer = loaded("m", signature).MClient(server.url).predict({})
    assert answer.prediction == read
    assert hasattr(answer, "probabilities") is signature.probabilities


@pytest.mark.parametrize(("name", "signature"), [each for each in ALL.items() if each[1].inputs])
def test_what_a_client_sends_is_what_the_codec_reads(server, name, signature):
    server.say(Answer(503))
    module = loaded(name, signature)
    (client,) = (kind for kind in module.__dict__ if kind.endswith("Client"))
    (error,) = (kind for kind in module.__dict__ if kind.endswith("Error"))
    row = example_row(signature)
    with pytest.raises(getattr(module, error)):
        getattr(module, client)(server.url).predict(row)
    assert json.loads(server.seen[0].body) == {"input": row}
    NativeCodec(signature).decode(server.seen[0].body, "id")


def test_a_refusal_carries_all_that_the_server_said(server, credit):
    detail = {"path": "input.age", "expected": "a number", "got": "a text"}
    told = {"code": "invalid_request", "message": "No.", "request_id": "r9", "details": [detail]}
    server.say_json({"error": told}, 422)
    with pytest.raises(credit.CreditError) as refused:
        credit.CreditClient(server.url).predict(ROW)
    assert (refused.value.code, refused.value.status, str(refused.value)) == ("invalid_request", 422, "No.")
    assert refused.value.details == (("input.age", "a number", "a text"),)
    assert refused.value.request_id == "r9"


@pytest.mark.parametrize(
    "content",
    [
        {**GOOD, "prediction": 2},
        {**GOOD, "prediction": "1 "},
        {**GOOD, "probabilities": {"0": 0.5, "2": 0.5}},
        {**GOOD, "probabilities": {"0": 0.5}},
    ],
)
def test_labels_that_the_client_does_not_know_are_said_so(server, credit, content):
    server.say_json(content)
    with pytest.raises(credit.CreditError, match="make the client anew") as refused:
        credit.CreditClient(server.url).predict(ROW)
    assert refused.value.code == "client_outdated"


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"<html>"), (200, b"[]"), (200, b"{}"), (200, b'{"prediction": 1}'), (200, b""), (500, b"{}")],
)
def test_something_else_than_an_answer(server, credit, status, body):
    server.say(Answer(status, body))
    with pytest.raises(credit.CreditError) as refused:
        credit.CreditClient(server.url).predict(ROW)
    assert (refused.value.code, refused.value.status) == ("remote_error", status)


def test_values_that_json_cannot_carry(credit):
    for value in (float("inf"), object()):
        with pytest.raises(credit.CreditError) as refused:
            credit.CreditClient("http://127.0.0.1:1").predict({"age": value, "deep": [value]})
        assert refused.value.code == "invalid_request"


@pytest.mark.parametrize("url", ["", "ftp://host", "http://"])
def test_an_address_that_is_none(credit, url):
    with pytest.raises(credit.CreditError, match="no address"):
        credit.CreditClient(url)


def test_a_server_that_never_answers(credit):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = credit.CreditClient(f"127.0.0.1:{silent.getsockname()[1]}", timeout=0.2)
        with pytest.raises(credit.CreditError, match=r"0\.2 s were allowed") as refused:
            client.predict(ROW)
    assert refused.value.code == "server_unreachable"


# ---------------------------------------------------------------------- a real server


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servable.LocalServer]:
    home = tmp_path_factory.mktemp("generated") / "home"
    publish_iris(home)
    with servable.serve(background=True, home=home, port=0) as running:
        yield running


ROWS = [dict(zip(COLUMNS, row, strict=True)) for row in ([5.1, 3.5, 1.4, 0.2], [6.5, 3.0, 5.8, 2.2])]


def test_a_python_client_gets_the_answers_of_the_model(served, tmp_path, monkeypatch):
    file = tmp_path / "iris_client.py"
    made = servable.generate_client("iris", output=file, url=served.url)
    assert (made.version, file.read_text()) == (1, made.source)
    monkeypatch.syspath_prepend(str(tmp_path))
    import iris_client

    assert len(iris_client.PACKAGE) == 64
    with iris_client.IrisClient(served.url) as client, servable.Client(served.url) as own:
        answers = client.predict_many(ROWS)
        for row, answer in zip(ROWS, answers, strict=True):
            label, chances = expected(list(row.values()))
            assert answer.prediction == label
            assert list(answer.probabilities.values()) == pytest.approx(chances.tolist())
            alone, plain = client.predict(row), own.predict("iris", row)
            assert (alone.prediction, alone.probabilities) == (plain.prediction, plain.probabilities)
        with pytest.raises(iris_client.IrisError) as refused:
            client.predict({})
        assert len(refused.value.details) == 4
    with (
        iris_client.IrisClient(served.url, version=7) as pinned,
        pytest.raises(iris_client.IrisError) as missing,
    ):
        pinned.predict(EXAMPLE)
    assert missing.value.code == "version_not_found"


def test_threads_share_a_client(served):
    module = loaded("iris", IRIS)
    client = module.IrisClient(served.url)
    found: list[str] = []

    def ask() -> None:
        found.extend(client.predict(row).prediction for row in ROWS * 5)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted([expected(list(row.values()))[0] for row in ROWS] * 20)
    client.close()


def test_a_kept_connection_that_the_server_closed_is_opened_again(tmp_path):
    home = tmp_path / "home"
    publish_iris(home)
    module = loaded("iris", IRIS)
    with servable.serve(background=True, home=home, port=0) as first:
        client, port = module.IrisClient(first.url), int(first.url.rpartition(":")[2])
        before = client.predict(EXAMPLE)
    with servable.serve(background=True, home=home, port=port):
        assert client.predict(EXAMPLE).probabilities == before.probabilities
        client.close()


def compiler() -> list[str]:
    """The TypeScript compiler of this machine, or the one that may be fetched; skips without."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    if given := os.environ.get("SERVABLE_TSC") or shutil.which("tsc"):
        return [given]
    pytest.skip("tsc is not installed; set SERVABLE_TSC to one")


@pytest.mark.slow
def test_typescript_clients_compile_strictly(tmp_path):
    tsc = compiler()
    for name, signature in ALL.items():
        source = typescript_client(Subject(name, 3, "ab12", signature))
        (tmp_path / f"{name}.ts").write_text(source, encoding="utf-8")
    strict = ("--strict", "--noUncheckedIndexedAccess", "--exactOptionalPropertyTypes", "--noUnusedLocals")
    files = sorted(map(str, tmp_path.glob("*.ts")))
    command = [*tsc, *strict, "--noEmit", "--target", "es2022", "--module", "nodenext", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    (tmp_path / "misuse.ts").write_text(
        'import { CreditClient } from "./credit.js";\n'
        'const row = { age: 40, city: "Bergen", member: true } as const;\n'
        "const client = new CreditClient();\n"
        "client.predict({ ...row, grade: 1 });\n"
        "client.predict({ ...row, grade: 3 });\n"
        'client.predict({ ...row, grade: 1, job: "king" });\n'
        "client.predict(row);\n"
    )
    command = [*tsc, *strict, "--noEmit", "--target", "es2022", "--module", "nodenext", "misuse.ts"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    wrong = [line for line in done.stdout.splitlines() if "error TS" in line]
    assert [line.partition("(")[2].partition(",")[0] for line in wrong] == ["5", "6", "7"]


@pytest.mark.slow
def test_a_typescript_client_gets_the_answers_of_the_model(served, tmp_path):
    tsc = compiler()
    servable.generate_client("iris", "typescript", output=tmp_path / "iris.ts", url=served.url)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "use.ts").write_text(
        'import { IrisClient, IrisError } from "./iris.js";\n'
        f"const client = new IrisClient({json.dumps(served.url)}, {{ timeoutMs: 5000 }});\n"
        f"const rows = {json.dumps(ROWS)};\n"
        "const answers = await client.predictMany(rows);\n"
        "const alone = await client.predict(rows[0]!);\n"
        "let refused: unknown;\n"
        "try { await client.predict({} as never); } catch (failure) {\n"
        "  if (!(failure instanceof IrisError)) throw failure;\n"
        "  refused = [failure.code, failure.status, failure.details.length];\n"
        "}\n"
        "const gone = new IrisClient('http://127.0.0.1:1').predict(rows[0]!);\n"
        "const code = await gone.then(() => '', (failure: unknown) => (failure as IrisError).code);\n"
        "const chance = alone.probabilities[alone.prediction];\n"
        "console.log(JSON.stringify({ answers, alone, refused, code, chance }));\n"
    )
    command = [*tsc, "--strict", "--target", "es2022", "--module", "nodenext", "--outDir", "out", "use.ts"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    ran = subprocess.run(["node", "out/use.js"], capture_output=True, text=True, check=True, cwd=tmp_path)
    told: dict[str, Any] = json.loads(ran.stdout)
    for row, answer in zip(ROWS, told["answers"], strict=True):
        label, chances = expected(list(row.values()))
        assert answer["prediction"] == label
        assert list(answer["probabilities"].values()) == pytest.approx(chances.tolist())
    assert told["alone"]["probabilities"] == told["answers"][0]["probabilities"]
    assert told["chance"] == max(told["alone"]["probabilities"].values())
    assert (told["refused"], told["code"]) == (["invalid_request", 422, 4], "server_unreachable")


def test_the_generated_python_needs_no_library(served, tmp_path):
    servable.generate_client("iris", output=tmp_path / "iris_client.py", url=served.url)
    program = (
        "from iris_client import IrisClient\n"
        f"print(IrisClient({served.url!r}).predict({ROWS[0]!r}).prediction)\n"
    )
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, '.')\n{program}"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(tmp_path))
    assert ran.stdout.strip() == expected(list(ROWS[0].values()))[0]
