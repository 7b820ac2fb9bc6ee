"""A largest loss from the verb to the package: train, add and optimize, and what is shown of it."""

import json
import shutil
import warnings
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from typer.testing import CliRunner

import servable
from servable.artifact.package import open_package
from servable.artifact.sample import read_sample, read_truth
from servable.cli.main import app
from servable.errors import ArtifactUnreadable, DataError, SettingInvalid
from servable.frameworks.lookup import adapter
from servable.workflows.outcomes import VariantRow

INT8 = "onnx-int8-static"


@pytest.fixture(scope="module")
def digits() -> pd.DataFrame:
    """Pixels of digits, and which digit it is."""
    pixels, truth = load_digits(return_X_y=True)
    frame = pd.DataFrame(pixels, columns=[f"p{place}" for place in range(64)]).assign(digit=truth)
    return frame.sample(frac=1.0, random_state=0).reset_index(drop=True)


@pytest.fixture(scope="module")
def network(digits: pd.DataFrame) -> object:
    """A network that learned from the first 700 of them."""
    model = make_pipeline(StandardScaler(), MLPClassifier((256, 256), max_iter=40, tol=1e-3, random_state=0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(digits[:700].drop(columns="digit"), digits.digit[:700])


@pytest.fixture(scope="module")
def finished(
    digits: pd.DataFrame, network: object, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, tuple[VariantRow, ...]]:
    """A home with ``digits:1``, quantised, and its variants; copy the home before changing it."""
    home = tmp_path_factory.mktemp("lossy") / "home"
    with pytest.MonkeyPatch.context() as patch:
        # Which form is faster depends on the machine.
        patch.setattr("servable.optimization.lossy.WORTH_LOSS", 0.0)
        patch.setattr("servable.optimization.choose.WORTH_LOSS", 0.0)
        outcome = servable.add(
            network, name="digits", sample=digits[700:], target="digit", max_loss="accuracy=0.05", home=home
        )
    return home, outcome.variants


def row_of(rows: tuple[VariantRow, ...], name: str) -> VariantRow:
    return next(row for row in rows if row.name == name)


def test_a_model_added_with_labelled_rows_is_quantised_and_keeps_them(
    digits: pd.DataFrame, finished: tuple[Path, tuple[VariantRow, ...]]
) -> None:
    home, variants = finished
    row = row_of(variants, INT8)
    assert row.loss is not None
    assert row.loss.passed
    assert row.loss.metric == "accuracy"
    assert row.loss.rows == len(digits) - 700 - 200
    found = servable.describe("digits", home=home)
    assert row_of(found.variants, INT8).loss == row.loss
    assert json.loads(msgspec.json.encode(found))["variants"][0]["loss"] is None
    package = open_package(Path(found.package))
    truth = read_truth(package.folder)
    assert truth is not None
    assert truth.tolist() == digits.digit[700:].tolist()
    assert len(read_sample(package.folder)["numbers"]) == len(truth)
    chosen = package.manifest.chosen
    assert chosen.proof is not None
    assert chosen.proof.serves
    model = adapter(chosen.format).load(package.folder, chosen, package.signature, trust=False)
    given = model.predict(read_sample(package.folder))["prediction"]
    assert float((given == truth).mean()) > 0.85


@pytest.mark.slow
def test_a_package_that_keeps_the_truth_is_optimised_without_data(
    finished: tuple[Path, tuple[VariantRow, ...]], tmp_path: Path
) -> None:
    home = Path(shutil.copytree(finished[0], tmp_path / "home"))
    exact = servable.optimize("digits", home=home)
    assert exact.serving in ("onnx-fp32", "onnx-fp64")
    assert not [row for row in exact.variants if row.loss is not None]
    files = [
        path.name for path in (Path(servable.describe("digits", home=home).package) / "variants").iterdir()
    ]
    assert sorted(files) == ["onnx-fp32.onnx", "onnx-fp64.onnx"]
    again = servable.optimize("digits", max_loss=servable.MaxLoss("log_loss", 0.5, relative=True), home=home)
    loss = row_of(again.variants, INT8).loss
    assert loss is not None
    assert loss.metric == "log_loss"
    assert loss.most == pytest.approx(0.5 * loss.trained)


@pytest.mark.slow
def test_a_model_added_without_truth_needs_rows_with_it(
    digits: pd.DataFrame, network: object, home: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"--sample FILE --target COLUMN"):
        servable.add(network, name="digits", max_loss="accuracy=0.05", home=home)
    assert not home.exists() or servable.models(home=home) == ()
    servable.add(network, name="digits", sample=digits[700:].drop(columns="digit"), home=home)
    with pytest.raises(DataError, match=r"true answers are known"):
        servable.optimize("digits", max_loss="accuracy=0.05", home=home)
    table = tmp_path / "held_out.csv"
    digits[700:].rename(columns={"digit": "said"}).to_csv(table, index=False)
    with pytest.raises(DataError, match=r"which holds the right answers"):
        servable.optimize("digits", sample=table, max_loss="accuracy=0.05", home=home)
    found = servable.optimize("digits", sample=table, target="said", max_loss="accuracy=0.05", home=home)
    assert row_of(found.variants, INT8).loss is not None
    # From now on the package knows the truth itself.
    assert read_truth(Path(servable.describe("digits", home=home).package)) is not None


@pytest.mark.slow
def test_a_table_is_trained_and_quantised_and_the_report_shows_it(
    digits: pd.DataFrame, home: Path, tmp_path: Path
) -> None:
    outcome = servable.train(
        digits,
        target="digit",
        name="digits",
        model="mlp",
        time_budget_s=0.1,
        max_loss="accuracy=0.1",
        home=home,
    )
    rows = [row for row in outcome.variants if row.loss is not None]
    assert {"onnx-int8-dynamic", INT8} <= {row.name for row in rows}
    assert all(row.loss.rows == outcome.rows_holdout - min(200, outcome.rows_holdout // 5) for row in rows)
    page = Path(outcome.report).read_text()
    assert "onnx-int8-static" in page
    assert "if its loss in a metric that was agreed on is small enough" in page
    assert "95 % interval" in page


def test_a_loss_that_cannot_be_measured_is_refused_before_anything_is_trained(
    iris: pd.DataFrame, home: Path
) -> None:
    with pytest.raises(SettingInvalid, match="'rmse' is not measured for this model"):
        servable.train(iris, target="species", name="iris", max_loss="rmse=0.1", home=home)
    with pytest.raises(SettingInvalid, match="the task is clustering"):
        servable.train(iris.drop(columns="species"), name="iris", max_loss="accuracy=0.1", home=home)
    with pytest.raises(SettingInvalid, match="is no largest loss"):
        servable.train(iris, target="species", name="iris", max_loss="accuracy", home=home)
    assert not home.exists()


def test_too_few_rows_leave_the_equal_forms(digits: pd.DataFrame, network: object, home: Path) -> None:
    outcome = servable.add(
        network, name="digits", sample=digits[700:760], target="digit", max_loss="accuracy=0.5", home=home
    )
    assert outcome.serving in ("onnx-fp32", "onnx-fp64")
    row = row_of(outcome.variants, "lossy forms")
    assert not row.kept
    assert "48 rows with their true answers are too few" in row.note


def test_labels_that_the_model_does_not_know_matter_only_for_a_loss(
    digits: pd.DataFrame, network: object, home: Path
) -> None:
    odd = digits[700:].assign(digit="ten")
    outcome = servable.add(network, name="digits", sample=odd, target="digit", home=home)
    assert read_truth(Path(outcome.package)) is None
    with pytest.raises(DataError, match="none of the model's classes"):
        servable.add(network, name="digits", sample=odd, target="digit", max_loss="accuracy=1", home=home)


def test_a_damaged_truth_is_said(tmp_path: Path) -> None:
    assert read_truth(tmp_path) is None
    (tmp_path / "truth.npz").write_bytes(b"PK nothing")
    with pytest.raises(ArtifactUnreadable, match=r"truth\.npz"):
        read_truth(tmp_path)
    np.savez(tmp_path / "truth.npz", other=np.zeros(3))
    with pytest.raises(ArtifactUnreadable, match=r"truth\.npz"):
        read_truth(tmp_path)


def test_the_command_line_shows_what_is_lost(
    finished: tuple[Path, tuple[VariantRow, ...]], tmp_path: Path
) -> None:
    home = Path(shutil.copytree(finished[0], tmp_path / "home"))
    runner = CliRunner(env={"SERVABLE_HOME": str(home), "COLUMNS": "220"})
    shown = runner.invoke(app, ["describe", "digits"])
    assert shown.exit_code == 0, shown.output
    assert "lossy" in shown.output
    assert "held-out rows, a loss of" in " ".join(shown.output.split())
    done = runner.invoke(app, ["optimize", "digits", "--max-loss", "accuracy=0.05", "--json"])
    assert done.exit_code == 0, done.output
    rows = {row["name"]: row for row in json.loads(done.stdout)["variants"]}
    assert rows[INT8]["loss"]["most"] == 0.05
    refused = runner.invoke(app, ["optimize", "digits", "--max-loss", "accuracy=much"])
    assert refused.exit_code == 2
    assert "largest loss of accuracy must be a number" in refused.output
    assert "--max-loss accuracy=0.005" in runner.invoke(app, ["optimize", "--help"]).output
