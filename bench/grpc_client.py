"""A real client of gRPC in a process of its own: python -m bench.grpc_client PORT BODY CALLS AT_ONCE WAY.

The ways are those of grpcio: ``futures`` and ``stream`` by its threads, ``aio`` and ``aio-stream`` by its
event loop; the streams are one ``ModelStreamInfer`` each. It says how long it took, how much processor time
it used itself, and what failed.
"""

import asyncio
import json
import resource
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc.aio

import grpc

_SERVICE = "/inference.GRPCInferenceService/"
METHOD, STREAM = f"{_SERVICE}ModelInfer", f"{_SERVICE}ModelStreamInfer"
#: The first byte of an answer of a stream that holds an error.
_ERROR = 0x0A


class Meter:
    """Takes the time of the calls, and counts those that failed."""

    def __init__(self) -> None:
        self.wrong = 0
        self._seconds = time.perf_counter()
        self._processor = _processor_s()

    def told(self) -> str:
        """Everything since it was made, as JSON."""
        seconds, used = time.perf_counter() - self._seconds, _processor_s() - self._processor
        return json.dumps({"seconds": seconds, "processor": used, "lost": self.wrong})


def _processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def futures(target: str, body: bytes, calls: int, at_once: int) -> str:
    """So many calls, each with a callback, from one thread."""
    places = threading.Semaphore(at_once)
    with grpc.insecure_channel(target) as channel:
        call = channel.unary_unary(METHOD)
        call(body, wait_for_ready=True, timeout=30)
        meter = Meter()

        def ended(call: Any) -> None:
            meter.wrong += call.code() is not grpc.StatusCode.OK
            places.release()

        for _ in range(calls):
            places.acquire()
            call.future(body).add_done_callback(ended)
        for _ in range(at_once):
            places.acquire()
        return meter.told()


def stream(target: str, body: bytes, calls: int, at_once: int) -> str:
    """So many messages on one stream."""
    places = threading.Semaphore(at_once)

    def asked() -> Iterator[bytes]:
        for _ in range(calls):
            places.acquire()
            yield body

    with grpc.insecure_channel(target) as channel:
        channel.unary_unary(METHOD)(body, wait_for_ready=True, timeout=30)
        meter = Meter()
        came = 0
        for answer in channel.stream_stream(STREAM)(asked()):
            came += answer[0] != _ERROR
            places.release()
        meter.wrong = calls - came
        return meter.told()


async def aio(target: str, body: bytes, calls: int, at_once: int) -> str:
    """So many calls by as many coroutines as may run at once."""
    async with grpc.aio.insecure_channel(target) as channel:
        call = channel.unary_unary(METHOD)
        await call(body, wait_for_ready=True, timeout=30)
        meter = Meter()

        async def one_by_one(share: int) -> None:
            for _ in range(share):
                try:
                    await call(body)
                except grpc.aio.AioRpcError:
                    meter.wrong += 1

        await asyncio.gather(*[one_by_one(calls // at_once) for _ in range(at_once)])
        return meter.told()


async def aio_stream(target: str, body: bytes, calls: int, at_once: int) -> str:
    """So many messages on one stream."""
    places = asyncio.Semaphore(at_once)

    async def asked() -> AsyncIterator[bytes]:
        for _ in range(calls):
            await places.acquire()
            yield body

    async with grpc.aio.insecure_channel(target) as channel:
        await channel.unary_unary(METHOD)(body, wait_for_ready=True, timeout=30)
        meter = Meter()
        came = 0
        async for answer in channel.stream_stream(STREAM)(asked()):
            came += answer[0] != _ERROR
            places.release()
        meter.wrong = calls - came
        return meter.told()


WAYS: dict[str, Callable[[str, bytes, int, int], Any]] = {
    "futures": futures,
    "stream": stream,
    "aio": aio,
    "aio-stream": aio_stream,
}


def main(port: str, body: str, calls: str, at_once: str, way: str) -> None:
    """Ask in a way, and say how it went."""
    told = WAYS[way](f"127.0.0.1:{port}", Path(body).read_bytes(), int(calls), int(at_once))
    print(asyncio.run(told) if asyncio.iscoroutine(told) else told)


if __name__ == "__main__":
    main(*sys.argv[1:])
