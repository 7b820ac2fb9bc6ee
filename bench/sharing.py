"""Two workers that share one model process, against two that have one each: in turn, in one run."""

import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import servable
from bench import own
from bench.load import wrk
from bench.models import Model
from bench.paired import in_turn, paired
from bench.peers.base import Case
from bench.peers.servable import serve
from bench.process import Launch, running

_WORKERS = 2


def run(models: dict[str, Model], rounds: int, seconds: float) -> dict[str, Any]:
    """One client, throughput, and memory, of a model in processes of its own.

    Returns:
        For ``own`` and ``shared``: microseconds at p50 of one client, requests a second at 32 connections,
        and MiB of the server with everything below it, what several processes share counted once.
    """
    launches = {kind: _launch(models["iris"], kind) for kind in ("own", "shared")}
    memory: dict[str, float] = {}
    with running(launches["own"]) as first, running(launches["shared"]) as second:
        for kind, pid in (("own", first), ("shared", second)):
            wrk(launches[kind].port, launches[kind].wire, 1)
            memory[kind] = sum(map(_mib, _family(pid)))
        calls = {kind: own.caller(launch.port, launch.wire) for kind, launch in launches.items()}
        p50s = in_turn(calls, rounds * own.PAIRS)
        rates = paired(launches, rounds, seconds).rates
    found = {
        kind: {
            "micro": statistics.median(p50s[kind]) * 1e6,
            "rate": statistics.median(rates[kind]),
            "mib": memory[kind],
        }
        for kind in launches
    }
    return {**found, "page": _page(found, rounds, seconds)}


def _launch(model: Model, kind: str) -> Launch:
    home = own.home({"iris": model}, "iris", "process", kind)
    servable.deploy("iris", share=kind == "shared", home=home)
    return serve(Case(model, True), own.run_folder(f"sharing-{kind}"), workers=_WORKERS, home=home)


def _family(pid: int) -> Iterator[int]:
    """A process and everything below it."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from _family(int(child))


def _mib(pid: int) -> float:
    """MiB of a process, each page divided by how many processes have it."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def _page(found: dict[str, dict[str, float]], rounds: int, seconds: float) -> str:
    lines = [
        f"| {name} | {found[kind]['micro']:.0f} | {found[kind]['rate']:,.0f} | {found[kind]['mib']:.0f} |"
        for kind, name in (("own", "a process for each worker"), ("shared", "one process for both"))
    ]
    hop = found["shared"]["micro"] - found["own"]["micro"]
    ratio = found["shared"]["rate"] / found["own"]["rate"]
    return f"""## Sharing a model process
`python -m bench --only sharing`: {rounds} rounds of {seconds:g} s, in turn; iris, {_WORKERS} workers,
executor process. The way over the keeper costs {hop:.0f} us a request; throughput is {ratio:.2f} times that
of own processes, for a model so small that the way is all there is.

| | p50 of one client, us | requests/s at 32 connections | MiB, everything together |
| --- | ---: | ---: | ---: |
{chr(10).join(lines)}"""
