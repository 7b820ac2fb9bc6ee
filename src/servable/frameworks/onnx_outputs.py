"""How the outputs of foreign ONNX classifiers become class indexes and a probability matrix.

Compiled variants give both as they are (form ``plain``); exporters have several habits.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Reader = Callable[[Any], Any]


def reader(spec: Mapping[str, Any]) -> Reader | None:
    """What turns one raw output into the array that ``tensors`` describes; None where it is that array.

    Forms: ``plain`` as it is, also where no form is named; ``label`` a class label per row, looked up in
    ``classes``; ``argmax`` scores ``[rows, classes]`` whose largest wins; ``softmax`` logits
    ``[rows, classes]``; ``zipmap`` a list of dicts from label to probability; ``positive`` the probability of
    the second of two classes, ``sigmoid`` its logit, ``second`` either of them, with the number ``above``
    which it wins; ``flat`` values as float64 ``[rows]``; ``index`` integers as int64 ``[rows]``; ``value``
    numbers as float64, ``[rows]`` where there is one for each row.

    Raises:
        KeyError: an unknown form.
    """
    form = spec.get("form", "plain")
    if form == "plain":
        return None
    classes = list(spec.get("classes", ()))
    index = {label: place for place, label in enumerate(classes)}

    def label(raw: Any) -> Any:
        return np.fromiter((index[value] for value in np.ravel(raw).tolist()), dtype=np.int64)

    def zipmap(raw: Any) -> Any:
        return np.array([[row[name] for name in classes] for row in raw], dtype=np.float64)

    def positive(raw: Any) -> Any:
        second = np.ravel(raw).astype(np.float64)
        return np.stack([1.0 - second, second], axis=1)

    def value(raw: Any) -> Any:
        numbers = np.asarray(raw, dtype=np.float64)
        return numbers.reshape(len(numbers)) if numbers[0].size == 1 else numbers

    def softmax(raw: Any) -> Any:
        logits = np.asarray(raw, np.float64)
        shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return shares / shares.sum(axis=-1, keepdims=True)

    def sigmoid(raw: Any) -> Any:
        logits = np.ravel(raw).astype(np.float64)
        # By the half of the function that does not overflow.
        small = np.exp(-np.abs(logits))
        return positive(np.where(logits >= 0, 1.0, small) / (1.0 + small))

    above = float(spec.get("above", 0.0))
    table: dict[str, Reader] = {
        "value": value,
        "softmax": softmax,
        "sigmoid": sigmoid,
        "second": lambda raw: (np.ravel(raw) > above).astype(np.int64),
        "label": label,
        "zipmap": zipmap,
        "positive": positive,
        "argmax": lambda raw: raw.argmax(axis=-1).astype(np.int64, copy=False).reshape(-1),
        "flat": lambda raw: np.asarray(raw, dtype=np.float64).reshape(-1),
        "index": lambda raw: np.asarray(raw, dtype=np.int64).reshape(-1),
    }
    return table[form]
