"""A model in plain Python that sums its rows, and does something terrible where a row asks for it.

Its process starts in a third of a second, which one of scikit-learn does not. This very file is what the
packages hold, so it names nothing else of the tests.
"""

import contextlib
import ctypes
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import servable

RAISE, SEGFAULT, EXIT, ALLOCATE, PRINT, WEDGE, GROW, LEAVE = -1.0, -2.0, -3.0, -4.0, -5.0, -6.0, -7.0, -8.0
#: Leaves a process behind, then exits.
GRANDCHILD_AND_EXIT = -9.0
GROWTH = 96 * 1024 * 1024


class Misbehaving(servable.Model):
    """Sums rows; the file ``loading`` beside it says how it misbehaves while it is loaded.

    A folder there: the first process that loads it waits for the file ``1`` in it, the second for ``2`` ...
    Each leaves the id of the server process that it is for in ``came-1``, ``came-2`` ...
    """

    def load(self) -> None:
        self.kept: list[Any] = []
        loading = (self.folder / "loading").read_text()
        if loading == "slow":
            time.sleep(600)
        if loading == "exit":
            os._exit(3)
        if loading == "segfault":
            ctypes.string_at(0)
        if loading.startswith("/"):
            _wait_in_turn(Path(loading))
        if loading == "raise":
            raise RuntimeError("no such weights")

    def predict(self, x0: list[float], x1: list[float]) -> list[float]:
        for code, act in _ACTS.items():
            if code in x0 or code in x1:
                act(self)
        return [one + other for one, other in zip(x0, x1, strict=True)]


def _wait_in_turn(folder: Path) -> None:
    for number in itertools.count(1):
        with contextlib.suppress(FileExistsError), (folder / f"came-{number}").open("x") as mark:
            mark.write(str(os.getppid()))
            break
    while not (folder / str(number)).exists():
        time.sleep(0.01)


def _raise(model: Misbehaving) -> None:
    raise ValueError("secret row")


def _loop(model: Misbehaving) -> None:
    while True:
        pass


def _wedge(model: Misbehaving) -> None:
    signal.signal(signal.SIGALRM, lambda number, frame: _loop(model))
    signal.setitimer(signal.ITIMER_REAL, 0.05)


def _grandchild_and_exit(model: Misbehaving) -> None:
    model.kept.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]))
    os._exit(3)


_ACTS: dict[float, Any] = {
    RAISE: _raise,
    SEGFAULT: lambda model: ctypes.string_at(0),
    EXIT: lambda model: os._exit(3),
    ALLOCATE: lambda model: np.ones(2**40),
    PRINT: lambda model: print("said by the model", flush=True),
    WEDGE: _wedge,
    GROW: lambda model: model.kept.append(np.ones(GROWTH // 8)),
    LEAVE: lambda model: sys.exit("no more"),
    GRANDCHILD_AND_EXIT: _grandchild_and_exit,
}
