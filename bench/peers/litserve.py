"""LitServe with its batching, one model process; images as base64, as its documentation shows them."""

from pathlib import Path

from bench.peers.base import BATCH, WAIT_S, Case, Peer, base64_wire, input_wire, prepared
from bench.process import Launch

_SOURCE = """
import sys

import base64

import litserve as ls
import numpy as np
from served import binary, load, row


class Api(ls.LitAPI):
    def setup(self, device):
        self.model = load()

    def decode_request(self, request):
        return {decode}

    def batch(self, inputs):
        return np.stack(inputs)

    def predict(self, rows):
        return self.model(rows)

    def unbatch(self, output):
        return list(output)

    def encode_response(self, output):
        return {{"prediction": np.asarray(output).tolist()}}


if __name__ == "__main__":
    api = Api(max_batch_size={batch}, batch_timeout={wait})
    server = ls.LitServer(
        api, accelerator="cpu", workers_per_device={workers}, fast_queue=True, track_requests=False
    )
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        log_level="warning",
        access_log=False,
        generate_client_file=False,
    )
"""


def _launch(case: Case, folder: Path) -> Launch:
    image = case.model.image
    source = _SOURCE.format(
        decode='binary(base64.b64decode(request["input"]))' if image else 'row(request["input"])',
        batch=BATCH if not image else 4,
        wait=WAIT_S,
        workers=2 if image else 1,
    )
    return prepared(
        case,
        folder,
        {"app.py": source},
        environment="litserve",
        wire=base64_wire(case) if image else input_wire(case),
        command=lambda programs, port: [f"{programs}python", "app.py", str(port)],
    )


#: Its processes ask each other for work all the time: a fifth of a processor while nobody asks them.
PEERS = (Peer("LitServe, batching", _launch, batches=True, fresh=True),)
