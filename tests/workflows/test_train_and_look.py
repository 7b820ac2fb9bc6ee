"""Training through the public face, and what the registry then knows."""

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest

import servable
from servable.artifact.package import open_package, read_evaluation, read_profile
from servable.artifact.recipe import read_recipe
from servable.artifact.sample import read_sample
from servable.errors import DataError, FileMissing, InputError, ModelNotFound, SettingInvalid
from servable.testing import RecordedProgress


def test_a_version_holds_everything_that_is_known_about_it(finished_home: Path) -> None:
    found = servable.describe("iris", home=finished_home)
    package = open_package(Path(found.package))
    evaluation = read_evaluation(package.folder)
    assert evaluation is not None
    assert evaluation["metrics"] == found.metrics
    assert found.metrics["accuracy"] >= 0.9
    assert read_profile(package.folder) is not None
    assert len(read_sample(package.folder)["numbers"]) == found.recipe["rows_holdout"] == 30
    page = Path(found.report).read_text()
    assert page.startswith(("<!doctype html>", "<!DOCTYPE html>"))
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert found.source["data"] == "iris.csv"
    assert len(found.source["sha256"]) == 64
    assert found.signature.classes == ("setosa", "versicolor", "virginica")
    assert next(field.name for field in found.signature.inputs) == "sepal_length"
    assert set(found.signature.example) == {field.name for field in found.signature.inputs}


def test_the_fastest_equal_form_serves_and_the_trained_one_stays(finished_home: Path) -> None:
    rows = {row.name: row for row in servable.describe("iris", home=finished_home).variants}
    chosen = next(row for row in rows.values() if row.chosen)
    assert chosen.name.startswith("onnx")
    assert chosen.equal is True
    assert chosen.label_differences == 0
    assert chosen.rows_compared > 30
    assert chosen.speedup is not None
    assert chosen.speedup > 5
    assert set(chosen.timings) == {"1", "8", "32", "256"}
    assert rows["trained"].equal is None


def test_a_data_frame_is_as_good_as_a_file(iris: pd.DataFrame, home: Path) -> None:
    seen = RecordedProgress()
    outcome = servable.train(
        iris, target="species", name="frame", model="logistic", time_budget_s=0.1, home=home, progress=seen
    )
    assert outcome.version == 1
    assert outcome.rows_train + outcome.rows_holdout == 150
    assert servable.describe("frame", home=home).source == {"data": "DataFrame", "rows": 150}
    assert msgspec.json.decode(msgspec.json.encode(outcome))["estimator"] == "logistic"


def test_the_next_version_is_compared_with_the_one_before(iris: pd.DataFrame, trained_home: Path) -> None:
    outcome = servable.train(
        iris,
        target="species",
        name="iris",
        model="logistic",
        time_budget_s=0.1,
        home=trained_home,
        deploy=True,
    )
    assert outcome.version == 2
    assert outcome.deployed
    (row,) = servable.models(home=trained_home)
    assert (row.versions, row.latest, row.deployed, row.default) == (2, 2, 2, True)
    assert "revious" in Path(outcome.report).read_text()


@pytest.mark.parametrize(
    ("time_order", "refit", "refitted"),
    [(True, None, True), (True, False, False), (False, None, False), (False, True, True)],
)
def test_the_newest_rows_are_learned_from_once_they_have_measured(
    time_order: bool, refit: bool | None, refitted: bool, home: Path
) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(200, 2)), columns=["a", "b"]).assign(y=rng.integers(0, 2, 200) > 0)
    outcome = servable.train(
        frame, target="y", name="made", model="logistic", time_budget_s=0.1, time_order=time_order,
        refit=refit, home=home,
    )  # fmt: skip
    assert outcome.refitted is refitted
    assert (outcome.rows_train, outcome.rows_holdout) == (200 if refitted else 160, 40)
    package = servable.describe("made", home=home)
    assert ("fitted once more" in Path(outcome.report).read_text()) is refitted
    recipe = read_recipe(Path(package.package))
    assert recipe is not None
    assert recipe.refit is refit


def test_pictures_are_served_as_measured(tmp_path: Path, home: Path) -> None:
    for label in ("cat", "dog"):
        for number in range(3):
            path = tmp_path / "pets" / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(SettingInvalid, match="leave --refit out"):
        servable.train(tmp_path / "pets", name="pets", refit=True, home=home)


