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
        self._labels = {label_text(label): label for label in signature.classes}
        self._kinds = frozenset(_kind(label) for label in signature.classes)
        self._numbers = signature.task == "regression"

    def read(self, value: Any, path: str, *, as_text: bool = False) -> str | FieldProblem:
        """An outcome as text, or what is wrong with it.

        Args:
            value: as the caller sent it, not None.
            path: where it stands, for the message.
            as_text: whether it may be the text of a number or a truth, as tables have it.
        """
        if self._numbers:
            return _number(value, path, as_text)
        kind = _kind(value)
        if not kind:
            return FieldProblem(path, "one label, a text or a number", type(value).__name__)
        text = label_text(value)
        if not self._labels:
            return text or FieldProblem(path, "a text of at least one letter, or a number", "''")
        if as_text and isinstance(value, str):
            text, kind = self._plain(value), ""
        if text not in self._labels or (kind and kind not in self._kinds):
            return FieldProblem(path, f"one of the classes {_listed(list(self._labels))}", repr(value)[:60])
        return text

    def value(self, text: str) -> Any:
        """An outcome that was read, in its own type."""
        return float(text) if self._numbers else self._labels.get(text, text)

    def _plain(self, word: str) -> str:
        """The text of a label, of which a table's text may be another way to write it."""
        word = word if word in self._labels else word.strip()
        if word in self._labels:
            return word
        if "bool" in self._kinds:
            return word.lower()
        try:
            return label_text(float(word))
        except ValueError:
            return word


def read_reward(value: Any, path: str, *, as_text: bool = False) -> float | FieldProblem:
    """A reward, or what is wrong with it; see ``Outcomes.read``."""
    text = _number(value, path, as_text)
    return text if isinstance(text, FieldProblem) else float(text)


def _kind(value: Any) -> str:
    """Which of the kinds of labels a value is; empty for none."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number" if math.isfinite(value) else ""
    return "text" if isinstance(value, str) else ""


def _number(value: Any, path: str, as_text: bool) -> str | FieldProblem:
    """A finite number as text."""
    number = math.nan
    if not isinstance(value, bool) and isinstance(value, (int, float, str) if as_text else (int, float)):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
    if not math.isfinite(number):
        return FieldProblem(path, "a finite number", repr(value)[:60])
    return repr(number) if not number.is_integer() else label_text(number)


def _listed(labels: list[str]) -> str:
    """Some of many labels, for a message."""
    first = labels[:8]
    return ", ".join(first) + (" ..." if len(labels) > len(first) else "")
