"""Every adapter over real model files."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import skops.io as sio
from skl2onnx import to_onnx
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LogisticRegression

from servable.frameworks.lookup import KNOWN, adapter
from servable.tensors import NUMBERS, STRINGS
from servable.testing import check_adapter
from servable.testing.adapters import Specimen


def classifier() -> LogisticRegression:
    return LogisticRegression(max_iter=500).fit(*load_iris(return_X_y=True))


def pickled(path: Path) -> Specimen:
    file = path / "model.pkl"
    file.write_bytes(pickle.dumps(classifier()))
    return Specimen(file, {NUMBERS: load_iris().data[:7].copy()}, executes=True)


def skopsed(path: Path) -> Specimen:
    rows, values = load_diabetes(return_X_y=True)
    file = path / "model.skops"
    sio.dump(RandomForestRegressor(5, random_state=0).fit(rows, values), file)
    return Specimen(file, {NUMBERS: rows[:7].copy()})


def exported(path: Path) -> Specimen:
    rows = load_iris().data[:7].astype(np.float32)
    file = path / "model.onnx"
    file.write_bytes(to_onnx(classifier(), rows[:1]).SerializeToString())
    return Specimen(file, {"X": rows})


def written(path: Path) -> Specimen:
    file = path / "model.py"
    file.write_text(
        "from typing import Literal\n"
        "def predict(text: list[str], length: list[int]) -> list[Literal['short', 'long']]:\n"
        "    return ['long' if len(each) > most else 'short' for each, most in zip(text, length)]\n"
    )
    rows = {STRINGS: np.array([["a"], ["abc"]], object), NUMBERS: np.array([[2.0], [2.0]])}
    return Specimen(file, rows, executes=True)


@pytest.mark.parametrize(
    ("name", "make"),
    [("sklearn", pickled), ("sklearn", skopsed), ("onnx", exported), ("python", written)],
    ids=["pickle", "skops", "onnx", "python"],
)
def test_adapters(name, make, tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    check_adapter(adapter(name), make(tmp_path), folder)


def test_no_adapter_is_forgotten():
    # That of MLflow is checked beside its other tests, because MLflow takes long to import.
    assert set(KNOWN) == {"sklearn", "onnx", "python", "mlflow"}
