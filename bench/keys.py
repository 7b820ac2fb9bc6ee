"""Throughput of a small model with a limited key, against a server that asks nobody: in turn, in one run."""

import http.client
import statistics
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus
from typing import Any

import servable
from bench import own
from bench.load import CONNECTIONS
from bench.models import Model
from bench.paired import Ratio, paired
from bench.peers.base import Case
from bench.peers.servable import serve
from bench.process import Launch, running

#: What is promised of throughput with a key, its limits and an audit log that is written, as a share of that
#: of an open server.
LEAST = 0.85
#: Seconds between two requests with a wrong key, each of which is refused and recorded.
_REFUSED_S = 0.1
_WRONG = "wrong"


def run(models: dict[str, Model], rounds: int, seconds: float) -> dict[str, Any]:
    """Throughput of one row of JSON, without and with a key that has a rate, a quota and a concurrency.

    Beside the load with the key others are refused, so that the audit log is written all the time.

    Returns:
        For ``open`` and ``keyed``: requests a second at 32 connections, and what was not answered; ``ratio``:
        throughput of ``keyed`` by ``open``, the median of the rounds' ratios.
    """
    launches = {"open": _launch(models["iris"], "open"), "keyed": _keyed(models["iris"])}
    with running(launches["open"]), running(launches["keyed"]):
        told = paired(launches, rounds, seconds, lambda kind: _refused(launches[kind], kind == "keyed"))
    found: dict[str, Any] = {
        kind: {"rate": statistics.median(told.rates[kind]), "errors": told.errors[kind]} for kind in launches
    }
    ratio = told.ratio("keyed", "open")
    return {**found, "ratio": ratio.median, "page": _page(found, ratio, rounds, seconds)}


def _launch(model: Model, kind: str) -> Launch:
    home = own.home({"iris": model}, "iris", "auto", f"-keys-{kind}")
    return serve(Case(model, True), own.run_folder(f"keys-{kind}"), home=home)


def _keyed(model: Model) -> Launch:
    """A server of a home with a key, which the load shows; its limits are wider than any load."""
    home = own.home({"iris": model}, "iris", "auto", "-keys-keyed")
    made = servable.create_key(
        "bench", ["predict:iris"], rate="1M/s", quota="100G/day", concurrency=100 * CONNECTIONS, home=home
    )
    launch = serve(Case(model, True), own.run_folder("keys-keyed"), home=home)
    return launch._replace(wire=launch.wire._replace(headers={"Authorization": f"Bearer {made.key}"}))


@contextmanager
def _refused(launch: Launch, wanted: bool) -> Iterator[None]:
    """While this is entered somebody is refused again and again, if that is wanted."""
    over = threading.Event()
    told: set[int] = set()

    def ask() -> None:
        # One connection, so that what is measured is the refusing and not the coming of callers.
        with closing(http.client.HTTPConnection("127.0.0.1", launch.port, timeout=10)) as line:
            while not over.wait(_REFUSED_S):
                line.request("GET", launch.wire.path, headers={"Authorization": f"Bearer {_WRONG}"})
                answer = line.getresponse()
                answer.read()
                told.add(answer.status)

    thread = threading.Thread(target=ask)
    if wanted:
        thread.start()
    try:
        yield
    finally:
        lasted = thread.is_alive()
        over.set()
        if wanted:
            thread.join()
            if not lasted:
                raise SystemExit("Whoever showed wrong keys ended too early.")
            if told != {HTTPStatus.UNAUTHORIZED}:
                raise SystemExit(f"A wrong key was answered with {sorted(told)}.")


def _page(found: dict[str, Any], ratio: Ratio, rounds: int, seconds: float) -> str:
    words = {
        "open": "nobody is asked",
        "keyed": "a key with rate, quota and concurrency; refusals are recorded",
    }
    lines = [
        f"| {name} | {found[kind]['rate']:,.0f} | {found[kind]['errors']:,} |" for kind, name in words.items()
    ]
    return f"""## Keys and limits
`python -m bench --only keys`: {rounds} rounds of {seconds:g} s each, in turns of 0.1 s; iris, one row of
JSON, one worker, {CONNECTIONS} connections. With a limited key throughput is {ratio.median:.2f} times that of
an open server (median of the rounds; 95 %: {ratio.least:.2f} to {ratio.most:.2f}).

| | requests/s | not answered |
| --- | ---: | ---: |
{chr(10).join(lines)}"""
