"""What model processes get of their server's environment, and the folders of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from servable.runtime.reading import beside
from servable.runtime.surroundings import PrivateFolder, is_passed, reduced, sweep


@pytest.mark.parametrize(
    ("name", "passed"),
    [
        ("PATH", True),
        ("LC_ALL", True),
        ("OMP_NUM_THREADS", True),
        ("CUDA_VISIBLE_DEVICES", True),
        ("PYTHONPATH", True),
        ("TOKENIZERS_PARALLELISM", True),
        ("TF_CPP_MIN_LOG_LEVEL", True),
        ("SERVABLE_DATABASE_URL", False),
        ("SERVABLE_API_KEY", False),
        ("AWS_SECRET_ACCESS_KEY", False),
        ("GOOGLE_APPLICATION_CREDENTIALS", False),
        ("NVIDIA_API_KEY", False),
        ("KERAS_AUTH", False),
        ("TF_VAR_password", False),
        ("TF_TOKEN_app", False),
        ("HF_TOKEN", False),
        ("https_proxy", False),
        ("SSH_AUTH_SOCK", False),
        ("DBUS_SESSION_BUS_ADDRESS", False),
    ],
)
def test_what_libraries_that_compute_read_is_passed_and_secrets_are_not(name: str, passed: bool) -> None:
    assert is_passed(name) is passed
    assert is_passed(name, (name,))


def test_a_process_lives_in_its_own_folder() -> None:
    given = {"HOME": "/root", "TMPDIR": "/var/tmp", "USER": "root", "LANG": "C", "TOKEN": "x", "PRICES": "1"}
    made = reduced(given, ("PRICES",), "/tmp/own")
    assert made.pop("PYTHONUSERBASE")
    assert made.pop("ORT_DISABLE_TELEMETRY") == "1"
    assert made == {
        "HOME": "/tmp/own",
        "TMPDIR": "/tmp/own",
        "USER": "model",
        "LOGNAME": "model",
        "LANG": "C",
        "PRICES": "1",
    }
    assert "TMPDIR" not in reduced(given, (), "")
    assert reduced(given, (), "")["HOME"] == "/nonexistent"


def test_a_folder_goes_with_everything_in_it() -> None:
    folder = PrivateFolder()
    path = Path(folder.path)
    assert path.stat().st_mode & 0o777 == 0o700
    (path / "more").mkdir()
    assert not folder.close_empty()
    folder.close()
    folder.close()
    assert not path.exists()
    empty = PrivateFolder()
    assert empty.close_empty()
    assert not Path(empty.path).exists()


def test_what_a_killed_server_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    code = "import os; from servable.runtime.surroundings import PrivateFolder as P; "
    code += "kept = [P(), P()]; print(*(each.path for each in kept), flush=True); os.kill(os.getpid(), 9)"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    left, young = map(Path, done.stdout.split())
    (left / "file").write_text("x")
    os.utime(left, (0, 0))
    held = PrivateFolder()
    os.utime(held.path, (0, 0))
    sweep(tmp_path)
    sweep(Path(held.path).parent)
    assert not left.exists()
    # Its maker may be about to hold it.
    assert young.is_dir()
    # Somebody lives who holds it.
    assert Path(held.path).is_dir()
    held.close()


def test_a_folder_is_taken_apart_around_what_is_hidden(tmp_path: Path) -> None:
    for name in ("code", "home/packages", "home/captures", "deep/home", "deep/code"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "home")
    secret = (str(tmp_path / "home"), str(tmp_path / "deep" / "home"))
    found = {Path(each).relative_to(tmp_path).as_posix() for each in beside(str(tmp_path), secret)}
    assert found == {"code", "deep/code"}
    assert list(beside(str(tmp_path / "home"), secret)) == []
    assert list(beside(str(tmp_path / "code"), secret)) == [str(tmp_path / "code")]
