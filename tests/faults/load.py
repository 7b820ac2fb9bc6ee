"""A real server in a process of its own, and clients that speak to it over raw sockets.

The clients keep their connections open, measure every answer, and count what came. They are written
for tests that break things: they never retry, so nothing that fails is hidden.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

_SERVE = """
import json, sys
from servable.engines.local import serve
if __name__ == "__main__":
    serve(on_ready=lambda url: print(url, flush=True), log_level="error", **json.loads(sys.argv[1]))
"""


class Served(NamedTuple):
    """A running server."""

    url: str
    process: subprocess.Popen[str]

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 0

    def resident(self) -> int:
        """Bytes of memory that the server process and its children hold."""
        return sum(resident(pid) for pid in family(self.process.pid))


@contextlib.contextmanager
def serving(home: Path, **settings: Any) -> Iterator[Served]:
    """A server over a home; stopped with SIGTERM, which must end it with status 0."""
    options = json.dumps({"home": str(home), "port": 0, **settings})
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", _SERVE, options], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert url.startswith("http://"), f"the server did not start: {url!r}"
            yield Served(url, process)
            assert process.poll() is None, f"the server ended by itself with {process.returncode}"
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                status = process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        assert status == 0, f"the server ended with {status}"


def family(pid: int) -> list[int]:
    """A process and everything below it."""
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return list(dict.fromkeys(found))


def resident(pid: int) -> int:
    """Bytes of memory that a process holds; 0 when it is gone."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


class Answer(NamedTuple):
    """What came back, and after how many seconds; status 0 when the connection ended first."""

    status: int
    body: bytes
    seconds: float
    headers: Mapping[str, str] = {}

    def json(self) -> Any:
        """The body's content."""
        return json.loads(self.body)


class Client:
    """One keep-alive connection, opened again when the server has closed it between two requests."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, content: Any, **headers: str) -> Answer:
        """POST a JSON value or bytes."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return await self.ask("POST", path, body, **headers)

    async def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """One request; names of headers are written with underscores."""
        lines = {"host": "localhost", "content-type": "application/json", "content-length": str(len(body))}
        lines |= {name.replace("_", "-"): value for name, value in headers.items()}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        started = time.perf_counter()
        try:
            if self._streams is None or self._streams[0].at_eof():
                self._streams = await asyncio.open_connection(*self._address)
            reader, writer = self._streams
            writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
            return await self._read(reader, started)
        except (OSError, asyncio.IncompleteReadError, ValueError):
            self.close()
            return Answer(0, b"", time.perf_counter() - started)

    async def _read(self, reader: asyncio.StreamReader, started: float) -> Answer:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        if headers.get("connection") == "close":
            self.close()
        return Answer(int(head[0].split()[1]), body, time.perf_counter() - started, headers)

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._streams is not None:
            writer = self._streams[1]
            self.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def close(self) -> None:
        """End the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class Load:
    """Clients that send requests at a steady rate, or as fast as they are answered.

    Args:
        address: of the server.
        make: the next request: path and content.
        clients: connections.
        per_second: all of them together; None for as fast as possible.
    """

    def __init__(
        self,
        address: tuple[str, int],
        make: Callable[[], tuple[str, Any]],
        *,
        clients: int = 4,
        per_second: float | None = None,
    ) -> None:
        self._address = address
        self._make = make
        self._clients = clients
        self._pause = clients / per_second if per_second else 0.0
        self._stop = asyncio.Event()
        self.seconds: list[float] = []
        self.statuses: Counter[int] = Counter()
        self.unexpected: list[Answer] = []

    async def run(self) -> None:
        """Until ``stop``."""
        await asyncio.gather(*(self._one(index) for index in range(self._clients)))

    def stop(self) -> None:
        """Every client ends after its present request."""
        self._stop.set()

    async def _one(self, index: int) -> None:
        async with Client(self._address) as client:
            await self._send(client, index)

    async def _send(self, client: Client, index: int) -> None:
        due = time.perf_counter() + self._pause * index / self._clients
        while not self._stop.is_set():
            if self._pause:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), max(0.0, due - time.perf_counter()))
                due += self._pause
            path, content = self._make()
            answer = await client.post(path, content)
            self.statuses[answer.status] += 1
            self.seconds.append(answer.seconds)
            if answer.status != 200 and len(self.unexpected) < 20:
                self.unexpected.append(answer)

    async def during(self, seconds: float) -> "Load":
        """Run for so long."""
        running = asyncio.ensure_future(self.run())
        await asyncio.sleep(seconds)
        self.stop()
        await running
        return self


def percentile(values: list[float], share: float) -> float:
    """The value below which this share lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
