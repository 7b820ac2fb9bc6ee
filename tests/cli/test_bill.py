"""The verb ``sbom``."""

import json
from pathlib import Path

import pytest
from typer.testing import Result

from cli.conftest import invoked
from serving.making import publish_iris


@pytest.fixture
def asked(home: Path, surroundings: dict[str, str]) -> Result:
    publish_iris(home)
    return invoked(["sbom", "iris:1"], surroundings)


def test_it_goes_to_standard_output_or_to_a_file(
    asked: Result, surroundings: dict[str, str], tmp_path: Path
) -> None:
    made = json.loads(asked.stdout)
    assert made["metadata"]["component"]["bom-ref"] == "iris:1"
    assert json.loads(invoked(["sbom", "iris", "--json"], surroundings).stdout) == made
    file = tmp_path / "iris.cdx.json"
    done = invoked(["sbom", "iris", "--output", str(file)], surroundings)
    assert (done.exit_code, done.stdout, json.loads(file.read_text())) == (0, "", made)
    assert "bill of materials of iris" in " ".join(done.stderr.split())


def test_what_cannot_be_told_is_one_sentence(
    asked: Result, surroundings: dict[str, str], tmp_path: Path
) -> None:
    assert invoked(["sbom", "tulip"], surroundings).exit_code == 4
    done = invoked(["sbom", "iris", "--output", str(tmp_path / "no" / "file")], surroundings)
    assert done.exit_code == 7
    assert "bill of materials" in done.stderr
