"""What a confined model process cannot do: a model tries it for real, and the server goes on."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from runtime.prying import make_package, tried
from runtime.test_process import opened, run
from servable.artifact.package import open_package
from servable.errors import SettingInvalid
from servable.registry.policy import Policy
from servable.runtime.confinement import (
    Confinement,
    Hold,
    Mode,
    Protection,
    lacking,
    stated,
    stated_here,
)
from servable.runtime.landlock import version
from servable.runtime.model import load_model
from servable.runtime.process import ChildSpec, ProcessExecutor
from servable.serving.loading import confinement_of
from servable.settings import ServerSettings, load_settings

SECRET = "SERVABLE_DATABASE_URL"
PASSWORD = "postgresql://who:hush@where/what"
#: Where the descriptors of a model process lead to.
DESCRIPTORS = """
import contextlib, os
said = ""
for number in os.listdir("/proc/self/fd"):
    with contextlib.suppress(FileNotFoundError):
        said += os.readlink(f"/proc/self/fd/{number}").replace(" (deleted)", "") + " "
"""
needs_landlock = pytest.mark.skipif(not version(), reason="this kernel has no Landlock")


class Place(NamedTuple):
    """A home with a database and a package in it, and what lies beside it."""

    home: Path
    spec: ChildSpec
    outside: Path
    listener: socket.socket


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("confined")
    home = folder / "home"
    spec = make_package(home / "packages" / "ab")
    (home / "registry.db").write_text("keys")
    (home / "packages" / "other").write_text("another model")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        confinement = Confinement(hidden=(str(home),))
        yield Place(home, spec._replace(confinement=confinement), folder / "outside", listener)


def attacks(place: Place) -> dict[str, str]:
    """What a model may try, and what it would say if it came through: ``said`` is true then."""
    port, home, outside = place.listener.getsockname()[1], place.home, place.outside
    return {
        "connect": f"import socket; said = socket.create_connection(('127.0.0.1', {port}), 5)",
        "listen": "import socket; said = socket.create_server(('127.0.0.1', 0))",
        "local socket": "import socket; said = socket.socket(socket.AF_UNIX)",
        "datagram pair": "import socket; said = socket.socketpair(type=socket.SOCK_DGRAM)",
        "database": f"said = open({str(home / 'registry.db')!r}).read()",
        "other package": f"said = open({str(home / 'packages' / 'other')!r}).read()",
        "list the home": f"import os; said = os.listdir({str(home)!r})",
        "write outside": f"open({str(outside)!r}, 'w').close(); said = 'written'",
        "write the package": "(model.folder / 'more').write_text('x'); said = 'written'",
        "remove the package": "import os; os.rename(model.folder, str(model.folder) + 'x'); said = 'gone'",
        "modes": "import os; os.chmod(model.folder, 0o777); said = 'changed'",
        "trace the server": (
            "import ctypes, os; c = ctypes.CDLL(None, use_errno=True)\n"
            "done = c.ptrace(0x4206, os.getppid(), 0, 0)\n"
            "if done: raise OSError(ctypes.get_errno(), 'refused')\n"
            "c.ptrace(17, os.getppid(), 0, 0); said = 'traced'"
        ),
        "signal the server": "import os; os.kill(os.getppid(), 0); said = 'it lives'",
        "limit the server": (
            "import os, resource; said = resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE)"
        ),
        "environment of the server": "import os; said = open(f'/proc/{os.getppid()}/environ').read()",
        "start a program": "import subprocess; said = subprocess.run(['true']) and 'ran'",
        "start a process": "import os; pid = os.fork(); pid or os._exit(0); os.waitpid(pid, 0); said = pid",
        "become a program": "import os; os.execv('/nonexistent', ['x'])",
        "shared memory": "open('/dev/shm/prying', 'w').close(); said = 'written'",
        "io_uring": (
            "import ctypes; c = ctypes.CDLL(None, use_errno=True)\n"
            "found = c.syscall(425, 1, ctypes.create_string_buffer(120))\n"
            "if ctypes.get_errno() == 1: raise PermissionError(1, 'refused')\n"
            "said = 'not refused'"
        ),
    }


@needs_landlock
def test_whatever_a_confined_model_tries_is_refused_and_the_server_goes_on(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECRET, PASSWORD)

    async def work() -> None:
        async with opened(place.spec) as executor:
            said = stated(executor.protections)
            assert said.summary.startswith(
                "confined: no network, files read-only, no programs, seccomp, 10 of"
            )
            for name, code in attacks(place).items():
                came = await tried(executor, code)
                assert came.startswith("PermissionError: "), f"{name}: {came}"
            assert await tried(executor, f"import os; said = {SECRET!r} in os.environ") == "False"
            # Standard streams, the socket and two areas, and its own entry in /proc.
            held = (await tried(executor, DESCRIPTORS)).split()
            assert len(held) == 7, held
            assert sum(each.startswith("socket:") for each in held) == 1
            assert sum(each.startswith("/memfd:servable") for each in held) == 2
            # Refusals cost nobody anything.
            assert executor.statistics().replacements == 0
        with pytest.raises(BlockingIOError):
            place.listener.accept()
        assert not place.outside.exists()

    run(work())


def test_without_confinement_the_same_model_does_it_all(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECRET, PASSWORD)
    harmless = ("connect", "listen", "database", "write outside", "start a program", "start a process")

    async def work() -> None:
        spec = place.spec._replace(confinement=Confinement(mode=Mode.OFF))
        async with opened(spec) as executor:
            assert stated(executor.protections).summary == "not confined: the setting confinement is off"
            for name in harmless:
                came = await tried(executor, attacks(place)[name])
                assert came, name
                assert "Error" not in came, came
            assert await tried(executor, f"import os; said = os.environ[{SECRET!r}]") == PASSWORD
        accepted, _ = place.listener.accept()
        accepted.close()
        place.outside.unlink()

    run(work())


@needs_landlock
def test_what_a_model_needs_it_still_has(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PRICES", "declared")
    prices = tmp_path / "prices.csv"
    prices.write_text("1,2")
    works = {
        "open('a', 'w').write('x'); import os; os.rename('a', 'b'); said = open('b').read()": "x",
        "import tempfile; t = tempfile.TemporaryDirectory(); t.cleanup(); said = 'removed'": "removed",
        "import os, getpass; said = getpass.getuser(), os.getcwd() == os.environ['HOME']": "('model', True)",
        "import os; said = os.environ['PRICES']": "declared",
        f"said = open({str(prices)!r}).read()": "1,2",
        "import threading; t = threading.Thread(target=int); t.start(); t.join(); said = 'thread'": "thread",
        "import asyncio; said = asyncio.run(asyncio.sleep(0, 'loop'))": "loop",
        "import os; os.kill(os.getpid(), 0); said = 'itself'": "itself",
        "import numpy.linalg as n; said = n.det(n.inv([[2.0]]))": "0.5",
        "import sqlite3; said = sqlite3.connect(':memory:').execute('select 1').fetchone()": "(1,)",
    }  # fmt: skip
    folders: list[Path] = []
    wanted = msgspec.structs.replace(place.spec.confinement, environment=("PRICES",), files=(str(prices),))

    async def work() -> None:
        async with opened(place.spec._replace(confinement=wanted)) as executor:
            for code, expected in works.items():
                assert await tried(executor, code) == expected, code
            folders.append(Path(await tried(executor, "import os; said = os.environ['TMPDIR']")))
            assert folders[0].is_dir()

    run(work())
    # Nothing stays behind.
    assert not folders[0].exists()


def test_a_declared_network_works_and_is_told(place: Place) -> None:
    wanted = msgspec.structs.replace(place.spec.confinement, network=True)

    async def work() -> None:
        async with opened(place.spec._replace(confinement=wanted)) as executor:
            assert not (await tried(executor, attacks(place)["connect"])).startswith("PermissionError")
            # Of sockets nothing but TCP and UDP.
            for name in ("local socket", "datagram pair", "database"):
                assert (await tried(executor, attacks(place)[name])).startswith("PermissionError"), name
            raw = "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)"
            assert (await tried(executor, raw)).startswith("PermissionError")
            found = "import socket; said = socket.getaddrinfo('localhost', 80)[0][1].name"
            assert await tried(executor, found) == "SOCK_STREAM"
            said = stated(executor.protections)
            assert "network allowed, as its deployment or its author declares it" in said.summary
            assert said.summary.startswith("confined: ")
            assert not said.lacking
        accepted, _ = place.listener.accept()
        accepted.close()

    run(work())


@pytest.mark.parametrize(
    ("name", "network", "comes_through"), [("Prying", None, False), ("PryingOutside", None, True),
                                           ("PryingOutside", False, False)]
)  # fmt: skip
def test_the_authors_word_opens_the_network_and_the_deployments_closes_it(
    tmp_path: Path, name: str, network: bool | None, comes_through: bool
) -> None:
    package = open_package(make_package(tmp_path / "package", name).folder)

    async def work() -> None:
        loaded = await load_model(package, Policy(network=network))
        try:
            assert ("network allowed" in loaded.confinement.summary) is comes_through
            assert isinstance(loaded.executor, ProcessExecutor)
            said = await tried(loaded.executor, "import socket; said = socket.socket() and 'made'")
            assert (said == "made") is comes_through
        finally:
            await loaded.executor.close()

    run(work())


def test_a_settings_confinement_reaches_the_processes() -> None:
    settings = ServerSettings(
        home="place", confinement="require", model_environment=("PRICES",), model_files=("prices",)
    )
    here = Path.cwd()
    assert confinement_of(settings) == Confinement(
        Mode.REQUIRE, False, (str(here / "place"),), (str(here / "prices"),), ("PRICES",)
    )
    with pytest.raises(SettingInvalid, match="must be one of off, best, require, not 'most'"):
        load_settings({"confinement": "most"}, environment={})


# ---------------------------------------------------------------------- where a machine cannot

_ENFORCED = """
import sys, threading
from servable.runtime.confinement import Confinement, Mode, stated
from servable.runtime.enforcing import enforce
from servable.runtime.framing import Load
threading.Thread(target=threading.Event().wait, daemon=True).start()
load = Load("/nowhere", "", "trained", 2**30, (), confinement=Confinement(mode=Mode[sys.argv[1]]))
print(stated(enforce(load, "")).summary)
"""


def enforced(mode: str) -> "subprocess.CompletedProcess[str]":
    """What is said in a process that has a second thread, which no confinement would reach."""
    command = [sys.executable, "-c", _ENFORCED, mode]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_what_cannot_be_in_force_is_said(tmp_path: Path) -> None:
    said = enforced("BEST").stdout
    assert said.startswith("confined in part: ")
    assert "not network: a library had started threads before" in said
    assert "files: a library had started threads before" in said
    assert enforced("OFF").stdout == "not confined: the setting confinement is off\n"


def test_what_is_required_and_cannot_be_is_refused() -> None:
    done = enforced("REQUIRE")
    assert done.returncode == 1
    assert (
        "SurroundingsError: The model cannot be confined here as the setting confinement wants" in done.stderr
    )


# ---------------------------------------------------------------------- what is said


def test_statements() -> None:
    kept = Protection("network"), Protection("files"), Protection("calls"), Protection("limits")
    assert stated(kept).summary == "confined: no network, files read-only, seccomp, 4 of 4"
    lifted = (Protection("network", Hold.LIFTED, "its author declares it"), *kept[1:])
    assert stated(lifted).summary == (
        "confined: network allowed, as its author declares it, files read-only, seccomp, 3 of 4"
    )
    missing = (*kept[:1], Protection("files", Hold.MISSING, "Landlock is not in this kernel"), *kept[2:])
    assert stated(missing).summary == (
        "confined in part: no network, seccomp, 3 of 4; not files: Landlock is not in this kernel"
    )
    assert lacking(missing) == "files: Landlock is not in this kernel"
    assert lacking(lifted) == lacking(kept) == ""
    assert stated(missing).told()["files"] == "not available: Landlock is not in this kernel"
    assert stated(lifted).told()["network"] == "allowed, as its author declares it"
    assert stated(kept).told()["limits"] == "in force"


@pytest.mark.parametrize(
    ("placement", "executes", "words"),
    [
        ("inline", False, "in the event loop of the server, and its format holds no code"),
        ("thread", True, "in threads of the server, with the code of whoever made it"),
    ],
)
def test_what_runs_in_the_server_is_not_confined(placement: str, executes: bool, words: str) -> None:
    said = stated_here(placement, executes=executes)
    assert said.summary == f"not confined: it runs {words}"
    assert said.told() == {}
