"""What the adapters of Keras and TensorFlow share: tensors in and out, and what becomes of the scores."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from servable.artifact.signature import Field, Signature, Task
from servable.errors import ArtifactUnsupported, ModelFailed, SettingInvalid
from servable.frameworks.base import Hints
from servable.frameworks.hinted import joined
from servable.frameworks.scoring import LastStep, scoring
from servable.tensors import PREDICTION, PROBABILITIES, Arrays, row_count

#: Options of the trained variant: the sources of the model's inputs, in order; the shape of a row of each,
#: where the model takes another one than callers send; the names of its outputs; what is made of them, see
#: ``Head``.
SOURCES, SHAPES, OUTPUTS, HEAD = "sources", "shapes", "outputs", "head"
#: An example is kept in the signature up to so many values.
_LARGEST_EXAMPLE = 64


class Port(NamedTuple):
    """An input or output of a network.

    Attributes:
        name: the model's own.
        dtype: a numpy name, or ``str``.
        shape: without the axis of rows; -1 is a free size.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]


class Head(msgspec.Struct, frozen=True):
    """What is made of the outputs.

    Attributes:
        form: ``plain`` for outputs under their own names; ``value`` for a number; ``rows`` for a score for
            each class; ``positive`` for the score of the second of two classes.
        logits: whether scores are turned into probabilities by softmax or the logistic function.
    """

    form: str
    logits: bool = False


def shape_of(name: str, sizes: Sequence[int | None] | None) -> tuple[int, ...]:
    """A shape without its axis of rows.

    Raises:
        ArtifactUnsupported: the model fixes the number of rows, or does not say how many axes there are.
    """
    if not sizes:
        raise ArtifactUnsupported(
            f"{name!r} has no axis of rows, or the model does not say its shape; export it with one."
        )
    if sizes[0] is not None:
        raise ArtifactUnsupported(
            f"{name!r} takes exactly {sizes[0]} rows; export the model with None as its first axis."
        )
    return tuple(-1 if size is None else int(size) for size in sizes[1:])


#: What a network does, by the form of its scores; classes are told by all others.
_TASKS: dict[str, Task] = {"plain": "transform", "value": "regression"}


def described(
    inputs: Sequence[Port], outputs: Sequence[Port], hints: Hints, *, last: LastStep
) -> tuple[Signature, dict[str, Any]]:
    """The signature of a network, and the options that say how it is fed and read.

    Args:
        inputs: in order.
        outputs: in order.
        hints: labels make it a classifier; inputs say more of the model's inputs, by name or else by place.
        last: what the model does last to its scores.

    Raises:
        SettingInvalid: a hint contradicts the model.
    """
    head, answers = _answers(outputs, hints, last)
    fields, shapes = _told(inputs, hints)
    signature = Signature(
        task=_TASKS.get(head.form, "classification"),
        inputs=tuple(fields),
        outputs=answers,
        probabilities=head.form in ("rows", "positive"),
        example={field.name: field.example for field in fields if field.example is not None},
    )
    if hints.task is not None and hints.task != signature.task:
        raise SettingInvalid(
            f"The description says that the model does {hints.task}, but its outputs are those of a "
            f"{signature.task}."
        )
    options = {
        SOURCES: [field.name for field in fields],
        SHAPES: shapes,
        OUTPUTS: [port.name for port in outputs],
        HEAD: msgspec.to_builtins(head),
    }
    return signature, options


def _own(port: Port) -> Field:
    """One input as the model has it."""
    filled = tuple(1 if size < 0 else size for size in port.shape)
    small = int(np.prod(filled)) <= _LARGEST_EXAMPLE
    empty = np.full(filled, "", dtype=object) if port.dtype == "str" else np.zeros(filled, dtype=port.dtype)
    example = empty.tolist() if small else None
    return Field(name=port.name, kind="tensor", dtype=port.dtype, shape=port.shape, example=example)


