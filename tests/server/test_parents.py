"""Processes that end with their parent."""

import os
import subprocess
import sys


def started(parent: int) -> int:
    """The exit status of a child of this process that takes another one, or this one, for its parent."""
    code = f"from servable.server.parents import end_with; end_with({parent})"
    return subprocess.run([sys.executable, "-c", code], check=False).returncode


def test_a_process_whose_parent_is_gone_already_ends() -> None:
    assert started(os.getpid()) == 0
    assert started(os.getppid()) == 1
