"""What was promised, each as a ratio or a difference within one run, and whether the figures keep it."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from bench import capture, keys, score

_OWN = "Servable"


class Promise(NamedTuple):
    """One line of the summary: what was compared, what came out, what was promised."""

    what: str
    measured: str
    promised: str
    kept: bool


def promises(results: dict[str, Any]) -> list[Promise]:
    """Every promise whose figures are there."""
    found: list[Promise] = []
    if "iris" in results:
        found += _iris(results["iris"])
    if "forest-trained" in results:
        found += _trained(results["forest-trained"])
    if "forest-onnx" in results:
        found += _compiled(results["forest-onnx"])
    if "image" in results:
        found += _image(results["image"])
    if "latency" in results:
        found += _latency(results["latency"])
    if "process" in results:
        found += _process(results["process"])
    if "capture" in results:
        what = "capture of every request: throughput, of that without"
        found.append(_least(what, results["capture"]["ratio"], capture.LEAST))
    if "keys" in results:
        what = "a key, its limits and audit: throughput, of an open server"
        found.append(_least(what, results["keys"]["ratio"], keys.LEAST))
    if "overload" in results:
        found += _overload(results["overload"])
    if "slow" in results:
        found += _slow(results["slow"])
    if "score" in results:
        found.append(_score(results["score"]))
    return found


def _rate(found: dict[str, Any], name: str) -> float | None:
    row = found["rows"].get(name)
    return float(row["rate"]) if row else None


def _best(found: dict[str, Any], **wanted: bool) -> tuple[str, float] | None:
    """The fastest peer of a kind."""
    rows = [
        (name, float(found["rows"][name]["rate"]))
        for name, kind in found["kinds"].items()
        if name in found["rows"]
        and not name.startswith(_OWN)
        and "fixed answer" not in name
        and all(kind[key] == value for key, value in wanted.items())
    ]
    return max(rows, key=lambda row: row[1], default=None)


def _times(found: dict[str, Any], what: str, than: tuple[str, float] | None, least: float) -> list[Promise]:
    own = _rate(found, _OWN)
    if own is None or than is None:
        return []
    return [_least(f"{what} ({than[0]})", own / than[1], least)]


def _named(found: dict[str, Any], name: str) -> tuple[str, float] | None:
    rate = _rate(found, name)
    return None if rate is None else (name, rate)


def _iris(found: dict[str, Any]) -> Iterator[Promise]:
    yield from _times(found, "iris: best peer in pure Python", _best(found, python=True), 8)
    triton = _named(found, "Triton, Python backend, batching")
    yield from _times(found, "iris: Triton", triton, 2)
    yield from _times(found, "iris: Flask", _named(found, "Flask, app.run()"), 40)
    yield from _times(found, "iris: a fixed answer", _named(found, "uvicorn, fixed answer"), 0.55)


def _trained(found: dict[str, Any]) -> Iterator[Promise]:
    best = _best(found, batches=True)
    yield from _times(found, "forest, fitted object: best peer that batches", best, 10)
    best = _best(found, batches=False)
    yield from _times(found, "forest, fitted object: best peer without", best, 100)


def _compiled(found: dict[str, Any]) -> Iterator[Promise]:
    best = _best(found, python=True, model_server=True)
    yield from _times(found, "forest, same ONNX: best Python model server", best, 5)
    tuned = _named(found, "FastAPI, tuned, 2 workers")
    yield from _times(found, "forest, same ONNX: hand-tuned handler", tuned, 2)
    triton = _named(found, "Triton, Python backend, batching")
    yield from _times(found, "forest, same ONNX: Triton", triton, 1.5)


def _image(found: dict[str, Any]) -> Iterator[Promise]:
    alone = _named(found, "the model alone")
    own = [(name, _rate(found, name)) for name in (_OWN, f"{_OWN}, 2 workers")]
    best = max(((name, rate) for name, rate in own if rate), key=lambda row: row[1], default=None)
    if alone is not None and best is not None:
        what = f"image: {best[0]} against the bare session on two threads"
        yield _least(what, best[1] / alone[1], 0.92)
    yield from _times(found, "image: binary against own JSON", _named(found, "Servable, JSON"), 5)


def _latency(found: dict[str, Any]) -> Iterator[Promise]:
    yield _micro("one client, one row: p50 over bare model + empty answer", found["over"], 80)
    tail = _most("p99 / p50 at half of the capacity", found["tail"], 3)
    yield _exact(tail, found["half"])


def _process(found: dict[str, Any]) -> Iterator[Promise]:
    yield _micro("process executor: p50 over inline", found["over"], 150)
    rate = found["process_rate"]
    yield Promise("process executor: requests per second", f"{rate:,.0f}", "8,000", rate >= 8000)


def _overload(found: dict[str, Any]) -> Iterator[Promise]:
    share = found["least"] * 100
    what = "least goodput at 2, 5 and 10 times capacity, of the peak"
    yield Promise(what, f"{share:.0f} %", "90 %", share >= 90)
    waits = [entry["refused_p99"] * 1000 for entry in found["times"].values() if "refused_p99" in entry]
    if waits:
        what = "503 when full, p99 from sent to answered"
        yield Promise(what, f"{max(waits):.1f} ms", "10 ms", max(waits) <= 10)


def _slow(found: dict[str, Any]) -> Iterator[Promise]:
    ratio = _most("p99 beside 1,000 slow clients / alone, median of windows", found["ratio"], 1.2)
    yield _exact(_exact(ratio, found["alone"]), found["beside"])
    together = found["together"]["beside"] / found["together"]["alone"]
    ratio = _most("p99 beside 1,000 slow clients / alone, of all requests together", together, 1.2)
    yield _exact(_exact(ratio, found["alone"]), found["beside"])


def _score(found: dict[str, Any]) -> Promise:
    medians = found["medians"]
    what = "rows of a file: servable score over posting them one by one (wrk, one connection)"
    return _least(what, medians[score.SCORED] / medians[score.ONE_BY_ONE], 10)


def _exact(promise: Promise, run: dict[str, float]) -> Promise:
    """A generator that was late itself has measured the machine, and nothing is kept by that."""
    if run["lag_p99"] <= run["p99"] / 3:
        return promise
    return promise._replace(measured=f"{promise.measured}, but the generator was late", kept=False)


def _least(what: str, measured: float, promised: float) -> Promise:
    return Promise(what, f"{_ratio(measured)}", f"{promised:g}x", measured >= promised)


def _most(what: str, measured: float, promised: float) -> Promise:
    return Promise(what, f"{measured:.2f}x", f"at most {promised:g}x", measured <= promised)


def _micro(what: str, measured: float, promised: float) -> Promise:
    return Promise(what, f"{measured:.0f} us", f"{promised:.0f} us", measured <= promised)


def _ratio(value: float) -> str:
    return f"{value:,.0f}x" if value >= 20 else f"{value:.2f}x"
