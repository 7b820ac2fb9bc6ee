"""TorchServe: a Java front end, and a handler with batching in one Python worker."""

import json
import shutil
import subprocess
from pathlib import Path

from bench import envs
from bench.envs import Unavailable
from bench.peers.base import BATCH, BINARY, JSON, Case, Peer, prepared
from bench.process import Launch, Wire, free_ports, from_json, write

_HANDLER = """
import json

import numpy as np
from served import binary, load, row


class Handler:
    def initialize(self, context):
        self.model = load()

    def handle(self, data, context):
        bodies = [item.get("body") or item.get("data") for item in data]
        rows = [row(body["input"]) if isinstance(body, dict) else binary(body) for body in bodies]
        return [{"prediction": np.asarray(found).tolist()} for found in self.model(np.stack(rows))]
"""


def _launch(case: Case, folder: Path) -> Launch:
    if shutil.which("java") is None:
        raise Unavailable("it needs Java, which is not installed")
    programs = envs.python("torchserve").parent
    write(folder, {"handler.py": _HANDLER, "served.py": case.served()})
    archive = [
        f"{programs}/torch-model-archiver",
        "--model-name",
        "served",
        "--version",
        "1.0",
        "--handler",
        "handler.py",
        "--extra-files",
        "served.py",
        "--export-path",
        ".",
        "--force",
    ]
    done = subprocess.run(archive, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"the archive was not made: {done.stderr[-300:]}")
    image = case.model.image
    wire = Wire(
        "/predictions/served",
        case.raw if image else json.dumps({"input": case.row}).encode(),
        BINARY if image else JSON,
        from_json("prediction"),
    )
    launch = prepared(
        case,
        folder,
        {},
        environment="torchserve",
        wire=wire,
        command=lambda programs, _: [
            f"{programs}torchserve",
            "--start",
            "--foreground",
            "--model-store",
            ".",
            "--models",
            "served=served.mar",
            "--ts-config",
            "config.properties",
            "--disable-token-auth",
        ],
    )
    (folder / "config.properties").write_text(_properties(launch.port, image))
    surroundings = {"PATH": f"{programs}:/usr/bin:/bin", "LOG_LOCATION": str(folder)}
    return launch._replace(environment={**surroundings, "METRICS_LOCATION": str(folder)})


def _properties(port: int, image: bool) -> str:
    management, metrics = free_ports(2)
    workers = 2 if image else 1
    model = {
        "defaultVersion": True,
        "marName": "served.mar",
        "minWorkers": workers,
        "maxWorkers": workers,
        "batchSize": 4 if image else BATCH,
        "maxBatchDelay": 0,
    }
    lines = [
        f"inference_address=http://127.0.0.1:{port}",
        f"management_address=http://127.0.0.1:{management}",
        f"metrics_address=http://127.0.0.1:{metrics}",
        "job_queue_size=1000",
        "install_py_dep_per_model=false",
        f"models={json.dumps({'served': {'1.0': model}})}",
    ]
    return "\n".join(lines) + "\n"


PEERS = (Peer("TorchServe, batching", _launch, batches=True, python=False),)
