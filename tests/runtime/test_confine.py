"""What a model process may not do, tried in processes that are confined for real."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.graphs import make_package
from runtime.test_process import opened, run, total
from servable.runtime.confine import is_shortage, look_at, mapped_bytes, resident_bytes


def in_another_process(code: str) -> str:
    """What a program prints that was confined first."""
    start = f"from servable.runtime.confine import *; confine({os.getpid()})\n"
    done = subprocess.run(
        [sys.executable, "-c", start + code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_no_core_files_and_no_new_privileges() -> None:
    code = "print(open('/proc/self/status').read(), open('/proc/self/limits').read())"
    told = in_another_process(code)
    assert "NoNewPrivs:\t1" in told
    (line,) = [line for line in told.splitlines() if line.startswith("Max core file size")]
    assert line.split()[4:6] == ["0", "0"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_request_to_stop_is_the_servers_business(number: signal.Signals) -> None:
    code = f"""
import subprocess, sys
os.kill(os.getpid(), {number:d})
started = subprocess.run([sys.executable, "-c", "import os; os.kill(os.getpid(), {number:d})"], stderr=-3)
print("here", started.returncode)
"""
    # What it starts can be stopped as ever.
    assert in_another_process(code) == f"here {-number:d}"


def test_a_runaway_allocation_is_a_memory_error() -> None:
    code = """
bound_working(64 * 2**20)
fine = bytearray(256 * 2**20)
try:
    bytearray(2 * 2**30)
except MemoryError:
    print("refused")
"""
    assert in_another_process(code) == "refused"


def raised(error: Exception, *, first: Exception | None = None) -> Exception:
    """An error as it is caught, raised from another where there is one."""
    try:
        raise error from first
    except type(error) as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (MemoryError(), True),
        (OSError(12, "Cannot allocate memory"), True),
        (RuntimeError("Error code 12 (Cannot allocate memory)"), True),
        (RuntimeError("Failed to allocate memory for requested buffer of size 8"), True),
        (RuntimeError("std::bad_alloc"), True),
        (raised(ValueError("failed"), first=MemoryError()), True),
        (RuntimeError("shapes (3,) and (4,) not aligned"), False),
        (raised(ValueError("failed"), first=KeyError("x")), False),
        (None, False),
    ],
)
def test_a_want_of_memory_is_told_from_other_failures(error: Exception | None, short: bool) -> None:
    assert is_shortage(error) is short


def test_the_bound_is_not_raised_again() -> None:
    code = """
import resource
bound_working(64 * 2**20)
try:
    resource.setrlimit(resource.RLIMIT_AS, (2**45, 2**45))
    print("raised" if os.geteuid() else "root may")
except (ValueError, OSError):
    print("refused")
"""
    assert in_another_process(code) in ("refused", "root may")


def test_a_process_whose_server_is_gone_ends_at_once() -> None:
    code = "from servable.runtime.confine import confine; confine(1); print('went on')"
    # Its parent is this process and not the one that it was told of.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""


def test_processes_are_seen() -> None:
    seen = look_at(os.getpid())
    assert seen is not None
    assert seen.state == "R"
    assert 2**20 < seen.memory_bytes < mapped_bytes()
    assert abs(seen.memory_bytes - resident_bytes()) < 2**26
    with subprocess.Popen(["sleep", "60"]) as other:
        assert look_at(other.pid) is not None
        other.kill()
    assert look_at(other.pid) is None


def test_a_child_is_confined_and_alone(tmp_path: Path) -> None:
    spec = make_package(tmp_path / "package")

    async def work() -> None:
        async with opened(spec) as executor:
            (pid,) = executor.pids
            process = Path(f"/proc/{pid}")
            assert "NoNewPrivs:\t1" in (process / "status").read_text()
            limits = (process / "limits").read_text().splitlines()
            (space,) = [line.split()[3] for line in limits if line.startswith("Max address space")]
            assert 2**33 < int(space) < 2**35
            assert os.getpgid(pid) == os.getsid(pid) == pid
            # Standard streams, the socket and the two areas: nothing else of the server's.
            held = [str(each.readlink()) for each in (process / "fd").iterdir()]
            assert sum(each.startswith("socket:") for each in held) == 1
            assert sum("memfd:servable-sum" in each for each in held) == 2
            assert str((process / "fd" / "0").readlink()) == "/dev/null"
            assert await total(executor, 1.0, 1.0) == 2.0

    run(work())


def test_a_child_imports_only_what_it_needs() -> None:
    code = "import sys, servable.runtime.child; print(*sorted({n.partition('.')[0] for n in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    foreign = {
        "sqlalchemy",
        "httptools",
        "starlette",
        "uvicorn",
        "prometheus_client",
        "sklearn",
        "pandas",
        "rich",
    }
    assert not foreign & set(done.stdout.split())
