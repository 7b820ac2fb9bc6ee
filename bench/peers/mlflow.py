"""MLflow: its scoring server under two uvicorn workers, which take uvloop because it is installed."""

import json
import subprocess
from pathlib import Path

from bench import envs
from bench.envs import Unavailable
from bench.peers.base import JSON, WORKERS, Case, Peer, prepared
from bench.process import Launch, Wire, from_json, write

_OWN = """
import sys

sys.path.insert(0, {folder!r})
import mlflow
import numpy as np
from served import DTYPE, load


class Served(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        self.predictor = load()

    def predict(self, context, model_input, params=None):
        return self.predictor(np.asarray(model_input, dtype=DTYPE))


mlflow.models.set_model(Served())
"""

_SAVE = """
import pickle
import sys

import mlflow

if sys.argv[1].endswith(".pkl"):
    with open(sys.argv[1], "rb") as file:
        mlflow.sklearn.save_model(pickle.load(file), "model", serialization_format="cloudpickle")
else:
    mlflow.pyfunc.save_model("model", python_model="own.py")
"""


def _launch(case: Case, folder: Path) -> Launch:
    python = envs.python("mlflow")
    files = {"own.py": _OWN.format(folder=str(folder)), "save.py": _SAVE, "served.py": case.served()}
    write(folder, files)
    saved = subprocess.run(
        [python, "save.py", case.file], cwd=folder, capture_output=True, text=True, check=False
    )
    if saved.returncode:
        raise Unavailable(f"the model was not saved: {saved.stderr[-300:]}")
    launch = prepared(
        case,
        folder,
        {},
        environment="mlflow",
        wire=Wire(
            "/invocations", json.dumps({"inputs": [case.row]}).encode(), JSON, from_json("predictions")
        ),
        command=lambda programs, port: [
            f"{programs}mlflow",
            "models",
            "serve",
            "--model-uri",
            "model",
            "--env-manager",
            "local",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--workers",
            str(WORKERS),
        ],
    )
    return launch._replace(environment={"PATH": f"{python.parent}:/usr/bin:/bin"})


PEERS = (Peer("MLflow, 2 workers", _launch),)
