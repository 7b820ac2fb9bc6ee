"""All benchmarks: ``make bench``. Writes ``bench/RESULTS.md``; exit 1 when a promise is not kept."""

import argparse
import datetime
import platform
import shutil
from importlib.metadata import version
from pathlib import Path

from bench import compiled, http, start
from servable.optimization.measure import machine

RESULTS = Path(__file__).parent / "RESULTS.md"
#: Times the textbook Flask server's requests per second, by model.
PROMISED = {"iris": 20.0, "breast-cancer": 200.0}
LIBRARIES = ("servable", "onnxruntime", "numpy", "scikit-learn", "lightgbm", "uvicorn", "msgspec")


def http_report(rows: list[http.Row]) -> str:
    """Requests per second as a Markdown table."""
    lines = [
        "| model | Servable | Flask `app.run()` | ratio | promised | gunicorn, 2 workers | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.model} | {row.servable:,.0f} | {row.flask:,.0f} | {row.servable / row.flask:,.0f}x "
        f"| {promised(row):.0f}x | {row.gunicorn:,.0f} | {row.servable / row.gunicorn:,.1f}x |"
        for row in rows
    ]
    return "\n".join(lines)


def promised(row: http.Row) -> float:
    """The ratio to Flask that was promised for a row's model."""
    return next(ratio for name, ratio in PROMISED.items() if row.model.startswith(name))


def main() -> None:
    """Measure everything and write it down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=5, help="of each wrk run")
    parser.add_argument("--rounds", type=int, default=3, help="of each comparison over HTTP")
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed; run: make setup-system")
    started = start.run()
    shapes = compiled.run()
    served = http.run(arguments.seconds, arguments.rounds)
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    page = f"""# Results

Measured {datetime.datetime.now(datetime.UTC):%Y-%m-%d} by `make bench` on {machine()}, {platform.system()},
Python {platform.python_version()}; {libraries}.
Only ratios within one run mean anything: the machine is small and shared, and the load generator runs
on it too.

## One row, compiled against trained
`python -m bench.compiled`: one process, onnxruntime on one thread, the forms in turn, median of five rounds.
*trained* is the trained pipeline behind the same packed arrays; *plain* is what a user writes,
`pipeline.predict(frame)`.

{compiled.report(shapes)}

## Requests per second over HTTP
`python -m bench.http --seconds {arguments.seconds} --rounds {arguments.rounds}`:
wrk, 32 keep-alive connections, one row of JSON, the servers in turn, medians.
Flask is the textbook server: `pickle.load` once, `model.predict` per request. Servable is one process with
validation, request ids and metrics on.

{http_report(served)}

## Start
`python -m bench.start`: `servable serve` on a home with one ONNX model, median of {start.ROUNDS} starts, its
files in the cache.

{start.report(started)}
"""
    RESULTS.write_text(page, encoding="utf-8")
    print(page)
    broken = [row.name for row in shapes if min(row.ratio, row.plain_ratio) < row.promised]
    broken += [row.model for row in served if row.servable / row.flask < promised(row)]
    broken += [] if start.kept(started) else ["start"]
    if broken:
        raise SystemExit(f"promises not kept: {', '.join(broken)}")


if __name__ == "__main__":
    main()
