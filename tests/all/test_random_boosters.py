"""XGBoost and CatBoost against their compiled form, on models and rows that hypothesis makes."""

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimization.boosters import read
from optimization.test_random_trees import SETTINGS, tables
from servable.errors import ModelFailed
from servable.frameworks import lookup
from servable.optimization import nasty
from servable.optimization.boosted_forms import convert
from servable.tensors import NUMBERS, PREDICTION, PROBABILITIES

catboost = pytest.importorskip("catboost", reason="needs the extra catboost; make test-all has it")
xgboost = pytest.importorskip("xgboost", reason="needs the extra xgboost; make test-all has it")
pytestmark = pytest.mark.frameworks


def check(model: Any, suffix: str, matrix: Any, *, single: bool, tolerance: float) -> None:
    """A fitted model through its file: the compiled form answers every row as the library does."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model.{suffix}"
        model.save_model(str(path))
        trained = read(path, None)
        predictor = lookup.adapter(lookup.framework_of(path)).wrap(trained)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(convert(trained, single=single), options)
    asked = 0
    for name, rows in {"fitted rows": {NUMBERS: matrix}, **nasty.make(trained, {NUMBERS: matrix})}.items():
        try:
            expected = predictor.predict(rows)
        except ModelFailed:
            # XGBoost refuses what is infinite in float32.
            assert np.abs(rows[NUMBERS][~np.isnan(rows[NUMBERS])]).max() > 3e38
            continue
        labels, probabilities = session.run([PREDICTION, PROBABILITIES], {NUMBERS: rows[NUMBERS]})
        assert np.array_equal(labels, expected[PREDICTION]), name
        assert np.abs(probabilities - expected[PROBABILITIES]).max() <= tolerance, name
        asked += len(labels)
    assert asked > 500


@SETTINGS
@given(tables(missing=True), st.integers(1, 6), st.sampled_from([None, 0.2]), st.booleans())
def test_xgboost(table, depth, base, categorical):
    matrix, label = table
    kinds = ["q", "c", "q", "q"] if categorical else None
    model = xgboost.XGBClassifier(
        n_estimators=4,
        max_depth=depth,
        base_score=base if len(set(label)) == 2 else None,
        feature_types=kinds,
        enable_categorical=categorical,
        n_jobs=1,
    )
    check(model.fit(matrix, label), "ubj", matrix, single=True, tolerance=2e-7)


@SETTINGS
@given(
    tables(missing=True),
    st.integers(1, 6),
    st.sampled_from(["SymmetricTree", "Depthwise", "Lossguide"]),
    st.sampled_from(["Min", "Max"]),
)
def test_catboost(table, depth, policy, missing):
    matrix, label = table
    model = catboost.CatBoostClassifier(
        iterations=4,
        depth=depth,
        grow_policy=policy,
        nan_mode=missing,
        verbose=0,
        allow_writing_files=False,
        thread_count=1,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(matrix.astype(np.float32), label)
    check(model, "cbm", matrix, single=False, tolerance=1e-12)
