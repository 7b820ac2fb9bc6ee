"""What a model process can start: threads up to a bound, programs and processes where they are declared."""

import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.prying import make_package, tried
from runtime.test_confinement import needs_landlock
from runtime.test_process import opened, run, until
from servable.artifact.package import open_package
from servable.errors import ModelDied
from servable.registry.policy import Policy
from servable.runtime.confinement import Confinement, stated
from servable.runtime.landlock import keeps_signals, version
from servable.runtime.model import load_model
from servable.runtime.process import ChildLimits, ChildSpec, ProcessExecutor

#: Counts how often a call is refused; the process that it would make ends at once.
REPEATED = """
import os, posix
said = 0
for _ in range(1000):
    try:
        pid = {call}
    except PermissionError:
        said += 1
    else:
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
"""
#: By the kernel's own number: ``clone`` without any flag but the signal of its end, and ``clone3``.
RAW = """
import ctypes, platform
call = ctypes.CDLL(None, use_errno=True).syscall
number = {{"x86_64": 56, "aarch64": 220}}[platform.machine()] if {clone} else 435
done = call(number, ctypes.c_long(17), None, None, None, None)
if done == 0:
    import os; os._exit(0)
said = done, ctypes.get_errno()
"""
THREADS = """
import threading, time
for _ in range({count}):
    threading.Thread(target=time.sleep, args=({seconds},), daemon=True).start()
time.sleep({seconds})
said = "ran"
"""
#: Asks in the way of a 32-bit processor which process this is: mov eax, 20; int 0x80; ret.
FOREIGN = """
import ctypes, mmap
code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(bytes.fromhex("b814000000cd80c3"))
said = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
"""
needs_seccomp = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "aarch64"), reason="there is no filter for this processor"
)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ChildSpec:
    return make_package(tmp_path_factory.mktemp("starting") / "package")


