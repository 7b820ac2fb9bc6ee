"""Triton with its Python backend and dynamic batching; the wheel of nvidia-pytriton carries the server."""

import json
import shutil
import sys
from pathlib import Path

from bench import envs
from bench.peers.base import BATCH, BINARY, JSON, WORKERS, Case, Peer, prepared, v2_body
from bench.process import Launch, Wire, free_ports, from_json

_MODEL = """
import sys

# The stub takes no notice of PYTHONPATH.
sys.path[:0] = [{folder!r}, {packages!r}]
import numpy as np
import triton_python_backend_utils as pb_utils
from served import load


class TritonPythonModel:
    def initialize(self, args):
        self.model = load()

    def execute(self, requests):
        rows = [pb_utils.get_input_tensor_by_name(request, "input").as_numpy() for request in requests]
        found = np.asarray(self.model(np.concatenate(rows) if len(rows) > 1 else rows[0]), np.{numpy})
        found = found.reshape(len(found), -1)
        answers, start = [], 0
        for part in rows:
            mine = pb_utils.Tensor("prediction", found[start : start + len(part)])
            answers.append(pb_utils.InferenceResponse([mine]))
            start += len(part)
        return answers
"""

_CONFIG = """
name: "served"
backend: "python"
max_batch_size: {batch}
input [{{ name: "input", data_type: TYPE_{given}, dims: {shape} }}]
output [{{ name: "prediction", data_type: TYPE_{made}, dims: [{width}] }}]
instance_group [{{ kind: KIND_CPU, count: {instances} }}]
dynamic_batching {{ }}
"""


def _launch(case: Case, folder: Path) -> Launch:
    image = case.model.image
    config = _CONFIG.format(
        batch=4 if image else BATCH,
        given="FP32" if case.model.example.itemsize == 4 else "FP64",
        made="FP32" if image else "INT64",
        shape=case.shape,
        width=len(case.model.expected),
        instances=WORKERS if image else 1,
    )
    packages = next(envs.python("triton").parents[1].glob("lib/python*/site-packages"))
    source = _MODEL.format(folder=str(folder), packages=str(packages), numpy="float32" if image else "int64")
    files: dict[str, str | bytes] = {
        "models/served/1/model.py": source,
        "models/served/config.pbtxt": config,
    }
    grpc, metrics = free_ports(2)
    launch = prepared(
        case,
        folder,
        files,
        environment="triton",
        wire=_binary(case) if image else _json(case),
        command=lambda _, port: [
            str(folder / "tritonserver"),
            "--model-repository=models",
            f"--backend-directory={folder / 'backends'}",
            "--http-address=127.0.0.1",
            f"--http-port={port}",
            f"--grpc-port={grpc}",
            f"--metrics-port={metrics}",
        ],
    )
    _assemble(packages / "pytriton" / "tritonserver", folder)
    libraries = f"{packages / 'nvidia_pytriton.libs'}:{sys.base_prefix}/lib"
    return launch._replace(environment={"LD_LIBRARY_PATH": libraries, "PYTHONHOME": sys.base_prefix})


def _assemble(carried: Path, folder: Path) -> None:
    """The server and its backend; the backend needs the stub of this Python beside it."""
    shutil.copytree(carried / "backends", folder / "backends")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = carried / "python_backend_stubs" / version / "triton_python_backend_stub"
    (folder / "backends" / "python" / stub.name).symlink_to(stub)
    (folder / "tritonserver").symlink_to(carried / "bin" / "tritonserver")


def _json(case: Case) -> Wire:
    return Wire("/v2/models/served/infer", v2_body(case), JSON, from_json("outputs", 0, "data"))


def _binary(case: Case) -> Wire:
    """The binary tensor extension: a JSON header, then raw bytes."""
    tensor = {
        "name": "input",
        "shape": [1, *case.shape],
        "datatype": "FP32",
        "parameters": {"binary_data_size": len(case.raw)},
    }
    head = json.dumps({"inputs": [tensor]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    reader = from_json("outputs", 0, "data")
    return Wire("/v2/models/served/infer", head + case.raw, BINARY, reader, headers)


PEERS = (Peer("Triton, Python backend, batching", _launch, batches=True, python=False),)
