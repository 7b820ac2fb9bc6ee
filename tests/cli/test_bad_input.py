"""Bad input ends in one clear sentence and its exit code, with no traceback and nothing half-written."""

import os
import pickle
import resource
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from serving.making import publish_iris


@pytest.fixture
def iris_csv(tmp_path: Path) -> Path:
    path = tmp_path / "iris.csv"
    frame = load_iris(as_frame=True).frame
    frame.to_csv(path, index=False)
    return path


@pytest.fixture
def iris_pickle(tmp_path: Path) -> Path:
    path = tmp_path / "iris.pkl"
    model = LogisticRegression(max_iter=500).fit(*load_iris(return_X_y=True))
    path.write_bytes(pickle.dumps(model))
    return path


def left_in(home: Path) -> list[str]:
    """What a failed command left in the home besides an empty registry."""
    if not home.exists():
        return []
    kept = [path for path in home.rglob("*") if path.is_file() and not path.name.startswith("registry.db")]
    return sorted(str(path.relative_to(home)) for path in kept)


def assert_refused(ended, code: int, *parts: str) -> None:
    """One sentence on standard error that has these parts; no traceback; nothing on standard output."""
    stderr = getattr(ended, "stderr", "")
    returned = ended.returncode if hasattr(ended, "returncode") else ended.exit_code
    assert returned == code, stderr
    assert ended.stdout == ""
    errors = [line for line in stderr.splitlines() if line.startswith("Error:")]
    assert len(errors) == 1, stderr
    for part in parts:
        assert part.lower() in stderr.lower()
    assert "Traceback" not in stderr
    assert "  File " not in stderr


BAD_DATA = {
    "empty": (b"", "empty"),
    "binary": (bytes(range(256)) * 20, "binary"),
    "header alone": (b"a,b,target\n", "no rows"),
    "ragged": (b"a,b,target\n1,2,x\n1,2,3,4\n3,4,y\n", ""),
    "one class": (b"a,b,target\n" + b"".join(b"%d,2,x\n" % i for i in range(40)), "one"),
    "target missing everywhere": (b"a,b,target\n" + b"".join(b"%d,2,\n" % i for i in range(40)), "target"),
    "features missing everywhere": (
        b"a,b,target\n" + b"".join(b",,%s\n" % (b"x" if i % 2 else b"y") for i in range(40)),
        "",
    ),
    "no such target": (b"a,b,c\n" + b"".join(b"%d,2,x\n" % i for i in range(40)), "target"),
}


@pytest.mark.parametrize("verb", ["train", "select"])
@pytest.mark.parametrize("case", BAD_DATA)
def test_data_that_cannot_be_used(invoke, home, tmp_path, verb, case):
    content, part = BAD_DATA[case]
    data = tmp_path / "data.csv"
    data.write_bytes(content)
    named = ["--name", "m"] if verb == "train" else []
    ended = invoke(verb, data, "--target", "target", "--time-budget", 1, *named)
    assert_refused(ended, 3, part)
    assert left_in(home) == []


def test_data_that_is_not_there(invoke, home):
    ended = invoke("train", "missing.csv", "--target", "t", "--name", "m")
    assert_refused(ended, 4, "missing.csv")
    assert left_in(home) == []


def test_a_truncated_parquet(invoke, home, tmp_path):
    path = tmp_path / "data.parquet"
    load_iris(as_frame=True).frame.to_parquet(path)
    path.write_bytes(path.read_bytes()[:-40])
    assert_refused(invoke("train", path, "--target", "target", "--name", "m"), 3, "Parquet")


def test_a_name_that_is_none(invoke, home, iris_csv):
    ended = invoke("train", iris_csv, "--target", "target", "--name", "No Name!", "--time-budget", 1)
    assert_refused(ended, 3, "name")
    assert left_in(home) == []


@pytest.mark.parametrize("suffix", [".pkl", ".joblib", ".skops", ".onnx"])
@pytest.mark.parametrize("content", [b"", b"\x80\x04\x95truncated", b"not a model at all"])
def test_a_model_file_that_is_none(invoke, home, tmp_path, suffix, content):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    ended = invoke("add", path, "--name", "m", "--trust")
    assert_refused(ended, 6, path.name)
    assert left_in(home) == []


def test_a_truncated_pickle(invoke, home, iris_pickle):
    iris_pickle.write_bytes(iris_pickle.read_bytes()[:-100])
    assert_refused(invoke("add", iris_pickle, "--name", "m", "--trust"), 6, "iris.pkl")
    assert left_in(home) == []


def test_a_pickle_is_not_opened_without_trust(invoke, home, tmp_path):
    canary = tmp_path / "canary"

    class Hostile:
        def __reduce__(self):
            return (os.system, (f"touch {canary}",))

    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(Hostile()))
    assert_refused(invoke("add", path, "--name", "m"), 6, "--trust", "system")
    assert_refused(invoke("serve", path), 6, "--trust", "system")
    assert not canary.exists()
    assert left_in(home) == []


def test_a_file_of_no_known_kind(invoke, home, tmp_path):
    path = tmp_path / "model.txt"
    path.write_text("x")
    assert_refused(invoke("add", path, "--name", "m"), 6, "model.txt", ".onnx")


