"""Every adapter over real model files."""

import pickle
from pathlib import Path

import lightgbm
import numpy as np
import pytest
import skops.io as sio
from skl2onnx import to_onnx
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LogisticRegression

from servable.frameworks.lookup import KNOWN, adapter
from servable.tensors import NUMBERS
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


def boosted(path: Path) -> Specimen:
    rows, values = load_diabetes(return_X_y=True)
    file = path / "model.txt"
    lightgbm.LGBMRegressor(n_estimators=5, verbose=-1).fit(rows, values).booster_.save_model(file)
    return Specimen(file, {NUMBERS: rows[:7].copy()})


def exported(path: Path) -> Specimen:
    rows = load_iris().data[:7].astype(np.float32)
    file = path / "model.onnx"
    file.write_bytes(to_onnx(classifier(), rows[:1]).SerializeToString())
    return Specimen(file, {"X": rows})


@pytest.mark.parametrize(
    ("name", "make"),
    [("sklearn", pickled), ("sklearn", skopsed), ("onnx", exported), ("lightgbm", boosted)],
    ids=["pickle", "skops", "onnx", "lightgbm"],
)
def test_adapters(name, make, tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    check_adapter(adapter(name), make(tmp_path), folder)


def test_no_adapter_is_forgotten():
    """Those that need a framework outside the ordinary environment are checked under ``tests/all``."""
    assert set(KNOWN) == {"catboost", "keras", "lightgbm", "onnx", "sklearn", "tensorflow", "xgboost"}
