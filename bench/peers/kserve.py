"""KServe: the Python model server of its SDK, which has no batching of its own."""

import json
from pathlib import Path

from bench.peers.base import JSON, WORKERS, Case, Peer, prepared
from bench.process import Launch, Wire, from_json

_SOURCE = """
import sys

import numpy as np
from kserve import Model, ModelServer
from served import DTYPE, load


class Served(Model):
    def __init__(self, name):
        super().__init__(name)
        self.load()

    def load(self):
        self.predictor = load()
        self.ready = True
        return True

    # The server hands the model to its worker processes by pickle, which no session survives.
    def __getstate__(self):
        return {{key: value for key, value in self.__dict__.items() if key != "predictor"}}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.load()

    def predict(self, payload, headers=None):
        rows = np.asarray(payload["instances"], dtype=DTYPE)
        return {{"predictions": np.asarray(self.predictor(rows)).tolist()}}


if __name__ == "__main__":
    server = ModelServer(
        http_port=int(sys.argv[1]), workers={workers}, enable_grpc=False, enable_latency_logging=False
    )
    server.start([Served("served")])
"""


def _launch(case: Case, folder: Path) -> Launch:
    body = json.dumps({"instances": [case.row]}).encode()
    return prepared(
        case,
        folder,
        {"app.py": _SOURCE.format(workers=WORKERS)},
        environment="kserve",
        wire=Wire("/v1/models/served:predict", body, JSON, from_json("predictions")),
        command=lambda programs, port: [f"{programs}python", "app.py", str(port)],
    )


#: Its two workers keep three quarters of a processor busy while nobody asks them.
PEERS = (Peer("KServe, 2 workers", _launch, fresh=True),)
