"""Every command in the README runs, in the order in which a newcomer would type them."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import joblib
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import servable
from cli.conftest import invoked
from e2e.conftest import free_port, servable_command
from servable.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
READMES = ("README.md", "README.zh.md")


def console_commands(name: str) -> list[str]:
    """The lines after ``$ `` in the console blocks of a document."""
    text = (ROOT / name).read_text(encoding="utf-8")
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def python_blocks(name: str) -> list[str]:
    """The Python blocks of a document."""
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the README speaks of."""
    folder = tmp_path_factory.mktemp("desk")
    bunch = load_iris(as_frame=True)
    names = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    frame = bunch.data.set_axis(names, axis="columns")
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame, bunch.target)
    joblib.dump(model, folder / "model.joblib")
    frame.assign(species=[str(bunch.target_names[i]) for i in bunch.target]).to_csv(
        folder / "iris.csv", index=False
    )
    outcomes = frame.assign(
        request_id="monday", row=range(len(frame)), outcome=bunch.target_names[bunch.target]
    )
    outcomes[["request_id", "row", "outcome"]].to_csv(folder / "outcomes.csv", index=False)
    (folder / "row.json").write_text(json.dumps(dict(zip(names, [5.1, 3.5, 1.4, 0.2], strict=True))))
    return folder


def shortened(line: str) -> str:
    """A line with little time for searches: that it runs is asked here, not how good the model becomes."""
    line = line.replace("--time-budget 20", "--time-budget 0.1")
    return line.replace("servable select", "servable select --time-budget 0.1")


class Shell:
    """Runs README lines in one folder; servers go to the background and end when the next one starts.

    Every other verb runs in this process, which has imported already what each would import anew.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.server: subprocess.Popen[str] | None = None
        self.before = ""
        self.environment = os.environ | {"SERVABLE_PORT": str(self.port), "NO_COLOR": "1"}

    def type(self, line: str) -> None:
        words = shlex.split(shortened(line.replace("8000", str(self.port))))
        if words[:2] == ["servable", "serve"]:
            self.serve(words[1:])
        elif words[0] == "servable":
            self.say(words[1:])
        else:
            self.ask(words)
        self.before = line

    def serve(self, words: list[str]) -> None:
        self.stop()
        self.server = subprocess.Popen(
            servable_command(*words), cwd=self.folder, env=self.environment, stderr=subprocess.PIPE, text=True
        )
        with servable.Client(f"http://127.0.0.1:{self.port}") as client:
            client.wait_until_ready(timeout_s=60)

    def say(self, words: list[str]) -> None:
        if "call" in words:
            words = [*words, "--url", f"http://127.0.0.1:{self.port}"]
        done = invoked(words, self.environment)
        assert done.exit_code == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        if "feedback" in words:
            self.captured()

    def ask(self, words: list[str]) -> None:
        run = subprocess.run(words, cwd=self.folder, capture_output=True, text=True, timeout=180, check=False)
        assert run.returncode == 0, f"{words}\n{run.stdout}\n{run.stderr}"
        answer = json.loads(run.stdout)
        assert answer.get("prediction", answer.get("predictions", [""])[0]) == "setosa"

    def captured(self) -> None:
        """Say the line before again until its request is captured: a reader types slower than this."""
        until = time.monotonic() + 30
        while not servable.traffic("iris", home=self.folder / ".servable").versions:
            assert time.monotonic() < until, "nothing was captured"
            again = shlex.split(self.before.replace("8000", str(self.port)))
            subprocess.run(
                again, cwd=self.folder, env=self.environment, stdout=subprocess.DEVNULL, check=True
            )

    def stop(self) -> None:
        if self.server is not None:
            self.server.send_signal(signal.SIGTERM)
            _, said = self.server.communicate(timeout=60)
            assert self.server.returncode == 0, said
            self.server = None


@pytest.fixture
def shell(desk: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    monkeypatch.chdir(desk)
    for name in [name for name in os.environ if name.startswith("SERVABLE_")]:
        monkeypatch.delenv(name)
    running = Shell(desk)
    yield running
    running.stop()


@pytest.mark.slow
def test_every_command_of_the_readme_runs(shell: Shell) -> None:
    for line in console_commands("README.md"):
        if not line.startswith("make "):
            shell.type(line)
    (block,) = python_blocks("README.md")
    run = subprocess.run(
        [sys.executable, "-c", block.replace("8000", str(shell.port))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("setosa {")


@pytest.mark.parametrize("name", READMES)
def test_make_commands_exist(name: str) -> None:
    lines = [line for line in console_commands(name) if line.startswith("make ")]
    assert lines
    for line in lines:
        run = subprocess.run(
            ["make", "--dry-run", *shlex.split(line)[1:]],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr


def test_both_languages_have_the_same_commands() -> None:
    assert console_commands("README.md") == console_commands("README.zh.md")
    assert python_blocks("README.md") == python_blocks("README.zh.md")


def test_the_table_of_verbs_is_complete() -> None:
    verbs = {
        command.name or command.callback.__name__ for command in app.registered_commands if command.callback
    }
    for name in READMES:
        listed = set(
            re.findall(r"^\| `servable (\w+)", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
        )
        assert listed == verbs


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md")), ids=lambda p: p.name
)
def test_links_inside_the_project_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name} links to {target}"
