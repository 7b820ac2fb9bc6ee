"""Training with differential privacy: within the budget, useful, hard to attack, and served as any other."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("torch", reason="needs the extra torch; make test-all has it")
pytest.importorskip("opacus", reason="needs the extra dp")

import servable
from servable.artifact.package import read_profile
from servable.artifact.recipe import Recipe
from servable.errors import DataError, SettingInvalid
from servable.registry.home import open_home
from servable.updating.learning import fit_of
from servable.workflows.look import describe
from servable.workflows.privacy_report import privacy_report

pytestmark = pytest.mark.frameworks

NUMBERS = ("u", "v", "w")


def table(rows: int, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    x = random.normal(0, 1, (rows, 3))
    job = random.choice(["cook", "nurse"], rows)
    score = x @ [1.5, -2.0, 0.5] + (job == "cook")
    return pd.DataFrame(x, columns=list(NUMBERS)).assign(
        job=job,
        score=score + random.normal(0, 0.5, rows),
        ill=np.where(score + random.logistic(0, 0.7, rows) > 0, "yes", "no"),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rows, rows of others, and bounds for both targets."""
    made = tmp_path_factory.mktemp("private")
    table(1500, 0).to_csv(made / "rows.csv", index=False)
    table(800, 1).to_csv(made / "others.csv", index=False)
    inputs = {**{name: {"min": -3, "max": 3} for name in NUMBERS}, "job": ["cook", "nurse"]}
    for target, known in (("ill", ["no", "yes"]), ("score", {"min": -9, "max": 9})):
        (made / f"{target}.json").write_text(json.dumps({**inputs, target: known}))
    return made


def train(folder: Path, home: Path, target: str, **more: Any) -> Any:
    told = {"privacy_epsilon": 1.0, "bounds": folder / f"{target}.json", **more}
    return servable.train(folder / "rows.csv", target=target, name=target, home=home, **told)


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    """A home with ``ill:1``."""
    train(folder, folder / "home", "ill")
    return folder / "home"


def test_the_budget_is_kept_recorded_and_added_up(folder: Path, trained: Path) -> None:
    first = describe("ill:1", home=trained)
    spent = first.recipe["privacy"]
    assert 0.9 < spent["epsilon"] <= 1.0
    assert spent["delta"] == pytest.approx(1 / (10 * first.recipe["rows_train"]))
    assert spent["library"] == "opacus"
    assert spent["epsilon_of_all_versions"] == spent["epsilon"]
    assert first.metrics["accuracy"] > 0.75
    second = train(folder, trained, "ill", privacy_epsilon=2.0, privacy_delta=1e-6)
    both = describe(f"ill:{second.version}", home=trained).recipe["privacy"]
    assert (both["delta"], both["versions"]) == (1e-6, 2)
    assert both["epsilon_of_all_versions"] == pytest.approx(spent["epsilon"] + both["epsilon"])
    assert "differential privacy" in Path(second.report).read_text(encoding="utf-8")


def test_no_row_is_in_the_package(trained: Path) -> None:
    with open_home(trained, create=False) as place:
        package = place.package(place.models.resolve("ill:1"))
    names = {path.name for path in package.folder.iterdir()}
    assert not names & {"sample.npz", "truth.npz", "answers.npz"}
    # Statistics are those of rows that it did not learn from.
    profile = read_profile(package.folder)
    assert profile is not None
    assert profile.rows == package.manifest.recipe["rows_holdout"]
    with pytest.raises(SettingInvalid, match="--privacy-epsilon"):
        fit_of(package, Recipe())


def test_attacks_find_hardly_anything(folder: Path, trained: Path) -> None:
    sides = {"members": folder / "rows.csv", "others": folder / "others.csv"}
    found = privacy_report("ill:1", **sides, queries=100, home=trained)
    # What is left is chance, with the noise of the training another every time.
    assert all(attack.auc < 0.58 for attack in found.attacks)
    assert all(attack.auc_low < 0.55 for attack in found.attacks)
    assert found.privacy["epsilon"] <= 1.0


def test_forests_are_kept_within_the_budget_and_compiled(folder: Path, tmp_path: Path) -> None:
    made = train(folder, tmp_path, "ill", model="dp_forest")
    found = describe("ill:1", home=tmp_path)
    spent = found.recipe["privacy"]
    # Nothing of the budget is left to a chance, and nothing but the system's randomness is drawn on.
    assert (spent["epsilon"], spent["delta"], spent["library"]) == (1.0, 0.0, "servable")
    assert made.metrics["roc_auc"] > 0.75
    assert made.serving.startswith("onnx")
    with pytest.raises(SettingInvalid, match="predicts no numbers"):
        train(folder, tmp_path, "score", model="dp_forest")


