"""Learning from free text: it is noticed, repeated texts stay together, families compete, reports say why."""

import importlib.util
from typing import Any

import numpy as np
import pandas as pd
import pytest

from servable.errors import DependencyMissing, SettingInvalid
from servable.frameworks.lookup import adapter
from servable.tensors import PREDICTION, PROBABILITIES
from servable.training import data, report, tasks
from servable.training.split import folds, hold_out
from servable.training.tasks.text_counts import Counts, spaced
from servable.training.tasks.text_pipelines import candidate, listed, pipeline

OPENINGS = ("the", "this", "our", "that old", "my first", "a", "every", "one", "her", "their last")
THINGS = ("hotel", "room", "breakfast", "journey", "film", "book", "phone", "waiter", "street", "garden")
GOOD = ("was wonderful and kind", "made us happy again", "is lovely, really lovely", "had a great view")
BAD = ("was dirty and loud", "made us sad again", "is awful, really awful", "had a broken door")
FINE = {"good": ("很好非常满意", "真不错我喜欢"), "bad": ("很差非常失望", "真糟糕不喜欢")}


def english(rows: int = 160) -> pd.DataFrame:
    """Sentences with an opinion; none of them twice."""
    random = np.random.default_rng(0)
    texts: dict[str, str] = {}
    while len(texts) < rows:
        label = "good" if len(texts) % 2 else "bad"
        words = [random.choice(part) for part in (OPENINGS, THINGS, GOOD if label == "good" else BAD)]
        texts[f"{' '.join(words)} {random.choice(OPENINGS)} {random.choice(THINGS)}"] = label
    return pd.DataFrame({"review": list(texts), "label": list(texts.values())})


def chinese(rows: int = 120) -> pd.DataFrame:
    random = np.random.default_rng(0)
    signs = "酒店房间早餐旅行电影书手机服务街道花园的一是在了有和人这中大为上个国"
    made = []
    for row in range(rows):
        label = "good" if row % 2 else "bad"
        around = "".join(random.choice(list(signs), 12))
        made.append((around[:6] + str(random.choice(FINE[label])) + around[6:], label))
    return pd.DataFrame(made, columns=["review", "label"])


def problem(frame: pd.DataFrame, **settings: Any) -> data.Problem:
    return data.infer(frame, "label", **settings)


def test_a_column_of_sentences_is_text_and_names_are_not():
    frame = english().assign(
        name=[f"Person {place}" for place in range(160)],
        stars=np.arange(160) % 5 + 0.5,
        source=["a", "b"] * 80,
    )
    found = problem(frame)
    kinds = {column.name: column.kind for column in found.columns}
    assert kinds == {"review": "text", "stars": "number", "source": "category"}
    assert [column.name for column in found.dropped] == ["name"]
    field = found.signature.input("review")
    assert (field.kind, field.dtype, field.missing) == ("text", "str", True)
    # No row of anybody is quoted.
    assert field.example
    assert field.example not in set(frame["review"])
    assert "say text" in found.dropped[0].note


def test_chinese_is_text_although_it_has_no_blanks():
    found = problem(chinese())
    assert [field.name for field in found.texts] == ["review"]
    assert not spaced(found, np.arange(found.size))
    assert spaced(problem(english()), np.arange(160))


def test_a_person_may_say_that_a_column_is_text_or_is_not():
    frame = english().assign(code=[f"x{place}" for place in range(160)])
    assert {field.name for field in problem(frame, kinds={"code": "text"}).texts} == {"review", "code"}
    assert problem(frame.assign(n=1.0 * np.arange(160) % 7), kinds={"review": "drop"}).texts == ()
    numbers = problem(frame.assign(n=np.arange(160) % 7), kinds={"n": "text"})
    assert numbers.signature.input("n").kind == "text"


def test_clusters_are_not_made_of_texts():
    frame = english().drop(columns="label").assign(a=np.arange(160) % 9 + 0.5)
    found = data.infer(frame, None)
    assert [(column.name, column.kind) for column in found.dropped] == [("review", "dropped")]


def test_repeated_texts_never_stand_on_both_sides():
    frame = english(80)
    shouted = frame.assign(review=frame["review"].str.upper() + "  ")
    found = problem(pd.concat([frame, shouted, frame[:10]], ignore_index=True))
    groups = found.groups()
    assert groups is not None
    assert len(np.unique(groups)) == 80
    parts = hold_out(found.size, found.truth, "classification", groups=groups)
    assert not set(groups[parts.train]) & set(groups[parts.holdout])
    assert sorted([*parts.train, *parts.holdout]) == list(range(found.size))
    assert 0.15 < len(parts.holdout) / found.size < 0.25
    seen = []
    for fit, check in folds(found.truth, found.size, "classification", count=4, groups=groups):
        assert not set(groups[fit]) & set(groups[check])
        assert len(fit) + len(check) == found.size
        seen += check.tolist()
    assert sorted(seen) == list(range(found.size))


def test_in_time_order_a_repeated_text_is_not_learned_from():
    frame = english(60)
    found = problem(pd.concat([frame, frame[:12]], ignore_index=True), time_order=True)
    groups = found.groups()
    parts = hold_out(found.size, found.truth, "classification", time_order=True, groups=groups)
    assert parts.holdout.tolist() == list(range(58, 72))
    assert not set(groups[parts.train]) & set(groups[parts.holdout])


