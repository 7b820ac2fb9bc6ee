"""Closed-loop load by wrk: so many connections, each of which asks again as soon as it was answered."""

import contextlib
import re
import subprocess
import tempfile
from collections.abc import Iterator
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


class Counts(NamedTuple):
    """What a load got: answers that were good, and those that were not or did not come."""

    answered: int
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


@contextlib.contextmanager
def load_for(port: int, wire: Wire, seconds: int) -> "Iterator[subprocess.Popen[str]]":
    """A load that has begun and ends after so many seconds, also of those in which it is stopped.

    Args:
        port: where the server listens.
        wire: what is asked.
        seconds: of the clock.
    """
    with tempfile.TemporaryDirectory() as folder:
        address = f"http://127.0.0.1:{port}{wire.path}"
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "30s"]
        command += ["-s", str(_script(wire, Path(folder))), address]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def counts_of(load: "subprocess.Popen[str]", timeout_s: float) -> Counts:
    """What a load got, when it has come to its end.

    Raises:
        subprocess.TimeoutExpired: it has not come to it.
    """
    total, wrong, lost = _counted(load.communicate(timeout=timeout_s)[0])
    return Counts(total - wrong, wrong + lost)


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
    if rate is None:
        raise _unread(text)
    total, wrong, lost = _counted(text)
    good = 1 - wrong / max(1, total)
    return Load(float(rate[1]) * good, _percentile(text, "50"), _percentile(text, "99"), wrong + lost)


def _counted(text: str) -> tuple[int, int, int]:
    """Answers, those of them that were errors, and what was not answered."""
    total = re.search(r"(\d+) requests in", text)
    if total is None:
        raise _unread(text)
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    lost = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    return int(total[1]), int(failed[1]) if failed else 0, sum(map(int, lost.groups())) if lost else 0


def _unread(text: str) -> SystemExit:
    return SystemExit(f"wrk said nothing that can be read:\n{text}")


def _percentile(text: str, name: str) -> float:
    found = re.search(rf"\s{name}%\s+([\d.]+)(us|ms|s|m)\b", text)
    return float(found[1]) * _SCALES[found[2]] if found else float("nan")
