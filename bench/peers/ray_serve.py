"""Ray Serve with batching: its own proxy, and the HAProxy that its high-throughput mode puts in front."""

from pathlib import Path

from bench.peers.base import BATCH, WAIT_S, Case, Peer, input_wire, prepared
from bench.process import Launch

_SOURCE = """
import shutil
import signal
import sys

import numpy as np
import ray
from ray import serve
from served import binary, load, row


@serve.deployment(num_replicas={replicas}, max_ongoing_requests=200, ray_actor_options={{"num_cpus": 0.5}})
class Served:
    def __init__(self):
        self.predictor = load()

    @serve.batch(max_batch_size={batch}, batch_wait_timeout_s={wait})
    async def batched(self, rows):
        return list(self.predictor(np.stack(rows)))

    async def __call__(self, request):
        if request.headers["content-type"] == "application/octet-stream":
            given = binary(await request.body())
        else:
            given = row((await request.json())["input"])
        return {{"prediction": np.asarray(await self.batched(given)).tolist()}}


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=sys.argv[2])
    serve.start(http_options={{"host": "127.0.0.1", "port": int(sys.argv[1]), "access_log": False}})
    serve.run(Served.options(logging_config={{"enable_access_log": False}}).bind(), route_prefix="/predict")
    signal.sigwait([signal.SIGTERM, signal.SIGINT])
    serve.shutdown()
    ray.shutdown()
    shutil.rmtree(sys.argv[2], ignore_errors=True)
"""


def _launch(case: Case, folder: Path, *, haproxy: bool) -> Launch:
    image = case.model.image
    source = _SOURCE.format(batch=4 if image else BATCH, wait=WAIT_S, replicas=2 if image else 1)
    launch = prepared(
        case,
        folder,
        {"app.py": source},
        environment="ray",
        wire=input_wire(case),
        command=lambda programs, port: [
            f"{programs}python",
            "app.py",
            str(port),
            f"/tmp/servable-bench-{port}",  # paths of its sockets must be short
        ],
    )
    fast = {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"} if haproxy else {}
    return launch._replace(
        environment={"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(folder), **fast}, ready_s=120
    )


PEERS = (
    Peer(
        "Ray Serve, batching",
        lambda case, folder: _launch(case, folder, haproxy=False),
        batches=True,
        only=("iris",),
        fresh=True,
    ),
    Peer(
        "Ray Serve behind HAProxy, batching",
        lambda case, folder: _launch(case, folder, haproxy=True),
        batches=True,
        fresh=True,
    ),
)
