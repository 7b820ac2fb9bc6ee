# ruff: noqa: A005 - run as bench.http; nothing imports it by a bare name
"""Requests per second over HTTP: this server against the textbook Flask + pickle server of the same model.

    python -m bench.http [--seconds 5] [--rounds 3]

Both servers answer the same single-row JSON to wrk at 32 connections, turn by turn in one run; the
figures are medians of the rounds and only their ratio means anything. The Flask server is what tutorials
show: ``pickle.load`` once, ``model.predict`` per request, started with ``app.run()``; and the same
application under gunicorn with two workers. Flask and gunicorn live in an environment of their own under
``bench/out``, made on the first run.
"""

import argparse
import contextlib
import json
import pickle
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

OUT = Path(__file__).resolve().parent / "out"
CONNECTIONS = 32
WORKERS = 2
PINNED = ("flask==3.1.2", "gunicorn==23.0.0")

_TEXTBOOK = """
import pickle, sys
from flask import Flask, jsonify, request

app = Flask(__name__)
with open({model!r}, "rb") as file:
    model = pickle.load(file)

@app.route("/predict", methods=["POST"])
def predict():
    row = request.get_json()["input"]
    return jsonify({{"prediction": int(model.predict([row])[0])}})

if __name__ == "__main__":
    app.run(port=int(sys.argv[1]))
"""


class Row(NamedTuple):
    """One comparison: requests per second of each server."""

    model: str
    servable: float
    flask: float
    gunicorn: float


def environment() -> Path:
    """The Python of an environment with Flask and gunicorn beside what this one has; made when missing."""
    folder = OUT / "venv"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run(
            [sys.executable, "-m", "venv", "--without-pip", "--system-site-packages", str(folder)], check=True
        )
        # The libraries that made the model must read it too, so they are shared, not installed anew.
        own = next(Path(entry) for entry in sys.path if entry.endswith("site-packages"))
        theirs = next((folder / "lib").glob("python*/site-packages"))
        (theirs / "shared.pth").write_text(f"{own}\n")
        uv = Path(sys.executable).with_name("uv")
        subprocess.run([str(uv), "pip", "install", "--quiet", "--python", str(python), *PINNED], check=True)
        (folder / "ready").touch()
    return python


def models() -> dict[str, tuple[Any, list[float]]]:
    """The fitted models by name, each with one row."""
    from sklearn.datasets import load_breast_cancer, load_iris
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    iris, cancer = load_iris(), load_breast_cancer()
    linear = make_pipeline(StandardScaler(), LogisticRegression()).fit(iris.data, iris.target)
    forest = RandomForestClassifier(200, random_state=0).fit(cancer.data, cancer.target)
    return {
        "iris": (linear, iris.data[0].tolist()),
        "breast-cancer": (forest, cancer.data[0].tolist()),
    }


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def ask(port: int, row: list[float]) -> Any:
    """One prediction."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/predict",
        json.dumps({"input": row}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=5) as response:
        return json.load(response)["prediction"]


@contextlib.contextmanager
def running(command: list[str], port: int, row: list[float], folder: Path) -> Iterator[int]:
    """A server process; the context begins when it has answered the row."""
    with (folder / f"{port}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                ask(port, row)
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(
                        f"{command[:4]} did not start:\n{(folder / f'{port}.log').read_text()}"
                    ) from None
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wrk(port: int, row: list[float], seconds: int, folder: Path) -> float:
    """Requests per second; every answer must be a success."""
    script = folder / "post.lua"
    body = json.dumps({"input": row})
    script.write_text(
        'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\n' + f"wrk.body = '{body}'\n"
    )
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(script)]
    out = subprocess.run(
        [*command, f"http://127.0.0.1:{port}/predict"], check=True, capture_output=True, text=True
    ).stdout
    if "Non-2xx" in out:
        raise SystemExit(f"wrk saw errors:\n{out}")
    found = re.search(r"Requests/sec:\s+([\d.]+)", out)
    if found is None:
        raise SystemExit(f"wrk said nothing that can be read:\n{out}")
    return float(found[1])


def compare(name: str, model: Any, row: list[float], seconds: int, rounds: int) -> Row:
    """All three servers of one model, turn by turn."""
    import servable

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        pickled = folder / "model.pkl"
        pickled.write_bytes(pickle.dumps(model))
        (folder / "textbook.py").write_text(_TEXTBOOK.format(model=str(pickled)))
        servable.add(pickled, name=name, home=folder / "home", trust=True)
        servable.deploy(name, home=folder / "home")
        python = environment()
        ports = [free_port() for _ in range(3)]
        start = f"from servable.engines.local import serve; serve(home='home', port={ports[0]})"
        commands = [
            [sys.executable, "-c", start],
            [str(python), "textbook.py", str(ports[1])],
            [
                str(python),
                "-m",
                "gunicorn",
                "-w",
                str(WORKERS),
                "-b",
                f"127.0.0.1:{ports[2]}",
                "textbook:app",
            ],
        ]
        figures: list[list[float]] = [[], [], []]
        with contextlib.ExitStack() as stack:
            for command, port in zip(commands, ports, strict=True):
                stack.enter_context(running(command, port, row, folder))
            answers = {str(ask(port, row)) for port in ports}
            if len(answers) != 1:
                raise SystemExit(f"the servers do not agree: {answers}")
            for _ in range(rounds):
                for figure, port in zip(figures, ports, strict=True):
                    figure.append(wrk(port, row, seconds, folder))
        return Row(name, *(statistics.median(figure) for figure in figures))


def run(seconds: int = 5, rounds: int = 3) -> list[Row]:
    """Every comparison."""
    return [compare(name, model, row, seconds, rounds) for name, (model, row) in models().items()]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed; run: make setup-system")
    print("requests per second")
    print(f"{'model':<16}{'servable':>12}{'flask':>10}{'ratio':>8}{'gunicorn':>10}{'ratio':>8}")
    for row in run(arguments.seconds, arguments.rounds):
        print(
            f"{row.model:<16}{row.servable:>12,.0f}{row.flask:>10,.0f}{row.servable / row.flask:>7.0f}x"
            f"{row.gunicorn:>10,.0f}{row.servable / row.gunicorn:>7.0f}x"
        )


if __name__ == "__main__":
    main()
