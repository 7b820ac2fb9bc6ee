"""Asking a real server over HTTP and gRPC, and looking at its processes."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import np_to_triton_dtype


def over_http(url: str, name: str, rows: list[Any]) -> dict[str, Any]:
    """The native answer to rows."""
    answer = httpx.post(f"{url}/models/{name}/predict", json={"inputs": rows}, timeout=300)
    assert answer.status_code == 200, answer.text[:500]
    body: dict[str, Any] = answer.json()
    return body


def over_grpc(url: str, name: str, tensors: dict[str, Any], output: str) -> Any:
    """One output of the Open Inference Protocol over gRPC."""
    given = []
    for key, array in tensors.items():
        tensor = triton.InferInput(key, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array)
        given.append(tensor)
    with triton.InferenceServerClient(urlsplit(url).netloc) as client:
        return np.asarray(client.infer(name, given).as_numpy(output))


def maps_of(url: str) -> dict[int, str]:
    """What is mapped into the memory of a server's process and of its children, by process id."""
    port = str(urlsplit(url).port)
    parents: dict[int, int] = {}
    found: set[int] = set()
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if b"--port" in words and port.encode() in words and int(entry.name) != os.getpid():
            found.add(int(entry.name))
    for _ in range(3):
        found |= {pid for pid, parent in parents.items() if parent in found}
    return {pid: Path(f"/proc/{pid}/maps").read_text() for pid in found}
