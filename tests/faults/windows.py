"""Windows of load from the generator of the benchmarks, for tests that time what callers see.

See ``bench.quiet`` for what is kept apart, and why.
"""

import json
import sys
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from faults.load import Served

# The benchmarks are no package that is installed, and the tests are found from a folder of their own.
sys.path.append(str(Path(__file__).parents[2]))

from bench.openloop import Generator, request
from bench.process import Wire
from bench.quiet import Windows, apart, awake, windows

__all__ = ["Windows", "awake"]
#: Seconds of one window. The host of a virtual machine shares its processors out in slices of 4 ms, at times
#: for a tenth of a second, and nobody inside can tell; short windows keep such a time to itself, and the
#: median of many passes over it.
WINDOW_S = 0.25
#: Windows of load before the first one that counts.
_START = 2


class Timed:
    """Times one kind of request to a server.

    Args:
        served: the server.
        path: of the request.
        content: its body, JSON.
        rate: requests a second.
    """

    def __init__(self, served: Served, path: str, content: Any, rate: float) -> None:
        self._served = served
        wire = Wire(path, json.dumps(content).encode(), "application/json", lambda _: [])
        self._content = request(wire)
        self._rate = rate

    def windows(self, count: int) -> Windows:
        """So many windows in which the machine let the generator work; every answer in them was a 200."""
        port = self._served.address[1]
        with apart(self._served.process.pid):
            taken = windows(
                lambda wanted: Generator(
                    port,
                    self._content,
                    rate=self._rate,
                    seconds=(wanted + _START) * WINDOW_S,
                    spin=True,
                    connections=8,
                ).run_windows(WINDOW_S),
                count,
            )
        assert all(one.refused == one.expired == one.failed == 0 for one in taken.kept), taken.kept
        return taken


def p99(taken: Windows) -> float:
    """Seconds below which 99 of 100 answers of a window lie, in the middle of all windows."""
    return median(one.p99 for one in taken.kept)


def worse(taken: Windows) -> float:
    """The same of the window that is worse than nine of ten: what happens in few of them shows here."""
    return quantiles([one.p99 for one in taken.kept], n=10)[-1]
