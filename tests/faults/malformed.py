"""Malformed requests by the thousand: ``python malformed.py HOST PORT COUNT SEED RATE``.

They run in a process of their own so that they do not hold up the clients that are measured beside them.

Most are whole HTTP requests whose content is wrong: they share connections, several ahead of their
answers. Some are wrong as HTTP (``ambiguous``): each has a connection to itself. It prints what came
back as one line of JSON, counts by kind and status, and every answer that should not have been.
"""

import asyncio
import contextlib
import gzip
import io
import itertools
import json
import random
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zstandard

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from faults.ambiguous import BODY, VECTORS, Vector
from faults.json_corpus import bodies, cases
from faults.standing_back import stand_back

Address = tuple[str, int]
#: Where a model is asked; and where nothing can be posted.
PREDICT = ("/predict", "/models/iris/predict", "/models/iris/versions/1/predict", "/models/iris:1/predict")
OTHER = ("/", "/healthz", "/readyz", "/metrics", "/models", "/models/iris", "/docs",
    "/openapi.json", "/models/x/predict",
         "/models/iris/versions/99/predict", "/models/iris/versions/x/predict", "/models/%00/predict",
         "/nowhere")  # fmt: skip
_ROW = [5.1, 3.5, 1.4, 0.2]
_ROWS = json.dumps({"inputs": [_ROW] * 5}).encode()
_NAMED = b"""{"input": {"sepal length (cm)": 5.1, "sepal width (cm)": 3.5,
 "petal length (cm)": 1.4, "petal width (cm)": 0.2}}"""
_TOKENS = (
    b"null",
    b"true",
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b":",
    b'"',
    b"1e999",
    b"-",
    b"NaN",
    b"\\",
    b"9" * 400,
    b'"x"',
    b"\xff",
    b"\x00",
)
_AHEAD = 8
_JSON = "application/json"
_SHAPES = ("(0,)", "(-5,)", "(0, 4)", f"({2**63},)", f"({2**62}, 4)", f"(16, {2**60 + 2})",
    f"(4, {2**60 + 2})", "(" + "1, " * 10_000 + ")",
           "(1, 4", "(True,)", "()", "(1e3, 4)")  # fmt: skip


_numbers = itertools.count()


class Shot(NamedTuple):
    """One request.

    Attributes:
        kind: for counting.
        wire: all of it.
        own_id: its request id, which must come back; empty when it names none that a server keeps.
        vector: how to send it when it is wrong as HTTP.
    """

    kind: str
    wire: bytes
    own_id: str = ""
    vector: Vector | None = None


def whole(kind: str, path: str, body: bytes, **headers: str) -> Shot:
    """A request that is right as HTTP."""
    own_id = f"n{next(_numbers)}"
    lines = {
        "host": "localhost",
        "content_type": _JSON,
        "content_length": str(len(body)),
        "x_request_id": own_id,
    }
    lines |= headers
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
    wire = f"POST {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body
    return Shot(kind, wire, "" if "x_request_id" in headers else own_id)


def shots(count: int, seed: int) -> Iterator[Shot]:
    """So many requests, always the same for a seed; small ones often, large ones now and then."""
    choose = random.Random(seed)
    corpus = [(case.kind, body) for case in cases() for body in bodies(case)]
    small = [each for each in corpus if len(each[1]) < 5_000]
    large = [each for each in corpus if len(each[1]) >= 5_000]
    bombs = _bombs()
    for number in range(count):
        part = number % 20
        path = choose.choice(PREDICT)
        if part < 8:
            kind, body = choose.choice(large if number % 400 == 0 else small)
            yield whole(f"json {kind}", path, body)
        elif part < 12:
            yield whole("json mutated", path, _mutated(choose, choose.choice((BODY, _ROWS, _NAMED))))
        elif part < 14:
            yield whole("array", path, _array(choose), content_type="application/x-npy")
        elif part < 15:
            body = choose.randbytes(choose.randrange(100))
            yield whole("raw bytes", path, body, content_type="application/octet-stream")
        elif part < 16:
            yield whole("address", choose.choice(OTHER), choose.choice(small)[1])
        elif part < 17:
            body = choose.choice(bombs) if number % 1_000 == 16 else _packed(choose)
            yield whole("encoding", path, body, content_encoding=choose.choice(_ENCODINGS))
        elif part < 18:
            name = choose.choice(_HEADERS)
            kind = "deadline" if "timeout" in name else "header"
            yield whole(kind, path, BODY, **{name: choose.choice(_VALUES)})
        else:
            vector = choose.choice(VECTORS)
            yield Shot("ambiguous", vector.wire, vector=vector)


