"""How long a server takes to become ready, what it holds, and what importing costs.

    python -m bench.start

A home with one ONNX model, ``servable serve`` in a process of its own, polled until ``/readyz`` says 200.
"""

import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import servable

ROUNDS = 7
#: What was promised: seconds to ready, MiB resident, seconds to import.
READY_S, RESIDENT_MIB, IMPORT_S = 1.0, 150.0, 0.150


class Start(NamedTuple):
    """Medians of ``ROUNDS`` starts."""

    ready_s: float
    resident_mib: float
    import_s: float


def run() -> Start:
    """Measure; everything is made in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        rows, truth = load_iris(return_X_y=True)
        model = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, truth)
        servable.add(model, name="iris", home=home, deploy=True)
        starts = [_start(home) for _ in range(ROUNDS + 1)][1:]
    return Start(
        statistics.median(ready for ready, _ in starts),
        statistics.median(resident for _, resident in starts),
        statistics.median(_import() for _ in range(ROUNDS)),
    )


def _start(home: Path) -> tuple[float, float]:
    """Seconds from the start of the process to ready, and MiB resident then."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        str(Path(sys.executable).parent / "servable"),
        "serve",
        "--home",
        str(home),
        "--port",
        str(port),
    ]
    started = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        while not _ready(port):
            time.sleep(0.002)
        seconds = time.perf_counter() - started
        status = Path(f"/proc/{process.pid}/status").read_text()
        resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        return seconds, resident / 1024
    finally:
        process.terminate()
        process.wait()


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _import() -> float:
    code = "import time; start = time.perf_counter(); import servable; print(time.perf_counter() - start)"
    return float(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    )


def report(found: Start) -> str:
    """The figures as a Markdown table."""
    return "\n".join(
        [
            "| what | measured | promised |",
            "|---|---|---|",
            f"| start to ready, one ONNX model | {found.ready_s:.2f} s | {READY_S} s |",
            f"| resident memory then | {found.resident_mib:.0f} MiB | {RESIDENT_MIB:.0f} MiB |",
            f"| `import servable` | {found.import_s * 1000:.1f} ms | {IMPORT_S * 1000:.0f} ms |",
        ]
    )


def kept(found: Start) -> bool:
    """Whether all three promises hold."""
    return found.ready_s <= READY_S and found.resident_mib <= RESIDENT_MIB and found.import_s <= IMPORT_S


def main() -> None:
    """Print the table; exit 1 when a promise does not hold."""
    found = run()
    print(report(found))
    raise SystemExit(not kept(found))


if __name__ == "__main__":
    main()
