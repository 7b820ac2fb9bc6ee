"""One update in a process of its own, which ends itself with SIGKILL where it is told to.

    python updating.py HOME [--kill N] [--wait FILE]

Without arguments it reads them, one JSON list a line, and runs each update in a fork of this process, which
has imported already what an update needs; its answer to each is how the fork ended and what that printed.

``--kill N``: at the Nth time that the turn says what it is doing, counted from 1; it says so at the beginning
and at the end of everything it does, also between doing something and keeping that it was done. ``--wait
FILE``: before it compares, it makes FILE and waits until that is gone. What was said is printed as JSON.
"""

import argparse
import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path

from servable.errors import ServableError
from servable.optimization import measure
from servable.updating.options import UpdateOptions
from servable.updating.update import update
from servable.updating.window import Window


class Deadly:
    """A progress that counts, waits and kills."""

    def __init__(self, kill: int, wait: Path | None) -> None:
        self._kill = kill
        self._wait = wait
        self.said: list[str] = []

    def _say(self, text: str) -> None:
        self.said.append(text)
        if len(self.said) == self._kill:
            os.kill(os.getpid(), signal.SIGKILL)

    def begin(self, title: str, total: float | None = None) -> None:
        if self._wait is not None and title.startswith("Compare"):
            self._wait.touch()
            while self._wait.exists():
                time.sleep(0.01)
        self._say(f"begin {title}")

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        self._say(f"advance {note}")

    def done(self, outcome: str = "") -> None:
        self._say(f"done {outcome}")


def forked(words: list[str]) -> tuple[int, str]:
    """Run an update in a fork; its exit status, negative for a signal, and what it printed."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(writing, sys.stdout.fileno())
        os.close(reading)
        os.close(writing)
        once(words)
        sys.stdout.flush()
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as printed:
        said = printed.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said


def once(words: list[str]) -> None:
    """Run one update."""
    parser = argparse.ArgumentParser()
    parser.add_argument("home", type=Path)
    parser.add_argument("--kill", type=int, default=0)
    parser.add_argument("--wait", type=Path)
    asked = parser.parse_args(words)
    # As in all tests: which form is faster is not asked here.
    measure.BUDGET = 0.03
    progress = Deadly(asked.kill, asked.wait)
    options = UpdateOptions(tune=False, window=Window(half_life=100))
    try:
        outcome = update("shops", options, home=asked.home, progress=progress)
    except ServableError as error:
        print(json.dumps({"error": error.code, "message": error.message}))
        return
    state = None if outcome.turn is None else outcome.turn.state
    print(json.dumps({"state": state, "said": progress.said}))


def main() -> None:
    if len(sys.argv) > 1:
        once(sys.argv[1:])
        return
    for name in ("servable.training.search", "servable.training.report", "servable.optimization.choose"):
        importlib.import_module(name)
    for line in sys.stdin:
        print(json.dumps(forked(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
