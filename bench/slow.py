"""Slow and broken clients, in a process of their own: heads and bodies byte by byte, readers that never read.

python -m bench.slow PORT PATH COUNT
"""

import contextlib
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


@contextlib.contextmanager
def slow_clients(port: int, wire: Wire, count: int) -> Iterator[None]:
    """So many of them, as long as the context lasts; it begins when all are connected."""
    command = [sys.executable, "-m", "bench.slow", str(port), wire.path, str(count)]
    root = Path(__file__).resolve().parents[1]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root, text=True)
    if process.stdin is None or process.stdout is None:
        raise SystemExit("the slow clients have no pipes")
    try:
        process.stdin.write(wire.body.hex() + "\n")
        process.stdin.flush()
        process.stdout.readline()
        yield
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
            self._socket.send(self._content[: self._at_once])

    def step(self) -> None:
        """One byte more."""
        try:
            self._socket.send(self._content[self._position : self._position + 1] or b"x")
            self._position += 1
        except BlockingIOError:
            return
        except OSError:
            self._socket.close()
            self._begin()


def main() -> None:
    """Connect all, say so on standard output, then drip until killed."""
    port, path, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    body = bytes.fromhex(sys.stdin.readline().strip())
    content = request(Wire(path, body, "application/json", lambda _: []))
    head = content.index(b"\r\n\r\n") + 4
    # By turns: the head drips; the head is whole and the body drips; hundreds of requests and no reading.
    kinds = [(content, 1), (content, head), (content * 200, len(content) * 200)]
    clients = [_Client(port, *kinds[number % len(kinds)]) for number in range(count)]
    print("connected", flush=True)
    position = 0
    while True:
        # Spread over the pace, so that they do not wake together.
        time.sleep(_PACE_S / len(clients) * 10)
        for _ in range(10):
            clients[position].step()
            position = (position + 1) % len(clients)


if __name__ == "__main__":
    main()
