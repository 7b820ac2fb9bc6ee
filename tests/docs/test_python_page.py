"""The examples of docs/python.md run, in their order, in one session."""

import re
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import servable
from docs.test_readme import python_blocks
from e2e.conftest import free_port

WRITER = """
from collections.abc import Iterator


def predict(prompt: str) -> Iterator[str]:
    yield prompt
    yield " a time"
"""


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files of the page: customers leave when they are young and pay little."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": random.integers(18, 80, 400),
            "plan": random.choice(["basic", "family", "premium"], 400),
        }
    )
    frame["churned"] = np.where((frame.age < 40) & (frame.plan == "basic"), "yes", "no")
    frame.to_csv(tmp_path / "customers.csv", index=False)
    frame.sample(100, random_state=0).to_csv(tmp_path / "march.csv", index=False)
    numbers = frame[["age"]].to_numpy(dtype="float64")
    (tmp_path / "writer.py").write_text(WRITER)
    joblib.dump(LogisticRegression().fit(numbers, frame.churned), tmp_path / "model.joblib")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SERVABLE_HOME", str(tmp_path / "home"))
    return tmp_path


def shortened(block: str, port: int) -> str:
    """A block with a short time budget, a free port, and no server in the foreground."""
    block = block.replace('name="churn")\nprint', 'name="churn", time_budget_s=0.1)\nprint')
    block = block.replace("time_budget_s=30", "time_budget_s=0.1").replace("8000", str(port))
    return re.sub(r"^servable\.serve\(\).*$", "", block, flags=re.MULTILINE)


@pytest.mark.slow
def test_the_examples_run(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    blocks = [shortened(block, port) for block in python_blocks("docs/python.md")]
    train, take_in, serve, call, stream, pieces, score, security = blocks
    frame = pd.read_csv("customers.csv").drop(columns="churned")
    names: dict[str, object] = {"frame": frame}
    exec(train, names)
    assert servable.status().deployments[0].model == "churn"
    package = Path(servable.describe("churn").package)
    (graph,) = package.glob("variants/onnx-fp64.onnx")
    (desk / "model.onnx").write_bytes(graph.read_bytes())
    truth = pd.read_csv("customers.csv").churned
    names["pipeline"] = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame[["age"]], truth)
    exec(
        take_in.replace("sample=frame", "sample=frame[['age']]").replace(', sample="customers.csv"', ""),
        names,
    )
    assert servable.models()[0].latest == 4
    exec(serve, names)
    servable.add("writer.py", name="writer", trust=True, deploy=True)
    with servable.serve(background=True, port=port):
        exec(call, names)
        exec(stream, names)
        exec(pieces, names)
    exec(score, names)
    assert (desk / "answers.parquet").is_file()
    said = capsys.readouterr().out
    exec(security, names)
    inspected, signed, intact, held, erased = capsys.readouterr().out.splitlines()
    assert (inspected, intact, held, erased) == ("False", "True", "()", "True")
    assert "version.sign" in signed
    assert "http://127.0.0.1:" in said
    assert "'no'" in said
    assert "Once upon a time" in said
    assert "'yes'" in said or "yes" in said
