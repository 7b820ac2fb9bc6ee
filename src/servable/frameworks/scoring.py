"""What the scores of a network mean, decided alike for every framework. Pure.

A network that is exported twice, as a program of PyTorch and as ONNX, gets one signature and gives one
answer, because each adapter only tells the shape of the scores and the last step that made them.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from servable.artifact.signature import Field
from servable.errors import SettingInvalid
from servable.frameworks.base import Hints

#: What a model does last to its scores; empty for anything else.
LastStep = Literal["", "softmax", "sigmoid"]


class Scoring(NamedTuple):
    """How scores become a class and probabilities.

    Attributes:
        answer: the output that callers see.
        single: whether there is one score, for the second of two classes, instead of one for each.
        logits: whether scores become probabilities by the softmax function (the logistic one for a single
            score); else they are probabilities.
    """

    answer: Field
    single: bool
    logits: bool


def scoring(shape: Sequence[int], hints: Hints, last: LastStep) -> Scoring:
    """What the scores of a classifier mean.

    What a person says of them counts. Else scores that the model itself made shares of are probabilities, and
    all others logits. Without labels the classes are numbers from 0.

    Args:
        shape: of the scores of one row; -1 where any number of them is possible.
        hints: labels, and whether scores are logits.
        last: what the model does last to them.

    Raises:
        SettingInvalid: there are not as many scores as labels.
    """
    width = 1 if not shape else shape[0] if len(shape) == 1 else 0
    labels = hints.labels or tuple(range(max(width, 2) if width > 0 else 0))
    if len(labels) < 2 or (width not in (len(labels), -1) and not (width == 1 and len(labels) == 2)):
        said = f"{len(hints.labels)} labels were given" if hints.labels else "No labels were given"
        raise SettingInvalid(
            f"{said}, and the model answers a row with {_said(shape)}; a classifier needs one score for each "
            "label, or a single one for two."
        )
    logits = hints.scores == "logits" if hints.scores else not last
    return Scoring(label_field(labels), width == 1, logits)


def _said(shape: Sequence[int]) -> str:
    if len(shape) > 1:
        return f"numbers of the shape {list(shape)}"
    width = shape[0] if shape else 1
    return "one score" if width == 1 else "any number of scores" if width < 0 else f"{width} scores"


def label_field(labels: Sequence[str | bool | int | float]) -> Field:
    """The answer of a classifier with these labels."""
    kinds = {type(label) for label in labels}
    dtype = {bool: "bool", int: "int64", float: "float64"}.get(next(iter(kinds)), "str")
    if len(kinds) > 1:
        dtype = "str" if str in kinds else "float64"
    return Field(name="prediction", kind="category", dtype=dtype, values=tuple(labels))
