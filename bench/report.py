"""``bench/RESULTS.md`` and its charts, from the figures of one run."""

import datetime
import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench import chart, formats, score
from bench.envs import PINNED
from bench.promises import promises
from bench.series import SERIES

_LIBRARIES = (
    "servable",
    "onnxruntime",
    "numpy",
    "scikit-learn",
    "lightgbm",
    "msgspec",
    "uvloop",
    "httptools",
)


def conditions() -> dict[str, str]:
    """What a figure cannot be read without."""
    return {
        "date": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}",
        "machine": _processor(),
        "system": f"{platform.system()}, Python {platform.python_version()}",
        "command": " ".join(["python -m bench", *sys.argv[1:]]),
        "libraries": ", ".join(f"{name} {version(name)}" for name in _LIBRARIES),
        "wrk": _wrk(),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    gibibytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{name}, {os.cpu_count()} cores, {gibibytes:.0f} GiB"


def _wrk() -> str:
    program = shutil.which("wrk")
    if program is None:
        return "none"
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return (said.stdout + said.stderr).split("Copyright")[0].strip() or "wrk"


def write(results: dict[str, Any], folder: Path) -> str:
    """The page and the charts of everything that was measured.

    Returns:
        The page, which is ``folder/RESULTS.md`` too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    charts = folder / "charts"
    parts = [_head(results), _summary(results)]
    for series in SERIES:
        if series.name in results:
            chart.bars(charts / f"{series.name}.svg", results[series.name])
            parts.append(_series(series.name, results[series.name]))
    if "overload" in results:
        chart.goodput(charts / "overload.svg", results["overload"])
    if "formats" in results:
        chart.formats(charts / "formats.svg", results["formats"])
    makers = {
        "latency": _latency,
        "process": _process,
        "overload": _overload,
        "slow": _slow,
        "score": _score,
        "formats": _formats,
    }
    parts += [make(results[name]) for name, make in makers.items() if name in results]
    parts += [
        results[name]["page"]
        for name in ("sharing", "capture", "keys", "grpc", "compiled", "frameworks", "start")
        if name in results
    ]
    if any(series.name in results for series in SERIES):
        parts.append(_versions())
    page = "\n\n".join(parts) + "\n"
    (folder / "RESULTS.md").write_text(page, encoding="utf-8")
    return page


def _head(results: dict[str, Any]) -> str:
    """Each section may come from another run of the same machine, so each says its own command."""
    conditions = [results[name]["conditions"] for name in results if "conditions" in results[name]]
    newest = max(conditions, key=lambda each: each["date"])
    return f"""# Results

Measured {newest["date"]} on {newest["machine"]}, {newest["system"]}; {newest["libraries"]}; {newest["wrk"]}.
How to measure again: [README.md](README.md).

Only ratios within one run mean anything: the machine is small and shared, and the load generator runs
on it too. All servers answer the same row with the same model, and their answers are compared before they
are measured. They have their turns one after the other, round after round; figures are medians of the
rounds. Servable runs with everything on that it has by default: validation, limits, deadlines, request ids,
metrics."""


def _summary(results: dict[str, Any]) -> str:
    if not promises(results):
        return "Nothing was promised about what was measured here."
    lines = ["## In short", "", "| compared | measured | promised | |", "|---|---|---|---|"]
    lines += [
        f"| {found.what} | {found.measured} | {found.promised} | {'kept' if found.kept else '**not kept**'} |"
        for found in promises(results)
    ]
    return "\n".join(lines)


def _series(name: str, found: dict[str, Any]) -> str:
    rows = sorted(found["rows"].items(), key=lambda item: -item[1]["rate"])
    own = found["rows"].get("Servable", rows[0][1])["rate"]
    lines = [
        f"## {found['title']}",
        f"`python -m bench --only {name}`: {_rounds(found)}; wrk, 32 keep-alive connections.",
        "",
        f"![Requests per second](charts/{name}.svg)",
        "",
        "| server | requests/s | spread | p50 ms | p99 ms | Servable is | errors |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {server} | {row['rate']:,.0f} | {min(row['rates']):,.0f} to {max(row['rates']):,.0f} "
        f"| {_milli(row['p50'])} | {_milli(row['p99'])} | {_times(own / row['rate'])} | {row['errors']} |"
        for server, row in rows
    ]
    lines += [""] if found["absent"] else []
    lines += [f"- {server} is missing: {_one_line(why)}" for server, why in found["absent"].items()]
    return "\n".join(lines)


def _rounds(found: dict[str, Any]) -> str:
    return f"{found['rounds']} rounds of {found['seconds']:g} s"


def _milli(seconds: float) -> str:
    return "" if seconds != seconds else f"{seconds * 1000:,.3g}"


def _times(ratio: float) -> str:
    return f"{ratio:,.0f}x" if ratio >= 20 else f"{ratio:.2f}x"


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]


def _latency(found: dict[str, Any]) -> str:
    if "fixed" not in found:
        return "## One client, and the tail at half of the capacity\nKept figures lack the fixed answer."
    half, fixed = found["half"], found["fixed"]
    return f"""## One client, and the tail at half of the capacity
