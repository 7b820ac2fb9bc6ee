"""Throughput of a small model with every request captured, against nothing captured: in turn, in one run."""

import re
import statistics
import urllib.request
from typing import Any

import servable
from bench import own
from bench.models import Model
from bench.paired import Ratio, in_turn, paired
from bench.peers.base import Case
from bench.peers.servable import serve
from bench.process import Launch, running

#: What is promised of throughput with every request captured, as a share of that with none.
LEAST = 0.85
_SHARES = {"off": 0.0, "tenth": 0.1, "all": 1.0}
_COUNTERS = ("captured_rows", "capture_dropped_rows")


def run(models: dict[str, Model], rounds: int, seconds: float) -> dict[str, Any]:
    """One client, and throughput, of one model whose requests are captured, a tenth of them, and none.

    Returns:
        For ``off``, ``tenth`` and ``all``: microseconds at p50 of one client, requests a second at 32
        connections, and rows that were captured and dropped; ``ratio``: throughput of ``all`` by ``off``,
        the median of the rounds' ratios.
    """
    launches = {kind: _launch(models["iris"], kind, share) for kind, share in _SHARES.items()}
    with running(launches["off"]), running(launches["tenth"]), running(launches["all"]):
        told = paired(launches, rounds, seconds)
        calls = {kind: own.caller(launch.port, launch.wire) for kind, launch in launches.items()}
        p50s = in_turn(calls, rounds * own.PAIRS)
        counts = {kind: _counts(launch) for kind, launch in launches.items()}
    found: dict[str, Any] = {
        kind: {
            "micro": statistics.median(p50s[kind]) * 1e6,
            "rate": statistics.median(told.rates[kind]),
            **counts[kind],
        }
        for kind in launches
    }
    ratio = told.ratio("all", "off")
    return {**found, "ratio": ratio.median, "page": _page(found, ratio, rounds, seconds)}


def _launch(model: Model, kind: str, share: float) -> Launch:
    home = own.home({"iris": model}, "iris", "auto", f"-capture-{kind}")
    servable.deploy("iris", capture=share, home=home)
    return serve(Case(model, True), own.run_folder(f"capture-{kind}"), home=home)


def _counts(launch: Launch) -> dict[str, float]:
    """Rows that the server captured and dropped so far."""
    with urllib.request.urlopen(f"http://127.0.0.1:{launch.port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = {
        name: re.search(rf"^servable_{name}_total{{.*}} (\S+)$", text, re.MULTILINE) for name in _COUNTERS
    }
    return {name: float(value[1]) if value else 0.0 for name, value in found.items()}


def _page(found: dict[str, Any], ratio: Ratio, rounds: int, seconds: float) -> str:
    words = {"off": "nothing captured", "tenth": "a tenth", "all": "every request"}
    lines = [
        f"| {name} | {found[kind]['micro']:.0f} | {found[kind]['rate']:,.0f} | "
        f"{found[kind]['captured_rows']:,.0f} | {found[kind]['capture_dropped_rows']:,.0f} |"
        for kind, name in words.items()
    ]
    return f"""## Capture
`python -m bench --only capture`: {rounds} rounds of {seconds:g} s each, in turns of 0.1 s; iris, one worker.
With every request captured throughput is {ratio.median:.2f} times that with none (median of the rounds;
95 %: {ratio.least:.2f} to {ratio.most:.2f}).

| | p50 of one client, us | requests/s at 32 connections | rows captured | rows dropped |
| --- | ---: | ---: | ---: | ---: |
{chr(10).join(lines)}"""
