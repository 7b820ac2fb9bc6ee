"""A real client of gRPC in a process of its own: python -m bench.grpc_client PORT BODY CALLS AT_ONCE."""

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import grpc

METHOD = "/inference.GRPCInferenceService/ModelInfer"


def main(port: int, body: bytes, calls: int, at_once: int) -> None:
    """Ask so often, and say how long it took and what failed."""
    places = threading.Semaphore(at_once)
    wrong: list[str] = []

    def ended(call: Any) -> None:
        if call.code() is not grpc.StatusCode.OK:
            wrong.append(str(call.code()))
        places.release()

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(METHOD)
        call(body, wait_for_ready=True, timeout=30)
        started = time.perf_counter()
        for _ in range(calls):
            places.acquire()
            call.future(body).add_done_callback(ended)
        for _ in range(at_once):
            places.acquire()
        print(json.dumps({"seconds": time.perf_counter() - started, "lost": len(wrong)}))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]).read_bytes(), int(sys.argv[3]), int(sys.argv[4]))
