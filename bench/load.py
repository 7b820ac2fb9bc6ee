"""Closed-loop load by wrk: so many connections, each of which asks again as soon as it was answered."""

import re
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from bench.process import Wire

CONNECTIONS = 32
_SCALES = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


class Load(NamedTuple):
    """What wrk saw: requests per second of successes, and seconds at the 50th and 99th percentile."""

    rate: float
    p50: float
    p99: float
    errors: int


def wrk(
    port: int, wire: Wire | None, seconds: float, connections: int = CONNECTIONS, path: str = "/"
) -> Load:
    """Load one server.

    Args:
        port: where it listens.
        wire: what is asked; None for a GET of ``path``.
        seconds: of the run; whole ones.
        connections: kept alive.
        path: of the GET.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency"]
        if wire is not None:
            path = wire.path
            command += ["-s", str(_script(wire, Path(folder)))]
        done = subprocess.run(
            [*command, "--timeout", "30s", f"http://127.0.0.1:{port}{path}"],
            check=True,
            capture_output=True,
            text=True,
        )
    return _read(done.stdout)


def _script(wire: Wire, folder: Path) -> Path:
    """The body is read from a file, because an image is no Lua literal."""
    body = folder / "body"
    body.write_bytes(wire.body)
    lines = ['wrk.method = "POST"', f'local file = io.open("{body}", "rb")', 'wrk.body = file:read("*a")']
    lines += [f'wrk.headers["{name}"] = "{value}"' for name, value in wire.all_headers.items()]
    script = folder / "post.lua"
    script.write_text("\n".join(lines))
    return script


def _read(text: str) -> Load:
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    total = re.search(r"(\d+) requests in", text)
    if rate is None or total is None:
        raise SystemExit(f"wrk said nothing that can be read:\n{text}")
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    lost = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    wrong = int(failed[1]) if failed else 0
    errors = wrong + (sum(int(count) for count in lost.groups()) if lost else 0)
    good = 1 - wrong / max(1, int(total[1]))
    return Load(float(rate[1]) * good, _percentile(text, "50"), _percentile(text, "99"), errors)


def _percentile(text: str, name: str) -> float:
    found = re.search(rf"\s{name}%\s+([\d.]+)(us|ms|s|m)\b", text)
    return float(found[1]) * _SCALES[found[2]] if found else float("nan")
