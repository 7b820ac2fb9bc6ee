"""Texts as numbers of tokens, with tokenizers; used inside predictors, so that callers send text."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from servable.artifact.preparation import TextInput
from servable.errors import ArtifactUnreadable
from servable.inputs.needed import FileUnfit, library

#: A tokenizer file is data, but a large one costs memory before it is refused.
_LARGEST = 256 * 1024 * 1024


class Tokens:
    """Cuts texts into tokens as one record says. Safe for concurrent calls.

    Args:
        folder: of the package.
        how: names the tokenizer's file in it.

    Raises:
        ArtifactUnreadable: the tokenizer's file is missing or damaged.
        DependencyMissing: tokenizers is not installed.
    """

    def __init__(self, folder: Path, how: TextInput) -> None:
        tokenizers = library("tokenizers", "text")
        path = folder / how.tokenizer
        try:
            if path.stat().st_size > _LARGEST:
                raise ArtifactUnreadable(f"{how.tokenizer} is larger than any tokenizer; export it again.")
            tokenizer = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
            padding = tokenizer.padding or {}
            tokenizer.no_padding()
            tokenizer.enable_truncation(how.max_length)
        except ArtifactUnreadable:
            raise
        except Exception as error:
            # tokenizers raises bare Exception for whatever it cannot read.
            raise ArtifactUnreadable(
                f"{how.tokenizer} is no tokenizer that can be read and cut at {how.max_length} tokens; "
                "save it again as tokenizer.json."
            ) from error
        self._encode = tokenizer.encode_batch
        self._how = how
        self._fill = (padding.get("pad_id", _fill_of(tokenizer)), padding.get("pad_type_id", 0))

    def arrays(self, texts: Sequence[str]) -> dict[str, NDArray[np.int64]]:
        """The model's inputs for some texts: int64 ``[rows, tokens]`` under the names of the record.

        Raises:
            FileUnfit: a text is longer than the declared limit.
        """
        how = self._how
        for text in texts:
            if len(text) > how.max_characters:
                raise FileUnfit(f"a text of at most {how.max_characters} characters", f"{len(text)}")
        found: Any = self._encode(list(texts))
        longest = max((len(each.ids) for each in found), default=0)
        # A model of text takes no row without any token.
        width = how.max_length if how.pad == "fixed" else max(1, longest)
        made = {how.ids: np.full((len(found), width), self._fill[0], np.int64)}
        if how.mask:
            made[how.mask] = np.zeros((len(found), width), np.int64)
        if how.types:
            made[how.types] = np.full((len(found), width), self._fill[1], np.int64)
        for row, each in enumerate(found):
            count = len(each.ids)
            made[how.ids][row, :count] = each.ids
            if how.mask:
                made[how.mask][row, :count] = each.attention_mask
            if how.types:
                made[how.types][row, :count] = each.type_ids
        return made


def _fill_of(tokenizer: Any) -> int:
    """The number of the filling token where the file does not say it; 0 as most vocabularies have it."""
    for name in ("[PAD]", "<pad>", "<|pad|>"):
        found = tokenizer.token_to_id(name)
        if found is not None:
            return int(found)
    return 0
