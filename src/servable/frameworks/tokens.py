"""Models that take tokens, asked with texts: cut into tokens before, made readable after.

Imports neither PyTorch nor transformers, so that a server of compiled models needs the library ``tokenizers``
alone. The option ``text`` of a variant says how::

    {"file": "model.tokenizer.json", "inputs": ["input_ids", "attention_mask"], "max_length": 128,
     "pad": 0, "answer": "entities", "labels": ["O", "B-PER", ...]}

The first four are those of ``inputs.text.Tokenizer``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from servable.errors import ModelFailed, ServableError
from servable.frameworks.base import Predictor
from servable.frameworks.devices import placed_of
from servable.inputs.text import Tokenizer
from servable.tensors import STRINGS, Arrays

#: Option of a variant that takes texts.
TEXT = "text"
#: Output of the inner model for ``entities``: a probability for each token and label.
TOKEN_SCORES = "token_scores"  # noqa: S105 - the name of an array
ENTITIES = "entities"


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
        except Exception as foreign:  # Whatever the library raises becomes one sentence.
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
