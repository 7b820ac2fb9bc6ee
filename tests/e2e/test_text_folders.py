"""From a folder of texts to answers over HTTP: trained, reported, measured, called with a raw sentence."""

from pathlib import Path

import httpx
import pytest

import servable
from e2e.conftest import Serve
from servable.errors import DataError, SettingInvalid
from training.tasks.test_text import english


def kept(folder: Path) -> Path:
    """Opinions in folders of classes; a quarter of them is set aside."""
    frame = english(240)
    for place, (text, label) in enumerate(zip(frame["review"], frame["label"], strict=True)):
        inner = folder / ("test" if place >= 180 else "train") / label
        inner.mkdir(parents=True, exist_ok=True)
        (inner / f"{place}.txt").write_text(text, encoding="utf-8")
    return folder


def test_a_folder_of_texts_becomes_an_api(tmp_path: Path, home: Path, serve: Serve):
    folder = kept(tmp_path / "opinions")
    outcome = servable.train(
        folder, name="opinions", model="words", time_budget_s=0.1, deploy=True, home=home
    )
    assert (outcome.rows_train, outcome.rows_holdout) == (180, 60)
    assert outcome.metrics["accuracy"] > 0.95
    assert outcome.serving == "text"
    assert "60 held out (those that the data sets aside)" in Path(outcome.report).read_text()
    described = servable.describe("opinions", home=home)
    assert [(field.name, field.kind) for field in described.signature.inputs] == [("text", "text")]
    assert described.signature.answer.name == "label"
    assert described.source["data"] == "opinions"
    measured = servable.evaluate("opinions", folder, home=home)
    assert measured.rows == 60
    assert measured.metrics["accuracy"] == pytest.approx(outcome.metrics["accuracy"])
    url = serve(home)
    for text, label in (("the hotel was wonderful and kind", "good"), ("our room was dirty and loud", "bad")):
        answer = httpx.post(f"{url}/models/opinions/predict", json={"input": {"text": text}})
        assert answer.json()["prediction"] == label


def test_families_are_compared_on_what_is_not_set_aside(tmp_path: Path):
    board = servable.select(kept(tmp_path / "opinions"), models=["words"], folds=2, time_budget_s=1)
    assert {entry.name for entry in board.entries} == {"dummy", "words"}
    assert (board.target, board.rows_total, board.metric) == ("label", 240, "accuracy")


def test_a_folder_that_cannot_be_learned_from_leaves_nothing(tmp_path: Path, home: Path):
    folder = kept(tmp_path / "opinions")
    (folder / "train" / "bad" / "0.txt").write_bytes("Käse".encode("latin-1"))
    with pytest.raises(DataError, match=r"train/bad/0\.txt of opinions is no text in UTF-8"):
        servable.train(folder, name="opinions", home=home)
    with pytest.raises(SettingInvalid, match="its classes need another name"):
        servable.train(folder, target="text", name="opinions", home=home)
    assert not home.exists() or servable.models(home=home) == ()
