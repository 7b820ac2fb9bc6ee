"""Texts as numbers of tokens, with a tokenizer that is made on the spot."""

from pathlib import Path

import numpy as np
import pytest

from servable.artifact.preparation import TextInput
from servable.errors import ArtifactUnreadable
from servable.inputs.needed import FileUnfit
from servable.inputs.text import Tokens

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


def test_texts_are_cut_and_filled_to_the_longest(folder: Path):
    found = Tokens(folder, TextInput(max_length=4, types="types")).arrays(["Good", "very very very bad", ""])
    assert found["input_ids"].tolist() == [[5, 1, 3, 3], [5, 4, 4, 4], [5, 3, 3, 3]]
    assert found["attention_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]
    assert found["types"].tolist() == np.zeros((3, 4), int).tolist()
    assert {array.dtype for array in found.values()} == {np.dtype(np.int64)}


def test_names_and_fixed_lengths_are_the_declared_ones(folder: Path):
    found = Tokens(folder, TextInput(max_length=6, pad="fixed", ids="x", mask="")).arrays(["good bad"])
    assert {name: array.tolist() for name, array in found.items()} == {"x": [[5, 1, 2, 3, 3, 3]]}


def test_rows_alone_and_together_are_the_same(folder: Path):
    tokens = Tokens(folder, TextInput(max_length=8, pad="fixed"))
    texts = ["good", "very bad", "unknown words here"]
    together = tokens.arrays(texts)
    for row, text in enumerate(texts):
        for name, array in tokens.arrays([text]).items():
            np.testing.assert_array_equal(array[0], together[name][row])


def test_a_text_beyond_the_limit_is_refused(folder: Path):
    tokens = Tokens(folder, TextInput(max_characters=5))
    tokens.arrays(["12345"])
    with pytest.raises(FileUnfit, match="at most 5 characters"):
        tokens.arrays(["123456"])


@pytest.mark.parametrize("content", [None, "", "{}", "[1, 2", '{"model": {"type": "nothing"}}'])
def test_a_damaged_tokenizer_is_one_sentence(folder: Path, content: str | None):
    path = folder / "tokenizer.json"
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises(ArtifactUnreadable, match=r"tokenizer\.json is no tokenizer"):
        Tokens(folder, TextInput())
