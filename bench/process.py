"""Server processes: started, awaited until they answer rightly, and taken away with all their children."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.envs import Unavailable

_MARK = "SERVABLE_BENCH_RUN"


class Wire(NamedTuple):
    """How one prediction is asked for, and what its answer says.

    Attributes:
        path: of the POST.
        body: of the POST.
        content_type: of the body.
        read: turns the answer's body into a flat list of numbers.
        headers: any others.
    """

    path: str
    body: bytes
    content_type: str
    read: Callable[[bytes], list[float]]
    headers: Mapping[str, str] = {}

    @property
    def all_headers(self) -> dict[str, str]:
        """With the content type."""
        return {"Content-Type": self.content_type, **self.headers}


class Launch(NamedTuple):
    """A server to be started.

    Attributes:
        command: its arguments.
        port: where it will listen.
        wire: how it is asked.
        expected: what it must answer before it is measured.
        folder: its working directory; the log is written there.
        environment: variables beside those of this process.
        ready_s: seconds that it may take to answer rightly.
    """

    command: list[str]
    port: int
    wire: Wire
    expected: list[float]
    folder: Path
    environment: Mapping[str, str] = {}
    ready_s: float = 90.0


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [listening.getsockname()[1] for listening in sockets]


def from_json(*path: str | int) -> Callable[[bytes], list[float]]:
    """A reader of JSON answers: the numbers found at ``path``."""

    def read(body: bytes) -> list[float]:
        found = json.loads(body)
        for step in path:
            found = found[step]
        return np.asarray(found, dtype=float).ravel().tolist()

    return read


def ask(port: int, wire: Wire, timeout: float = 10.0) -> list[float]:
    """One prediction over a connection of its own.

    Raises:
        OSError: nobody answered, or what came was no success.
        Unavailable: a success that does not say what it should.
    """
    connection = HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("POST", wire.path, wire.body, wire.all_headers)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise OSError(f"{answer.status}: {body[:300].decode(errors='replace')}")
    except HTTPException as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
    finally:
        connection.close()
    try:
        return wire.read(body)
    except (ValueError, LookupError, TypeError) as error:
        raise Unavailable(f"its answer cannot be read: {body[:300].decode(errors='replace')}") from error


@contextlib.contextmanager
def running(launch: Launch) -> Iterator[int]:
    """A server process; the context begins when it has answered as expected.

    Raises:
        Unavailable: it did not start or answers something else; with the end of its log.
    """
    launch.folder.mkdir(parents=True, exist_ok=True)
    mark = uuid.uuid4().hex
    surroundings = {**os.environ, "OMP_NUM_THREADS": "1", **launch.environment, _MARK: mark}
    log = launch.folder / "log.txt"
    with log.open("wb") as written:
        process = subprocess.Popen(
            launch.command,
            cwd=launch.folder,
            env=surroundings,
            stdout=written,
            stderr=written,
            start_new_session=True,
        )
    try:
        _await(process, launch, log)
        yield process.pid
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        _remove(mark)
        process.wait()


@contextlib.contextmanager
def stopped(leaders: Sequence[int]) -> Iterator[None]:
    """These processes, and the groups that they lead, do nothing while this is entered."""
    _signal(leaders, signal.SIGSTOP)
    try:
        yield
    finally:
        _signal(leaders, signal.SIGCONT)


def _signal(leaders: Sequence[int], number: signal.Signals) -> None:
    for leader in leaders:
        (os.killpg if os.getpgid(leader) == leader else os.kill)(leader, number)


def _await(process: "subprocess.Popen[bytes]", launch: Launch, log: Path) -> None:
    deadline = time.monotonic() + launch.ready_s
    last = "it never listened"
    while time.monotonic() < deadline and process.poll() is None:
        try:
            got = ask(launch.port, launch.wire)
        except OSError as error:
            last = str(error)
            time.sleep(0.1)
            continue
        if len(got) == len(launch.expected) and np.allclose(got, launch.expected, rtol=1e-3, atol=1e-4):
            return
        raise Unavailable(f"it answered {got[:4]}, not {launch.expected[:4]}")
    end = " ".join(log.read_text(errors="replace").split())[-400:]
    raise Unavailable(f"it did not start in {launch.ready_s:.0f} s ({last}): {end}")


def _remove(mark: str) -> None:
    """End every process that carries the mark, also those that left the group of their parent."""
    wanted = f"{_MARK}={mark}".encode()
    for number, patience in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 10.0)):
        deadline = time.monotonic() + patience
        found = list(_marked(wanted))
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        while found and time.monotonic() < deadline:
            time.sleep(0.05)
            found = list(_marked(wanted))


def _marked(wanted: bytes) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            # Processes of others cannot be read, and any may end between the listing and the reading.
            with contextlib.suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    yield int(entry.name)


def resident_mib(mark_of: int) -> float:
    """MiB resident of one process."""
    status = Path(f"/proc/{mark_of}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


def write(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Files of a server's folder, by relative path."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def numbers(array: Any) -> list[float]:
    """An array as the flat list that answers are compared with."""
    return [float(value) for value in np.asarray(array).ravel()]
