"""Models trained elsewhere, the gate, and compiling anew."""

import pickle
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import servable
from servable.artifact.package import open_package
from servable.errors import (
    ArtifactUnreadable,
    ArtifactUnsupported,
    ArtifactUntrusted,
    DataError,
    FileMissing,
    InputError,
    SettingInvalid,
)
from servable.frameworks import lookup
from servable.frameworks.frame import pack


@pytest.fixture(scope="module")
def pipeline(iris: pd.DataFrame) -> object:
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(
        iris.drop(columns="species"), iris.species
    )


def test_a_pickle_is_never_opened_unless_trusted(pipeline: object, tmp_path: Path, home: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(pipeline))
    with pytest.raises(ArtifactUntrusted, match=r"LogisticRegression.*--trust") as refused:
        servable.add(path, name="iris", home=home)
    assert any("LogisticRegression" in name for name in refused.value.names)
    outcome = servable.add(path, name="iris", home=home, trust=True)
    assert outcome.inputs[0] == "sepal_length"
    assert outcome.serving.startswith("onnx")
    package = open_package(Path(outcome.package))
    assert package.manifest.variant("trained").path == "model.skops"


def test_a_hostile_pickle_runs_nothing(tmp_path: Path, home: Path) -> None:
    canary = tmp_path / "canary"

    class Hostile:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (canary,))

    path = tmp_path / "model.joblib"
    joblib.dump(Hostile(), path)
    with pytest.raises(ArtifactUntrusted, match="touch"):
        servable.add(path, name="evil", home=home)
    assert not canary.exists()
    assert not home.exists() or servable.models(home=home) == ()


def test_a_fitted_estimator_can_be_given_as_it_is(iris: pd.DataFrame, pipeline: object, home: Path) -> None:
    outcome = servable.add(pipeline, name="iris", sample=iris, target="species", home=home, deploy=True)
    assert outcome.deployed
    found = servable.describe("iris", home=home)
    assert found.signature.input("petal_width").maximum == pytest.approx(2.5)
    assert servable.evaluate("iris", iris, minimums={"accuracy": 0.95}, home=home).passed


def test_the_served_form_of_a_foreign_model_answers_like_the_model(iris: pd.DataFrame, home: Path) -> None:
    rows = iris.drop(columns="species")
    forest = RandomForestClassifier(n_estimators=50, random_state=0).fit(rows, iris.species)
    outcome = servable.add(forest, name="forest", sample=rows, home=home)
    package = open_package(Path(outcome.package))
    chosen = package.manifest.chosen
    served = lookup.adapter(chosen.format).load(package.folder, chosen, package.signature, trust=False)
    answers = served.predict(pack(rows, package.signature))
    expected = forest.predict(rows)
    assert [package.signature.classes[index] for index in answers["prediction"]] == expected.tolist()
    np.testing.assert_allclose(answers["probabilities"], forest.predict_proba(rows), atol=1e-6)


def test_an_onnx_file_is_served_as_it_is(trained_home: Path, iris: pd.DataFrame, home: Path) -> None:
    found = servable.describe("iris", home=trained_home)
    chosen = next(row.name for row in found.variants if row.chosen)
    outcome = servable.add(Path(found.package) / "variants" / f"{chosen}.onnx", name="graph", home=home)
    assert outcome.framework == "onnx"
    assert outcome.serving == "trained"
    assert outcome.variants[0].timings["1"] > 0


