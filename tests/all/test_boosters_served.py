"""XGBoost and CatBoost behind a real server: equal to the libraries, in their own form and compiled."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import servable
from e2e.asking import Wanted, check_served, let_the_trained_form_serve
from e2e.conftest import running_server
from optimization.boosters import Table, table

pytestmark = pytest.mark.frameworks


def xgboost_model(given: Table, folder: Path) -> tuple[Path, Wanted]:
    xgboost = pytest.importorskip("xgboost", reason="needs the extra xgboost; make test-all has it")
    model = xgboost.XGBClassifier(n_estimators=15, enable_categorical=True, n_jobs=1)
    model.fit(given.categories, given.three)
    model.save_model(folder / "model.ubj")
    chances = model.predict_proba(given.categories)
    return folder / "model.ubj", Wanted(model.predict(given.categories).tolist(), chances)


def catboost_model(given: Table, folder: Path) -> tuple[Path, Wanted]:
    catboost = pytest.importorskip("catboost", reason="needs the extra catboost; make test-all has it")
    model = catboost.CatBoostClassifier(
        iterations=15,
        cat_features=["town", "grade"],
        one_hot_max_size=9,
        verbose=0,
        allow_writing_files=False,
    )
    labels = np.where(given.two == 1, "yes", "no")
    model.fit(given.frame, labels)
    model.save_model(str(folder / "model.cbm"))
    return folder / "model.cbm", Wanted(model.predict(given.frame).tolist(), model.predict_proba(given.frame))


@pytest.mark.parametrize("make", [xgboost_model, catboost_model])
def test_both_forms_answer_as_the_library_does(
    make: Callable[[Table, Path], tuple[Path, Wanted]], tmp_path: Path, home: Path
) -> None:
    given = table()
    path, wanted = make(given, tmp_path)
    for name in ("compiled", "trained"):
        outcome = servable.add(path, name=name, sample=given.frame, home=home, deploy=True)
        assert outcome.serving.startswith("onnx")
    let_the_trained_form_serve(home, "trained")
    columns: dict[str, Any] = {name: given.frame[name].to_numpy() for name in given.frame}
    with running_server(home) as url:
        for name in ("compiled", "trained"):
            check_served(url, name, columns, wanted, 1e-6)
