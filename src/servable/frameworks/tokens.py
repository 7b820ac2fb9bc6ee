"""Models that take tokens, asked with texts: cut into tokens before, made readable after.

Imports neither PyTorch nor transformers, so that a server of compiled models needs the library ``tokenizers``
alone. The option ``text`` of a variant says how::

    {"file": "model.tokenizer.json", "inputs": ["input_ids", "attention_mask"], "max_length": 128,
     "pad": 0, "answer": "entities", "labels": ["O", "B-PER", ...]}

``file`` lies beside the variant's own. ``inputs`` are those of the three usual ones that the model takes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from servable.errors import ArtifactUnreadable, DependencyMissing, ModelFailed, ServableError
from servable.frameworks.base import Predictor
from servable.frameworks.devices import placed_of
from servable.tensors import STRINGS, Arrays

#: Option of a variant that takes texts.
TEXT = "text"
IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"
#: A tokenizer file is data, and a larger one than this is none.
_LARGEST = 256 * 1024 * 1024
#: Output of the inner model for ``entities``: a probability for each token and label.
TOKEN_SCORES = "token_scores"  # noqa: S105 - the name of an array
ENTITIES = "entities"


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
        try:
            import tokenizers
        except ModuleNotFoundError as missing:
            raise DependencyMissing(
                "This model cuts texts into tokens with tokenizers, which is not installed; "
                "run: pip install 'servable[text]'"
            ) from missing
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


class TextPredictor:
    """A model of tokens that is asked with texts, in ``strings`` of one column.

    Args:
        tokenizer: cuts them.
        inner: takes the arrays of ``Tokenizer.encode``.
        options: see the module.
    """

    def __init__(self, tokenizer: Tokenizer, inner: Predictor, options: Mapping[str, Any]) -> None:
        self.concurrent = inner.concurrent
        self.device, self.device_note = placed_of(inner)
        self._tokenizer = tokenizer
        self._inner = inner
        self._entities = options.get("answer") == ENTITIES
        self._labels = [str(label) for label in options.get("labels", ())]

    def predict(self, arrays: Arrays) -> dict[str, Any]:
        """Answer all texts.

        Raises:
            ModelFailed: the tokenizer or the model raised.
        """
        texts = arrays[STRINGS][:, 0].tolist()
        try:
            tokens, found = self._tokenizer.encode(texts)
        except ServableError:
            raise
        except Exception as foreign:
            raise ModelFailed(
                f"The tokenizer failed on {len(texts)} texts ({type(foreign).__name__})."
            ) from foreign
        answer = self._inner.predict(tokens)
        if not self._entities:
            return answer
        scores = answer[TOKEN_SCORES]
        said = np.empty(len(texts), dtype=object)
        for row, (text, each) in enumerate(zip(texts, found, strict=True)):
            said[row] = entities(text, each, scores[row], self._labels)
        return {ENTITIES: said}

    def close(self) -> None:
        """Drop the model."""
        self._inner.close()


def entities(text: str, tokens: Any, scores: NDArray[Any], labels: Sequence[str]) -> str:
    """What was found in one text, as a JSON list of objects.

    Tokens in a row whose labels say the same are one entity, as ``B-`` and ``I-`` before a label have it:
    ``{"entity", "score", "start", "end", "text"}``; the score is the mean over its tokens, start and end are
    characters. ``O`` is nothing.

    Args:
        text: as it was asked.
        tokens: what the tokenizer says of it.
        scores: a probability for each token and label.
        labels: by number.
    """
    found: list[dict[str, Any]] = []
    gathered: list[list[float]] = []
    open_label = ""
    for place, (start, end) in enumerate(tokens.offsets):
        best = int(np.argmax(scores[place]))
        kind, label = _parts(labels[best])
        if tokens.special_tokens_mask[place] or start == end or label == "O":
            open_label = ""
            continue
        if label == open_label and kind != "B":
            found[-1]["end"] = end
            gathered[-1].append(float(scores[place][best]))
        else:
            found.append({"entity": label, "score": 0.0, "start": start, "end": end})
            gathered.append([float(scores[place][best])])
        open_label = label
    for entry, values in zip(found, gathered, strict=True):
        entry["score"] = round(sum(values) / len(values), 6)
        entry["text"] = text[entry["start"] : entry["end"]]
    return msgspec.json.encode(found).decode()


def _parts(label: str) -> tuple[str, str]:
    """``B-PER`` to ``B`` and ``PER``; a label without such a letter has none."""
    return (label[0], label[2:]) if label[:2] in ("B-", "I-") else ("", label)
