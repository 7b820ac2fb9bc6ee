"""The verbs over a model of texts: trained, compiled anew, evaluated, scored and described."""

import json
from pathlib import Path

import pandas as pd
import pytest

import servable
from optimization.texts import BAD, GOOD
from servable.artifact.package import open_package

ENDS = (
    "today",
    "as ever",
    "I think",
    "he said",
    "of course",
    "at last",
    "again",
    "to be fair",
    "in May",
    "there",
)


@pytest.fixture(scope="module")
def reviews() -> pd.DataFrame:
    rows = [
        (f"{text} {end} {end}", label)
        for end in ENDS
        for label, kind in (("+", GOOD), ("-", BAD))
        for text in kind
    ]
    return pd.DataFrame(rows, columns=["review", "label"])


@pytest.fixture(scope="module")
def texts_home(reviews: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("texts") / "home"
    outcome = servable.train(
        reviews, target="label", name="reviews", model="words", time_budget_s=0.1, home=home
    )
    assert outcome.serving == "text"
    assert [(column.name, column.kind) for column in outcome.columns] == [("review", "text")]
    return home


def test_a_version_is_compiled_anew_in_a_package_of_its_own(texts_home: Path) -> None:
    before = servable.describe("reviews", home=texts_home)
    outcome = servable.optimize("reviews:1", home=texts_home)
    assert outcome.serving == "text"
    after = open_package(Path(servable.describe("reviews", home=texts_home).package))
    listed = [entry.path for entry in after.manifest.files if entry.path.startswith("variants/")]
    assert sorted(listed) == ["variants/text/arrays.npz", "variants/text/text.json"]
    assert {row.name for row in before.variants} == {"trained", "text"}


def test_it_is_evaluated_and_scored_as_served(
    reviews: pd.DataFrame, texts_home: Path, tmp_path: Path
) -> None:
    found = servable.evaluate("reviews", reviews, home=texts_home)
    assert found.metrics["accuracy"] > 0.95
    rows = pd.concat([reviews, reviews]).drop(columns="label")
    rows.to_json(tmp_path / "rows.jsonl", orient="records", lines=True)
    outcome = servable.score(
        "reviews", tmp_path / "rows.jsonl", output=tmp_path / "out.jsonl", home=texts_home
    )
    assert outcome.rows == len(rows)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["prediction"] for line in lines[: len(reviews)]] == [
        line["prediction"] for line in lines[len(reviews) :]
    ]
    right = [line["prediction"] == label for line, label in zip(lines, reviews["label"], strict=False)]
    assert sum(right) / len(right) > 0.95


def test_families_stand_beside_what_a_prediction_costs(reviews: pd.DataFrame) -> None:
    board = servable.select(
        reviews, target="label", models=["naive_bayes", "characters"], folds=2, time_budget_s=20
    )
    rows = {entry.name: entry for entry in board.entries}
    assert set(rows) == {"dummy", "words", "naive_bayes", "characters"}
    for row in rows.values():
        assert row.served_variant == "text", row
        assert row.trained_us_per_row is not None
        assert row.served_us_per_row is not None
        assert row.trained_us_per_row > row.served_us_per_row


def test_a_pipeline_with_code_of_its_own_says_why_it_is_not_compiled(tmp_path: Path) -> None:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(CountVectorizer(analyzer=str.split), LogisticRegression()).fit(
        [*GOOD, *BAD], [1] * 6 + [0] * 6
    )
    outcome = servable.add(model, name="split", home=tmp_path / "home")
    assert outcome.serving == "trained"
    refused = next(row for row in outcome.variants if row.name == "text")
    assert "Python code" in refused.note
