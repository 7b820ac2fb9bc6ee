"""A LightGBM model file behind a real server: equal to the library, in its own form and compiled."""

from pathlib import Path

import lightgbm
import pytest

import servable
from e2e.asking import Wanted, check_served, let_the_trained_form_serve
from e2e.conftest import Serve
from optimization.boosters import table


@pytest.mark.slow
def test_both_forms_answer_as_the_library_does(tmp_path: Path, home: Path, serve: Serve) -> None:
    given = table()
    model = lightgbm.LGBMClassifier(n_estimators=20, verbose=-1, n_jobs=1, min_data_per_group=5)
    model.fit(given.categories, given.three)
    path = tmp_path / "model.txt"
    model.booster_.save_model(path)
    for name in ("compiled", "trained"):
        outcome = servable.add(path, name=name, sample=given.frame, home=home, deploy=True)
        assert outcome.serving == "onnx-fp64"
    let_the_trained_form_serve(home, "trained")
    url = serve(home)
    columns = {name: given.frame[name].to_numpy() for name in given.frame}
    wanted = Wanted(model.predict(given.categories).tolist(), model.predict_proba(given.categories))
    for name in ("compiled", "trained"):
        check_served(url, name, columns, wanted, 1e-9)
