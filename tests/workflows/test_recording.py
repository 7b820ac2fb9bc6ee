"""Packages keep the example with the answers to it, unless those differ from run to run."""

import textwrap
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner

import servable
from servable.artifact.manifest import SELF_CHECK_FILE
from servable.artifact.package import Package, open_package
from servable.artifact.selfcheck import read_recorded
from servable.artifact.signature import Field, Signature
from servable.cli.main import app
from servable.errors import ArtifactUnreadable
from servable.frameworks import lookup
from servable.frameworks.base import Trained
from servable.serving.selfcheck import difference, expected_of
from servable.workflows.recording import recorded


def opened(folder: str) -> Package:
    return open_package(Path(folder))


def test_every_form_gives_the_recorded_answer(trained_home: Path) -> None:
    package = opened(servable.describe("iris", home=trained_home).package)
    kept = read_recorded(package.folder)
    assert kept is not None
    assert set(kept.answers) == {"trained"}
    assert len(package.manifest.variants) > 1
    for variant in package.manifest.variants:
        adapter = lookup.adapter(variant.format)
        predictor = adapter.load(package.folder, variant, package.signature, trust=False)
        expected = expected_of(variant, kept)
        assert expected is not None
        assert difference(expected, predictor.predict(kept.row), 1e-4) == ""
        predictor.close()


def test_compiling_anew_records_anew(trained_home: Path) -> None:
    before = opened(servable.describe("iris", home=trained_home).package)
    servable.optimize("iris", home=trained_home)
    after = opened(servable.describe("iris", home=trained_home).package)
    one, other = read_recorded(before.folder), read_recorded(after.folder)
    assert one is not None
    assert other is not None
    assert difference(one.answers["trained"], other.answers["trained"], 0.0) == ""


DICE = """
    import random

    def predict(x: float) -> float:
        return x + random.random()
"""
STEADY = """
    def predict(x: float) -> float:
        return x + 1.0
"""


@pytest.mark.parametrize(("text", "steady"), [(DICE, False), (STEADY, True)])
def test_answers_that_differ_from_run_to_run_are_not_recorded(
    home: Path, tmp_path: Path, text: str, steady: bool
) -> None:
    file = tmp_path / "model.py"
    file.write_text(textwrap.dedent(text))
    servable.add(file, name="dice", home=home, trust=True)
    about = servable.describe("dice", home=home)
    (row,) = about.variants
    assert row.unchecked == ("" if steady else "it answers equal rows differently from run to run")
    assert (Path(about.package) / SELF_CHECK_FILE).exists() == steady
    done = CliRunner().invoke(app, ["describe", "dice", "--home", str(home)])
    said = " ".join(done.output.split())
    assert ("What trained answers is not checked at load" in said) != steady


def test_an_example_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0]})
    model = LogisticRegression().fit(frame, np.array([0, 0, 1, 1]))
    (tmp_path / SELF_CHECK_FILE).write_bytes(b"of an earlier package")
    field = Field(name="a", kind="number", dtype="float64", example=1.0)
    signature = Signature(
        task="classification",
        inputs=(field,),
        outputs=(Field(name="y", kind="category", dtype="int64", values=(0, 1)),),
        example={"a": 1.0},
    )
    trained = Trained(model, signature, {}, {})
    variant = lookup.adapter("sklearn").write(trained, tmp_path)
    broken = msgspec.structs.replace(signature, example={"a": "no number"})
    (noted,) = recorded(trained._replace(signature=broken), (variant,), tmp_path, trust=False)
    assert noted.unchecked.startswith("its example cannot be used: ")
    assert not (tmp_path / SELF_CHECK_FILE).exists()


def test_a_damaged_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / SELF_CHECK_FILE).write_bytes(b"nothing")
    with pytest.raises(ArtifactUnreadable, match="damaged"):
        read_recorded(tmp_path)