`python -m bench --only latency`: {_rounds(found)}. One connection by a blocking socket, then an open loop at
half of the {found["capacity"]:,.0f} requests/s that the server keeps up with (wrk, a closed loop of 32,
reached {found["closed"]:,.0f}); latency counts from when a request was due. {_kept(found)}
The same load goes to a fixed answer from uvicorn in turn, which has no work to do: its tail is the machine's.

| p50, one client | us |
|---|---|
| the bare session, in process | {found["bare"]:.1f} |
| an empty answer, `GET /healthz` | {found["empty"]:.1f} |
| one row of JSON, iris | {found["prediction"]:.1f} |
| the prediction over both | {found["over"]:.1f} |

| open loop at half | Servable | a fixed answer from uvicorn |
|---|---|---|
| offered | {half["offered"]:,.0f}/s | {fixed["offered"]:,.0f}/s |
| p50 | {half["p50"] * 1e6:,.0f} us | {fixed["p50"] * 1e6:,.0f} us |
| p99 | {half["p99"] * 1e6:,.0f} us | {fixed["p99"] * 1e6:,.0f} us |
| p99 / p50, median of the windows | {found["tail"]:.2f} | {found["fixed_tail"]:.2f} |
| the generator's own delay, p99 | {half["lag_p99"] * 1e6:,.0f} us | {fixed["lag_p99"] * 1e6:,.0f} us |"""


def _kept(found: dict[str, Any]) -> str:
    return (
        f"Medians of {found['windows']} windows of a quarter of a second, cut from loads that go on; "
        f"{found['set_aside']} more in which the generator itself was stopped by the machine are not counted."
    )


def _process(found: dict[str, Any]) -> str:
    return f"""## The process executor against inline
`python -m bench --only process`: {_rounds(found)}; iris, one child, in turn with the same model
inline: single calls in turns of a fiftieth of a second, loads in turns of a tenth.

| | p50 of one client, us | requests/s at 32 connections |
|---|---|---|
| inline | {found["inline"]:.0f} | {found["inline_rate"]:,.0f} |
| process | {found["process"]:.0f} | {found["process_rate"]:,.0f} |
| difference | {found["over"]:.0f} | |"""


