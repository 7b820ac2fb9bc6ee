"""All measurements: ``make bench``. Writes ``bench/RESULTS.md``; exit 1 when a promise is not kept.

python -m bench [--quick] [--only SECTION] [--peer PART] [--rounds N] [--seconds S] [--output FOLDER]
    [--setup] [--report]
"""

import argparse
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# One thread for each session and each library, in every process that is started from here.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from bench import (
    capture,
    compiled,
    envs,
    formats,
    frameworks,
    grpc,
    keys,
    models,
    own,
    report,
    score,
    series,
    sharing,
    start,
)
from bench.promises import promises

_OWN: dict[str, Callable[..., dict[str, Any]]] = {
    "formats": formats.run,
    "latency": own.latency,
    "process": own.process,
    "sharing": sharing.run,
    "overload": own.overload,
    "slow": own.slow,
    "score": score.run,
    "grpc": grpc.run,
    "capture": capture.run,
    "keys": keys.run,
}
SECTIONS = ("compiled", "start", "frameworks", *(each.name for each in series.SERIES), *_OWN)
#: Sections that need neither the peers, nor the models that all serve, nor wrk.
_ALONE = frozenset({"compiled", "start", "formats", "frameworks"})
#: Sections of Servable against itself, which need no peers.
_NO_PEERS = _ALONE | {"capture", "keys"}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", action="append", choices=SECTIONS, help="measure these sections and keep the others"
    )
    parser.add_argument("--peer", action="append", default=[], help="only servers with this in their names")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each server")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each turn")
    parser.add_argument(
        "--quick", action="store_true", help="one round of a second, written to bench/out/quick"
    )
    parser.add_argument("--output", type=Path, help="the folder of the page, its charts and the figures")
    parser.add_argument("--setup", action="store_true", help="only make the environments")
    parser.add_argument("--report", action="store_true", help="only write the page from the kept figures")
    return parser.parse_args()


def _compiled_section() -> dict[str, Any]:
    shapes = compiled.run()
    page = f"""## One row, compiled against trained
`python -m bench --only compiled`: one process, onnxruntime on one thread, the forms in turn, median of
five rounds. *trained* is the trained pipeline behind the same packed arrays; *plain* is what a user writes,
`pipeline.predict(frame)`.

{compiled.report(shapes)}"""
    broken = [row.name for row in shapes if min(row.ratio, row.plain_ratio) < row.promised]
    return {"page": page, "broken": broken}


def _start_section() -> dict[str, Any]:
    started = start.run()
    page = f"""## Start
`python -m bench --only start`: `servable serve` on a home with one ONNX model, median of {start.ROUNDS}
starts, its files in the cache.

{start.report(started)}"""
    return {"page": page, "broken": [] if start.kept(started) else ["start"]}


def _frameworks_section(rounds: int) -> dict[str, Any]:
    found = frameworks.run(rounds)
    page = f"""## Frameworks: the trained form against the one that serves
`.venv-all/bin/python -m bench --only frameworks` after `make setup-all`: each form in a process of its own,
one thread, medians of {rounds} turns; MiB are those of the process that holds the form.

{frameworks.report(found)}"""
    return {"page": page, "broken": frameworks.broken(found), "frameworks": found}


def _setup() -> None:
    """Every environment; what cannot be made is said again where it is missed."""
    for name in envs.PINNED:
        try:
            envs.python(name)
        except envs.Unavailable as error:
            print(f"{name} is left out: {error}", file=sys.stderr)


def _measure(section: str, given: argparse.Namespace, made: dict[str, models.Model]) -> dict[str, Any]:
    rounds, seconds = (1, 1.0) if given.quick else (given.rounds, given.seconds)
    if section == "compiled":
        return _compiled_section()
    if section == "start":
        return _start_section()
    if section == "frameworks":
        return _frameworks_section(rounds)
    if section in _OWN:
        return _OWN[section](made, rounds, seconds)
    wanted = next(each for each in series.SERIES if each.name == section)
    return series.run(wanted, made, rounds, seconds, given.peer)


def _places(given: argparse.Namespace) -> tuple[Path, Path]:
    """The folder of the page and its charts, and the file of the figures.

    A quick run shows that everything works, and some of the peers are no comparison: both are kept apart.
    """
    if given.output is not None:
        return given.output, given.output / "figures.json"
    trial = bool(given.quick or given.peer)
    folder = envs.OUT / "quick" if trial else envs.HERE
    return folder, envs.OUT / ("quick.json" if trial else "results.json")


def main() -> None:
    """Measure what is asked for, keep the figures, and write everything down."""
    given = _arguments()
    # Asked to end, it takes its servers with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended before everything was measured"))
    sections = given.only or SECTIONS
    alone = not given.setup and _ALONE.issuperset(sections)
    if not alone and shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed; run: make setup-system")
    folder, figures = _places(given)
    kept = figures.is_file() and (given.only or given.report)
    results = json.loads(figures.read_text()) if kept else {}
    if given.setup or not (given.report or _NO_PEERS.issuperset(sections)):
        _setup()
    if not (given.setup or given.report):
        made = {} if alone else models.make(envs.OUT / "models")
        for section in sections:
            print(f"== {section}", file=sys.stderr, flush=True)
            results[section] = {**_measure(section, given, made), "conditions": report.conditions()}
            # Kept after each, so that a long run that is broken off is not lost.
            figures.parent.mkdir(parents=True, exist_ok=True)
            figures.write_text(json.dumps(results, indent=1))
    if not results:
        return
    page = report.write(results, folder)
    broken = [found.what for found in promises(results) if not found.kept]
    broken += [name for part in results.values() for name in part.get("broken", [])]
    print(page)
    if broken:
        raise SystemExit("promises not kept: " + "; ".join(broken))


if __name__ == "__main__":
    main()
