"""Open-loop load: requests leave at fixed times, whatever has become of the earlier ones.

Latency counts from the moment a request was due, so that a server that stalls pays for every request
that it kept from being sent (no coordinated omission). One process, raw non-blocking sockets and epoll;
it says itself how late it was (``lag_p99``), and a run in which it was late is no measurement.

    python -m bench.openloop    # what the generator sustains against a fixed answer
"""

import argparse
import contextlib
import gc
import select
import socket
import time
from collections import deque
from typing import Any, NamedTuple

import numpy as np

from bench.process import Wire

#: Keep-alive connections at most; each carries one request at a time.
POOL = 3000
#: Requests sent without looking for answers.
_BURST = 32
#: Bytes of an answer among which its headers are.
_HEAD = 1024
_EVENTS = select.EPOLLIN
#: Seconds between connecting and the first request.
_SETTLE_S = 0.02


class Open(NamedTuple):
    """What became of the requests of one run; times in seconds.

    Attributes:
        offered: requests per second that were due.
        good: requests per second answered with 200 within the deadline, of those due once queues had filled.
        refused: share answered with 503.
        expired: share answered with 504.
        failed: share answered otherwise or not at all.
        p50: of those answered with 200, from when each was due.
        p99: likewise.
        refused_p50: from when a refused request was sent to its answer.
        refused_p99: likewise.
        lag_p99: how late the generator sent requests for which a connection was free.
        latencies: of all those answered with 200, from when each was due.
    """

    offered: float
    good: float
    refused: float
    expired: float
    failed: float
    p50: float
    p99: float
    refused_p50: float
    refused_p99: float
    lag_p99: float
    latencies: tuple[float, ...] = ()


class _Connection:
    """One socket and the request on it."""

    __slots__ = ("buffer", "due", "number", "sent", "socket")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.number = self.socket.fileno()
        self.buffer = b""
        self.due = 0.0
        self.sent = 0.0


