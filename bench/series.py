"""Throughput of every server of one model: all of them up, measured turn by turn, medians of the rounds."""

import contextlib
import pickle
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.envs import OUT, Unavailable
from bench.load import Load, wrk
from bench.models import Model, session
from bench.peers import EVERYONE
from bench.peers.base import Case, Peer
from bench.process import Launch, running

_WARM_S = 1


class Series(NamedTuple):
    """One comparison: its name, what is served, and what stands above its table."""

    name: str
    model: str
    trained: bool
    title: str


SERIES = (
    Series("iris", "iris", True, "Scaler and logistic regression (iris), the fitted object, one row of JSON"),
    Series(
        "forest-trained", "forest", True, "Forest of 200 trees (breast cancer), the fitted object, one row"
    ),
    Series("forest-onnx", "forest", False, "The same forest, everybody serves the same ONNX file, one row"),
    Series(
        "image", "image", False, "Residual network (1x3x224x224 float32), everybody serves the same ONNX file"
    ),
)


def run(
    series: Series, models: dict[str, Model], rounds: int, seconds: float, names: Sequence[str] = ()
) -> dict[str, Any]:
    """Measure one series.

    Args:
        series: which.
        models: by name.
        rounds: how often each server has its turn.
        seconds: of each turn, after a second of warming up before the first.
        names: parts of the names of the peers wanted; all when empty.
    """
    case = Case(models[series.model], series.trained)
    peers = [peer for peer in EVERYONE if _wanted(peer, series, names)]
    launches: dict[str, Launch] = {}
    absent: dict[str, str] = {}
    turns: dict[str, list[Load]] = {}
    with contextlib.ExitStack() as stack:
        for peer in peers:
            try:
                launches[peer.name] = launch = peer.launch(case, _folder(series, peer))
                if not peer.fresh:
                    stack.enter_context(running(launch))
                    wrk(launch.port, launch.wire, _WARM_S)
                    _say(f"{series.name}: {peer.name} is up")
            except Unavailable as error:
                absent[peer.name] = str(error)
                _say(f"{series.name}: {peer.name} is left out: {error}")
        turns["the model alone"] = []
        for _ in range(rounds):
            turns["the model alone"].append(alone(case, seconds))
            for peer in peers:
                if peer.name not in absent:
                    _turn(series, case, peer, launches, absent, turns, seconds)
    return {
        "title": series.title,
        "rows": {name: summary(loads) for name, loads in turns.items() if loads},
        "absent": absent,
        "kinds": {peer.name: _kind(peer) for peer in peers},
        "rounds": rounds,
        "seconds": seconds,
    }


def _wanted(peer: Peer, series: Series, names: Sequence[str]) -> bool:
    if peer.only and series.name not in peer.only:
        return False
    return not names or any(name.lower() in peer.name.lower() for name in names)


def _folder(series: Series, peer: Peer) -> Path:
    word = "".join(letter if letter.isalnum() else "-" for letter in peer.name)
    folder = OUT / "run" / f"{series.name}-{word}"
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def _turn(
    series: Series,
    case: Case,
    peer: Peer,
    launches: dict[str, Launch],
    absent: dict[str, str],
    turns: dict[str, list[Load]],
    seconds: float,
) -> None:
    """One turn of one server, which is started for it when it is not quiet otherwise."""
    launch = launches[peer.name]
    try:
        with contextlib.ExitStack() as stack:
            if peer.fresh:
                launch = peer.launch(case, _folder(series, peer))
                stack.enter_context(running(launch))
                wrk(launch.port, launch.wire, _WARM_S)
            load = wrk(launch.port, launch.wire, seconds)
    except Unavailable as error:
        absent[peer.name] = str(error)
        return
    turns.setdefault(peer.name, []).append(load)
    _say(f"{series.name}: {peer.name}: {load.rate:,.0f}/s, {load.errors} errors")


def alone(case: Case, seconds: float, threads: int = 2) -> Load:
    """The bare session called in a loop on both cores, or the fitted object on one."""
    if case.trained:
        predict = pickle.loads(Path(case.file).read_bytes()).predict
        return _loop([lambda: predict(case.model.example)], seconds)
    bare = session(case.model.onnx)
    made = [bare.get_outputs()[0].name]
    feed = {bare.get_inputs()[0].name: case.model.example}
    return _loop([lambda: bare.run(made, feed)] * threads, seconds)


def _loop(calls: list[Any], seconds: float) -> Load:
    counts = [0] * len(calls)
    calls[0]()
    end = time.perf_counter() + seconds

    def work(position: int) -> None:
        while time.perf_counter() < end:
            calls[position]()
            counts[position] += 1

    threads = [threading.Thread(target=work, args=(position,)) for position in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Load(sum(counts) / seconds, seconds * len(calls) / sum(counts), float("nan"), 0)


def summary(loads: list[Load]) -> dict[str, Any]:
    """Medians, and the spread of the rate."""
    rates = [load.rate for load in loads]
    return {
        "rate": statistics.median(rates),
        "rates": rates,
        "p50": statistics.median(load.p50 for load in loads),
        "p99": statistics.median(load.p99 for load in loads),
        "errors": sum(load.errors for load in loads),
    }


def _kind(peer: Peer) -> dict[str, bool]:
    return {"batches": peer.batches, "python": peer.python, "model_server": peer.model_server}


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
