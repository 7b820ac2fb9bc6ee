"""The command in a process of its own, and inside this one."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from servable.logs import ROOT

Command = Callable[..., subprocess.CompletedProcess[str]]


def invoked(words: list[str], environment: dict[str, str], **options: object) -> Result:
    """What becomes of a verb in this process. What it logs to ends with it, and nobody keeps that."""
    from servable.cli.main import app

    try:
        return CliRunner(env=environment).invoke(app, words, **options)
    finally:
        for name in (ROOT, "asyncio"):
            logging.getLogger(name).handlers.clear()


@pytest.fixture
def surroundings(home: Path) -> dict[str, str]:
    """An environment in which the command sees this test's home and nothing of the developer's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SERVABLE_")}
    return {**kept, "SERVABLE_HOME": str(home), "COLUMNS": "200", "NO_COLOR": "1"}


@pytest.fixture
def command(surroundings: dict[str, str], tmp_path: Path) -> Command:
    """Runs ``servable`` as a person does."""

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        environment = {**surroundings, **options.pop("env", {})}
        return subprocess.run(
            [sys.executable, "-m", "servable.cli.main", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
            timeout=120,
            check=False,
            **options,
        )

    return run


@pytest.fixture
def invoke(surroundings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Runs ``servable`` in this process: quicker, same boundary."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("SERVABLE_")]:
        monkeypatch.delenv(name)

    def run(*arguments: object, **options: object):
        return invoked([str(one) for one in arguments], surroundings, **options)

    return run
