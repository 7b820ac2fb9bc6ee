"""Every verb on real data: what it prints for people, what it prints as JSON, and what it did."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner

import servable
from servable.cli import demo_steps
from servable.cli.main import app
from servable.client import Client
from servable.registry.home import open_home


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A folder with iris as CSV and a home in which ``flower`` has two versions, the second deployed."""
    folder = tmp_path_factory.mktemp("verbs")
    frame = load_iris(as_frame=True).frame
    frame["species"] = load_iris().target_names[frame.pop("target")]
    frame.to_csv(folder / "iris.csv", index=False)
    runner = CliRunner(env={"SERVABLE_HOME": str(folder / "home"), "COLUMNS": "200"})
    train = [
        "train",
        str(folder / "iris.csv"),
        "--target",
        "species",
        "--name",
        "flower",
        "--time-budget",
        "0.1",
    ]
    for seed in (0, 1):
        done = runner.invoke(app, [*train, "--model", "logistic", "--seed", str(seed), "--deploy", "--json"])
        assert done.exit_code == 0, done.stderr
        assert done.stderr == ""
        outcome = json.loads(done.stdout)
        assert outcome["metrics"]["accuracy"] > 0.85
        assert outcome["deployed"] is True
    return folder


@pytest.fixture
def home(work) -> Path:
    """The module's home in place of an empty one."""
    return work / "home"


def iris_onnx(path: Path) -> Path:
    """A model that another program exported."""
    rows, labels = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=500).fit(rows, labels)
    path.write_bytes(to_onnx(model, rows[:1].astype(np.float32)).SerializeToString())
    return path


def good(ended) -> str:
    """What a command that ended well printed."""
    assert ended.exit_code == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stdout


def test_select_prints_a_leaderboard(invoke, work):
    data = work / "iris.csv"
    arguments = ["select", data, "--target", "species", "--models", "logistic,dummy", "--folds", 2]
    text = good(invoke(*arguments))
    assert re.search(r"logistic\s+0\.9", text)
    assert "higher is better" in text
    board = json.loads(good(invoke(*arguments, "--json")))
    assert [entry["name"] for entry in board["entries"]] == ["logistic", "dummy"]


def test_select_tells_who_learns_on(invoke, work):
    data = work / "turning.csv"
    lines = [f"{row % 7},{'yes' if row % 7 > 3 else 'no'}" for row in range(300)]
    data.write_text("\n".join(["x,label", *lines]) + "\n")
    arguments = ["select", data, "--target", "label", "--models", "sgd", "--folds", 2, "--online"]
    assert "learns" in good(invoke(*arguments))
    entries = {each["name"]: each for each in json.loads(good(invoke(*arguments, "--json")))["entries"]}
    assert {name for name, entry in entries.items() if entry["online"]} == {"sgd", "online_linear"}
    refused = invoke("select", data, "--online")
    assert refused.exit_code == 2
    assert "name a --target" in refused.stderr


def test_evaluate_holds_a_version_against_gates(invoke, work, tmp_path):
    data, page = work / "iris.csv", tmp_path / "page.html"
    text = good(invoke("evaluate", "flower", data, "--min", "accuracy=0.9", "--report", page))
    assert re.search(r"accuracy\s+0\.9", text)
    assert page.read_text().lower().startswith("<!doctype html>")
    missed = invoke("evaluate", "flower:1", data, "--min", "accuracy=1.01")
    assert missed.exit_code == 5
    assert "Below the gate" in missed.stdout
    as_json = invoke("evaluate", "flower:1", data, "--min", "accuracy=1.01", "--json")
    assert as_json.exit_code == 5
    assert json.loads(as_json.stdout)["passed"] is False


def test_optimize_shows_the_proof(invoke):
    text = good(invoke("optimize", "flower:1"))
    assert re.search(r"→\s+onnx\S+\s+yes", text)
    outcome = json.loads(good(invoke("optimize", "flower:1", "--json")))
    assert outcome["serving"].startswith("onnx")
    assert {row["name"] for row in outcome["variants"]} >= {"trained", outcome["serving"]}


