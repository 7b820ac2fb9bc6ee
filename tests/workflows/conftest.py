"""A small real data set, and a home with one trained version to copy from."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from sklearn.datasets import load_iris

import servable


@pytest.fixture(scope="session")
def iris() -> pd.DataFrame:
    """Fisher's irises with names that a CSV would have."""
    bunch = load_iris(as_frame=True)
    frame = bunch.data.set_axis(
        ["sepal_length", "sepal_width", "petal_length", "petal_width"], axis="columns"
    )
    return frame.assign(species=[str(bunch.target_names[index]) for index in bunch.target])


@pytest.fixture(scope="session")
def iris_csv(iris: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "iris.csv"
    iris.to_csv(path, index=False)
    return path


@pytest.fixture(scope="session")
def finished_home(iris_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with ``iris:1``, a logistic regression; copy it before changing it."""
    home = tmp_path_factory.mktemp("finished") / "home"
    servable.train(iris_csv, target="species", name="iris", model="logistic", time_budget_s=0.1, home=home)
    return home


@pytest.fixture
def trained_home(finished_home: Path, tmp_path: Path) -> Path:
    """A copy of ``finished_home`` to change."""
    return Path(shutil.copytree(finished_home, tmp_path / "trained"))
