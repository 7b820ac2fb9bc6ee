"""What the peers share: a case to serve, and the module ``served.py`` that each of them imports.

``served.py`` loads the model the case names and answers ``predict(rows) -> answers``; a peer's own source
is then only what its documentation asks for.
"""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench import envs
from bench.models import Model
from bench.process import Launch, Wire, free_ports, from_json, write

#: Most requests in one batch and the seconds to wait for them, where a peer wants to be told.
BATCH = 32
WAIT_S = 0.001
#: HTTP or model processes of peers that run several: the number of cores.
WORKERS = 2
BINARY = "application/octet-stream"
JSON = "application/json"

_SERVED = '''
"""The model that is measured; the same for every server."""
import pickle

import numpy as np

FILE, SHAPE, DTYPE = {file!r}, {shape!r}, np.dtype({dtype!r})


def load():
    """predict(rows): an array [n, ...] to an array [n] or [n, k]."""
    if FILE.endswith(".pkl"):
        with open(FILE, "rb") as file:
            return pickle.load(file).predict
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(FILE, options, providers=["CPUExecutionProvider"])
    given, made = session.get_inputs()[0].name, [session.get_outputs()[0].name]
    return lambda rows: session.run(made, {{given: rows}})[0]


def row(value):
    """One row of nested lists as an array."""
    return np.asarray(value, dtype=DTYPE)


def binary(body):
    """One row of raw little-endian bytes as an array."""
    return np.frombuffer(body, dtype=DTYPE).reshape(SHAPE)
'''


class Case(NamedTuple):
    """One model in one form, asked in one way.

    Attributes:
        model: what is served.
        trained: the fitted object when True, else the ONNX file.
    """

    model: Model
    trained: bool

    @property
    def file(self) -> str:
        """Of the model."""
        return str((self.model.trained if self.trained else self.model.onnx) or "")

    @property
    def row(self) -> Any:
        """The row as nested lists."""
        return self.model.example[0].tolist()

    @property
    def raw(self) -> bytes:
        """The row as little-endian bytes."""
        return self.model.example.tobytes()

    @property
    def shape(self) -> list[int]:
        """Of a row."""
        return list(self.model.example.shape[1:])

    def served(self) -> str:
        """The source of ``served.py``."""
        return _SERVED.format(file=self.file, shape=tuple(self.shape), dtype=self.model.example.dtype.str)


class Peer(NamedTuple):
    """A server in one configuration.

    Attributes:
        name: in the tables.
        launch: prepares a case in a folder.
        batches: whether it batches requests.
        python: whether a Python process reads the HTTP.
        model_server: whether it is a product for serving models, and not a handler written by hand.
        only: the series it appears in; every one when empty.
        fresh: whether it is started anew for each turn, because it is not quiet when idle.
    """

    name: str
    launch: Callable[[Case, Path], Launch]
    batches: bool = False
    python: bool = True
    model_server: bool = True
    only: tuple[str, ...] = ()
    fresh: bool = False


def input_wire(case: Case, path: str = "/predict") -> Wire:
    """What handlers written by hand are asked: ``{"input": row}``, or raw bytes for an image."""
    if case.model.image:
        return Wire(path, case.raw, BINARY, from_json("prediction"))
    return Wire(path, json.dumps({"input": case.row}).encode(), JSON, from_json("prediction"))


def base64_wire(case: Case, path: str = "/predict", key: str = "input") -> Wire:
    """Raw bytes as base64 in JSON, for those that read JSON only."""
    body = json.dumps({key: base64.b64encode(case.raw).decode()}).encode()
    return Wire(path, body, JSON, from_json("prediction"))


def v2_body(case: Case, name: str = "input") -> bytes:
    """A request of the Open Inference Protocol in JSON."""
    datatype = "FP32" if case.model.example.dtype == np.float32 else "FP64"
    tensor = {"name": name, "shape": [1, *case.shape], "datatype": datatype}
    return json.dumps({"inputs": [{**tensor, "data": case.model.example.ravel().tolist()}]}).encode()


def prepared(
    case: Case,
    folder: Path,
    files: dict[str, str | bytes],
    *,
    environment: str,
    wire: Wire,
    command: Callable[[str, int], list[str]],
) -> Launch:
    """A server of a peer's environment.

    Args:
        case: what is served.
        folder: made for it.
        files: written beside ``served.py``.
        environment: its name in ``envs``.
        wire: how it is asked.
        command: from the folder of the environment's programs, with a slash, and the port.

    Raises:
        Unavailable: the environment cannot be made.
    """
    programs = envs.python(environment).parent
    (port,) = free_ports(1)
    write(folder, {"served.py": case.served(), **files})
    return Launch(command(f"{programs}/", port), port, wire, case.model.expected, folder)