_ENCODINGS = (
    "gzip",
    "deflate",
    "zstd",
    "br",
    "gzip, zstd",
    "identity, gzip",
    "",
    "x" * 200,
    "GZIP",
    "identity",
)
_HEADERS = (
    "content_type",
    "x_request_timeout_ms",
    "grpc_timeout",
    "x_request_priority",
    "x_request_id",
    "accept",
    "range",
    "cookie",
)
_VALUES = ("", "x", "0", "-1", "1e9", "9" * 400, "text/html", "application/xml",
    "multipart/form-data; boundary=" + "x" * 5_000, "é", "\x80\xff",
           "5 m", "1H", "99999999n", "bytes=" + "0-1," * 1_000, "application/json; charset=utf-16", "../../x",
           "%00", "'; drop", "a=b" * 500)  # fmt: skip


def _bombs() -> list[bytes]:
    zeros = b"\x00" * (80 << 20)
    return [
        gzip.compress(zeros),
        zlib.compress(zeros),
        zstandard.compress(zeros),
        gzip.compress(gzip.compress(zeros)),
    ]


def _packed(choose: random.Random) -> bytes:
    pack: Any = choose.choice((gzip.compress, zlib.compress, zstandard.compress, bytes))
    return _mutated(choose, pack(BODY))


def _array(choose: random.Random) -> bytes:
    if choose.random() < 0.5:
        kind, shape = choose.choice(("<f8", "<f4", "|O", ">i2", "<U4")), choose.choice(_SHAPES)
        text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
        return (
            b"\x93NUMPY\x01\x00" + min(len(text), 65_535).to_bytes(2, "little") + text + choose.randbytes(32)
        )
    stream = io.BytesIO()
    np.save(stream, np.array([_ROW] * 3, choose.choice(("f8", "f4", "i8", "f2"))))
    return _mutated(choose, stream.getvalue())


def _mutated(choose: random.Random, seed: bytes) -> bytes:
    body = bytearray(seed)
    for _ in range(choose.randrange(1, 5)):
        start = choose.randrange(len(body) + 1)
        end = start + choose.randrange(6)
        change = choose.randrange(5)
        if change == 0:
            body[start:end] = choose.choice(_TOKENS)
        elif change == 1:
            del body[start:end]
        elif change == 2:
            body[start:start] = body[start:end] * choose.randrange(1, 50)
        elif change == 3:
            body[start:end] = choose.randbytes(choose.randrange(1, 5))
        else:
            del body[start:]
    return bytes(body)


# ---------------------------------------------------------------- sending


class Tally:
    """What came back."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []

    def add(self, shot: Shot, status: int, expected: bool) -> None:
        """One answer; status 0 stands for a connection that ended, or waits, without one."""
        self.counts[f"{shot.kind}: {status}"] += 1
        if not expected and len(self.wrong) < 20:
            name = shot.vector.name if shot.vector else shot.kind
            self.wrong.append(f"{name}: {status} for {shot.wire[:300]!r}")


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, str]:
    """The status and the request id of the next answer, read whole."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    status = int(head.split()[1])
    if status < 200:
        return await read_answer(reader)
    length = head.partition("content-length: ")[2].partition("\r\n")[0]
    await reader.readexactly(int(length or 0))
    return status, head.partition("x-request-id: ")[2].partition("\r\n")[0]


