"""A real package around a model that sums its rows, and does something terrible where a row asks for it."""

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

import joblib
import numpy as np

from servable.artifact.manifest import Manifest, Variant
from servable.artifact.package import digest_of, seal, write_signature
from servable.runtime.process import ChildSpec
from servable.testing import fake_signature

RAISE, SEGFAULT, EXIT, ALLOCATE, PRINT, WEDGE, GROW, LEAVE = -1.0, -2.0, -3.0, -4.0, -5.0, -6.0, -7.0, -8.0
#: Leaves a process behind, then exits.
GRANDCHILD_AND_EXIT = -9.0
GROWTH = 96 * 1024 * 1024


class Misbehaving:
    """Sums rows; ``loading`` says how it misbehaves while it is loaded.

    A folder there: the first process that loads it waits for the file ``1`` in it, the second for ``2`` ...
    Each leaves the id of the server process that it is for in ``came-1``, ``came-2`` ...
    """

    def __init__(self, loading: str = "") -> None:
        self.loading = loading
        self.kept: list[Any] = []

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.loading == "slow":
            time.sleep(600)
        if self.loading == "exit":
            os._exit(3)
        if self.loading == "segfault":
            ctypes.string_at(0)
        if self.loading.startswith("/"):
            _wait_in_turn(Path(self.loading))
        if self.loading == "raise":
            raise RuntimeError("no such weights")

    def predict(self, rows: Any) -> Any:
        for code, act in _ACTS.items():
            if (rows == code).any():
                act(self)
        return rows.sum(axis=1)


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


def make_package(folder: Path, loading: str = "") -> ChildSpec:
    """Seal a package with such a model, and say how to load it."""
    folder.mkdir(parents=True)
    write_signature(folder, fake_signature(2))
    joblib.dump(Misbehaving(loading), folder / "model.joblib")
    options = {"style": "array", "executes": True}
    variant = Variant(name="trained", format="sklearn", path="model.joblib", options=options)
    manifest = Manifest(
        model="sum",
        created_at="2026-01-31T12:00:00Z",
        framework="sklearn",
        variants=(variant,),
        trusted=True,
    )
    seal(folder, manifest)
    return ChildSpec(folder, digest_of(folder), "trained")
