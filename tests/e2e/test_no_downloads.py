"""Nothing is fetched at run time: no process of the main roads speaks to anything but this machine."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from serving.making import write_graph

ROAD = Path(__file__).with_name("staying_home.py")
#: Python runs a module of this name at the start of every process that sees it.
_WATCHING = '''"""Writes down every address outside this machine, and lets nobody reach one."""

import sys

_LOCAL = ("127.", "::1", "localhost", "0.0.0.0")


def _watch(event, given):
    if event in ("socket.connect", "socket.sendto"):
        address = given[1]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        address = given
    elif event == "urllib.Request":
        address = (given[0].partition("://")[2],)
    else:
        return
    if not isinstance(address, tuple) or not address[0] or str(address[0]).startswith(_LOCAL):
        return
    with open({found!r}, "a") as file:
        file.write(f"{{event}} {{address}}\\n")
    raise ConnectionRefusedError(f"{{event}} {{address}}")


sys.addaudithook(_watch)
with open({seen!r}, "a") as file:
    file.write("process\\n")
'''


def watched(folder: Path) -> tuple[dict[str, str], Path, Path]:
    """The environment of watched processes, what they ask for, and how many there are."""
    found, seen = folder / "found", folder / "seen"
    (folder / "sitecustomize.py").write_text(_WATCHING.format(found=str(found), seen=str(seen)))
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}, found, seen


def test_an_address_elsewhere_is_noticed(tmp_path: Path) -> None:
    environment, found, _ = watched(tmp_path)
    code = "import urllib.request as r\ntry: r.urlopen('http://192.0.2.1/x', timeout=1)\nexcept OSError: pass"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert "192.0.2.1" in found.read_text()


def test_onnxruntime_keeps_no_reports_for_its_maker(tmp_path: Path) -> None:
    """Its builds report sessions and names of models, from threads that Python knows nothing of.

    What is to be sent lies in a database in the folder of its user, beside an id of the machine.
    """
    write_graph(tmp_path / "model.onnx")
    own = tmp_path / "own"
    own.mkdir()
    decided = ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "CI")
    environment = {name: value for name, value in os.environ.items() if name not in decided}
    code = f"import servable, onnxruntime; onnxruntime.InferenceSession({str(tmp_path / 'model.onnx')!r})"
    subprocess.run([sys.executable, "-c", code], env={**environment, "HOME": str(own)}, check=True)
    assert list(own.rglob("*onnxruntime*")) == []


def test_a_choice_that_was_made_stays() -> None:
    names = ("ORT_DISABLE_TELEMETRY", "MLFLOW_DISABLE_TELEMETRY")
    environment = {**os.environ, names[0]: "0"}
    environment.pop(names[1], None)
    done = subprocess.run(
        [sys.executable, "-c", f"import os, servable; print(*map(os.environ.get, {names}))"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["0", "true"]


@pytest.mark.soak
def test_the_main_roads_stay_on_this_machine(tmp_path: Path) -> None:
    environment, found, seen = watched(tmp_path)
    done = subprocess.run(
        [sys.executable, ROAD, tmp_path], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not found.exists(), found.read_text()
    # The program, its workers and the process of the model.
    assert seen.read_text().count("process") >= 4


@pytest.mark.soak
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not on PATH (a Debian package)")
def test_no_library_does_either(tmp_path: Path) -> None:
    """The same as the kernel sees it, for libraries that are not Python."""
    trace = tmp_path / "trace"
    words = ["strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", str(trace)]
    done = subprocess.run(
        [*words, sys.executable, ROAD, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    calls = trace.read_text()
    assert "AF_INET" in calls
    places = re.findall(r'inet_(?:addr\(|pton\(AF_INET6, )"([^"]+)"', calls)
    assert {place for place in places if not place.startswith(("127.", "::1", "::ffff:127."))} == set()
