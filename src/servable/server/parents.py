"""Processes that must not outlast the one that started them."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with(parent: int) -> None:
    """Let the kernel send SIGTERM to this process when its parent dies, however it dies.

    Args:
        parent: the parent's process id; when it is gone already, this process exits with 1.
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    # It may have died before that was said.
    if os.getppid() != parent:
        sys.exit(1)