def test_models_status_describe(invoke, home):
    assert re.search(r"flower\s+2\s+2\s+2", good(invoke("models")))
    assert json.loads(good(invoke("models", "--json")))[0]["model"] == "flower"
    assert re.search(r"flower\s+2", good(invoke("status")))
    text = good(invoke("describe", "flower:1"))
    for part in ("petal length (cm)", "setosa", "accuracy", "onnx"):
        assert part in text
    assert json.loads(good(invoke("describe", "flower", "--json")))["version"] == 2


def test_status_of_a_server_that_does_not_answer(invoke):
    ended = invoke("status", "--url", "http://127.0.0.1:9")
    assert ended.exit_code == 7
    assert "does not answer" in ended.stdout


def test_deploy_rollback_undeploy(invoke):
    assert "flower:1 is deployed in place of version 2" in good(invoke("deploy", "flower:1"))
    assert json.loads(good(invoke("rollback", "flower", "--json")))["version"] == 2
    assert "no longer deployed" in good(invoke("undeploy", "flower"))
    assert "Nothing is deployed" in good(invoke("status"))
    again = invoke("undeploy", "flower")
    assert again.exit_code == 3
    assert "the default model" in good(invoke("deploy", "flower:2", "--default"))


def test_add_takes_in_an_onnx_file(invoke, home, tmp_path):
    text = good(invoke("add", iris_onnx(tmp_path / "iris.onnx"), "--name", "other"))
    assert "other:1" in text
    assert "servable deploy other:1" in text


def test_names_complete_from_the_home(invoke, home, monkeypatch):
    from servable.cli.options import complete_model, complete_reference

    monkeypatch.setenv("SERVABLE_HOME", str(home))
    assert "flower" in complete_model("flo")
    assert complete_model("zzz") == []
    assert complete_reference("flo") == complete_model("flo")
    newest = servable.describe("flower", home=home).version
    assert complete_reference("flower:") == [f"flower:{number}" for number in range(newest, 0, -1)]
    assert complete_reference("flower:1")[-1] == "flower:1"
    assert complete_reference("flower@no") == complete_reference("zzz:") == []
    with open_home(home) as place:
        place.models.set_alias("flower", "champion", 1)
    assert complete_reference("flower@ch") == ["flower@champion"]
    monkeypatch.setenv("SERVABLE_HOME", str(home / "missing"))
    assert complete_model("") == complete_reference("flower:") == []