def _told(inputs: Sequence[Port], hints: Hints) -> tuple[list[Field], list[list[int] | None]]:
    """The inputs as callers see them, and for each its shape in the model where that differs.

    Raises:
        SettingInvalid: the description contradicts the model.
    """
    for hint in hints.inputs:
        if not hint.is_tensor:
            raise SettingInvalid(
                f"{hint.name!r} is a {hint.kind} in the description, but the model takes a tensor."
            )
    every = joined([_own(port) for port in inputs], hints)
    fields = [each.field for each in every]
    if len({field.name for field in fields}) < len(fields):
        raise SettingInvalid("The description gives two inputs the same name.")
    return fields, [None if each.reshaped is None else list(each.reshaped) for each in every]


def _answers(outputs: Sequence[Port], hints: Hints, last: LastStep) -> tuple[Head, tuple[Field, ...]]:
    """What is made of the outputs, and the fields that come of it.

    Raises:
        SettingInvalid: labels that do not fit the outputs.
    """
    first = outputs[0]
    single = len(outputs) == 1 and first.dtype.startswith(("float", "bfloat"))
    if hints.labels or hints.task == "classification":
        if not single:
            raise SettingInvalid(
                "Labels are for a model with one output of scores, [rows, classes]; "
                f"this one gives {_said(outputs)}."
            )
        found = scoring(first.shape, hints, last)
        return Head("positive" if found.single else "rows", found.logits), (found.answer,)
    if single and first.shape in ((), (1,)) and hints.task != "transform":
        return Head("value"), (Field(name="prediction", kind="number", dtype="float64"),)
    fields = tuple(
        Field(name=port.name, kind="tensor", dtype=port.dtype, shape=port.shape) for port in outputs
    )
    return Head("plain"), fields


def _said(outputs: Sequence[Port]) -> str:
    return ", ".join(f"{port.name} {['rows', *port.shape]} of {port.dtype}" for port in outputs)


class NetPredictor:
    """A network behind named arrays. One call at a time.

    Args:
        run: the model's own call: its inputs in order to its outputs in order.
        options: of the trained variant.
    """

    concurrent = False

    def __init__(self, run: Callable[[list[Any]], Sequence[Any]], options: Mapping[str, Any]) -> None:
        self._run: Callable[[list[Any]], Sequence[Any]] | None = run
        self._sources = list(zip(options[SOURCES], options[SHAPES], strict=True))
        self._outputs = list(options[OUTPUTS])
        self._head = msgspec.convert(options[HEAD], Head)

    def predict(self, arrays: Arrays) -> dict[str, Any]:
        """Answer all rows.

        Raises:
            ModelFailed: the model raised, or the predictor is closed.
        """
        try:
            if self._run is None:
                raise RuntimeError("the predictor is closed")
            given = [
                arrays[name] if shape is None else arrays[name].reshape(-1, *shape)
                for name, shape in self._sources
            ]
            raw = [np.asarray(output) for output in self._run(given)]
        except Exception as foreign:  # Whatever the library raises becomes one sentence.
            raise ModelFailed(
                f"The trained model failed on {row_count(arrays)} rows ({type(foreign).__name__})."
            ) from foreign
        if self._head.form == "plain":
            return dict(zip(self._outputs, raw, strict=True))
        if self._head.form == "value":
            return {PREDICTION: raw[0].reshape(-1).astype(np.float64)}
        return _classified(raw[0], self._head)

    def close(self) -> None:
        """Drop the model; its memory goes with the last reference."""
        self._run = None


def _classified(scores: NDArray[Any], head: Head) -> dict[str, Any]:
    """Class and probabilities. The largest score wins, before anything is rounded."""
    scores = scores.astype(np.float32) if scores.dtype.itemsize < 4 else scores
    if head.form == "positive":
        second = scores.reshape(-1)
        if head.logits:
            with np.errstate(over="ignore"):
                second = (1 / (1 + np.exp(-second.astype(np.float64)))).astype(scores.dtype)
        both = np.stack([1 - second, second], axis=1)
        return {PREDICTION: np.argmax(both, axis=1), PROBABILITIES: both}
    chances = scores
    if head.logits:
        exponents = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
        chances = (exponents / exponents.sum(axis=1, keepdims=True)).astype(scores.dtype)
    return {PREDICTION: np.argmax(scores, axis=1), PROBABILITIES: chances}
