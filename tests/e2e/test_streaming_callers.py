"""Answers in pieces as callers see them: both clients, the command, generated clients, the description."""

import asyncio
import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, aclosing, closing, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

import servable
from client.test_generated import compiler
from e2e.test_streaming import FILE, figure, until
from protocols.test_openapi import assert_valid
from servable.engines.local import LocalServer
from servable.errors import RemoteError
from servable.settings import ServerSettings


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home: Path = tmp_path_factory.mktemp("callers") / "home"
    for name in ("Gated", "Endless", "Echo", "Numbers"):
        servable.add(f"{FILE}:{name}", name=name.lower(), trust=True, deploy=True, home=home)
    with LocalServer(ServerSettings(home=str(home), port=0, confinement="off")) as server:
        yield server.url


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "gate")
    return tmp_path


def let_go(url: str, gate: Path) -> None:
    """Open the gate to whoever waits there, until the model is free again."""

    def freed(asking: Future[Any]) -> bool:
        with suppress(OSError):
            os.close(os.open(gate / "gate", os.O_WRONLY | os.O_NONBLOCK))
        return asking.done()

    with ThreadPoolExecutor(1) as pool, servable.Client(url) as client:
        asking = pool.submit(client.predict, "gated", [""])
        until(lambda: freed(asking))
        assert asking.result().prediction == "word0 word1 word2 "
    until(lambda: figure(url, "servable_streams", "gated") == 0)


# ---------------------------------------------------------------------- the library's clients


def test_a_piece_is_handed_on_before_the_next_is_made(url: str, gate: Path) -> None:
    with servable.Client(url) as client, closing(client.stream("gated", [str(gate)])) as pieces:
        for number in range(3):
            piece = next(pieces)
            assert (piece.prediction, piece.model, piece.version) == (f"word{number} ", "gated", 1)
            assert piece.request_id
            if number < 2:
                (gate / "gate").write_text("")
        assert next(pieces, None) is None


def test_both_clients_give_the_pieces_of_the_model(url: str) -> None:
    async def ask() -> list[Any]:
        async with servable.AsyncClient(url) as client:
            return [piece.prediction async for piece in client.stream("numbers", {"below": 3})]

    assert asyncio.run(ask()) == [[0.0], [1.0], [2.0]]
    with servable.Client(url) as client:
        assert [piece.prediction for piece in client.stream("numbers", [3], version=1)] == [
            [0.0],
            [1.0],
            [2.0],
        ]
        whole = client.predict("echo", ["a b c"])
        assert "".join(piece.prediction for piece in client.stream("echo", ["a b c"])) == whole.prediction


def test_leaving_the_iterator_stops_the_model(url: str, tmp_path: Path) -> None:
    with servable.Client(url) as client:
        for _piece in client.stream("endless", [str(tmp_path)]):
            break
        until((tmp_path / "closed").exists)
    (other := tmp_path / "other").mkdir()

    async def leave() -> None:
        async with (
            servable.AsyncClient(url) as client,
            aclosing(client.stream("endless", [str(other)])) as pieces,
        ):
            assert await anext(pieces)

    asyncio.run(leave())
    until((other / "closed").exists)
    until(lambda: figure(url, "servable_streams", "endless") == 0)


def test_what_fails_in_the_middle_is_the_servers_error(url: str) -> None:
    for words, code in (("a raise b", "model_failed"), ("a die b", "model_died")):
        with servable.Client(url) as client:
            pieces = client.stream("echo", [words])
            assert next(pieces).prediction == "a "
            with pytest.raises(RemoteError) as failed:
                next(pieces)
        assert (failed.value.remote_code, bool(failed.value.request_id)) == (code, True)
        assert "secret" not in failed.value.message


def test_what_is_wrong_before_the_first_piece_has_its_status(url: str) -> None:
    with servable.Client(url, retries=0) as client:
        for row, status in (([1], 422), (["raise"], 500)):
            with pytest.raises(RemoteError) as failed:
                next(client.stream("echo", row))
            assert failed.value.status == status
        with pytest.raises(RemoteError) as failed:
            next(client.stream("nobody", ["x"]))
        assert failed.value.remote_code == "model_not_found"


