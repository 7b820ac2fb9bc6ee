"""Labels and outcomes as texts, so that what was predicted and what turned out can be compared. Pure."""

import math
from typing import Any

from servable.artifact.signature import Signature
from servable.errors import FieldProblem


def label_text(label: Any) -> str:
    """A class label or a number as the text that segments hold: ``true``, ``3`` (also for 3.0), ``2.5``."""
    if isinstance(label, bool):
        return "true" if label else "false"
    if isinstance(label, float) and label.is_integer() and abs(label) < 2**53:
        return str(int(label))
    return str(label)


class Outcomes:
    """Reads what callers say that came true, by a model's signature. Immutable, safe to share.

    Args:
        signature: of the model; its task decides what an outcome is: one of the classes, a finite number,
            or for all other tasks any text or number.
    """

    def __init__(self, signature: Signature) -> None:
        self._labels = frozenset(map(label_text, signature.classes))
        self._numbers = signature.task == "regression"
        self._bools = any(isinstance(label, bool) for label in signature.classes)

    @classmethod
    def anything(cls) -> "Outcomes":
        """Takes every label and number, for whoever knows no signature."""
        return cls(Signature(task="transform", inputs=(), outputs=()))

    def read(self, value: Any, path: str) -> str | FieldProblem:
        """An outcome as text, or what is wrong with it.

        Args:
            value: as the caller sent it, not None.
            path: where it stands, for the message.
        """
        if self._numbers:
            return _number(value, path)
        if not isinstance(value, str | bool | int | float):
            return FieldProblem(path, "one label, a text or a number", type(value).__name__)
        text = self._plain(value)
        if self._labels and text not in self._labels:
            return FieldProblem(path, f"one of the classes {_listed(self._labels)}", repr(text)[:60])
        return text

    def _plain(self, value: str | float) -> str:
        """A label as text; what a table's text says of a number or a truth is read as that."""
        text = label_text(value)
        if text in self._labels or not isinstance(value, str):
            return text
        word = value.strip()
        if self._bools and word.lower() in ("true", "false"):
            return word.lower()
        try:
            number = label_text(float(word))
        except ValueError:
            return text
        return number if number in self._labels else text


def read_reward(value: Any, path: str) -> float | FieldProblem:
    """A reward, or what is wrong with it; see ``Outcomes.read``."""
    text = _number(value, path)
    return text if isinstance(text, FieldProblem) else float(text)


def _number(value: Any, path: str) -> str | FieldProblem:
    """A finite number as text."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        return FieldProblem(path, "a finite number", repr(value)[:60])
    return label_text(number)


def _listed(labels: frozenset[str]) -> str:
    """Some of many labels, for a message."""
    first = sorted(labels)[:8]
    return ", ".join(first) + (" ..." if len(labels) > len(first) else "")