def pictures(folder: Path, rows: int, seed: int) -> None:
    """Files of a bright bar that lies or stands, in folders of their classes."""
    image = pytest.importorskip("PIL.Image", reason="needs the extra image")
    random = np.random.default_rng(seed)
    for row in range(rows):
        label = ("lies", "stands")[row % 2]
        pixels = random.integers(0, 60, (12, 12))
        place = int(random.integers(2, 9))
        pixels[(slice(place, place + 3), slice(None))[:: 1 if label == "lies" else -1]] += 180
        (folder / label).mkdir(parents=True, exist_ok=True)
        image.fromarray(pixels.astype(np.uint8)).save(folder / label / f"{row}.png")


def test_networks_of_pictures_are_kept_within_the_budget(tmp_path: Path) -> None:
    pictures(tmp_path / "bars", 600, 0)
    known = tmp_path / "bars.json"
    form = {"width": 12, "height": 12, "channels": 1}
    known.write_text(json.dumps({"image": form, "label": ["lies", "stands"]}))
    told: dict[str, Any] = {"name": "bars", "home": tmp_path / "home", "bounds": known}
    made = servable.train(tmp_path / "bars", privacy_epsilon=8.0, **told)
    found = describe("bars:1", home=tmp_path / "home")
    spent = found.recipe["privacy"]
    assert 7 < spent["epsilon"] <= 8.0
    assert spent["delta"] == pytest.approx(1 / (10 * found.recipe["rows_train"]))
    assert made.metrics["accuracy"] > 0.8
    assert made.serving.startswith("onnx")
    with open_home(tmp_path / "home", create=False) as place:
        package = place.package(place.models.resolve("bars:1"))
    assert not {path.name for path in package.folder.iterdir()} & {"sample.npz", "truth.npz", "answers.npz"}
    with pytest.raises(SettingInvalid, match="dp_network"):
        servable.train(tmp_path / "bars", privacy_epsilon=1.0, model="kernel", **told)
    known.write_text(json.dumps({"image": form, "label": ["lies", "leans"]}))
    with pytest.raises(DataError, match="'leans'"):
        servable.train(tmp_path / "bars", privacy_epsilon=1.0, **told)
    known.write_text(json.dumps({"label": ["lies", "stands"]}))
    with pytest.raises(SettingInvalid, match="form of the pictures"):
        servable.train(tmp_path / "bars", privacy_epsilon=1.0, **told)


def test_texts_with_the_bounds_of_a_table_are_refused(folder: Path, tmp_path: Path) -> None:
    for place in range(8):
        file = tmp_path / "texts" / ("good", "bad")[place % 2] / f"{place}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("words that somebody wrote")
    told: dict[str, Any] = {"target": "label", "name": "t", "home": tmp_path / "home", "privacy_epsilon": 1.0}
    with pytest.raises(SettingInvalid, match="must name the one column of texts"):
        servable.train(tmp_path / "texts", bounds=folder / "ill.json", **told)


def test_numbers_are_learned_too_and_noise_is_another_every_time(folder: Path, tmp_path: Path) -> None:
    made = [train(folder, tmp_path, "score", privacy_epsilon=4.0, seed=0) for _ in range(2)]
    assert all(one.metrics["r2"] > 0.5 for one in made)
    # The seed is public; noise that follows from it could be taken away again.
    assert made[0].metrics["rmse"] != made[1].metrics["rmse"]


@pytest.mark.parametrize(
    ("words", "more"),
    [
        ("--bounds", {"bounds": None}),
        ("--privacy-epsilon", {"privacy_epsilon": None}),
        ("above 0", {"privacy_epsilon": -1.0}),
        ("--refit", {"refit": True}),
        ("dp_logistic", {"model": "forest"}),
    ],
)
def test_what_cannot_be_kept_private_is_refused(
    words: str, more: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(SettingInvalid, match=words):
        train(folder, tmp_path, "ill", **more)


def test_a_target_without_bounds_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="says nothing about 'score'"):
        train(folder, tmp_path, "score", bounds=folder / "ill.json")
