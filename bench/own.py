"""Servable against itself: latency over the bare model, the process executor, overload, slow clients.

Everything is a ratio or a difference within one run, with the parts in turn.
"""

import contextlib
import http.client
import math
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import servable
from bench.envs import OUT
from bench.load import wrk
from bench.models import Model, session
from bench.openloop import Generator, Open, request, whole
from bench.paired import in_turn, paired
from bench.peers import floors
from bench.peers.base import Case
from bench.peers.servable import serve
from bench.process import Launch, Wire, running, stopped
from bench.quiet import Windows, apart, windows
from bench.slow import slow_clients

#: Times the capacity offered in the overload run.
OVERLOADS = (1.0, 2.0, 5.0, 10.0)
#: Seconds a caller is willing to wait in the overload run.
DEADLINE_S = 1.0
#: Turns of an overload run in each round, and seconds of one at least: a few dozen answers a second, given
#: in batches, say little in less, and what a shared machine can do differs by a third between two turns.
_TURNS, _TURN_S = 3, 3.0
#: Seconds of one window of a tail, and windows in each round. The host of a virtual machine gives a processor
#: away for a whole slice of 4 ms now and then; one such slice is the p99 of a second, and shows in one
#: window of many when they are short.
_WINDOW_S, _WINDOWS = 0.25, 12
#: Turns in each round where the times of single calls are compared.
PAIRS = 50
#: Windows of a turn where two servers are compared: together they last a second, in which a machine that is
#: fast for some seconds and slow for others seldom changes.
_IN_TURN = 4
#: The part of an open loop that is answered in time where a server keeps up with it.
_SUSTAINED = 0.98
#: Slow clients beside the normal load, and the part of the capacity that the normal load is.
SLOW, BESIDE = 1000, 0.3


def latency(models: dict[str, Model], rounds: int, seconds: float) -> dict[str, Any]:
    """One client, one row; and the tail at half of the capacity.

    Returns:
        Microseconds at p50 of the bare model call, an empty answer, and a prediction; what the prediction
        costs over both; an open loop at half of what it reaches, and the same load on a fixed answer.
    """
    launch = _server(models["iris"], "latency", trained=True)
    with running(launch) as server:
        wrk(launch.port, launch.wire, 1)
        calls = {
            "bare": _bare(models["iris"]),
            "empty": caller(launch.port, None),
            "prediction": caller(launch.port, launch.wire),
        }
        parts = in_turn(calls, rounds * PAIRS)
        closed = statistics.median(wrk(launch.port, launch.wire, seconds).rate for _ in range(rounds))
        # Not awake: the server hardly sleeps at this rate, and a process that keeps its processor busy
        # between two requests costs it a change of page tables each time.
        with apart(server):
            # Callers that do not wait for each other meet in smaller batches than those of a closed loop, so
            # the capacity for them is the most of this very load that is answered as fast as it comes.
            capacity = statistics.median(_sustained(launch, closed, seconds / 4) for _ in range(rounds))
        half, fixed = _tails((launch, server), _fixed_answer(models["iris"]), capacity / 2, rounds)
    over = [
        prediction - bare - empty
        for bare, empty, prediction in zip(parts["bare"], parts["empty"], parts["prediction"], strict=True)
    ]
    return {
        **{name: statistics.median(values) * 1e6 for name, values in parts.items()},
        "over": statistics.median(over) * 1e6,
        "capacity": capacity,
        "closed": closed,
        "half": _middle(half.kept),
        "tail": _tail(half),
        "fixed": _middle(fixed.kept),
        "fixed_tail": _tail(fixed),
        "windows": len(half.kept),
        "set_aside": half.set_aside,
        "rounds": rounds,
        "seconds": seconds,
    }


def process(models: dict[str, Model], rounds: int, seconds: float) -> dict[str, Any]:
    """The process executor with one child against the inline one: p50 of one client, and throughput."""
    launches = {
        kind: _server(models["iris"], f"process-{kind}", trained=True, home=home(models, "iris", kind))
        for kind in ("inline", "process")
    }
    with contextlib.ExitStack() as stack:
        for launch in launches.values():
            stack.enter_context(running(launch))
        calls = {kind: caller(launch.port, launch.wire) for kind, launch in launches.items()}
        p50s = in_turn(calls, rounds * PAIRS)
        told = paired(launches, rounds, seconds)
    micro = {kind: statistics.median(values) * 1e6 for kind, values in p50s.items()}
    over = [one - other for one, other in zip(p50s["process"], p50s["inline"], strict=True)]
    rates = {f"{kind}_rate": statistics.median(values) for kind, values in told.rates.items()}
    return {**micro, "over": statistics.median(over) * 1e6, **rates, "rounds": rounds, "seconds": seconds}


