"""Slow and broken clients, in a process of their own: heads and bodies byte by byte, readers that never read.

python -m bench.slow PORT PATH COUNT
"""

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench.openloop import request
from bench.process import Wire

#: Seconds between the bytes of a slow client.
_PACE_S = 1.0
#: Rows of a request whose answer is more than the buffers of a connection hold.
_ROWS = 2000
#: Seconds until the server has answered what can be answered and only slowness is left.
_SETTLE_S = 4.0


@contextlib.contextmanager
def slow_clients(port: int, wire: Wire, count: int) -> Iterator[int]:
    """So many of them in one process, whose number this gives, as long as the context lasts.

    It begins when all are connected.
    """
    command = [sys.executable, "-m", "bench.slow", str(port), wire.path, str(count)]
    root = Path(__file__).resolve().parents[1]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root, text=True)
    if process.stdin is None or process.stdout is None:
        raise SystemExit("the slow clients have no pipes")
    try:
        process.stdin.write(wire.body.hex() + "\n")
        process.stdin.flush()
        process.stdout.readline()
        time.sleep(_SETTLE_S)
        yield process.pid
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


class _Client:
    """One slow client: sends its bytes one at a time, and begins anew when it was dropped."""

    def __init__(self, port: int, content: bytes, at_once: int) -> None:
        self._port = port
        self._content = content
        self._at_once = at_once
        self._begin()

    def _begin(self) -> None:
        self._socket = socket.socket()
        # A reader that never reads fills its buffer soon.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        self._position = self._at_once
        with contextlib.suppress(OSError):
            self._socket.connect(("127.0.0.1", self._port))
            self._socket.setblocking(False)
            first = self._content[: self._at_once]
            sent = self._socket.send(first)
            # The rest of a large request follows when the server takes more.
            self._position = sent

    def step(self) -> None:
        """One byte more."""
        try:
            if self._position >= len(self._content):
                # It only does not read; a byte more would begin another request.
                self._socket.getpeername()
                return
            size = 1 if self._position >= self._at_once else self._at_once - self._position
            self._position += self._socket.send(self._content[self._position : self._position + size])
        except BlockingIOError:
            return
        except OSError:
            self._socket.close()
            self._begin()


def main() -> None:
    """Connect all, say so on standard output, then drip until killed."""
    # In the world they are on other machines: here they take only what the server and the clients that
    # are measured leave of the processors.
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    port, path, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    body = bytes.fromhex(sys.stdin.readline().strip())
    content = request(Wire(path, body, "application/json", lambda _: []))
    head = content.index(b"\r\n\r\n") + 4
    row = json.loads(body)["input"]
    large = request(
        Wire(path, json.dumps({"inputs": [row] * _ROWS}).encode(), "application/json", lambda _: [])
    )
    # By turns: the head drips; the head is whole and the body drips; a large answer that is never read.
    kinds = [(content, 1), (content, head), (large, len(large))]
    clients = [_Client(port, *kinds[number % len(kinds)]) for number in range(count)]
    print("connected", flush=True)
    position = 0
    due = time.monotonic()
    while True:
        # Clients that know nothing of each other: their bytes come at any time, one by one.
        due += random.expovariate(len(clients) / _PACE_S)
        time.sleep(max(due - time.monotonic(), 0.0))
        clients[position].step()
        position = (position + 1) % len(clients)


if __name__ == "__main__":
    main()