@pytest.mark.parametrize("name", ["words", "characters", "words_characters"])
def test_counting_once_gives_what_the_pipeline_of_a_fold_would(name):
    found = problem(english().assign(stars=np.arange(160) % 5 + 0.5))
    rows = np.arange(found.size, dtype=np.int64)
    known = candidate(found.signature, name, spaced=True)
    fit, check = rows[:100], rows[100:]
    seen, asked = Counts(found, rows, blanks=True).matrices(known, fit, check)
    prepare = pipeline(found.signature, known, {}, rows=len(fit), spaced=True, seed=0).named_steps["prepare"]
    frame = found.frame(rows)
    for given, part in (
        (seen, prepare.fit_transform(frame.iloc[fit])),
        (asked, prepare.transform(frame.iloc[check])),
    ):
        assert given.shape == part.shape
        np.testing.assert_allclose(
            np.sort(given.toarray(), axis=1), np.sort(np.asarray(part.todense()), axis=1), atol=1e-12
        )


def names(results: Any) -> set[str]:
    return {result.name for result in results}


LINEAR = {"dummy", "words", "characters", "words_characters", "naive_bayes"}


@pytest.mark.parametrize("frame", [english(), chinese()], ids=["english", "chinese"])
def test_families_compete_and_opinions_are_learned(frame):
    found = problem(frame)
    linear = sorted(LINEAR & names(listed(found.signature, spaced=spaced(found, np.arange(found.size)))))
    results = tasks.select(found, models=linear, folds_wanted=3, time_budget_s=60)
    assert names(results) == set(linear)
    assert results[0].score > 0.9
    assert results[-1].name == "dummy"
    assert results[-1].score < 0.6


def test_a_trained_model_is_measured_beside_baselines_and_says_why():
    found = problem(english())
    result = tasks.train(found, model="words", time_budget_s=1, seed=1)
    assert (result.adapter, result.baseline, result.recipe["estimator"]) == ("sklearn", "words", "words")
    assert result.evaluation.metrics["accuracy"] > 0.9
    assert set(result.evaluation.baselines) == {"dummy", "words"}
    assert [item.name for item in result.evaluation.importance] == ["review"]
    good = next(row for row in result.evaluation.telling if row.label == "good")
    assert {"lovely", "wonderful", "happy", "great"} & {
        word for token in good.tokens for word in token.split()
    }
    assert all(weight > 0 for weight in good.weights)
    (profile,) = result.profile.columns
    assert profile.kind == "text"
    assert profile.categories == {}, "no text goes into a record for people"
    page = report.render(report.report_of(result, title="reviews"))
    assert "What speaks for each class" in page
    assert "Confusion matrix" in page


def test_a_column_beside_the_texts_is_used():
    frame = english().assign(stars=[5.0 if label == "good" else 1.0 for label in english()["label"]])
    frame["review"] = [f"nothing is said of it in number {place} at all" for place in range(160)]
    result = tasks.train(problem(frame, kinds={"review": "text"}), model="words", time_budget_s=1)
    assert result.evaluation.metrics["accuracy"] == 1.0
    assert result.evaluation.importance[0].name == "stars"


def test_trees_that_see_no_text_show_what_the_texts_are_worth():
    frame = english().assign(stars=np.arange(160) % 5 + 0.5, source=["a", "b"] * 80)
    frame.loc[frame["label"] == "good", "stars"] += 3
    results = tasks.select(problem(frame), models=["lightgbm", "words"], folds_wanted=2, time_budget_s=30)
    scores = {result.name: result.score for result in results}
    assert set(scores) == {"dummy", "words", "lightgbm"}
    assert scores["dummy"] < scores["lightgbm"]
    assert "without the texts" in next(result.title for result in results if result.name == "lightgbm")
    name, trained = tasks.fit(problem(frame), "lightgbm", {})
    assert name == "sklearn"
    assert len(adapter(name).wrap(trained).predict(problem(frame).arrays)[PREDICTION]) == 160


def test_numbers_are_predicted_from_texts():
    frame = english().assign(label=[float(len(text)) + 0.5 for text in english()["review"]])
    result = tasks.train(problem(frame), time_budget_s=1)
    assert result.signature.task == "regression"
    assert result.evaluation.metrics["r2"] > 0.3
    assert result.evaluation.telling == []


def test_the_same_seed_gives_the_same_model():
    found = problem(english())
    rows = dict(found.arrays)
    answers = []
    for _ in range(2):
        name, trained = tasks.fit(found, "words_characters", {}, seed=3)
        answers.append(adapter(name).wrap(trained).predict(rows))
    assert (answers[0][PREDICTION] == answers[1][PREDICTION]).all()
    assert (answers[0][PROBABILITIES] == answers[1][PROBABILITIES]).all()


def test_a_family_that_does_not_exist_is_named_with_those_that_do():
    with pytest.raises(SettingInvalid, match=r"'lightgbm'.*words_characters, characters, naive_bayes"):
        tasks.train(problem(english()), model="lightgbm", time_budget_s=5)


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="PyTorch is installed here")
def test_without_torch_the_network_is_left_out_with_a_note():
    result = tasks.train(problem(english()), time_budget_s=1)
    assert "recurrent" not in names(result.leaderboard)
    assert any("PyTorch" in note for note in result.notes)
    with pytest.raises(DependencyMissing, match=r"servable\[torch\]"):
        tasks.train(problem(english()), model="recurrent", time_budget_s=5)
