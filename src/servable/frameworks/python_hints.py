"""The signature that the type hints of a function give, and how it is called."""

import inspect
import typing
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
)
from typing import Any, NamedTuple

import msgspec

from servable.artifact.signature import Field, Signature, Task
from servable.errors import SettingInvalid
from servable.frameworks.base import Hints
from servable.frameworks.python_types import (
    KNOWN,
    Item,
    Record,
    Scalar,
    Tensor,
    item_of,
    plain_type,
    scalar_of,
)

_PIECES = (Iterator, Iterable, Generator, AsyncIterator, AsyncIterable, AsyncGenerator)
_SHOWN = "def predict(self, text: list[str]) -> list[float]"


class Answer(NamedTuple):
    """What a function gives back.

    Attributes:
        item: the type of one row's answer; the dtype of the chances for ``chances``.
        labels: a classifier's classes; empty for anything else.
        chances: whether each row's answer is a probability for each class.
    """

    item: Item
    labels: tuple[Any, ...] = ()
    chances: bool = False


class Plan(NamedTuple):
    """How a function is called.

    Attributes:
        takes: the type of each parameter, by name.
        gives: its answers.
        batch: whether it takes all rows at once.
        asynchronous: whether it is awaited.
        pieces: whether it is a generator.
    """

    takes: dict[str, Item]
    gives: Answer
    batch: bool
    asynchronous: bool
    pieces: bool

    @property
    def inputs(self) -> tuple[Field, ...]:
        """The fields of a request."""
        fields: list[Field] = []
        for name, item in self.takes.items():
            if isinstance(item, Record):
                fields += [scalar.field(inner) for inner, scalar in item.fields.items()]
            else:
                fields.append(item.field(name))
        return tuple(fields)


def plan_of(function: Callable[..., Any], where: str, hints: Hints) -> Plan:
    """Read the type hints of a function.

    Args:
        function: without ``self``, if it has one.
        where: its file and name, for sentences.
        hints: labels turn texts into classes.

    Raises:
        SettingInvalid: a type is missing or cannot be used; the sentence shows what to write.
    """
    try:
        types = typing.get_type_hints(getattr(function, "__func__", function), include_extras=True)
    except (NameError, TypeError, AttributeError) as error:
        raise SettingInvalid(f"{where} has a type that cannot be found ({error}).") from error
    takes: dict[str, Item] = {}
    batched: dict[str, bool] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise SettingInvalid(f"{where} takes *{name}; write one parameter for each input: {_SHOWN}.")
        if name not in types:
            raise SettingInvalid(f"{where}: the parameter {name} has no type; write for instance {_SHOWN}.")
        takes[name], batched[name] = _parameter(types[name], f"{where}: the parameter {name}")
    if not takes:
        raise SettingInvalid(f"{where} takes nothing; write for instance {_SHOWN}.")
    if len(takes) > 1 and any(isinstance(item, Record) for item in takes.values()):
        raise SettingInvalid(f"{where} takes a record and more; put everything into the record.")
    if len(set(batched.values())) > 1:
        lists = ", ".join(name for name, batch in batched.items() if batch)
        raise SettingInvalid(f"{where} takes all rows in {lists} and one row elsewhere; write lists for all.")
    if "return" not in types:
        raise SettingInvalid(f"{where} does not say what it gives back; write for instance {_SHOWN}.")
    batch = next(iter(batched.values()))
    generator = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    asynchronous = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    gives, pieces = _gives(types["return"], where, batch=batch, generator=generator, labels=hints.labels)
    return Plan(takes, gives, batch, asynchronous, pieces)


def _parameter(hint: Any, where: str) -> tuple[Item, bool]:
    """The type of one row, and whether all rows come at once."""
    hint = plain_type(hint)
    if typing.get_origin(hint) is list:
        item = item_of(typing.get_args(hint)[0], where)
        if isinstance(item, Tensor):
            raise SettingInvalid(
                f'{where} is a list of arrays; write one array: Annotated[NDArray[np.float32], ("rows", 4)].'
            )
        return item, True
    item = item_of(hint, where)
    return item, isinstance(item, Tensor) and item.rows


def _gives(
    hint: Any, where: str, *, batch: bool, generator: bool, labels: tuple[Any, ...]
) -> tuple[Answer, bool]:
    where = f"{where}: what it gives back"
    hint = plain_type(hint)
    if typing.get_origin(hint) in _PIECES or generator:
        if batch:
            raise SettingInvalid(
                f"{where} comes in pieces and it takes all rows at once; a generator takes one row: "
                "def predict(self, prompt: str) -> Iterator[str]."
            )
        if typing.get_origin(hint) not in _PIECES:
            raise SettingInvalid(f"{where} must be an Iterator or AsyncIterator, such as Iterator[str].")
        item = item_of(typing.get_args(hint)[0], where)
        if isinstance(item, Record) or (isinstance(item, Scalar) and item.missing):
            raise SettingInvalid(f"{where} must be pieces of text, numbers or arrays, such as Iterator[str].")
        return Answer(item), True
    if batch and typing.get_origin(hint) is list:
        hint = plain_type(typing.get_args(hint)[0])
    elif batch and not (isinstance(found := _whole(hint, where), Tensor) and found.rows):
        raise SettingInvalid(f"{where} must be a list with one answer for each row, such as list[float].")
    return _answer(hint, where, labels), False


