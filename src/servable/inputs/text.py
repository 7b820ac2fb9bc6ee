"""Texts as numbers of tokens, with tokenizers; used inside predictors, so that callers send text.

Imports neither PyTorch nor transformers, so that a server of compiled models needs the library ``tokenizers``
alone. How texts are cut belongs to a variant, not to the signature, and stands in its options::

    {"file": "model.tokenizer.json", "inputs": ["input_ids", "attention_mask"], "max_length": 128, "pad": 0}

``file`` lies beside the variant's own. ``inputs`` are those of the three usual ones that the model takes,
``pad`` is the number of the filling token, and tokens beyond ``max_length``, special ones included, are cut.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from servable.errors import ArtifactUnreadable
from servable.inputs.needed import library

IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"
#: A tokenizer file is data, and a larger one than this is none.
_LARGEST = 256 * 1024 * 1024


class Tokenizer:
    """Cuts texts into tokens. Safe for concurrent calls.

    Args:
        data: a ``tokenizer.json``.
        name: of its file, for sentences.
        options: see the module.
        left: whether shorter texts are filled up in front, as generating needs it.

    Raises:
        ArtifactUnreadable: the file or the options are damaged.
        DependencyMissing: tokenizers is not installed.
    """

    def __init__(self, data: str, name: str, options: Mapping[str, Any], *, left: bool = False) -> None:
        tokenizers = library("tokenizers", "text")
        try:
            held = tokenizers.Tokenizer.from_str(data)
            held.no_padding()
            held.enable_truncation(int(options["max_length"]))
            self._names = [str(each) for each in options["inputs"]]
            self._pad = int(options["pad"])
        except Exception as foreign:
            # The library raises bare ``Exception``.
            raise ArtifactUnreadable(f"{name} is no tokenizer that can be used; save it again.") from foreign
        self._held: Any = held
        self._left = left

    @classmethod
    def of(cls, folder: Path, options: Mapping[str, Any], *, left: bool = False) -> "Tokenizer":
        """The tokenizer of a package.

        Args:
            folder: in which the variant's file lies.
            options: see the module.
            left: as above.
        """
        name = str(options.get("file"))
        path = folder / name
        if Path(name).name != name or not path.is_file() or path.stat().st_size > _LARGEST:
            raise ArtifactUnreadable(f"The package has no tokenizer {name!r} that can be read.")
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as foreign:
            raise ArtifactUnreadable(f"{name} is no tokenizer that can be read; save it again.") from foreign
        return cls(text, name, options, left=left)

    def encode(self, texts: Sequence[str]) -> tuple[dict[str, NDArray[np.int64]], list[Any]]:
        """Arrays ``[rows, tokens]`` under the model's names, and what the library says of each text."""
        found = self._held.encode_batch(list(texts)) if len(texts) > 1 else [self._held.encode(texts[0])]
        width = max(1, *(len(each.ids) for each in found))
        ids = np.full((len(found), width), self._pad, dtype=np.int64)
        mask = np.zeros_like(ids)
        types = np.zeros_like(ids)
        for row, each in enumerate(found):
            count = len(each.ids)
            place = slice(width - count, width) if self._left else slice(0, count)
            ids[row, place] = each.ids
            types[row, place] = each.type_ids
            # A text without a token is one filling token, because models take none of nothing.
            mask[row, place if count else -1 if self._left else 0] = 1
        every = {IDS: ids, MASK: mask, TYPES: types}
        return {name: every[name] for name in self._names}, found

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, without the special ones."""
        return str(self._held.decode(list(ids), skip_special_tokens=True))
