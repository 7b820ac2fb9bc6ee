"""A model that was measured is fitted once more with the held-out rows; its figures stay what they were."""

import numpy as np
import pandas as pd
import pytest

from servable.errors import SettingInvalid
from servable.training import tasks
from servable.training.data import Problem, infer


def moving(rows: int) -> Problem:
    """A label that follows x in the first rows and y in the last quarter."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, rows))
    label = np.where(np.arange(rows) < rows * 3 // 4, x, y) > 0
    return infer(pd.DataFrame({"x": x, "y": y, "up": np.where(label, "yes", "no")}), "up", time_order=True)


def test_all_rows_are_learned_from_and_the_figures_are_those_before() -> None:
    problem = moving(400)
    once, again = (
        tasks.train(problem, model="lightgbm", time_budget_s=0.1, seed=3, refit=refit)
        for refit in (False, True)
    )
    assert again.evaluation == once.evaluation
    assert again.evaluation.metrics["accuracy"] < 0.7
    assert (once.rows_train, again.rows_train) == (320, 400)
    assert again.recipe["rows_holdout"] == once.recipe["rows_holdout"] == 80
    assert again.recipe["split"]["refitted"] is True
    assert again.profile.rows == 400
    assert any("which learned from 320 rows" in note for note in again.notes)
    _, wanted = tasks.fit(problem, "lightgbm", again.recipe["params"], seed=3)
    frame = problem.frame(np.arange(problem.size))
    chances = [each.model.predict_proba(frame) for each in (again.trained, wanted, once.trained)]
    assert np.array_equal(chances[0], chances[1])
    assert not np.array_equal(chances[0], chances[2])
    # It knows the newest rows now.
    newest = problem.frame(np.arange(320, 400))
    right = again.trained.model.predict(newest) == problem.truth_at(np.arange(320, 400))
    assert right.mean() > once.evaluation.metrics["accuracy"] + 0.1


def test_texts_too() -> None:
    texts = [
        f"{word} number {number} of many words here" for number in range(60) for word in ("good", "poor")
    ]
    frame = pd.DataFrame({"said": texts, "mood": ["up", "down"] * 60})
    problem = infer(frame, "mood", kinds={"said": "text"}, time_order=True)
    result = tasks.train(problem, model="words", time_budget_s=2, refit=True)
    assert result.rows_train == 120
    assert result.recipe["split"]["refitted"] is True
    assert result.evaluation.rows == result.recipe["rows_holdout"] == 24


def test_clusters_stay_those_that_were_measured() -> None:
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 2)), columns=["a", "b"])
    with pytest.raises(SettingInvalid, match="leave --refit out"):
        tasks.train(infer(frame, None), time_budget_s=1, refit=True)
