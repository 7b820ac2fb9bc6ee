"""gRPC beside REST: ModelInfer of one row, by h2load and by real clients, and the same from grpc.aio.

The servers take turns in one run. h2load opens no new connection when one retires, so each of its runs ends
before that; the real clients open theirs anew and must not lose a call. Beside rates it takes the processor
time of server and clients for a call: on two cores the clients leave to the server what they do not need.

The real clients also ask nghttpd, a server in C that answers every call with the same file: what they reach
there is the most that they can ask on this machine, whatever answers.
"""

import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.envs import OUT
from bench.grpc_client import WAYS
from bench.load import CONNECTIONS, wrk
from bench.models import Model
from bench.peers.base import Case
from bench.peers.servable import serve
from bench.process import Launch, free_ports, running
from servable.protocols.oip_messages import messages

#: What is promised.
RATE = 15_000
_METHOD = "/inference.GRPCInferenceService/ModelInfer"
#: Calls on a connection of h2load; fewer than after how many a connection retires.
_CALLS = 1900
#: Processes of real clients, their calls, and how many calls each has running.
_CLIENTS, _ASKED, _AT_ONCE = 2, 9_600, 32
_ROOT = Path(__file__).resolve().parents[1]
_MICROSECONDS = 1e6
#: What ``grpc.aio`` and nghttpd are asked by: they have no streams here.
_UNARY = ("futures", "aio")
_SAID = {
    "futures": "futures",
    "aio": "`grpc.aio`",
    "stream": "one `ModelStreamInfer` each",
    "aio-stream": "one `ModelStreamInfer` each, `grpc.aio`",
}


class Measured(NamedTuple):
    """One run, or the medians of several.

    Attributes:
        rate: calls a second.
        server: microseconds of processor time of the server for a call.
        clients: the same of the clients; 0 where nobody asks.
        lost: calls that failed.
    """

    rate: float
    server: float
    clients: float = 0.0
    lost: int = 0


def run(models: dict[str, Model], rounds: int, _seconds: float) -> dict[str, Any]:
    """The section: its page, and what it breaks."""
    for tool in ("h2load", "nghttpd"):
        if shutil.which(tool) is None:
            raise SystemExit(f"{tool} is not installed; run: make setup-system")
    model = models["iris"]
    launch = serve(Case(model, trained=True), OUT / "run" / "grpc")
    runs: dict[str, list[Measured]] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        running(launch) as own,
        _peer(model, Path(folder)) as (port, process),
        _fixed(model, Path(folder)) as fixed,
    ):
        body = Path(folder) / "body"
        body.write_bytes(_message(model))
        framed = Path(folder) / "framed"
        framed.write_bytes(b"\0" + body.stat().st_size.to_bytes(4, "big") + body.read_bytes())
        for _ in range(rounds):
            runs.setdefault("rest", []).append(_rest(launch, own))
            for name, server in (("servable", (launch.port, own)), ("grpc.aio", (port, process))):
                calls = _CALLS if name == "servable" else _CALLS // 4
                runs.setdefault(f"{name} h2load", []).append(_h2load(server, framed, CONNECTIONS, 1, calls))
                runs.setdefault(f"{name} streams", []).append(_h2load(server, framed, 4, 32, calls))
                for way in WAYS if name == "servable" else _UNARY:
                    runs.setdefault(f"{name} {way}", []).append(_clients(server, body, way))
            for way in _UNARY:
                runs.setdefault(f"fixed {way}", []).append(_clients(fixed, body, way))
    medians = {name: _median(each) for name, each in runs.items()}
    lost = sum(each.lost for name, each in medians.items() if name.startswith("servable"))
    broken = [] if medians["servable h2load"].rate >= RATE and not lost else ["grpc"]
    return {
        "rates": {name: each._asdict() for name, each in medians.items()},
        "lost": lost,
        "page": _page(medians, lost),
        "broken": broken,
    }


def _median(runs: list[Measured]) -> Measured:
    """The medians of each figure, and all calls that were lost."""
    rates, servers, clients, lost = zip(*runs, strict=True)
    return Measured(
        statistics.median(rates), statistics.median(servers), statistics.median(clients), sum(lost)
    )