def test_a_model_file_that_is_not_there(invoke):
    assert_refused(invoke("add", "missing.onnx", "--name", "m"), 4, "missing.onnx")
    assert_refused(invoke("serve", "missing.onnx", "--port", 0), 4, "missing.onnx")


@pytest.mark.parametrize(
    "arguments",
    [
        ["deploy", "nobody"],
        ["rollback", "nobody"],
        ["undeploy", "nobody"],
        ["describe", "nobody"],
        ["optimize", "nobody"],
        ["serve", "nobody", "--port", 0],
    ],
)
def test_an_unknown_model(invoke, home, arguments):
    publish_iris(home)
    assert_refused(invoke(*arguments), 4, "nobody")


def test_a_size_that_is_none(invoke):
    ended = invoke("serve", "--memory", "lots")
    assert ended.exit_code == 2
    assert "--memory takes a size such as 512MiB or 4GiB, not 'lots'" in ended.stderr


@pytest.mark.parametrize("verb", ["models", "status"])
def test_a_home_that_is_not_there(invoke, verb):
    assert_refused(invoke(verb), 4, "home")


def test_a_home_that_is_a_file(invoke, home, iris_pickle):
    home.write_text("a file")
    assert_refused(invoke("models"), 7)
    assert_refused(invoke("add", iris_pickle, "--name", "m", "--trust"), 7)


@pytest.mark.parametrize("verb", [["serve"], ["demo", "--once"]])
def test_a_port_in_use(command, home, iris_pickle, verb):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        arguments = [*verb, "--port", port]
        if verb == ["serve"]:
            arguments += [iris_pickle, "--trust"]
        ended = command(*arguments)
    assert_refused(ended, 7, str(port), "in use", "--port")
    assert left_in(home) == []


def test_an_address_that_others_reach(invoke, home, iris_pickle):
    ended = invoke("serve", iris_pickle, "--trust", "--host", "0.0.0.0", "--port", 0)
    assert_refused(ended, 2, "0.0.0.0", "--allow-unauthenticated")
    assert left_in(home) == []


def test_nobody_to_call(command):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        ended = command("call", "iris", "[1]", "--url", f"http://127.0.0.1:{held.getsockname()[1]}")
    assert_refused(ended, 7, "servable serve")


def test_a_call_with_something_that_is_no_row(invoke):
    assert_refused(invoke("call", "iris", "hello"), 3, "JSON")
    assert_refused(invoke("call", "iris", "@missing.json"), 4, "missing.json")
    assert_refused(invoke("call", "iris", "[1]", "--url", "ftp://x"), 2, "address")


@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not installed")
def test_a_full_disk(surroundings, tmp_path, iris_pickle):
    mount = tmp_path / "small"
    mount.mkdir()
    probe = ["unshare", "-Urm", "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mount)]
    if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        pytest.skip("user namespaces with mounts are not allowed here")
    script = (
        f"mount -t tmpfs -o size=64k tmpfs {mount} && "
        f"{sys.executable} -m servable.cli.main add {iris_pickle} --name m --trust --home {mount}/home; "
        f"code=$?; find {mount} -path '*/packages/*' -o -path '*/staging/*'; exit $code"
    )
    ended = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", script],
        capture_output=True,
        text=True,
        env=surroundings,
        check=False,
        timeout=120,
    )
    assert_refused(ended, 7, "space")


def test_a_file_size_limit_is_like_a_full_disk(surroundings, home, iris_pickle):
    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    # The measuring of coverage would want to write its own file under this limit.
    unmeasured = {name: value for name, value in surroundings.items() if not name.startswith("COV")}
    ended = subprocess.run(
        [sys.executable, "-B", "-m", "servable.cli.main", "add", iris_pickle, "--name", "m", "--trust"],
        capture_output=True,
        text=True,
        env=unmeasured,
        preexec_fn=small,
        check=False,
        timeout=120,
    )
    assert_refused(ended, 7)
    assert left_in(home) == []


def test_a_fault_is_one_sentence_and_a_traceback_only_when_asked(command, tmp_path):
    code = "from servable.cli import main, look\nlook.Screen = None\nmain.main()"

    def run(**more: str):
        return subprocess.run(
            [sys.executable, "-c", code, "models", "--home", str(tmp_path / "h")],
            capture_output=True,
            text=True,
            env={**os.environ, "COLUMNS": "200", **more},
            check=False,
        )

    assert_refused(run(), 1, "This is a fault in Servable: TypeError", "SERVABLE_DEBUG=1")
    assert "Traceback" in run(SERVABLE_DEBUG="1").stderr


def test_rows_that_do_not_fit_at_evaluation(invoke, home, iris_pickle, tmp_path):
    invoke("add", iris_pickle, "--name", "iris", "--trust", "--json")
    data = tmp_path / "other.csv"
    data.write_text("p,q\n1,2\n")
    assert_refused(invoke("evaluate", "iris", data), 3)
    assert_refused(invoke("evaluate", "iris:9", data), 4)
    assert np.all([name.startswith("packages/") for name in left_in(home)])