def test_the_time_of_a_call_is_for_the_whole(url: str, gate: Path) -> None:
    with servable.Client(url) as client:
        pieces = client.stream("gated", [str(gate)], timeout_s=0.5)
        assert next(pieces).prediction == "word0 "
        with pytest.raises(servable.ServableError) as late:
            next(pieces)
    assert late.value.code in ("remote_error", "server_unreachable")
    let_go(url, gate)


# ---------------------------------------------------------------------- the command


def call(url: str, *arguments: str) -> Any:
    from servable.cli.main import app

    return CliRunner().invoke(app, ["call", *arguments, "--url", url])


def test_the_command_prints_pieces(url: str) -> None:
    said = call(url, "echo", '["a b c"]', "--stream")
    assert (said.exit_code, said.stdout) == (0, "a b c \n")
    assert "echo:1, request id" in said.stderr
    assert call(url, "numbers", "[2]", "--stream").stdout == "[0.0]\n[1.0]\n"
    lines = call(url, "echo", '["a b"]', "--stream", "--json")
    assert [json.loads(line)["prediction"] for line in lines.stdout.splitlines()] == ["a ", "b "]
    assert lines.stderr == ""


def test_the_command_says_what_failed_in_the_middle(url: str) -> None:
    failed = call(url, "echo", '["a raise b"]', "--stream")
    assert (failed.exit_code, failed.stdout) == (1, "a \n")
    assert "ValueError" in failed.stderr
    assert call(url, "echo", '["a die b"]', "--stream").exit_code == 7
    several = call(url, "echo", '[["a"], ["b"]]', "--stream")
    assert (several.exit_code, "one row" in several.stderr) == (3, True)


def test_the_command_prints_a_piece_before_the_next_is_made(url: str, gate: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "servable.cli.main",
        "call",
        "gated",
        json.dumps([str(gate)]),
        "--stream",
    ]
    with subprocess.Popen([*command, "--url", url, "--json"], stdout=subprocess.PIPE, text=True) as asking:
        assert asking.stdout is not None
        for number in range(3):
            assert json.loads(asking.stdout.readline())["prediction"] == f"word{number} "
            if number < 2:
                (gate / "gate").write_text("")
        assert asking.wait(timeout=60) == 0


# ---------------------------------------------------------------------- the description, generated clients


def test_the_description_has_the_address_and_the_piece(url: str) -> None:
    api = httpx.get(f"{url}/openapi.json").json()
    assert_valid(api)
    answer = api["paths"]["/models/echo/stream"]["post"]["responses"]["200"]["content"]
    assert set(answer) == {"text/event-stream", "application/x-ndjson"}
    piece = {"$ref": "#/components/schemas/echo.Piece"}
    assert {form["x-itemSchema"]["$ref"] for form in answer.values()} == {piece["$ref"]}
    assert api["components"]["schemas"]["echo.Piece"]["properties"]["prediction"]["type"] == "string"
    assert "/models/echo/versions/1/stream" in api["paths"]
    assert httpx.get(f"{url}/models/echo").json()["streams"] is True


def generated(url: str) -> ModuleType:
    module = ModuleType("echo_client")
    exec(compile(servable.generate_client("echo", url=url).source, "echo.py", "exec"), module.__dict__)
    return module


def test_a_generated_client_gives_pieces(url: str, tmp_path: Path) -> None:
    module = generated(url)
    with module.EchoClient(url) as client:
        pieces = list(client.stream({"prompt": "a b"}))
        assert [piece.prediction for piece in pieces] == ["a ", "b "]
        assert {(piece.model, piece.version) for piece in pieces} == {("echo", 1)}
        told = client.stream({"prompt": "a raise"}, timeout=30)
        assert next(told).prediction == "a "
        with pytest.raises(module.EchoError) as failed:
            next(told)
        assert failed.value.code == "model_failed"
        with pytest.raises(module.EchoError) as refused:
            next(client.stream({"prompt": 1}))
        assert (refused.value.status, len(refused.value.details)) == (422, 1)
    with pytest.raises(module.EchoError, match="no whole answer") as gone:
        next(module.EchoClient("http://127.0.0.1:1").stream({"prompt": "a"}))
    assert gone.value.code == "server_unreachable"
    source = servable.generate_client("endless", url=url).source
    endless = ModuleType("endless_client")
    exec(compile(source, "endless.py", "exec"), endless.__dict__)
    pieces = endless.EndlessClient(url).stream({"prompt": str(tmp_path)})
    next(pieces)
    pieces.close()
    until((tmp_path / "closed").exists)


