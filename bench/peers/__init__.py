"""Every server that is measured, one module each."""

from bench.peers import (
    bentoml,
    fastapi,
    flask,
    floors,
    kserve,
    litserve,
    mlflow,
    mlserver,
    ray_serve,
    servable,
    torchserve,
    triton,
)
from bench.peers.base import Peer

EVERYONE: tuple[Peer, ...] = (
    *servable.PEERS,
    *flask.PEERS,
    *fastapi.PEERS,
    *litserve.PEERS,
    *bentoml.PEERS,
    *mlserver.PEERS,
    *kserve.PEERS,
    *mlflow.PEERS,
    *ray_serve.PEERS,
    *torchserve.PEERS,
    *triton.PEERS,
    *floors.PEERS,
)
