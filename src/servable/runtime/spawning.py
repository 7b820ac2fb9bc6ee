"""What a model process is asked to be, and how its interpreter is started."""

import os
import signal
import subprocess
import sys
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from servable.runtime.executor import Done
from servable.runtime.remote import Remote
from servable.tensors import Arrays


class ChildSpec(NamedTuple):
    """What a child loads.

    Attributes:
        folder: of the package.
        digest: that the package must have.
        variant: its name.
        device: what should compute it: ``auto cpu cuda cuda:1``.
    """

    folder: Path
    digest: str
    variant: str
    device: str = "auto"


class ChildLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a child may take; times in seconds.

    Attributes:
        run_s: a run longer than this is a hang.
        start_s: within which a child must be ready.
        memory_bytes: resident memory above which a child is replaced after its run, and at once when it
            is a quarter above.
        heartbeat_s: an idle child is asked after so long, and must answer within twice as long; less would
            take a child that only waits for a processor on a crowded machine for a wedged one.
        tick_s: between looks at the children.
        grace_s: that a child gets to end by itself when the executor is closed.
    """

    run_s: float = 30.0
    start_s: float = 120.0
    memory_bytes: int = 4 * 1024**3
    heartbeat_s: float = 1.0
    tick_s: float = 0.2
    grace_s: float = 2.0


class Batch(NamedTuple):
    """Rows to answer, and who waits for the answer.

    Attributes:
        arrays: packed rows.
        done: hears the outcome; of a stream, that it began or why not.
        pieces: gets the pieces of a stream; None for a plain batch.
    """

    arrays: Arrays
    done: Done
    pieces: Remote | None = None


class State(Enum):
    """Where a child is in its life."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    GONE = "gone"


def spawn(*descriptors: int) -> "subprocess.Popen[Any]":
    """Start the interpreter of a child.

    The thread that calls this must live as long as the child: the kernel ends a child with the thread that
    started it.
    """
    command = [sys.executable, "-P", "-m", "servable.runtime.child", str(os.getpid()), *map(str, descriptors)]
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module, and numbers
        command,
        stdin=subprocess.DEVNULL,
        # What a model prints goes where the server's own log goes, never to its standard output.
        stdout=2,
        pass_fds=descriptors,
        start_new_session=True,
    )


def ended_how(status: int) -> str:
    """What a process's exit status says, for a sentence."""
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