def test_a_generated_client_keeps_its_time(url: str, gate: Path) -> None:
    module = ModuleType("gated_client")
    source = servable.generate_client("gated", url=url).source
    exec(compile(source, "gated.py", "exec"), module.__dict__)
    pieces = module.GatedClient(url, timeout=0.5).stream({"prompt": str(gate)})
    assert next(pieces).prediction == "word0 "
    with pytest.raises(module.GatedError, match="no whole answer"):
        next(pieces)
    let_go(url, gate)


@pytest.mark.slow
def test_a_typescript_client_gives_pieces(url: str, tmp_path: Path) -> None:
    tsc = compiler()
    for name in ("echo", "endless"):
        servable.generate_client(name, "typescript", output=tmp_path / f"{name}.ts", url=url)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "left").mkdir()
    (tmp_path / "use.ts").write_text(
        'import { EchoClient, EchoError } from "./echo.js";\n'
        'import { EndlessClient } from "./endless.js";\n'
        f"const client = new EchoClient({json.dumps(url)}, {{ timeoutMs: 20000 }});\n"
        "const told: string[] = [];\n"
        'for await (const piece of client.stream({ prompt: "a \u2028b" })) told.push(piece.prediction);\n'
        "const codes: string[] = [];\n"
        "const failing = async (ask: AsyncIterable<unknown>) => {\n"
        "  try { for await (const _ of ask) { /* until it fails */ } } catch (failure) {\n"
        "    if (!(failure instanceof EchoError)) throw failure;\n"
        "    codes.push(failure.code);\n"
        "  }\n"
        "};\n"
        'await failing(client.stream({ prompt: "a raise" }, { timeoutMs: 20000 }));\n'
        "await failing(client.stream({ prompt: 1 } as never));\n"
        "await failing(new EchoClient('http://127.0.0.1:1').stream({ prompt: 'a' }));\n"
        f"const endless = new EndlessClient({json.dumps(url)});\n"
        f"for await (const _ of endless.stream({{ prompt: {json.dumps(str(tmp_path / 'left'))} }})) break;\n"
        "console.log(JSON.stringify({ told, codes }));\n"
    )
    strict = ("--strict", "--noUncheckedIndexedAccess", "--exactOptionalPropertyTypes", "--target", "es2022")
    command = [*tsc, *strict, "--module", "nodenext", "--outDir", "out", "use.ts"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    ran = subprocess.run(["node", "out/use.js"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert json.loads(ran.stdout) == {
        "told": ["a ", "b "],
        "codes": ["model_failed", "invalid_request", "server_unreachable"],
    }
    until((tmp_path / "left" / "closed").exists)


# ---------------------------------------------------------------------- keys


def test_answers_end_with_the_key_of_their_caller(tmp_path: Path) -> None:
    home = tmp_path / "home"
    servable.add(f"{FILE}:Endless", name="endless", trust=True, deploy=True, home=home)
    key = servable.create_key("stays", ["predict"], home=home).key
    addresses = {
        "/models/endless/stream": {"input": [str(tmp_path / "own")]},
        "/v2/models/endless/generate_stream": {"text_input": str(tmp_path / "oip")},
    }
    for name in ("own", "oip"):
        (tmp_path / name).mkdir()
    with (
        LocalServer(ServerSettings(home=str(home), port=0, confinement="off")) as server,
        httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"}, timeout=10) as caller,
        ExitStack() as opened,
    ):
        answers = []
        for path, content in addresses.items():
            answer = opened.enter_context(caller.stream("POST", path, json=content))
            assert answer.status_code == 200
            pieces = answer.iter_raw()
            assert next(pieces)
            answers.append(pieces)
        servable.revoke_key("stays", home=home)
        for pieces in answers:
            # It ends without its end.
            with pytest.raises(httpx.RemoteProtocolError):
                deque(pieces, maxlen=0)
        for name in ("own", "oip"):
            until((tmp_path / name / "closed").exists)
