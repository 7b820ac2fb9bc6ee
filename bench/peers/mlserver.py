"""MLServer with adaptive batching: its scikit-learn runtime, and a runtime of one's own for ONNX."""

import json
from pathlib import Path

from bench.peers.base import BATCH, JSON, Case, Peer, prepared, v2_body
from bench.process import Launch, Wire, free_ports, from_json

_OWN = """
import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse
from served import DTYPE, load


class Served(MLModel):
    async def load(self):
        self.predictor = load()
        return True

    async def predict(self, payload):
        rows = NumpyCodec.decode_input(payload.inputs[0]).astype(DTYPE, copy=False)
        found = np.asarray(self.predictor(rows))
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output("predict", found)]
        )
"""


def _launch(case: Case, folder: Path) -> Launch:
    settings = {
        "name": "served",
        "implementation": "mlserver_sklearn.SKLearnModel" if case.trained else "runtime.Served",
        "parameters": {"uri": case.file},
        "max_batch_size": 4 if case.model.image else BATCH,
        "max_batch_time": 0.005,
    }
    grpc, metrics = free_ports(2)
    wire = Wire("/v2/models/served/infer", v2_body(case, "predict"), JSON, from_json("outputs", 0, "data"))
    launch = prepared(
        case,
        folder,
        {"runtime.py": _OWN, "model-settings.json": json.dumps(settings)},
        environment="mlserver",
        wire=wire,
        command=lambda programs, _: [f"{programs}mlserver", "start", "."],
    )
    server = {
        "host": "127.0.0.1",
        "http_port": launch.port,
        "grpc_port": grpc,
        "metrics_port": metrics,
        "parallel_workers": 1,
        "debug": False,
    }
    (folder / "settings.json").write_text(json.dumps(server))
    return launch._replace(environment={"PYTHONPATH": str(folder)})


PEERS = (Peer("MLServer, adaptive batching", _launch, batches=True),)
