"""The bill of materials of a version."""

import json
from pathlib import Path

import pytest

from servable.errors import ArtifactTampered, VersionNotFound
from servable.registry.home import open_home
from servable.workflows.bill import bill_of_materials
from serving.making import COLUMNS, publish_iris


def test_it_names_the_model_its_files_and_what_it_can_do(home: Path, tmp_path: Path) -> None:
    record = publish_iris(home, report=b"<!doctype html>")
    made = bill_of_materials("iris", output=tmp_path / "iris.cdx.json", home=home)
    assert json.loads((tmp_path / "iris.cdx.json").read_text()) == made
    assert bill_of_materials("iris:1", home=home) == made
    model = made["metadata"]["component"]
    assert (model["type"], model["name"], model["version"]) == ("machine-learning-model", "iris", "1")
    assert model["hashes"] == [{"alg": "SHA-256", "content": record.package}]
    card = model["modelCard"]
    assert card["modelParameters"]["task"] == "classification"
    assert card["modelParameters"]["inputs"][0] == {"format": f"{COLUMNS[0]}: number (float64)"}
    assert card["quantitativeAnalysis"]["performanceMetrics"] == [{"type": "accuracy", "value": "0.96"}]
    with open_home(home) as place:
        manifest = place.package(record).manifest
    files = {
        each["name"]: each["hashes"][0]["content"] for each in made["components"] if each["type"] == "file"
    }
    assert files == {entry.path: entry.sha256 for entry in manifest.files}
    assert {"model.onnx", "report.html", "signature.json"} <= set(files)
    assert {each["bom-ref"] for each in made["components"]} == set(made["dependencies"][0]["dependsOn"])


def test_a_changed_file_has_no_bill(home: Path) -> None:
    record = publish_iris(home)
    with open_home(home) as place:
        file = place.package(record).folder / "model.onnx"
    file.chmod(0o644)
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(ArtifactTampered):
        bill_of_materials("iris", home=home)


def test_what_is_not_there(home: Path) -> None:
    publish_iris(home)
    with pytest.raises(VersionNotFound):
        bill_of_materials("iris:2", home=home)
