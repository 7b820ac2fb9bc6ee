"""BentoML with adaptive batching; uvicorn takes uvloop because it is installed."""

import base64
import json
from pathlib import Path

from bench.peers.base import BATCH, JSON, Case, Peer, prepared
from bench.process import Launch, Wire, from_json

_SOURCE = """
import base64

import bentoml
import numpy as np
from served import DTYPE, binary, load


@bentoml.service(workers=1, traffic={{"timeout": 60}}, metrics={{"enabled": True}})
class Served:
    def __init__(self):
        self.model = load()

    @bentoml.api(batchable=True, max_batch_size={batch}, max_latency_ms={latency})
    def predict(self, rows: {type}) -> np.ndarray:
        return self.model({given})
"""


def _launch(case: Case, folder: Path) -> Launch:
    image = case.model.image
    source = _SOURCE.format(
        batch=4 if image else BATCH,
        # A request that would take longer is refused.
        latency=30_000 if image else 1000,
        type="list[str]" if image else "np.ndarray",
        given="np.stack([binary(base64.b64decode(row)) for row in rows])"
        if image
        else "np.asarray(rows, dtype=DTYPE)",
    )
    rows = [base64.b64encode(case.raw).decode()] if image else [case.row]
    launch = prepared(
        case,
        folder,
        {"service.py": source},
        environment="bentoml",
        wire=Wire("/predict", json.dumps({"rows": rows}).encode(), JSON, from_json(0)),
        command=lambda programs, port: [
            f"{programs}bentoml",
            "serve",
            "--quiet",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "service:Served",
        ],
    )
    programs = Path(launch.command[0]).parent
    # Its supervisor starts `python` by name; usage figures stay at home.
    return launch._replace(
        environment={
            "PATH": f"{programs}:/usr/bin:/bin",
            "BENTOML_HOME": str(folder / "bentoml"),
            "BENTOML_DO_NOT_TRACK": "True",
        }
    )


PEERS = (Peer("BentoML, adaptive batching", _launch, batches=True),)