def _overload(found: dict[str, Any]) -> str:
    lines = [
        "## Overload",
        f"`python -m bench --only overload`: {_rounds(found)}; a model of a fixed cost a row on the "
        f"thread executor, capacity {found['capacity']:,.0f} requests/s by wrk, before and after every turn, "
        "against which the turn counts; open loop, every caller "
        f"waits at most {found['deadline']:g} s and says so.",
        "",
        "![Goodput](charts/overload.svg)",
        "",
        "| offered | requests/s | answered in time/s | of the peak | 503 | 504 | other | p50 ms | p99 ms "
        "| 503 after, p99 ms |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for times, row in sorted(found["times"].items(), key=lambda item: float(item[0])):
        share = row["good"] / found["peak"]
        lines.append(
            f"| {float(times):g}x | {row['offered']:,.0f} | {row['good']:,.0f} | {share:.0%} "
            f"| {row['refused']:.0%} | {row['expired']:.0%} | {row['failed']:.0%} | {_milli(row['p50'])} "
            f"| {_milli(row['p99'])} | {_milli(row.get('refused_p99', float('nan')))} |"
        )
    if "left" in found:
        most = max(map(float, found["times"]))
        lines += [
            "",
            "The model computes on all processors, so it loses whatever else they do: while the load of "
            f"{most:g}x goes to a fixed answer from uvicorn instead, wrk reaches {found['left']:.0%} of the "
            "capacity.",
        ]
    return "\n".join(lines)


def _slow(found: dict[str, Any]) -> str:
    lines = [
        "## Slow clients",
        f"`python -m bench --only slow`: {_rounds(found)}; an open loop at {found['part']:.0%} of the "
        "capacity at two servers in turns of a second, the other one stopped: one alone, and one with "
        f"{found['clients']:,} clients of which a third drips its headers, a third its body, and a third "
        f"never reads its answer of 2,000 rows. {_kept(found)} *Together* is the p99 of all requests of all "
        "these windows.",
        "",
        "| | offered/s | answered/s | p50 us | p99 us | together us |",
        "|---|---|---|---|---|---|",
    ]
    for name in ("alone", "beside"):
        row = found[name]
        lines.append(
            f"| {name} | {row['offered']:,.0f} | {row['good']:,.0f} | {row['p50'] * 1e6:,.0f} "
            f"| {row['p99'] * 1e6:,.0f} | {found['together'][name] * 1e6:,.0f} |"
        )
    return "\n".join(lines)


def _score(found: dict[str, Any]) -> str:
    one = found["medians"][score.ONE_BY_ONE]
    lines = [
        "## A whole file",
        f"`python -m bench --only score`: {found['rounds']} rounds; "
        f"{found['rows']:,} made-up rows of a census "
        f"with {found['columns']} columns, boosted trees. The command is timed whole, with the start of "
        f"Python and the load of the model; the others are asked for {found['seconds']:g} s.",
        "",
        "| | rows/s | spread | of one by one |",
        "|---|---|---|---|",
    ]
    for name, rate in sorted(found["medians"].items(), key=lambda item: -item[1]):
        rates = found["rates"][name]
        lines.append(
            f"| {name} | {rate:,.0f} | {min(rates):,.0f} to {max(rates):,.0f} | {_times(rate / one)} |"
        )
    return "\n".join(lines)


def _formats(found: dict[str, Any]) -> str:
    parts = [
        f"""## Reading and writing each wire format
`python -m bench --only formats`: one process on one thread without any server, {found["rounds"]} rounds in
which the formats take turns of {found["seconds"]:g} s of the processor. *Reading* is the bytes of a request
to packed arrays, every value checked against the model's signature; *writing* is the arrays of an answer to
bytes of the same format. Both are shares of the processor's time that plain `json` of the standard library
takes for the same values in the same round, medians of the rounds: 0.50x is half of it, 1/800 next to
nothing. Plain `json` checks nothing; it is `np.asarray(json.loads(body)["inputs"], dtype)` and
`json.dumps({{name: array.tolist(), ...}})`.

Rows are four float64 each, answered by a label of three and their probabilities; formats that answer with
labels alone (TF Serving's, TorchServe's, MLflow's, SageMaker's, npy) are compared with plain `json` that does
so. The picture is float32 and is answered by as many numbers; texts are answered by vectors of 64 float32.
Every format reads the same bytes again and again, so that gRPC knows the head of its message, as it does when
a caller asks one model for more than one answer.

![Shares of the time of plain json](charts/formats.svg)"""
    ]
    for kind, names in found["shapes"].items():
        for what, title in (("read", "Reading"), ("write", "Writing")):
            parts.append(_format_table(found["figures"], names, what, f"{title} {kind}"))
    return "\n\n".join(parts)


def _format_table(figures: list[dict[str, Any]], shapes: list[str], what: str, title: str) -> str:
    """One row for each format, one column for each shape: what plain json takes, then shares of it."""
    cells = {(each["format"], each["shape"]): each for each in figures if each["shape"] in shapes}
    lines = [f"| {title} | {' | '.join(shapes)} |", "|---|" + "---:|" * len(shapes)]
    for name in dict.fromkeys(name for name, _ in cells):
        row = []
        for shape in shapes:
            figure = cells.get((name, shape), {})
            micros, ratio = figure.get(f"{what}_us"), figure.get(f"{what}_ratio")
            plain = name in (formats.PLAIN, formats.PLAIN_BARE)
            row.append("" if micros is None else f"{micros:,.1f} us" if plain else _share(ratio))
        if any(row):
            lines.append(f"| {name} | {' | '.join(row)} |")
    return "\n".join(lines)


def _share(ratio: float) -> str:
    """Times; very small ones as a fraction."""
    if ratio < 0.01:
        return f"1/{1 / ratio:,.0f}"
    return f"{ratio:,.0f}x" if ratio >= 20 else f"{ratio:.2f}x"


def _versions() -> str:
    lines = ["## Versions of the peers", "", "| environment | packages |", "|---|---|"]
    lines += [f"| {name} | {', '.join(pins)} |" for name, pins in PINNED.items()]
    return "\n".join(lines)
