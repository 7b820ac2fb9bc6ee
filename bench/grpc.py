"""gRPC beside REST: ModelInfer of one row, by h2load and by real clients, and the same from grpc.aio.

The three servers take turns in one run. h2load opens no new connection when one retires, so each of its runs
ends before that; the real clients open theirs anew and must not lose a call.
"""

import contextlib
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.envs import OUT
from bench.load import CONNECTIONS, wrk
from bench.models import Model
from bench.peers.base import Case
from bench.peers.servable import serve
from bench.process import free_ports, running
from servable.protocols.oip_messages import messages

#: What is promised.
RATE = 15_000
_METHOD = "/inference.GRPCInferenceService/ModelInfer"
#: Calls on a connection of h2load; fewer than after how many a connection retires.
_CALLS = 1900
#: Processes of real clients, their calls, and how many calls each has running.
_CLIENTS, _ASKED, _AT_ONCE = 2, 10_000, 32
_ROOT = Path(__file__).resolve().parents[1]


def run(models: dict[str, Model], rounds: int, _seconds: float) -> dict[str, Any]:
    """The section: its page, and what it breaks."""
    if shutil.which("h2load") is None:
        raise SystemExit("h2load is not installed; run: make setup-system")
    model = models["iris"]
    launch = serve(Case(model, trained=True), OUT / "run" / "grpc")
    rates: dict[str, list[float]] = {}
    lost = 0
    with tempfile.TemporaryDirectory() as folder, running(launch), _peer(model, Path(folder)) as peer:
        body = Path(folder) / "body"
        body.write_bytes(_message(model))
        framed = Path(folder) / "framed"
        framed.write_bytes(b"\0" + body.stat().st_size.to_bytes(4, "big") + body.read_bytes())
        for _ in range(rounds):
            rates.setdefault("rest", []).append(wrk(launch.port, launch.wire, 3).rate)
            for name, port in (("servable", launch.port), ("grpc.aio", peer)):
                calls = _CALLS if name == "servable" else _CALLS // 4
                rates.setdefault(f"{name} h2load", []).append(_h2load(port, framed, CONNECTIONS, 1, calls))
                rates.setdefault(f"{name} streams", []).append(_h2load(port, framed, 4, 32, calls))
                rate, failed = _clients(port, body)
                rates.setdefault(f"{name} clients", []).append(rate)
                lost += failed
    medians = {name: statistics.median(values) for name, values in rates.items()}
    broken = [] if medians["servable h2load"] >= RATE and not lost else ["grpc"]
    return {"rates": medians, "lost": lost, "page": _page(medians, lost), "broken": broken}


def _message(model: Model) -> bytes:
    row = np.asarray(model.example, np.float64)
    request = messages()["inference.ModelInferRequest"](model_name=model.name)
    request.inputs.add(name="input", datatype="FP64", shape=row.shape)
    request.raw_input_contents.append(row.tobytes())
    return bytes(request.SerializeToString())


@contextlib.contextmanager
def _peer(model: Model, folder: Path) -> Iterator[int]:
    """The server by grpc.aio; gives its port."""
    (port,) = free_ports(1)
    process = _python("bench.grpc_peer", str(port), str(model.onnx))
    try:
        body = folder / "first"
        body.write_bytes(_message(model))
        _client(port, body, 1, 1).wait(60)
        yield port
    finally:
        process.terminate()
        process.wait(15)


def _h2load(port: int, body: Path, connections: int, streams: int, calls: int) -> float:
    """Successful calls a second."""
    command = ["h2load", "-n", str(connections * calls), "-c", str(connections), "-m", str(streams)]
    command += ["-d", str(body), "-H", "content-type: application/grpc", "-H", "te: trailers"]
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{port}{_METHOD}"], check=True, capture_output=True, text=True
    )
    seconds = re.search(r"finished in ([\d.]+)(m?s)", done.stdout)
    good = re.search(r"(\d+) 2xx", done.stdout)
    if seconds is None or good is None:
        raise SystemExit(f"h2load said nothing that can be read:\n{done.stdout}")
    return int(good[1]) / (float(seconds[1]) * (1e-3 if seconds[2] == "ms" else 1.0))


def _client(port: int, body: Path, calls: int, at_once: int) -> "subprocess.Popen[str]":
    return _python("bench.grpc_client", str(port), str(body), str(calls), str(at_once))


def _python(module: str, *words: str) -> "subprocess.Popen[str]":
    # As a module from the checkout: beside this file, ``import grpc`` would find this file.
    return subprocess.Popen(
        [sys.executable, "-m", module, *words], cwd=_ROOT, stdout=subprocess.PIPE, text=True
    )


def _clients(port: int, body: Path) -> tuple[float, int]:
    """Calls a second of all real clients together, and how many were lost."""
    clients = [_client(port, body, _ASKED, _AT_ONCE) for _ in range(_CLIENTS)]
    said = [json.loads(client.communicate(timeout=300)[0]) for client in clients]
    return _CLIENTS * _ASKED / max(each["seconds"] for each in said), sum(each["lost"] for each in said)


def _page(rates: dict[str, float], lost: int) -> str:
    rows = [
        ("REST, JSON: wrk, 32 connections", rates["rest"], None),
        ("gRPC: h2load, 32 connections", rates["servable h2load"], rates["grpc.aio h2load"]),
        ("gRPC: h2load, 4 connections of 32 streams", rates["servable streams"], rates["grpc.aio streams"]),
        ("gRPC: 2 processes of grpcio, 32 calls each", rates["servable clients"], rates["grpc.aio clients"]),
    ]
    lines = [
        f"| {what} | {ours:,.0f} | {f'{theirs:,.0f}' if theirs is not None else ''} |"
        for what, ours, theirs in rows
    ]
    return f"""## gRPC
`python -m bench --only grpc`: `iris`, one row, requests a second on one port. The clients of the last line
are real and compete with the server for the same processors; they lost {lost} calls over all connections
that retired meanwhile.

| what | Servable | grpc.aio |
| --- | ---: | ---: |
{chr(10).join(lines)}"""
