"""Answering every row of a file: ``servable score`` against posting the rows one by one."""

import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import servable
from bench.envs import OUT
from bench.load import wrk
from bench.models import Model
from bench.process import Launch, Wire, free_ports, running, write

#: Rows of the files, and of those how many the model learns from.
ROWS, LEARNT = 1_000_000, 20_000
_FORMS = ("csv", "jsonl", "parquet")
#: The two ways that a promise compares.
SCORED, ONE_BY_ONE = "servable score, csv", "wrk, one row a request, 1 connection"


def run(_models: dict[str, Model], rounds: int, seconds: float) -> dict[str, Any]:
    """Rows a second of every way to have a file answered, each in turn.

    Args:
        _models: not needed; this one learns from a table of its own.
        rounds: how often each way has its turn.
        seconds: of a turn that has no end of its own.
    """
    folder = OUT / "run" / "score"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    people = census(ROWS)
    home = folder / "home"
    learnt = people.head(LEARNT)
    servable.train(
        learnt, target="income", name="census", model="lightgbm", time_budget_s=5, home=home, deploy=True
    )
    rows = people.drop(columns="income")
    files = _files(rows, folder)
    launch, expected = _server(rows, home, folder)
    ways: dict[str, list[float]] = {}
    with running(launch):
        wrk(launch.port, launch.wire, 1)
        for _ in range(rounds):
            for form, file in files.items():
                rate = _scored(file, folder / f"out.{form}", home)
                ways.setdefault(f"servable score, {form}", []).append(rate)
            ways.setdefault("the library client, one row a request", []).append(
                _posted(launch.port, rows, seconds)
            )
            for connections in (1, 32):
                name = f"wrk, one row a request, {connections} connection{'s' if connections > 1 else ''}"
                ways.setdefault(name, []).append(wrk(launch.port, launch.wire, seconds, connections).rate)
            for name, rates in ways.items():
                print(f"score: {name}: {rates[-1]:,.0f} rows/s", file=sys.stderr, flush=True)
    _same(folder / "out.csv", expected)
    return {
        "rows": ROWS,
        "columns": rows.shape[1],
        "rates": ways,
        "medians": {name: statistics.median(rates) for name, rates in ways.items()},
        "rounds": rounds,
        "seconds": seconds,
    }


def census(rows: int) -> pd.DataFrame:
    """People as a census knows them: six numbers, eight categories, and whether they earn much."""
    random = np.random.default_rng(0)
    numbers = {
        "age": random.integers(17, 90, rows),
        "weight": random.integers(12_000, 1_480_000, rows),
        "schooling": random.integers(1, 17, rows),
        "gain": np.where(random.random(rows) < 0.08, random.integers(100, 99_999, rows), 0),
        "loss": np.where(random.random(rows) < 0.05, random.integers(150, 4_356, rows), 0),
        "hours": np.clip(random.normal(40, 12, rows).round(), 1, 99).astype(int),
    }
    sizes = {
        "work": 8,
        "education": 16,
        "status": 7,
        "job": 14,
        "relation": 6,
        "origin": 5,
        "sex": 2,
        "country": 41,
    }
    words = {
        name: np.array([f"{name}-{place}" for place in range(size)])[random.integers(0, size, rows)]
        for name, size in sizes.items()
    }
    wealth = numbers["schooling"] / 4 + numbers["hours"] / 20 + numbers["gain"] / 20_000 + numbers["age"] / 40
    wealth = wealth + random.normal(0, 1, rows) + (words["status"] == "status-1")
    return pd.DataFrame({**numbers, **words, "income": np.where(wealth > 7, "much", "little")})


def _files(rows: pd.DataFrame, folder: Path) -> dict[str, Path]:
    files = {form: folder / f"people.{form}" for form in _FORMS}
    rows.to_csv(files["csv"], index=False)
    rows.to_json(files["jsonl"], orient="records", lines=True)
    rows.to_parquet(files["parquet"], index=False)
    return files


def _server(rows: pd.DataFrame, home: Path, folder: Path) -> tuple[Launch, list[str]]:
    """The server that the rows are posted to, and what it answers to the first thousand."""
    (port,) = free_ports(1)
    program = Path(sys.executable).with_name("servable")
    write(folder / "server", {})
    first = json.loads(rows.head(1).to_json(orient="records"))[0]
    wire = Wire(
        "/models/census/predict",
        json.dumps({"input": first}).encode(),
        "application/json",
        lambda body: list(json.loads(body)["probabilities"].values()),
    )
    command = [str(program), "serve", "--home", str(home), "--port", str(port)]
    asked = Launch(command, port, wire, [], folder / "server")
    with servable.serve(home=home, background=True, port=0) as server, servable.Client(server.url) as client:
        answered = client.predict("census", json.loads(rows.head(1000).to_json(orient="records")))
        single = client.predict("census", first)
    chances = list((single.probabilities or {}).values())
    return asked._replace(expected=chances), [str(label) for label in answered.predictions]


def _scored(file: Path, output: Path, home: Path) -> float:
    """Rows a second of the whole command, the start of Python and the load of the model included."""
    program = Path(sys.executable).with_name("servable")
    command = [str(program), "score", "census", str(file), "--output", str(output), "--home", str(home)]
    started = time.perf_counter()
    subprocess.run([*command, "--overwrite", "--json"], check=True, capture_output=True)
    return ROWS / (time.perf_counter() - started)


def _posted(port: int, rows: pd.DataFrame, seconds: float) -> float:
    bodies = json.loads(rows.head(20_000).to_json(orient="records"))
    with servable.Client(f"http://127.0.0.1:{port}") as client:
        client.predict("census", bodies[0])
        count, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            client.predict("census", bodies[count % len(bodies)])
            count += 1
        return count / (time.perf_counter() - started)


def _same(output: Path, expected: list[str]) -> None:
    found = pd.read_csv(output, nrows=len(expected))["prediction"].tolist()
    if found != expected:
        raise SystemExit("servable score and the server answer differently")
