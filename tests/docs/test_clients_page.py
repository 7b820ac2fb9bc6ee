"""The examples of docs/clients.md: the commands and the Python run, the TypeScript names what there is."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import servable
from docs.test_readme import ROOT, console_commands, python_blocks
from e2e.conftest import free_port
from servable.artifact.signature import Field
from servable.cli.main import app
from servable.protocols.client_shape import Subject
from servable.protocols.client_typescript import typescript_client
from serving.making import IRIS, publish_iris

NAMES = ("sepal_length", "sepal_width", "petal_length", "petal_width")


def test_the_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    signature = IRIS.__class__(
        task=IRIS.task,
        inputs=tuple(Field(name=name, kind="number", dtype="float64", example=1.0) for name in NAMES),
        outputs=IRIS.outputs,
        probabilities=True,
    )
    publish_iris(tmp_path / "home", signature=signature)
    port = free_port()
    with servable.serve(background=True, home=tmp_path / "home", port=port):
        for line in console_commands("docs/clients.md"):
            words = line.replace("8000", str(port)).replace("iris_client", "iris_page_client").split()
            done = CliRunner(env={"SERVABLE_HOME": str(tmp_path / "home")}).invoke(app, words[1:])
            assert done.exit_code == 0, done.stderr
        (block,) = python_blocks("docs/clients.md")
        exec(block.replace("8000", str(port)).replace("iris_client", "iris_page_client"), {})
    assert capsys.readouterr().out.startswith("setosa 0.")


def test_the_typescript_names_what_there_is() -> None:
    (block,) = re.findall(r"```typescript\n(.*?)```", (ROOT / "docs/clients.md").read_text(), re.DOTALL)
    source = typescript_client(Subject("iris", 1, "", IRIS))
    for name in ("IrisClient", "IrisError", "predict", "predictMany", "timeoutMs", "signal"):
        assert name in block
        assert re.search(rf"\b{name}\b", source), name
