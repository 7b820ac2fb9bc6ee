"""What a kill, a full disk and a second process do to a home: nothing that was acknowledged is lost."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("registry_faults.py")


def ran(command: list[str | Path]) -> Any:
    paths = os.pathsep.join([str(PROGRAM.parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_kill_at_any_moment_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    said = ran([sys.executable, PROGRAM, "kill", tmp_path])
    assert said["rounds"] >= 30
    # The kills met publications: some were acknowledged, some were under way.
    assert said["acknowledged"] > 30
    assert said["left_in_staging"] > 0


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_thousand_kills_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    said = ran([sys.executable, PROGRAM, "kill", tmp_path, "1000"])
    assert said["rounds"] == 1000
    assert said["acknowledged"] > 750


def test_processes_that_write_together_get_numbers_of_their_own(tmp_path: Path) -> None:
    assert ran([sys.executable, PROGRAM, "together", tmp_path]) == {
        "acknowledged": 48,
        "distinct": 48,
        "visible": 48,
    }


def test_no_room_at_any_write_leaves_the_home_as_it_was(tmp_path: Path) -> None:
    outcomes = ran([sys.executable, PROGRAM, "limited", tmp_path])
    assert outcomes["ok"] >= 1
    assert outcomes["StorageFull"] >= 5
    assert set(outcomes) <= {"ok", "StorageFull", "StorageFailed"}


def test_a_full_disk_is_said_and_leaves_the_home_as_it_was(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    mount = f"mount -t tmpfs -o size=2m tmpfs {tmp_path}"
    if unshare is None or subprocess.run([unshare, "-Urm", "sh", "-c", mount], check=False).returncode:
        pytest.skip("this machine lets nobody mount a small file system of their own")
    inside = [unshare, "-Urm", "sh", "-c", f'{mount} && exec "$@"', "sh"]
    said = ran([*inside, sys.executable, PROGRAM, "full", tmp_path])
    assert said["outcomes"]["StorageFull"] > 10
    assert said["outcomes"]["ok"] > 10
    assert set(said["outcomes"]) == {"StorageFull", "ok"}
