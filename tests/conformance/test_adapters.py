"""Every adapter over real model files."""

import pickle
from pathlib import Path

import lightgbm
import numpy as np
import pytest
import skops.io as sio
from river import compose
from skl2onnx import to_onnx
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import RandomForestRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from frameworks.river_models import made
from inputs.models import LABELS, SIDE, colours
from servable.artifact.preparation import ImageInput
from servable.artifact.signature import Field
from servable.frameworks.base import Hints
from servable.frameworks.frame import pack
from servable.frameworks.lookup import KNOWN, adapter
from servable.frameworks.sklearn import ADAPTER as SKLEARN
from servable.frameworks.text_program import write_compiled
from servable.optimization.text_linear import compile_text
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


def pictured(path: Path) -> Specimen:
    field = Field(name="image", kind="image", dtype="", preparation=ImageInput(width=SIDE, height=SIDE))
    rows = np.random.default_rng(0).random((7, 3, SIDE, SIDE), np.float32)
    hints = Hints(inputs=(field,), labels=LABELS, scores="logits")
    return Specimen(colours(path), {"image": rows}, hints=hints)


def texted(path: Path) -> Specimen:
    texts = ["a good film", "a bad film", "good", "bad, bad"]
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, [1, 0, 1, 0])
    folder = path / "model"
    write_compiled(compile_text(SKLEARN.take(pipeline, sample=None)), folder)
    return Specimen(folder, {STRINGS: np.array([texts], dtype=object).T}, breakable="text.json")


def written(path: Path) -> Specimen:
    file = path / "model.py"
    file.write_text(
        "from typing import Literal\n"
        "def predict(text: list[str], length: list[int]) -> list[Literal['short', 'long']]:\n"
        "    return ['long' if len(each) > most else 'short' for each, most in zip(text, length)]\n"
    )
    rows = {STRINGS: np.array([["a"], ["abc"]], object), NUMBERS: np.array([[2.0], [2.0]])}
    return Specimen(file, rows, executes=True)


def streamed(path: Path) -> Specimen:
    given = made("softmax")
    file = path / "model.pkl"
    file.write_bytes(pickle.dumps(given.model))
    trained = adapter("river").read(file, sample=given.frame, trust=False)
    return Specimen(file, pack(given.frame.head(7), trained.signature), sample=given.frame)


def streamed_by_steps_of_its_author(path: Path) -> Specimen:
    given = made("logistic")
    file = path / "model.pkl"
    file.write_bytes(pickle.dumps(compose.FuncTransformer(copied) | given.model))
    trained = adapter("river").read(file, sample=given.frame, trust=True)
    return Specimen(file, pack(given.frame.head(7), trained.signature), sample=given.frame, executes=True)


def copied(row: dict[str, object]) -> dict[str, object]:
    return dict(row)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("sklearn", pickled),
        ("sklearn", skopsed),
        ("onnx", exported),
        ("onnx", pictured),
        ("text", texted),
        ("python", written),
        ("lightgbm", boosted),
        ("river", streamed),
        ("river", streamed_by_steps_of_its_author),
    ],
    ids=[
        "pickle",
        "skops",
        "onnx",
        "onnx of pictures",
        "text",
        "python",
        "lightgbm",
        "river",
        "river and code",
    ],
)
def test_adapters(name, make, tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    check_adapter(adapter(name), make(tmp_path), folder)


def test_no_adapter_is_forgotten():
    """Those that need a framework outside the ordinary environment are checked under ``tests/all``."""
    # That of MLflow is checked beside its other tests, because MLflow takes long to import.
    assert set(KNOWN) == {
        "catboost",
        "keras",
        "lightgbm",
        "mlflow",
        "onnx",
        "openvino",
        "python",
        "recurrent",
        "river",
        "sklearn",
        "tensorflow",
        "text",
        "torch",
        "transformers",
        "xgboost",
    }