def overload(models: dict[str, Model], rounds: int, seconds: float) -> dict[str, Any]:
    """Goodput of a model of known cost at several times its capacity, each caller with a deadline."""
    rounds, seconds = rounds * _TURNS, max(seconds, _TURN_S)
    launch = _server(models["slow"], "overload", home=home(models, "slow", "thread"))
    headers = {"X-Request-Timeout-Ms": str(int(DEADLINE_S * 1000))}
    turns: list[tuple[float, float, Open]] = []
    with running(launch):
        wrk(launch.port, launch.wire, 2)
        before = wrk(launch.port, launch.wire, seconds / 2).rate
        for turn in range(rounds):
            for times in OVERLOADS[:: 1 if turn % 2 == 0 else -1]:
                found = _open(launch, before * times, seconds, headers=headers)
                time.sleep(0.5)
                after = wrk(launch.port, launch.wire, seconds / 2).rate
                turns.append((times, (before + after) / 2, found))
                _say(f"overload {times}x of {before:.1f} to {after:.1f}: {found}")
                before = after
        floor = _fixed_answer(models["iris"])
        with running(floor):
            left = _left(launch, floor, before * max(OVERLOADS), seconds, rounds // _TURNS)
    # What a shared machine can do changes within a minute, so that each turn is held against the capacity
    # just before and after it.
    capacity = statistics.median(found for _, found, _ in turns)
    runs: dict[float, list[Open]] = {times: [] for times in OVERLOADS}
    for times, then, found in turns:
        runs[times].append(found._replace(good=found.good * capacity / then))
    shown = {str(times): _middle(found) for times, found in runs.items()}
    peak = max(entry["good"] for entry in shown.values())
    return {
        "capacity": capacity,
        "peak": peak,
        "least": min(entry["good"] for times, entry in shown.items() if float(times) > 1) / peak,
        "times": shown,
        "left": left,
        "deadline": DEADLINE_S,
        "rounds": rounds,
        "seconds": seconds,
    }


def _left(launch: Launch, floor: Launch, rate: float, seconds: float, rounds: int) -> float:
    """What a load that another server answers leaves of a server's capacity: all of it shares the processors.

    Args:
        launch: of the server.
        floor: what answers the load, without any work.
        rate: of the load, requests a second.
        seconds: of each turn.
        rounds: turns of each.
    """
    parts = []
    with ThreadPoolExecutor(1) as beside:
        for _ in range(rounds):
            alone = wrk(launch.port, launch.wire, seconds).rate
            load = beside.submit(_open, floor, rate, seconds + 1)
            # The load has begun before wrk does, and outlasts it.
            time.sleep(0.5)
            parts.append(wrk(launch.port, launch.wire, seconds).rate / alone)
            load.result()
    return statistics.median(parts)


def slow(models: dict[str, Model], rounds: int, seconds: float) -> dict[str, Any]:
    """p99 of the same normal load at a server alone and at one that has slow clients, in turns of a second.

    Whoever has no turn is stopped, the slow clients with their server, so that it takes nothing of the
    processors from the one that has.
    """
    launches = {name: _server(models["iris"], f"slow-{name}", trained=True) for name in ("alone", "beside")}
    found = {name: Windows([], 0) for name in launches}
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(running(launch)) for name, launch in launches.items()}
        rates = {name: wrk(launch.port, launch.wire, seconds).rate for name, launch in launches.items()}
        rate = min(rates.values()) * BESIDE
        beside = launches["beside"]
        clients = stack.enter_context(slow_clients(beside.port, beside.wire, SLOW))
        idle = {"alone": [servers["beside"], clients], "beside": [servers["alone"]]}
        order = list(launches)
        for _ in range(rounds * _WINDOWS // _IN_TURN):
            for name in order:
                with stopped(idle[name]), apart(servers[name]):
                    taken = windows(partial(_windows, launches[name], rate), _IN_TURN)
                found[name] = found[name].and_those(taken)
            order.reverse()
    p99s = {name: statistics.median(one.p99 for one in taken.kept) for name, taken in found.items()}
    return {
        "clients": SLOW,
        "part": BESIDE,
        **{name: _middle(taken.kept) for name, taken in found.items()},
        "ratio": p99s["beside"] / p99s["alone"],
        "together": {name: taken.p99() for name, taken in found.items()},
        "windows": len(found["beside"].kept),
        "set_aside": sum(taken.set_aside for taken in found.values()),
        "rounds": rounds,
        "seconds": seconds,
    }


def _server(model: Model, name: str, *, trained: bool = False, home: Path | None = None) -> Launch:
    return serve(Case(model, trained), run_folder(name), home=home)


def home(models: dict[str, Model], name: str, executor: Any, kind: str = "") -> Path:
    """A new home of one model whose executor is chosen; ``kind`` tells homes of one executor apart."""
    folder = run_folder(f"home-{name}-{executor}{kind}")
    model = models[name]
    servable.add(model.trained or model.onnx, name=name, home=folder, trust=True)
    servable.deploy(name, executor=executor, home=folder)
    return folder


def run_folder(name: str) -> Path:
    """A folder of a server or a home, of which nothing is left from an earlier run."""
    folder = OUT / "run" / name
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def _fixed_answer(model: Model) -> Launch:
    """uvicorn, which answers the same bytes to everything."""
    return floors.PEERS[0].launch(Case(model, trained=True), run_folder("fixed"))


def _tails(own: tuple[Launch, int], floor: Launch, rate: float, rounds: int) -> tuple[Windows, Windows]:
    """Windows of one load, of a server that runs and of another in turn: what the machine adds shows in both.

    Args:
        own: the server and its process.
        floor: what answers without any work.
        rate: requests a second.
        rounds: turns of each.
    """
    launch, server = own
    found, least = Windows([], 0), Windows([], 0)
    with running(floor) as other:
        wrk(floor.port, floor.wire, 1)
        for _ in range(rounds):
            with apart(server):
                found = found.and_those(windows(partial(_windows, launch, rate), _WINDOWS))
            with apart(other):
                least = least.and_those(windows(partial(_windows, floor, rate), _WINDOWS))
    return found, least


def _tail(found: Windows) -> float:
    """p99 over p50 of each window, in the middle."""
    return statistics.median(window.p99 / window.p50 for window in found.kept)


def _open(
    launch: Launch, rate: float, seconds: float, *, spin: bool = False, headers: dict[str, str] | None = None
) -> Open:
    content = request(launch.wire, headers)
    return Generator(launch.port, content, rate=rate, seconds=seconds, spin=spin).run(DEADLINE_S)


def _sustained(launch: Launch, most: float, seconds: float) -> float:
    """Requests a second of an open loop that are all answered within the deadline while they come.

    Args:
        launch: of the server.
        most: tried first; then less, by twentieths of it.
        seconds: of each try.
    """
    for part in range(20, 0, -1):
        found = _open(launch, most * part / 20, seconds, spin=True)
        if found.good >= _SUSTAINED * found.offered:
            return found.good
    raise SystemExit(f"The machine is too busy: not even {most / 20:,.0f} requests a second were answered.")


def _windows(launch: Launch, rate: float, count: int) -> list[Open]:
    """So many windows of one load, after a start that is not counted."""
    seconds = (count + 0.5) * _WINDOW_S
    return Generator(launch.port, request(launch.wire), rate=rate, seconds=seconds, spin=True).run_windows(
        _WINDOW_S, DEADLINE_S
    )


def _middle(found: Sequence[Open]) -> dict[str, float]:
    """The median of each figure of a window."""
    return {
        name: statistics.median(values)
        for name in Open._fields
        if name != "latencies"
        if not any(map(math.isnan, values := [getattr(one, name) for one in found]))
    }


def _bare(model: Model) -> Callable[[], Any]:
    bare = session(model.onnx)
    made = [output.name for output in bare.get_outputs()]
    feed = {bare.get_inputs()[0].name: model.example}
    return lambda: bare.run(made, feed)


def caller(port: int, wire: Wire | None) -> Callable[[], Any]:
    """One request over a connection kept alive by raw bytes; GET /healthz without a wire."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.connect()
    sock = connection.sock
    content = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" if wire is None else request(wire)

    def call() -> None:
        sock.sendall(content)
        answer = sock.recv(65536)
        while not whole(answer):
            answer += sock.recv(65536)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"an answer was no success: {answer[:200]!r}")

    return call


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
