"""Texts as numbers of tokens, with a tokenizer that is made on the spot."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from servable.errors import ArtifactUnreadable
from servable.inputs.text import IDS, MASK, TYPES, Tokenizer

tokenizers = pytest.importorskip("tokenizers", reason="needs the extra text; make test-all has it")
pytestmark = pytest.mark.frameworks

WORDS = {"[PAD]": 3, "[UNK]": 0, "good": 1, "bad": 2, "very": 4, "[CLS]": 5}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(WORDS, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.normalizer = tokenizers.normalizers.Lowercase()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", 5)]
    )
    made.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def options(**more: Any) -> dict[str, Any]:
    return {"file": "tokenizer.json", "inputs": [IDS, MASK, TYPES], "max_length": 4, "pad": 3, **more}


def test_texts_are_cut_and_filled_to_the_longest(folder: Path):
    found, told = Tokenizer.of(folder, options()).encode(["Good", "very very very bad", ""])
    assert found[IDS].tolist() == [[5, 1, 3, 3], [5, 4, 4, 4], [5, 3, 3, 3]]
    assert found[MASK].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]
    assert found[TYPES].tolist() == np.zeros((3, 4), int).tolist()
    assert {array.dtype for array in found.values()} == {np.dtype(np.int64)}
    assert [each.tokens for each in told] == [["[CLS]", "good"], ["[CLS]", *3 * ["very"]], ["[CLS]"]]


def test_texts_are_filled_in_front_for_what_continues_them(folder: Path):
    found, _ = Tokenizer.of(folder, options(inputs=[IDS, MASK]), left=True).encode(["Good", "very bad"])
    assert found[IDS].tolist() == [[3, 5, 1], [5, 4, 2]]
    assert found[MASK].tolist() == [[0, 1, 1], [1, 1, 1]]


@pytest.mark.parametrize(("left", "mask"), [(False, [[1, 0], [1, 1]]), (True, [[0, 1], [1, 1]])])
def test_a_text_without_tokens_is_one_filling_token(folder: Path, left: bool, mask: Any):
    held = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    plain = json.dumps({**held, "post_processor": None})
    found, _ = Tokenizer(plain, "plain", options(inputs=[IDS, MASK]), left=left).encode(["", "very bad"])
    assert found[IDS].tolist() == [[3, 3], [4, 2]]
    assert found[MASK].tolist() == mask


def test_rows_alone_and_together_are_the_same(folder: Path):
    tokenizer = Tokenizer.of(folder, options(max_length=8))
    texts = ["good", "very bad", "unknown words here"]
    together, _ = tokenizer.encode(texts)
    for row, text in enumerate(texts):
        for name, array in tokenizer.encode([text])[0].items():
            width = array.shape[1]
            np.testing.assert_array_equal(array[0], together[name][row, :width])
            assert set(together[name][row, width:].tolist()) <= {3 if name == IDS else 0}


@pytest.mark.parametrize("content", [None, "", "{}", "[1, 2", '{"model": {"type": "nothing"}}'])
def test_a_damaged_tokenizer_is_one_sentence(folder: Path, content: str | None):
    path = folder / "tokenizer.json"
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises(ArtifactUnreadable, match=r"no tokenizer"):
        Tokenizer.of(folder, options())


@pytest.mark.parametrize("file", ["../tokenizer.json", "/etc/passwd", ".", ""])
def test_a_tokenizer_lies_beside_its_variant(folder: Path, file: str):
    inner = folder / "inner"
    inner.mkdir()
    with pytest.raises(ArtifactUnreadable, match="no tokenizer"):
        Tokenizer.of(inner, options(file=file))
