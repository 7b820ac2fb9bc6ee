"""A home with one deployed version of a model that new labels can make better."""

import shutil
from pathlib import Path

import pytest

import servable
from updating.making import rows


@pytest.fixture(scope="session")
def shops_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shops") / "shops.csv"
    rows(300, seed=1).to_csv(path, index=False)
    return path


@pytest.fixture(scope="session")
def finished_shops(shops_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with ``shops:1``, a logistic regression that is deployed; copy it before changing it."""
    home = tmp_path_factory.mktemp("shops") / "home"
    servable.train(
        shops_csv, target="label", name="shops", model="logistic", time_budget_s=0.1, deploy=True, home=home
    )
    return home


@pytest.fixture
def shops(finished_shops: Path, tmp_path: Path) -> Path:
    """A copy of ``finished_shops`` to change."""
    return Path(shutil.copytree(finished_shops, tmp_path / "home"))