class Served:
    """A ``servable serve`` process and the address that it announced."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "servable.cli.main", "serve", "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.lines: list[str] = []
        self.url = self._announced()

    def _announced(self) -> str:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            found = re.search(r"Serving .* at (http://[\d.:]+)", line)
            if found:
                return found.group(1)
        self.process.communicate()
        raise AssertionError("".join(self.lines))

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        rest = self.process.communicate(timeout=30)[1]
        self.lines.append(rest)
        return self.process.returncode


@pytest.fixture(scope="module")
def served(work) -> Iterator[Served]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SERVABLE_")}
    environment = {**kept, "SERVABLE_HOME": str(work / "home"), "COLUMNS": "200"}
    CliRunner(env=environment).invoke(app, ["deploy", "flower:2", "--default"])
    server = Served([], environment)
    yield server
    assert server.stop() == 0
    assert "Traceback" not in "".join(server.lines)


def test_serve_and_call(served, invoke, work):
    row = [5.1, 3.5, 1.4, 0.2]
    assert good(invoke("call", "flower", json.dumps(row), "--url", served.url)).startswith("setosa")
    one = json.loads(
        good(invoke("call", "flower:2", json.dumps({"input": row}), "--url", served.url, "--json"))
    )
    assert (one["prediction"], one["version"]) == ("setosa", 2)
    text = good(invoke("call", "flower", work / "iris.csv", "--url", served.url))
    assert "First 20 of 150 answers" in text
    many = json.loads(good(invoke("call", "flower", work / "iris.csv", "--url", served.url, "--json")))
    assert len(many["predictions"]) == 150
    assert len(many["probabilities"]) == 150
    piped = invoke("call", "flower", "-", "--url", served.url, input=json.dumps([row, row]))
    assert "2 answers" in good(piped)


def test_refusals_of_a_real_server(served, invoke):
    wrong = invoke("call", "flower", '["a", 3.5, null, 0.2]', "--url", served.url)
    assert wrong.exit_code == 3
    assert wrong.stderr.startswith("Error: ")
    assert "request id" in wrong.stderr
    unknown = invoke("call", "flowr", "[1, 2, 3, 4]", "--url", served.url)
    assert unknown.exit_code == 4
    assert "flower" in unknown.stderr


def test_the_client_against_a_real_server(served):
    with Client(served.url) as client:
        assert client.ready()
        assert "flower" in {model.name for model in client.models()}
        assert client.model("flower").version == 2
        answer = client.predict(None, [5.1, 3.5, 1.4, 0.2], request_id="the-caller-s-own")
    assert (answer.prediction, answer.request_id) == ("setosa", "the-caller-s-own")


def test_status_asks_the_server(served, invoke):
    text = good(invoke("status", served.url))
    assert f"{served.url} answers" in text
    assert re.search(r"ready, 1 worker", text)
    assert re.search(r"flower:2\s+live\s+onnx\S*\s+inline", text)
    told = json.loads(good(invoke("status", "--url", served.url, "--json")))["server"]
    assert (told["ready"], told["workers"], told["models"][0]["state"]) == (True, 1, "live")


def test_a_running_server_follows_deploy(served, invoke):
    with Client(served.url) as client:
        good(invoke("deploy", "flower:1"))
        while client.predict("flower", [5.1, 3.5, 1.4, 0.2]).version != 1:
            pass
        good(invoke("rollback", "flower"))
        while client.predict("flower", [5.1, 3.5, 1.4, 0.2]).version != 2:
            pass


def test_a_model_file_is_served_at_once(surroundings, tmp_path):
    path = iris_onnx(tmp_path / "My Flower.onnx")
    server = Served([str(path)], {**surroundings, "SERVABLE_HOME": str(tmp_path / "new")})
    try:
        with Client(server.url) as client:
            assert [model.name for model in client.models()] == ["my-flower"]
    finally:
        assert server.stop(signal.SIGTERM) == 0


def test_the_demo_holds_at_every_step(invoke, tmp_path, monkeypatch):
    monkeypatch.setattr(demo_steps, "SEARCH_S", 0.5)
    ended = invoke("demo", "--once", "--port", 0, "--home", tmp_path / "demo")
    assert ended.exit_code == 0, ended.stderr
    for part in ("114 of 114 labels equal", "every SHA-256 verified", "/docs", "/report", "curl -s http://"):
        assert part in ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr


@pytest.mark.slow
def test_ctrl_c_ends_quietly(surroundings, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "servable.cli.main", "demo", "--port", "0", "--home", str(tmp_path / "demo")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**surroundings, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    assert "Breast cancer" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert "Error" not in stderr


def test_kinds_are_those_that_training_knows():
    from servable.cli.options import KINDS
    from servable.training.columns import CHOICES

    assert KINDS == CHOICES


def test_client_writes_a_typed_client(invoke, work, tmp_path):
    source = good(invoke("client", "flower:1"))
    compile(source, "flower_client.py", "exec")
    assert "for flower, version 1," in source
    assert '"versicolor"' in source
    outcome = json.loads(
        good(invoke("client", "flower", "--output", tmp_path / "made" / "flower.ts", "--json"))
    )
    assert (outcome["language"], outcome["version"], outcome["model"]) == ("typescript", 2, "flower")
    assert (tmp_path / "made" / "flower.ts").read_text() == outcome["source"]
    assert len(outcome["package"]) == 64
    told = invoke("client", "flower", "--language", "python", "--output", tmp_path / "flower.py")
    assert good(told) == ""
    assert "flower, version 2" in told.stderr


def test_client_names_what_is_not_there(invoke, work, tmp_path):
    assert invoke("client", "no-such-model").exit_code == 4
    assert invoke("client", "flower:99").exit_code == 4
    assert invoke("client", "flower", "--language", "cobol").exit_code == 2
    (tmp_path / "file").write_text("")
    blocked = invoke("client", "flower", "--output", tmp_path / "file" / "client.py")
    assert blocked.exit_code == 7
    assert "Traceback" not in blocked.stderr
    assert invoke("client", "flower", "--url", "http://127.0.0.1:1").exit_code == 7
