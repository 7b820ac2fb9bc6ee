"""A full disk keeps nobody from being erased: there is room that was kept for it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("erasing_full.py")


@pytest.mark.parametrize("how", ["sealed", "clear"])
def test_somebody_is_erased_on_a_full_disk(tmp_path: Path, how: str) -> None:
    unshare = shutil.which("unshare")
    small = tmp_path / "small"
    small.mkdir()
    mount = f"mount -t tmpfs -o size=16m tmpfs {small}"
    if unshare is None or subprocess.run([unshare, "-Urm", "sh", "-c", mount], check=False).returncode:
        pytest.skip("this machine lets nobody mount a small file system of their own")
    paths = os.pathsep.join([str(PROGRAM.parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [unshare, "-Urm", "sh", "-c", f'{mount} && exec "$@"', "sh", sys.executable, PROGRAM, small, how],
        env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said.pop("kept") >= 4 * 1024 * 1024
    # Without that room it does not work, so this is what it is for.
    assert said == {"without": "StorageFull", "complete": True, "rows": 0, "found": []}