async def keep_sending(address: Address, source: Iterator[Shot], tally: Tally) -> None:
    """Whole requests over one connection, several ahead of their answers."""
    streams = None
    waiting: list[Shot] = []
    while True:
        waiting += [shot for _, shot in zip(range(_AHEAD - len(waiting)), source, strict=False)]
        if not waiting:
            break
        try:
            if streams is None:
                streams = await asyncio.open_connection(*address)
            reader, writer = streams
            writer.write(b"".join(shot.wire for shot in waiting))
            while waiting:
                status, own_id = await asyncio.wait_for(read_answer(reader), 30)
                shot = waiting.pop(0)
                # Whoever asks for the impossible in time is told that the time is over.
                fits = 200 <= status < 500 or (shot.kind == "deadline" and status == 504)
                tally.add(shot, status, fits and (not shot.own_id or own_id == shot.own_id))
        except (OSError, asyncio.IncompleteReadError):
            # What the server did not answer any more is sent again; what it closed on is not.
            if streams is not None:
                streams[1].close()
                streams = None
            if waiting:
                tally.add(waiting.pop(0), 0, expected=True)
    if streams is not None:
        streams[1].close()


async def send_alone(address: Address, source: Iterator[Shot], tally: Tally) -> None:
    """Each over a connection to itself, as it is; every answer to it is read."""
    for shot in source:
        vector = shot.vector
        assert vector is not None
        statuses = await volley(address, vector)
        for status in statuses or [0]:
            good = status < 500 and (
                status not in range(200, 300) or statuses.count(status) <= vector.answers
            )
            tally.add(shot, status, good)


async def volley(address: Address, vector: Vector) -> list[int]:
    """The statuses that come back for a vector until the connection ends or nothing more comes."""
    statuses = []
    writer = None
    try:
        reader, writer = await asyncio.open_connection(*address)
        for piece in vector.pieces or (vector.wire,):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if vector.half_close:
            writer.write_eof()
        while True:
            statuses.append((await asyncio.wait_for(read_answer(reader), 0.5))[0])
            if len(statuses) == max(vector.answers, 1) and not vector.half_close:
                # Nothing more should come; the server need not wait to say so.
                writer.write_eof()
    except (OSError, EOFError, TimeoutError, ValueError, IndexError, asyncio.LimitOverrunError):
        return statuses
    finally:
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def paced(source: Iterator[Shot], started: float, rate: float, sent: list[int]) -> Iterator[Shot]:
    """The source, no more than ``rate`` a second of it; the whole process pauses for that. 0: no limit."""
    for shot in source:
        sent[0] += 1
        ahead = started + sent[0] / rate - time.monotonic() if rate else 0
        if ahead > 0.01:
            time.sleep(ahead)
        yield shot


async def flood(address: Address, count: int, seed: int, rate: float = 0.0) -> dict[str, Any]:
    """Send so many and tell what came of them."""
    every = list(shots(count, seed))
    tally = Tally()
    started = time.monotonic()
    sent = [0]
    framed = paced((shot for shot in every if shot.vector is None), started, rate, sent)
    alone = paced((shot for shot in every if shot.vector is not None), started, rate, sent)
    await asyncio.gather(
        *(keep_sending(address, framed, tally) for _ in range(4)),
        *(send_alone(address, alone, tally) for _ in range(8)),
    )
    seconds = time.monotonic() - started
    return {"counts": dict(sorted(tally.counts.items())), "wrong": tally.wrong, "seconds": seconds}


if __name__ == "__main__":
    stand_back()
    host, port, count, seed, rate = sys.argv[1:]
    print(json.dumps(asyncio.run(flood((host, int(port)), int(count), int(seed), float(rate)))), flush=True)
