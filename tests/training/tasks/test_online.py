"""Models that learn online: compared on each row before it is learned, of every kind of column."""

import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest

from servable.errors import DependencyMissing, SettingInvalid
from servable.frameworks.base import EXECUTES
from servable.frameworks.lookup import adapter
from servable.frameworks.river import learn
from servable.tensors import PREDICTION, take
from servable.testing import RecordedProgress
from servable.training import tasks
from servable.training.data import Problem, infer
from servable.training.tasks.online_models import CANDIDATES, is_online

LEARNERS = [known.name for known in CANDIDATES if is_online(known.name)]


def table(count: int = 360) -> pd.DataFrame:
    """Numbers, categories, truth values and dates, some of each missing, and three targets."""
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "size": draw.normal(size=count),
            "count": draw.integers(0, 5, count),
            "town": draw.choice(["u", "v", "w"], count).astype(object),
            "paid": draw.random(count) > 0.5,
            "sold": pd.Timestamp("2026-01-01") + pd.to_timedelta(draw.integers(0, 9_000, count), "h"),
        }
    )
    says = frame["size"] + (frame["town"] == "u") + 0.5 * frame["paid"]
    frame = frame.assign(
        two=np.where(says > 0.5, "yes", "no"), three=np.digitize(says, [0, 1]), value=100 * says + 7
    )
    for column in ("size", "town", "sold"):
        frame[column] = frame[column].where(draw.random(count) > 0.05)
    return frame


def problem(target: str) -> Problem:
    others = [name for name in ("two", "three", "value") if name != target]
    return infer(table().drop(columns=others), target)


@pytest.mark.parametrize("target", ["two", "three", "value"])
@pytest.mark.parametrize("name", LEARNERS)
def test_each_learns_every_kind_of_column_and_task(name: str, target: str, tmp_path: Any) -> None:
    found = tasks.train(problem(target), model=name, time_budget_s=1)
    metric = found.evaluation.metric
    assert found.adapter == "river"
    assert found.recipe["estimator"] == name
    better = found.evaluation.metrics[metric], found.evaluation.baselines["dummy"][metric]
    assert better[0] > better[1]
    variant = adapter("river").write(found.trained, tmp_path)
    assert EXECUTES not in variant.options
    again = adapter("river").load(tmp_path, variant, found.signature, trust=False)
    first = adapter("river").wrap(found.trained).predict(found.holdout)[PREDICTION]
    assert again.predict(found.holdout)[PREDICTION].tolist() == first.tolist()


def test_the_comparison_is_by_answers_before_learning() -> None:
    given = problem("two")
    found = tasks.train(given, model="online_linear", time_budget_s=1)
    board = {result.name: result for result in found.leaderboard}
    assert set(board) == {"dummy", "online_linear"}
    assert board["online_linear"].score > board["dummy"].score
    # Whoever went through the rows has learned them: to fit on them gives the same model.
    rows = np.arange(given.size)[: found.rows_train]
    part = given.part(rows.astype(np.int64))
    _, first = tasks.fit(part, "online_linear", {})
    _, second = tasks.fit(part, "online_linear", {})
    arrays = take(given.arrays, slice(0, 50))
    one, other = (adapter("river").wrap(each).predict(arrays) for each in (first, second))
    assert {name: one[name].tolist() for name in one} == {name: other[name].tolist() for name in other}


def test_auto_compares_them_all_and_takes_the_best() -> None:
    progress = RecordedProgress()
    found = tasks.train(problem("two"), online=True, time_budget_s=60, progress=progress)
    assert {result.name for result in found.leaderboard} == {"dummy", *LEARNERS}
    assert found.recipe["estimator"] == found.leaderboard[0].name
    assert found.recipe["validation"] == "progressive"
    assert progress.titles[0] == "Compare models that learn online"


def test_without_time_the_baselines_and_one_more_are_compared() -> None:
    found = tasks.train(problem("two"), online=True, time_budget_s=1e-6)
    assert [result.name for result in found.leaderboard if result.name == "adaptive_forest"] == []
    assert len(found.leaderboard) == 3


def test_what_cannot_be_learned_online_is_said() -> None:
    frame = table().assign(text=[f"a longer text about number {row} of them all" for row in range(360)])
    texts = infer(frame.drop(columns=["three", "value"]), "two", kinds={"text": "text"})
    with pytest.raises(SettingInvalid, match="--kind text=drop"):
        tasks.train(texts, online=True)
    with pytest.raises(SettingInvalid, match="name a --target"):
        tasks.train(infer(table(), None), online=True)
    with pytest.raises(SettingInvalid, match="choose auto or one of dummy, online_linear"):
        tasks.train(problem("two"), model="lightgbm", online=True)
    with pytest.raises(SettingInvalid, match="more weight"):
        tasks.fit(problem("two"), "hoeffding_tree", {}, weights=np.ones(360))


def test_without_river_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "river", None)
    for loaded in ("river", "river_signature"):
        monkeypatch.delitem(sys.modules, f"servable.frameworks.{loaded}", raising=False)
    with pytest.raises(DependencyMissing, match=r"servable\[river\]"):
        tasks.train(problem("two"), online=True)


def test_learning_goes_on_where_training_ended() -> None:
    given = problem("two")
    found = tasks.train(given, model="online_linear", time_budget_s=1)
    # Also from rows that lack what may be missing.
    row = dict.fromkeys(("size", "town", "sold")) | {"count": 1, "paid": True}
    model = found.trained.model
    for label in (False, True):
        learn(model, [row] * 300, [label] * 300)
        assert model.predict_one(row) is label
