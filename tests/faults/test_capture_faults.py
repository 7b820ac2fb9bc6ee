"""A full disk costs captured rows, which are counted, and no answer; feedback is refused and never lost."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("capture_faults.py")


def test_a_full_disk_costs_captured_rows_and_no_answer(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    (tmp_path / "small").mkdir()
    mount = f"mount -t tmpfs -o size=1m tmpfs {tmp_path / 'small'}"
    if unshare is None or subprocess.run([unshare, "-Urm", "sh", "-c", mount], check=False).returncode:
        pytest.skip("this machine lets nobody mount a small file system of their own")
    paths = os.pathsep.join([str(PROGRAM.parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [unshare, "-Urm", "sh", "-c", f'{mount} && exec "$@"', "sh", sys.executable, PROGRAM, tmp_path],
        env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said == {"wrong": 0, "refused": 503, "kept": 200, "captured": [["later", "setosa"]], "left": []}
    assert done.stderr.count("captured rows were dropped") == 1
