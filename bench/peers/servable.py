"""Servable as ``servable serve`` starts it, with every safety at its default."""

import json
import sys
from pathlib import Path

from bench.peers.base import BINARY, JSON, Case, Peer
from bench.process import Launch, Wire, free_ports, from_json, write


def serve(
    case: Case, folder: Path, *, workers: int = 1, binary: bool = False, home: Path | None = None
) -> Launch:
    """One server of the home in which the models are deployed.

    Args:
        case: which model is asked; all forms are the same to Servable.
        folder: made for it.
        workers: HTTP processes.
        binary: raw little-endian bytes in place of JSON.
        home: that of the models unless given.
    """
    write(folder, {})
    folder.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    program = Path(sys.executable).with_name("servable")
    home = home or case.model.onnx.parent / "home"
    command = [str(program), "serve", "--home", str(home), "--port", str(port)]
    if workers > 1:
        command += ["--workers", str(workers)]
    return Launch(command, port, wire(case, binary=binary), case.model.expected, folder)


def wire(case: Case, *, binary: bool = False) -> Wire:
    """How Servable is asked for a case."""
    path = f"/models/{case.model.name}/predict"
    if binary:
        return Wire(path, case.raw, BINARY, from_json("prediction"))
    body = json.dumps({"input": case.row}).encode()
    return Wire(path, body, JSON, from_json("prediction"))


def _image(case: Case) -> bool:
    return case.model.image


PEERS = (
    Peer("Servable", lambda case, folder: serve(case, folder, binary=_image(case))),
    Peer("Servable, 2 workers", lambda case, folder: serve(case, folder, workers=2, binary=_image(case))),
    Peer("Servable, JSON", lambda case, folder: serve(case, folder), only=("image",)),
)
