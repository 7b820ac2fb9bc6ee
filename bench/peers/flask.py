"""Flask: the textbook server, by its development server and under gunicorn."""

from pathlib import Path

from bench.peers.base import WORKERS, Case, Peer, input_wire, prepared
from bench.process import Launch

_SOURCE = """
import sys

import numpy as np
from flask import Flask, jsonify, request
from served import binary, load, row

app = Flask(__name__)
predict = load()


@app.route("/predict", methods=["POST"])
def answer():
    given = row(request.get_json()["input"]) if request.is_json else binary(request.get_data())
    return jsonify({"prediction": np.asarray(predict(given[None])[0]).tolist()})


if __name__ == "__main__":
    app.run(port=int(sys.argv[1]))
"""


def _development(case: Case, folder: Path) -> Launch:
    return prepared(
        case,
        folder,
        {"app.py": _SOURCE},
        environment="flask",
        wire=input_wire(case),
        command=lambda programs, port: [f"{programs}python", "app.py", str(port)],
    )


def _gunicorn(case: Case, folder: Path) -> Launch:
    return prepared(
        case,
        folder,
        {"app.py": _SOURCE},
        environment="flask",
        wire=input_wire(case),
        command=lambda programs, port: [
            f"{programs}gunicorn",
            "--workers",
            str(WORKERS),
            "--bind",
            f"127.0.0.1:{port}",
            "app:app",
        ],
    )


PEERS = (
    Peer("Flask, app.run()", _development, model_server=False),
    Peer("Flask, gunicorn of 2", _gunicorn, model_server=False),
)