def _whole(hint: Any, where: str) -> Item | None:
    try:
        return item_of(hint, where)
    except SettingInvalid:
        if typing.get_origin(hint) is None:
            raise SettingInvalid(
                f"{where} must be a list with one answer for each row, such as list[float]."
            ) from None
        return None


def _answer(hint: Any, where: str, labels: tuple[Any, ...]) -> Answer:
    if typing.get_origin(hint) is dict:
        key, chance = typing.get_args(hint)
        named = scalar_of(key, where)
        classes = _classes(named) or (labels if named.dtype == "str" else ())
        if not classes or chance is not float:
            raise SettingInvalid(
                f'{where} is a dict; write a probability for each label: dict[Literal["bad", "good"], float].'
            )
        return Answer(named, classes, True)
    if typing.get_origin(hint) is list:
        inner = scalar_of(typing.get_args(hint)[0], where)
        dtype = inner.given.dtype
        return Answer(Tensor(dtype, (-1,), False))
    item = item_of(hint, where)
    if isinstance(item, Scalar):
        classes = _classes(item) or (labels if item.dtype in ("str", "int64") else ())
        if item.missing and classes:
            raise SettingInvalid(f"{where} may be None, which is no label; give one of the labels always.")
        return Answer(item, classes)
    return Answer(item)


def _classes(scalar: Scalar) -> tuple[Any, ...]:
    return (False, True) if scalar.dtype == "bool" else scalar.values


def signature_of(plan: Plan, example: dict[str, Any], hints: Hints) -> Signature:
    """The signature of a plan.

    Args:
        plan: of the function.
        example: one row; fields that it lacks get one made for them.
        hints: inputs replace those of the same name, where they hold the same values.

    Raises:
        SettingInvalid: a hint contradicts the types.
    """
    inputs = _with_hints(plan.inputs, hints.inputs)
    gives, item = plan.gives, plan.gives.item
    example = {name: value for name, value in example.items() if name in {field.name for field in inputs}}
    task: Task
    outputs: tuple[Field, ...]
    if gives.labels:
        dtype = "str" if isinstance(gives.labels[0], str) else "bool" if gives.labels[0] is False else "int64"
        label = Field(name="label", kind="category", dtype=dtype, values=tuple(gives.labels))
        task, outputs = "classification", (label,)
    elif isinstance(item, Scalar) and item.dtype == "float64" and not item.missing and not plan.pieces:
        task, outputs = "regression", (Field(name="value", kind="number", dtype="float64"),)
    else:
        task, outputs = "transform", _outputs(item, pieces=plan.pieces)
    if hints.task is not None and hints.task != task:
        raise SettingInvalid(f"The description says {hints.task}, and the types of the model say {task}.")
    return Signature(
        task=task, inputs=inputs, outputs=outputs, probabilities=gives.chances, example=example
    )  # fmt: skip


def _outputs(item: Item, *, pieces: bool) -> tuple[Field, ...]:
    if isinstance(item, Record):
        return tuple(msgspec.structs.replace(scalar.given, name=name) for name, scalar in item.fields.items())
    if isinstance(item, Tensor):
        shape = (-1, *item.shape) if pieces else item.shape
        return (Field(name="output", kind="tensor", dtype=item.dtype, shape=shape),)
    if item.dtype == "str":
        return (Field(name="text", kind="text", dtype="str"),)
    if pieces:
        return (Field(name="output", kind="tensor", dtype=item.given.dtype, shape=(-1,)),)
    return (msgspec.structs.replace(item.given, name="value"),)


def _with_hints(fields: tuple[Field, ...], hints: tuple[Field, ...]) -> tuple[Field, ...]:
    known = {field.name: field for field in fields}
    for hint in hints:
        field = known.get(hint.name)
        if field is None:
            raise SettingInvalid(
                f"The description has an input {hint.name}, and the model takes {', '.join(known)}."
            )
        if (hint.dtype, hint.is_tensor) != (field.dtype, field.is_tensor):
            raise SettingInvalid(
                f"The description says {hint.dtype} for the input {hint.name}, which is {field.dtype}."
            )
        known[hint.name] = hint
    return tuple(known.values())


__all__ = ["KNOWN", "Answer", "Plan", "plan_of", "signature_of"]