@pytest.mark.parametrize(
    ("name", "content", "error", "words"),
    [
        ("empty.pkl", b"", ArtifactUnreadable, "empty"),
        ("empty.onnx", b"", ArtifactUnreadable, "empty"),
        ("empty.skops", b"", ArtifactUnreadable, "empty"),
        ("noise.joblib", b"\x93NOPE" * 40, ArtifactUnreadable, "noise.joblib"),
        ("noise.onnx", b"\x93NOPE" * 40, ArtifactUnreadable, "noise.onnx"),
        ("noise.skops", b"PK\x03\x04 and so on", ArtifactUnreadable, "noise.skops"),
        ("model.rds", b"x", ArtifactUnsupported, r"\.onnx"),
    ],
)
def test_a_broken_file_is_said_and_nothing_is_kept(
    tmp_path: Path, home: Path, name: str, content: bytes, error: type[Exception], words: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(error, match=words):
        servable.add(path, name="broken", home=home, trust=True)
    assert not home.exists() or servable.models(home=home) == ()


def test_a_truncated_pickle_is_said(pipeline: object, tmp_path: Path, home: Path) -> None:
    path = tmp_path / "cut.pkl"
    path.write_bytes(pickle.dumps(pipeline)[:-200])
    with pytest.raises(ArtifactUnreadable, match=r"cut\.pkl"):
        servable.add(path, name="cut", home=home, trust=True)


def test_neither_a_missing_file_nor_any_object_is_a_model(tmp_path: Path, home: Path) -> None:
    with pytest.raises(FileMissing, match="nowhere"):
        servable.add(tmp_path / "nowhere.onnx", name="a", home=home)
    with pytest.raises(ArtifactUnsupported, match="folder"):
        servable.add(tmp_path, name="a", home=home)
    with pytest.raises(InputError, match="predict"):
        servable.add(object(), name="a", home=home)


def test_a_gate_that_is_missed_is_named(trained_home: Path, iris_csv: Path, tmp_path: Path) -> None:
    report = tmp_path / "evaluation.html"
    outcome = servable.evaluate(
        "iris:1", iris_csv, minimums={"accuracy": 0.5, "f1_macro": 0.9999}, home=trained_home, report=report
    )
    assert not outcome.passed
    (sentence,) = outcome.failed
    assert "f1_macro" in sentence
    assert "0.9999" in sentence
    assert report.read_text().count("<svg") >= 2
    with pytest.raises(SettingInvalid, match="rmse"):
        servable.evaluate("iris", iris_csv, minimums={"rmse": 1}, home=trained_home)


def test_rows_without_the_answer_cannot_be_evaluated_on(trained_home: Path, iris: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="species"):
        servable.evaluate("iris", iris.drop(columns="species"), home=trained_home)


def test_a_target_that_the_rows_lack_is_said_with_those_that_are_close(
    trained_home: Path, iris: pd.DataFrame, pipeline: object, home: Path
) -> None:
    with pytest.raises(DataError, match=r"'specie'.*species"):
        servable.evaluate("iris", iris, target="specie", home=trained_home)
    with pytest.raises(DataError, match=r"'specie'.*species"):
        servable.add(pipeline, name="iris", sample=iris, target="specie", home=home)
    renamed = iris.rename(columns={"species": "kind"})
    assert servable.evaluate("iris", renamed, target="kind", home=trained_home).metrics["accuracy"] > 0.9


def test_compiling_anew_keeps_the_version_and_gives_it_a_new_package(trained_home: Path) -> None:
    before = servable.describe("iris", home=trained_home)
    outcome = servable.optimize("iris", tolerance=1e-6, home=trained_home)
    after = servable.describe("iris", home=trained_home)
    assert (after.version, after.versions) == (1, (1,))
    assert after.package != before.package
    assert outcome.serving == after.serving
    assert after.metrics == before.metrics
    assert Path(after.report).is_file()
    assert outcome.rows_compared > 30
    assert open_package(Path(before.package)).manifest.model == "iris"


def test_an_impossible_tolerance_leaves_the_trained_form_serving(trained_home: Path) -> None:
    outcome = servable.optimize("iris", tolerance=0.0, home=trained_home)
    rows = {row.name: row for row in outcome.variants}
    if outcome.serving == "trained":
        assert all(row.equal is False for name, row in rows.items() if name != "trained")
        assert all("refused" in row.note for name, row in rows.items() if name != "trained")
    else:
        # Equal to the last bit, which a linear model in double precision can be.
        assert rows[outcome.serving].worst_difference == 0.0