def members(group: int) -> list[int]:
    """The processes of a group that live."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == group and fields[0] != "Z":
                found.append(int(entry.name))
    return found


@needs_seccomp
def test_a_model_that_forks_a_thousand_times_is_alone_and_goes_on(spec: ChildSpec) -> None:
    async def work() -> None:
        async with opened(spec) as executor:
            (pid,) = executor.pids
            for call in ("os.fork()", "os.posix_spawn('/bin/true', ['true'], {})", "os.forkpty()[0]"):
                assert await tried(executor, REPEATED.format(call=call)) == "1000", call
            assert await tried(executor, RAW.format(clone=True)) == "(-1, 1)"
            # As of a kernel that does not have it, so that libraries take the one that is looked at.
            assert await tried(executor, RAW.format(clone=False)) == "(-1, 38)"
            assert members(pid) == [pid]
            assert executor.pids == (pid,)
            assert executor.statistics().replacements == 0

    run(work())


@needs_seccomp
def test_a_model_that_becomes_a_program_stays_what_it_is(spec: ChildSpec) -> None:
    tries = (
        "os.execv(sys.executable, [sys.executable, '-c', ''])",
        "os.execve(os.open('/bin/true', os.O_RDONLY), ['true'], {})",
        "os.execvp('true', ['true'])",
    )

    async def work() -> None:
        async with opened(spec) as executor:
            (pid,) = executor.pids
            for code in tries:
                came = await tried(executor, f"import os, sys; {code}")
                assert came.startswith("PermissionError"), f"{code}: {came}"
            assert await tried(executor, "import os; said = os.system('true')") != "0"
            assert await tried(executor, "said = 'here'") == "here"
            assert executor.pids == (pid,)

    run(work())


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the code is of this processor")
def test_who_calls_as_another_processor_is_ended() -> None:
    start = (
        "import os; from servable.runtime import confine, seccomp\n"
        f"confine.confine({os.getpid()}); seccomp.install(network=False, programs=False)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{start}{FOREIGN}"], check=False, timeout=60, capture_output=True, text=True
    )
    # Some kernels have no such calls, and then there is nothing to filter.
    assert -done.returncode in (signal.SIGSYS, signal.SIGSEGV), done.stderr


def test_a_model_has_so_many_threads_and_no_more(spec: ChildSpec) -> None:
    async def work() -> None:
        limits = ChildLimits(tick_s=0.05, threads=100)
        async with opened(spec, limits=limits) as executor:
            (pid,) = executor.pids
            assert await tried(executor, THREADS.format(count=50, seconds=0.3)) == "ran"
            with pytest.raises(ModelDied, match=r"had \d+ threads of 100 and was ended"):
                await tried(executor, THREADS.format(count=200, seconds=30))
            assert await tried(executor, "said = 'again'") == "again"
            assert executor.pids != (pid,)

    run(work())


# ---------------------------------------------------------------------- where it is declared


@needs_seccomp
@needs_landlock
def test_declared_programs_run_as_confined_as_the_model(tmp_path: Path) -> None:
    home = tmp_path / "home"
    made = make_package(home / "packages" / "ab", "PryingStarter")
    (home / "registry.db").write_text("keys")
    spec = made._replace(confinement=Confinement(hidden=(str(home),), programs=True))
    run_it = (
        "import subprocess, sys; said = subprocess.run({}, capture_output=True, text=True, check=True).stdout"
    )
    python = "[sys.executable, '-c', {!r}]"
    works = {
        run_it.format("['echo', 'a program']"): "a program\n",
        run_it.format("'echo a | tr a b', shell=True"): "b\n",
        run_it.format(python.format("import threading; print(threading.get_ident() > 0)")): "True\n",
        "import os; pid = os.fork(); pid or os._exit(3); said = os.waitpid(pid, 0)[1] >> 8": "3",
        "import subprocess; p = subprocess.Popen(['sleep', '60']); p.terminate(); said = p.wait()": "-15",
    }  # fmt: skip
    refused = {
        "the network": run_it.format(python.format("import socket; socket.socket()")),
        "the database": run_it.format(f"['cat', {str(home / 'registry.db')!r}]"),
        "another session": "import subprocess; subprocess.run(['true'], start_new_session=True)",
        "what it wrote": (
            "import os, shutil; shutil.copyfile('/bin/true', 'mine'); os.execv('mine', ['mine'])"
        ),
        "a view of its own": "import os, subprocess; subprocess.run(['unshare', '-r', 'true'], check=True)",
    }

    async def work() -> None:
        async with opened(spec) as executor:
            (pid,) = executor.pids
            for code, expected in works.items():
                assert await tried(executor, code) == expected, code
            for name, code in refused.items():
                came = await tried(executor, code)
                assert came.startswith(("PermissionError", "CalledProcessError")), f"{name}: {came}"
            said = stated(executor.protections)
            assert "programs allowed, as its deployment or its author declares it" in said.summary
            assert not said.lacking
            bound = "import resource; said = resource.getrlimit(resource.RLIMIT_NPROC)[0]"
            assert 1024 < int(await tried(executor, bound)) < 100_000
            came = await tried(executor, "import os; os.kill(os.getppid(), 0); said = 'it lives'")
            assert came.startswith("PermissionError") is keeps_signals(version())
            assert ("signals" in said.summary) is not keeps_signals(version())
            left = "import subprocess; said = subprocess.Popen(['sleep', '60']).pid"
            assert (await tried(executor, left)).isdigit()
            assert len(members(pid)) == 2
        # What it started ends with it.
        await until(lambda: not members(pid))

    run(work())


@pytest.mark.parametrize(
    ("name", "programs", "comes_through"),
    [
        ("Prying", None, False),
        ("Prying", True, True),
        ("PryingStarter", None, True),
        ("PryingStarter", False, False),
        # Only True says so.
        ("PryingPrograms", None, False),
    ],
)
@needs_seccomp
def test_the_author_declares_programs_and_the_deployment_decides(
    tmp_path: Path, name: str, programs: bool | None, comes_through: bool
) -> None:
    package = open_package(make_package(tmp_path / "package", name).folder)

    async def work() -> None:
        loaded = await load_model(package, Policy(programs=programs))
        try:
            assert ("programs allowed" in loaded.confinement.summary) is comes_through
            assert isinstance(loaded.executor, ProcessExecutor)
            said = await tried(
                loaded.executor, "import subprocess; said = subprocess.run(['true']).returncode"
            )
            assert (said == "0") is comes_through
        finally:
            await loaded.executor.close()

    run(work())