def request(wire: Wire, extra: dict[str, str] | None = None) -> bytes:
    """The bytes of one request."""
    headers = {
        "Host": "127.0.0.1",
        **wire.all_headers,
        **(extra or {}),
        "Content-Length": str(len(wire.body)),
    }
    lines = [f"POST {wire.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + wire.body


class Generator:
    """One run.

    Args:
        port: of the server.
        content: the bytes of each request.
        rate: requests per second.
        seconds: during which requests become due.
        spin: never sleep; exact to microseconds, for the price of a core.
        connections: opened before the run; more follow when all are busy.
    """

    def __init__(
        self,
        port: int,
        content: bytes,
        *,
        rate: float,
        seconds: float,
        spin: bool = False,
        connections: int = 64,
    ) -> None:
        self._port = port
        self._content = content
        self._rate = rate
        self._seconds = seconds
        self._spin = spin
        self._poll = select.epoll()
        self._open: dict[int, _Connection] = {}
        self._free: deque[_Connection] = deque()
        self._waiting: deque[float] = deque()
        self._lags: list[tuple[float, float]] = []
        self._start = 0.0
        #: Status, seconds since it was due and since it was sent, and when it was due.
        self._done: list[tuple[int, float, float, float]] = []
        for _ in range(connections):
            self._connect()

    def run(self, deadline: float = 1.0, patience: float = 10.0) -> Open:
        """Send everything, wait for the rest, and count.

        Args:
            deadline: an answer after so many seconds is not good.
            patience: seconds to wait for answers after the last request was due.
        """
        self._carry_out(patience)
        # Queues fill at first, which does not belong to what a server sustains.
        return self._count(min(1.0, self._seconds / 3), self._seconds, deadline)

    def run_windows(self, width: float, deadline: float = 1.0, patience: float = 10.0) -> list[Open]:
        """Send everything, wait for the rest, and count by windows of when requests were due.

        The load goes on from one window to the next, so that none of them begins with new connections and
        a server that had nothing to do; what is left before the first whole one is not counted.

        Args:
            width: seconds of a window.
            deadline: as for ``run``.
            patience: as for ``run``.
        """
        self._carry_out(patience)
        count = int(self._seconds / width)
        lead = self._seconds - count * width
        return [
            self._count(start, start + width, deadline)
            for start in (lead + number * width for number in range(count))
        ]

    def _carry_out(self, patience: float) -> None:
        due = np.arange(int(self._rate * self._seconds)) / self._rate
        # The server has accepted every connection before the first request is due.
        time.sleep(_SETTLE_S)
        gc.collect()
        gc.disable()
        try:
            self._drive(due.tolist(), patience)
        finally:
            gc.enable()
            for connection in self._open.values():
                connection.socket.close()
            self._poll.close()

    def _drive(self, due: list[float], patience: float) -> None:
        clock, position = time.perf_counter, 0
        self._start = start = clock()
        total, end = len(due), due[-1] + patience
        while len(self._done) < total:
            now = clock() - start
            # A late generator reads answers between its bursts, so that connections come back.
            burst = min(total, position + _BURST)
            while position < burst and due[position] <= now:
                self._send(due[position] + start)
                position += 1
            for number, _ in self._poll.poll(0):
                self._receive(self._open[number])
            if now > end:
                return
            if not self._spin and len(self._done) < total:
                # As long as nothing is due and nothing comes, without taking the processor from the server.
                left = (due[position] if position < total else end) - (clock() - start)
                select.select([self._poll], [], [], max(left, 0.0))

    def _connect(self) -> None:
        connection = _Connection(self._port)
        self._open[connection.number] = connection
        self._poll.register(connection.number, _EVENTS)
        self._free.append(connection)

    def _send(self, due: float) -> None:
        if not self._free and len(self._open) < POOL:
            with contextlib.suppress(OSError):
                self._connect()
        if not self._free:
            self._waiting.append(due)
            return
        # The last one used first: its memory is warm on both sides.
        connection = self._free.pop()
        connection.due = due
        connection.sent = time.perf_counter()
        self._lags.append((due - self._start, connection.sent - due))
        try:
            sent = connection.socket.send(self._content)
            if sent < len(self._content):
                connection.socket.setblocking(True)
                connection.socket.sendall(self._content[sent:])
                connection.socket.setblocking(False)
        except OSError:
            self._lost(connection)

    def _receive(self, connection: _Connection) -> None:
        try:
            data = connection.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lost(connection)
            return
        connection.buffer = data = connection.buffer + data if connection.buffer else data
        if not whole(data):
            return
        connection.buffer = b""
        now = time.perf_counter()
        due = connection.due
        self._done.append((int(data[9:12]), now - due, now - connection.sent, due - self._start))
        connection.due = 0.0
        if b"connection: close" in data[:_HEAD].lower():
            self._remove(connection)
        else:
            self._free.append(connection)
        if self._waiting:
            self._send(self._waiting.popleft())

    def _lost(self, connection: _Connection) -> None:
        if connection.due:
            self._done.append((0, 0.0, 0.0, connection.due - self._start))
        elif connection in self._free:
            self._free.remove(connection)
        self._remove(connection)

    def _remove(self, connection: _Connection) -> None:
        self._poll.unregister(connection.number)
        del self._open[connection.number]
        connection.socket.close()

    def _count(self, start: float, end: float, deadline: float) -> Open:
        """What became of those that were due between two moments of the run, in seconds from its start."""
        due = np.arange(int(self._rate * self._seconds)) / self._rate
        total = int(((due >= start) & (due < end)).sum())
        done = np.array(self._done, dtype=float).reshape(-1, 4)
        done = done[(done[:, 3] >= start) & (done[:, 3] < end)]
        lags = np.array(self._lags, dtype=float).reshape(-1, 2)
        lags = lags[(lags[:, 0] >= start) & (lags[:, 0] < end)]
        statuses, latencies, answers, _ = done.T
        good, refused, expired = statuses == 200, statuses == 503, statuses == 504
        return Open(
            offered=self._rate,
            good=float((good & (latencies <= deadline)).sum()) / (end - start),
            refused=float(refused.sum()) / total,
            expired=float(expired.sum()) / total,
            failed=1 - float((good | refused | expired).sum()) / total,
            p50=_percentile(latencies[good], 50),
            p99=_percentile(latencies[good], 99),
            refused_p50=_percentile(answers[refused], 50),
            refused_p99=_percentile(answers[refused], 99),
            lag_p99=_percentile(lags[:, 1], 99),
            latencies=tuple(latencies[good].tolist()),
        )


def whole(data: bytes) -> bool:
    """Whether an answer has arrived to its end."""
    head = data.find(b"\r\n\r\n")
    return head >= 0 and len(data) >= head + 4 + _length(data, head)


def _length(data: bytes, head: int) -> int:
    """The length of the body that the head announces."""
    found = data.find(b"ontent-", 0, head)
    while found >= 0:
        if data[found + 7 : found + 14].lower() == b"length:":
            return int(data[found + 14 : data.find(b"\r\n", found)])
        found = data.find(b"ontent-", found + 7, head)
    return 0


def _percentile(values: "np.ndarray[Any, Any]", which: float) -> float:
    return float(np.percentile(values, which)) if len(values) else float("nan")


def main() -> None:
    """Say what the generator sustains against a given server's GET-free fixed answer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--rates", type=float, nargs="+", default=[10_000, 20_000, 30_000, 40_000])
    arguments = parser.parse_args()
    wire = Wire("/predict", b'{"input": [5.1, 3.5, 1.4, 0.2]}', "application/json", lambda _: [])
    for rate in arguments.rates:
        print(Generator(arguments.port, request(wire), rate=rate, seconds=2, spin=True).run())


if __name__ == "__main__":
    main()
