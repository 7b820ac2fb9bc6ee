"""What training was told survives in a package, and damage is said."""

from pathlib import Path

import pytest

from servable.artifact.loss import MaxLoss
from servable.artifact.manifest import RECIPE_FILE
from servable.artifact.recipe import Recipe, read_recipe, write_recipe
from servable.errors import ArtifactUnreadable


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(),
        Recipe(
            data="/data/churn.csv", sha256="ab", rows=7, target="churned", model="lightgbm",
            kinds={"id": "drop"}, time_order="day", unknown="refuse", max_loss=MaxLoss("accuracy", 0.01),
            traffic_rows=3, traffic_until="2026-01-01T00:00:00.000001+00:00",
        ),
        Recipe(max_loss="rmse=1%", time_order=True),
    ],
)  # fmt: skip
def test_a_recipe_comes_back(recipe: Recipe, tmp_path: Path) -> None:
    write_recipe(tmp_path, recipe)
    assert read_recipe(tmp_path) == recipe


def test_an_older_package_has_none(tmp_path: Path) -> None:
    assert read_recipe(tmp_path) is None


@pytest.mark.parametrize("text", ["{", "[]", '{"rows": "many"}'])
def test_a_damaged_one_is_said(text: str, tmp_path: Path) -> None:
    (tmp_path / RECIPE_FILE).write_text(text)
    with pytest.raises(ArtifactUnreadable, match=RECIPE_FILE):
        read_recipe(tmp_path)
