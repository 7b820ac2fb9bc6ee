"""The model of docs/frameworks.md can be added as the page says, and answers."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

import servable
from docs.test_readme import python_blocks
from servable.cli.main import app


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = next(block for block in python_blocks("docs/frameworks.md") if "class Sentiment" in block)
    Path("model.py").write_text(model)
    Path("words.txt").write_text("good\n")
    home = {"SERVABLE_HOME": str(tmp_path / "home")}
    for path in ("model.py", "model.py:Sentiment"):
        words = ["add", path, "--name", "sentiment", "--trust", "--deploy"]
        done = CliRunner(env=home).invoke(app, words)
        assert done.exit_code == 0, done.stderr
    refused = CliRunner(env=home).invoke(app, ["add", "model.py", "--name", "sentiment"])
    assert refused.exit_code != 0
    assert "--trust" in refused.stderr
    with (
        servable.serve(background=True, home=tmp_path / "home", port=0) as server,
        servable.Client(server.url) as client,
    ):
        assert client.predict("sentiment", {"text": "so good"}).prediction == "good"
