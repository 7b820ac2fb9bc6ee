"""Clients that drip or stall, for as long as this process lives: ``python slow_clients.py HOST PORT COUNT``.

They run in a process of their own so that they do not hold up the clients that are measured beside them.
"""

import asyncio
import contextlib
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from faults.standing_back import stand_back

Address = tuple[str, int]
HEAD = b"POST /models/iris/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n"
LARGE = b"GET /docs/static/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
#: What is sent first, and what drips after it: a request line, headers, a body.
DRIPS = ((b"", b"G"), (HEAD, b"x: y\r\n"), (HEAD + b"\r\n", b"x"))


async def drip(address: Address, first: bytes, piece: bytes, every_s: float) -> tuple[float, bytes]:
    """Send slowly until the server ends it; seconds until then, and what it said."""
    started = time.monotonic()
    reader, writer = await asyncio.open_connection(*address)
    said = asyncio.ensure_future(reader.read(4096))
    try:
        writer.write(first)
        while not said.done():
            writer.write(piece)
            await writer.drain()
            await asyncio.wait([said], timeout=every_s)
        return time.monotonic() - started, said.result()
    except OSError:
        return time.monotonic() - started, b""
    finally:
        said.cancel()
        writer.close()


async def stall(address: Address, requests: int) -> float:
    """Ask for large answers and read nothing; seconds until the server ends it."""
    started = time.monotonic()
    loop = asyncio.get_running_loop()
    gone = loop.create_future()

    class Deaf(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            transport.pause_reading()
            transport.write(LARGE * requests)

        def connection_lost(self, exc: Exception | None) -> None:
            if not gone.done():
                gone.set_result(None)

    transport, _ = await loop.create_connection(Deaf, *address)
    while not gone.done():
        # A paused transport notices the end only when it writes.
        transport.write(b"\r\n")
        await asyncio.wait([gone], timeout=0.25)
    return time.monotonic() - started


async def for_ever(address: Address, number: int) -> None:
    """One slow client after another, of the kind that the number says."""
    while True:
        with contextlib.suppress(OSError):
            if number % 4 == 3:
                await stall(address, 60)
            else:
                await drip(address, *DRIPS[number % 4], 1.0)
        await asyncio.sleep(0.1)


async def main(host: str, port: int, count: int) -> None:
    """All of them; says ``ready`` when every one has begun."""
    tasks = []
    for number in range(count):
        tasks.append(asyncio.ensure_future(for_ever((host, port), number)))
        await asyncio.sleep(0.002)
    print("ready", flush=True)
    await asyncio.gather(*tasks)


if __name__ == "__main__":
    stand_back()
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
