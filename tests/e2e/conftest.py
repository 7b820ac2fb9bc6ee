"""A real server in a process of its own."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

import servable
from cli.conftest import invoked

Serve = Callable[..., str]


def servable_command(*words: str) -> list[str]:
    """The command line of Servable in this environment."""
    return [sys.executable, "-m", "servable.cli.main", *words]


def said(*words: str) -> Any:
    """What a verb prints with ``--json``; it must succeed.

    It runs in this process, which has imported already what each verb would import anew.
    """
    done = invoked([*words, "--json"], {"NO_COLOR": "1"})
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def said_apart(*words: str) -> Any:
    """The same of a verb in a process of its own, as an operator has it."""
    done = subprocess.run(servable_command(*words, "--json"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def free_port() -> int:
    """A port that nobody uses right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_server(home: Path, *words: str) -> Iterator[str]:
    """``servable serve`` in a process of its own; ends it as an operator would, and demands a clean end."""
    port = free_port()
    process = subprocess.Popen(
        servable_command("serve", *words, "--home", str(home), "--port", str(port)),
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"NO_COLOR": "1"},
    )
    url = f"http://127.0.0.1:{port}"
    try:
        with servable.Client(url) as client:
            client.wait_until_ready(timeout_s=60)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "Traceback" not in said
    assert not re.search(r'File ".*", line \d+', said)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts servers that end with the test."""
    with ExitStack() as stack:
        yield lambda home, *words: stack.enter_context(running_server(home, *words))