def _processor_s(pid: int) -> float:
    """Seconds of processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rest(launch: Launch, own: int) -> Measured:
    before = _processor_s(own)
    seconds = 3.0
    rate = wrk(launch.port, launch.wire, seconds).rate
    return Measured(rate, (_processor_s(own) - before) / (rate * seconds) * _MICROSECONDS)


def _message(model: Model) -> bytes:
    row = np.asarray(model.example, np.float64)
    request = messages()["inference.ModelInferRequest"](model_name=model.name)
    request.inputs.add(name="input", datatype="FP64", shape=row.shape)
    request.raw_input_contents.append(row.tobytes())
    return bytes(request.SerializeToString())


@contextlib.contextmanager
def _peer(model: Model, folder: Path) -> Iterator[tuple[int, int]]:
    """The server by grpc.aio; gives its port and its process."""
    (port,) = free_ports(1)
    with _answering(model, folder, port, _python("bench.grpc_peer", str(port), str(model.onnx))) as server:
        yield server


@contextlib.contextmanager
def _fixed(model: Model, folder: Path) -> Iterator[tuple[int, int]]:
    """nghttpd, which answers with one message of the same form; gives its port and its process."""
    answer = messages()["inference.ModelInferResponse"](model_name=model.name, model_version="1")
    answer.outputs.add(name="prediction", datatype="INT64", shape=[1])
    answer.raw_output_contents.append(bytes(8))
    content = answer.SerializeToString()
    file = folder / "fixed" / _METHOD[1:]
    file.parent.mkdir(parents=True)
    file.write_bytes(b"\0" + len(content).to_bytes(4, "big") + content)
    (port,) = free_ports(1)
    command = ["nghttpd", "--no-tls", "--address=127.0.0.1", "--workers=1", "--trailer=grpc-status: 0"]
    process = subprocess.Popen(
        [*command, f"--htdocs={folder / 'fixed'}", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with _answering(model, folder, port, process) as server:
        yield server


@contextlib.contextmanager
def _answering(
    model: Model, folder: Path, port: int, process: "subprocess.Popen[str]"
) -> Iterator[tuple[int, int]]:
    """A server that was started, from its first answer on; gives its port and its process, and ends it."""
    try:
        body = folder / "first"
        body.write_bytes(_message(model))
        _client(port, body, 1, 1, "futures").wait(60)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(15)


def _h2load(server: tuple[int, int], body: Path, connections: int, streams: int, calls: int) -> Measured:
    """Successful calls, of a server's port and process."""
    port, pid = server
    before = _processor_s(pid)
    command = ["h2load", "-n", str(connections * calls), "-c", str(connections), "-m", str(streams)]
    command += ["-d", str(body), "-H", "content-type: application/grpc", "-H", "te: trailers"]
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{port}{_METHOD}"], check=True, capture_output=True, text=True
    )
    seconds = re.search(r"finished in ([\d.]+)(m?s)", done.stdout)
    good = re.search(r"(\d+) 2xx", done.stdout)
    if seconds is None or good is None:
        raise SystemExit(f"h2load said nothing that can be read:\n{done.stdout}")
    rate = int(good[1]) / (float(seconds[1]) * (1e-3 if seconds[2] == "ms" else 1.0))
    return Measured(rate, (_processor_s(pid) - before) / int(good[1]) * _MICROSECONDS)


def _client(port: int, body: Path, calls: int, at_once: int, way: str) -> "subprocess.Popen[str]":
    return _python("bench.grpc_client", str(port), str(body), str(calls), str(at_once), way)


def _python(module: str, *words: str) -> "subprocess.Popen[str]":
    # As a module from the checkout: beside this file, ``import grpc`` would find this file.
    return subprocess.Popen(
        [sys.executable, "-m", module, *words], cwd=_ROOT, stdout=subprocess.PIPE, text=True
    )


def _clients(server: tuple[int, int], body: Path, way: str) -> Measured:
    """All real clients together."""
    port, pid = server
    before = _processor_s(pid)
    clients = [_client(port, body, _ASKED, _AT_ONCE, way) for _ in range(_CLIENTS)]
    said = [json.loads(client.communicate(timeout=300)[0]) for client in clients]
    calls = _CLIENTS * _ASKED
    return Measured(
        calls / max(each["seconds"] for each in said),
        (_processor_s(pid) - before) / calls * _MICROSECONDS,
        sum(each["processor"] for each in said) / calls * _MICROSECONDS,
        sum(each["lost"] for each in said),
    )


def _page(found: dict[str, Measured], lost: int) -> str:
    rows = [
        ("REST, JSON: wrk, 32 connections", found["rest"], None),
        ("gRPC: h2load, 32 connections", found["servable h2load"], found["grpc.aio h2load"]),
        ("gRPC: h2load, 4 connections of 32 streams", found["servable streams"], found["grpc.aio streams"]),
        *(
            (f"gRPC: {_CLIENTS} processes of grpcio, {_AT_ONCE} calls each: {_SAID[way]}",
             found[f"servable {way}"], found.get(f"grpc.aio {way}"))
            for way in WAYS
        ),
    ]  # fmt: skip
    most = "; ".join(_of_the_most(found, way) for way in _UNARY)
    lines = [f"| {what} | {_cells(ours)} | {_cells(theirs)} |" for what, ours, theirs in rows]
    return f"""## gRPC
`python -m bench --only grpc`: `iris`, one row, requests a second on one port, and microseconds of processor
time for a call. grpcio's clients are real and compete with the server for the same processors, so that their
rate is what both of them together cost; they lost {lost} calls over all connections that retired meanwhile.
The most that they can ask on this machine, of nghttpd with one fixed answer: {most}.

| what | Servable | its server | its clients | grpc.aio | its server | its clients |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
{chr(10).join(lines)}"""


def _of_the_most(found: dict[str, Measured], way: str) -> str:
    most, ours = found[f"fixed {way}"], found[f"servable {way}"]
    return (
        f"{_SAID[way]} {most.rate:,.0f} ({most.clients:,.0f} us of the clients, {most.server:,.0f} us of the "
        f"server), of which Servable reaches {ours.rate / most.rate:.0%}"
    )


def _cells(found: Measured | None) -> str:
    if found is None:
        return " | | "
    clients = f"{found.clients:,.0f} us" if found.clients else ""
    return f"{found.rate:,.0f} | {found.server:,.0f} us | {clients}"