def test_clusters_need_no_target(iris: pd.DataFrame, home: Path) -> None:
    rows = iris.drop(columns="species")
    outcome = servable.train(rows, name="groups", time_budget_s=0.1, home=home)
    assert outcome.task == "clustering"
    assert outcome.metrics["silhouette"] > 0.3
    verdict = servable.evaluate("groups", rows, minimums={"silhouette": 0.3, "davies_bouldin": 5}, home=home)
    assert verdict.passed


def test_regression_is_found_from_the_target(home: Path) -> None:
    from sklearn.datasets import load_diabetes

    frame = load_diabetes(as_frame=True).frame
    outcome = servable.train(
        frame, target="target", name="sugar", model="ridge", time_budget_s=0.1, home=home
    )
    assert outcome.task == "regression"
    assert outcome.metrics["r2"] > 0.3
    assert any(row.chosen and row.name.startswith("onnx") for row in outcome.variants)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"target": "specie"}, DataError, "species"),
        ({"name": "Iris!"}, InputError, "no model name"),
        ({"model": "magic"}, SettingInvalid, "magic"),
        ({"time_budget_s": 0}, SettingInvalid, "time budget"),
        ({"holdout": 1.5}, SettingInvalid, "1.5"),
    ],
)
def test_what_cannot_be_used_is_said_and_nothing_is_kept(
    iris_csv: Path, home: Path, change: dict[str, object], error: type[Exception], words: str
) -> None:
    wanted = {"target": "species", "name": "iris", "home": home} | change
    with pytest.raises(error, match=words):
        servable.train(iris_csv, **wanted)
    if home.exists():
        assert servable.models(home=home) == ()
        assert not any((home / "packages").glob("*"))


def test_a_missing_file_and_a_missing_home_are_said(home: Path) -> None:
    with pytest.raises(FileMissing, match=r"nothing\.csv"):
        servable.train("nothing.csv", target="a", name="a", home=home)
    with pytest.raises(FileMissing, match="no home"):
        servable.models(home=home)


def test_select_shows_score_beside_the_cost_of_a_row_as_served(iris_csv: Path) -> None:
    board = servable.select(iris_csv, target="species", models=["forest"], folds=3, time_budget_s=5)
    names = [entry.name for entry in board.entries]
    assert {"forest", "logistic"} <= set(names)
    assert [entry.score for entry in board.entries] == sorted((e.score for e in board.entries), reverse=True)
    forest = board.entries[names.index("forest")]
    assert forest.served_variant.startswith("onnx")
    assert forest.trained_us_per_row is not None
    assert forest.served_us_per_row is not None
    assert forest.trained_us_per_row > 20 * forest.served_us_per_row


def test_deploy_rollback_undeploy_are_desired_state(trained_home: Path, iris: pd.DataFrame) -> None:
    first = servable.deploy("iris", home=trained_home)
    assert (first.version, first.previous, first.default) == (1, None, True)
    servable.train(
        iris, target="species", name="iris", model="logistic", time_budget_s=0.1, home=trained_home
    )
    second = servable.deploy("iris:2", home=trained_home)
    assert (second.version, second.previous) == (2, 1)
    back = servable.rollback("iris", home=trained_home)
    assert (back.version, back.previous) == (1, 2)
    gone = servable.undeploy("iris", home=trained_home)
    assert (gone.version, gone.previous) == (None, 1)
    assert servable.status(home=trained_home).deployments == ()
    with pytest.raises(ModelNotFound):
        servable.deploy("irs", home=trained_home)


def test_status_asks_a_server_and_says_when_nobody_answers(trained_home: Path) -> None:
    servable.deploy("iris", home=trained_home)
    found = servable.status(home=trained_home, url="http://127.0.0.1:9")
    assert found.reachable is False
    assert [row.model for row in found.deployments] == ["iris"]


def test_a_changed_byte_is_found_before_anything_is_deployed(trained_home: Path) -> None:
    from servable.errors import ArtifactTampered

    folder = Path(servable.describe("iris", home=trained_home).package)
    victim = folder / "model.skops"
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    with pytest.raises(ArtifactTampered, match=r"model\.skops"):
        servable.deploy("iris", home=trained_home)
    assert servable.status(home=trained_home).deployments == ()
    shutil.rmtree(trained_home)
