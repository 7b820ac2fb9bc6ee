"""Texts in folders of classes as a table: what is read, what is set aside, what is no text."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from servable.errors import DataError
from servable.training import data
from servable.training.outcome import Asked, held_out
from servable.training.tasks import text_folders

ASKED = Asked(0.2, 10.0, 0)


def written(root: Path, texts: dict[str, list[str]]) -> Path:
    """A folder for each class with its texts."""
    for label, lines in texts.items():
        (root / label).mkdir(parents=True, exist_ok=True)
        for place, line in enumerate(lines):
            (root / label / f"{place:03}.txt").write_text(line, encoding="utf-8")
    return root


def lines(word: str, count: int, start: int = 0) -> list[str]:
    return [f"a {word} day, number {place}" for place in range(start, start + count)]


def test_the_names_of_folders_are_the_classes(tmp_path: Path):
    folder = written(tmp_path / "talk", {"up": ["gut", "schön"], "down": ["很差", ""]})
    (folder / "up" / "message").write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    (folder / "up" / "picture.pdf").write_bytes(b"\xff\xfe")
    (folder / "notes.txt").write_text("in no class")
    assert text_folders.is_texts(folder)
    found = text_folders.read(folder, "said", "mood")
    assert found.set_aside is None
    assert found.frame.to_dict("list") == {
        "said": ["很差", "", "gut", "schön", "one\ntwo\nthree\n"],
        "mood": ["down", "down", "up", "up", "up"],
    }


@pytest.mark.parametrize("name", ["test", "val"])
def test_what_the_data_sets_aside_is_held_out_and_nothing_like_it_is_learned_from(tmp_path: Path, name: str):
    written(tmp_path / "talk" / "train", {"up": lines("good", 20), "down": lines("bad", 20)})
    # The first text of each class is among those learned from as well.
    written(tmp_path / "talk" / name, {"up": lines("good", 5, 19), "down": lines("bad", 5, 19)})
    found = text_folders.read(tmp_path / "talk", "text", "label")
    assert found.set_aside is not None
    assert found.set_aside.tolist() == list(range(40, 50))
    problem = data.infer(found.frame, "label", kinds={"text": "text"})
    assert held_out(problem, ASKED).holdout.tolist() != found.set_aside.tolist()
    parts = held_out(replace(problem, set_aside=found.set_aside), ASKED)
    assert parts.holdout.tolist() == found.set_aside.tolist()
    assert parts.train.tolist() == [*range(19), *range(20, 39)]
    held = text_folders.read_held(tmp_path / "talk", "text", "label")
    np.testing.assert_array_equal(held["text"].to_numpy(), found.frame["text"].to_numpy()[40:])


def test_a_class_that_is_only_set_aside_is_refused(tmp_path: Path):
    written(tmp_path / "talk" / "train", {"up": lines("good", 20), "down": lines("bad", 20)})
    written(tmp_path / "talk" / "test", {"up": lines("good", 5, 30), "sideways": lines("odd", 5, 30)})
    found = text_folders.read(tmp_path / "talk", "text", "label")
    problem = data.infer(found.frame, "label", kinds={"text": "text"})
    with pytest.raises(DataError, match=r"'sideways' occurs only among the rows that the data sets aside"):
        held_out(replace(problem, set_aside=found.set_aside), ASKED)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("Käse".encode("latin-1"), r"down/000\.txt of talk is no text in UTF-8 \(byte 1\); convert it"),
        ("很差".encode("gb18030"), r"down/000\.txt of talk is no text in UTF-8"),
        ("bad".encode("utf-16"), r"down/000\.txt of talk is no text in UTF-8 \(byte 0\)"),
        ("bad".encode("utf-16-le"), r"down/000\.txt of talk is no text in UTF-8, because it holds zeros"),
    ],
)
def test_another_encoding_is_told_in_one_sentence(tmp_path: Path, content: bytes, said: str):
    folder = written(tmp_path / "talk", {"up": ["good"], "down": ["bad"]})
    (folder / "down" / "000.txt").write_bytes(content)
    for reader in (text_folders.read, text_folders.read_held):
        with pytest.raises(DataError, match=said) as caught:
            reader(folder, "text", "label")
        assert "iconv" in caught.value.message


def test_folders_without_texts(tmp_path: Path):
    (tmp_path / "talk" / "up").mkdir(parents=True)
    assert not text_folders.is_texts(tmp_path / "talk")
    assert not text_folders.is_texts(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no texts in folders of classes"):
        text_folders.read(tmp_path / "talk", "text", "label")
