"""What a model takes and gives: named fields with kinds, values, ranges and examples.

The signature is derived once, from training data or from the model, and drives everything that
faces a caller: validation, OpenAPI, the client, the report. It is kept in the package as
``signature.json``.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import msgspec

from servable.artifact.preparation import Preparation
from servable.errors import SettingInvalid
from servable.tensors import NUMBERS, STRINGS

Kind = Literal["number", "category", "boolean", "date", "text", "tensor", "image", "audio"]
#: Kinds whose values are whole tensors under the field's own name.
TENSORS = frozenset({"tensor", "image", "audio"})
Task = Literal["classification", "regression", "clustering", "transform"]
#: What becomes of a field's values where traffic is captured.
Capture = Literal["keep", "hash", "drop", "encrypt"]
#: Kinds whose values are hashed unless it is said otherwise: they may say who somebody is.
_PERSONAL = frozenset({"text", "image", "audio"})

#: Dtypes that travel in the packed text array; all others travel as numbers.
STRING_DTYPES = frozenset({"str"})


class Field(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One named input or output.

    Attributes:
        name: the column's or tensor's name.
        kind: what it means; ``text`` is free text, ``category`` one of few values.
        dtype: how it is held: ``float64 int64 bool str datetime`` for columns, a numpy name for tensors.
        missing: whether a missing value (null, or absent from the row) is allowed.
        values: the known values of a category, in the model's order; for a classifier's output, its classes.
        unknown: what happens to a category value that is not in ``values``.
        minimum: the smallest usual value of training; informs, does not refuse.
        maximum: the largest usual value of training; informs, does not refuse.
        shape: of a tensor, without the row axis; -1 is a free size.
        example: a real or typical value.
        description: a sentence for the API's documentation.
        preparation: how a file (of kind ``image`` or ``audio``) becomes what the model takes; dtype
            and shape are those of the tensor that comes out. None: callers send the tensor itself.
        capture: what becomes of its values where traffic is captured; empty: what is usual for its kind.
        personal: whether its values say who somebody is; then none of them stands in a package or a report.
    """

    name: str
    kind: Kind
    dtype: str
    missing: bool = False
    values: tuple[str | bool | int | float, ...] = ()
    unknown: Literal["accept", "refuse"] = "accept"
    minimum: float | None = None
    maximum: float | None = None
    shape: tuple[int, ...] = ()
    example: Any = None
    description: str = ""
    preparation: Preparation | None = None
    capture: Literal["", "keep", "hash", "drop", "encrypt"] = ""
    personal: bool = False

    @property
    def captured(self) -> Capture:
        """What becomes of its values where traffic is captured.

        Where nobody says: what is personal is dropped, texts, pictures and sounds are hashed.
        """
        if self.personal and not self.capture:
            return "drop"
        return self.capture or ("hash" if self.kind in _PERSONAL else "keep")

    @property
    def is_tensor(self) -> bool:
        """Whether its values are tensors under its own name, and no columns of a table."""
        return self.kind in TENSORS

    @property
    def takes_files(self) -> bool:
        """Whether a caller may send a file, a picture or a sound, in place of the tensor."""
        return self.is_tensor and self.preparation is not None

    @property
    def array(self) -> str:
        """The name of the array in a Request that carries this field."""
        if self.is_tensor:
            return self.name
        return STRINGS if self.dtype in STRING_DTYPES else NUMBERS


class Signature(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model's whole face.

    Attributes:
        task: what the model does; ``transform`` when nobody knows.
        inputs: in the order in which a row given as a list is read.
        outputs: the first is the answer: a category with ``values`` for a classifier, a number otherwise.
        probabilities: whether a classifier also gives a probability for each class.
        example: one row by field name that the model accepts.
    """

    task: Task
    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    probabilities: bool = False
    example: dict[str, Any] = {}

    @property
    def answer(self) -> Field:
        """The output that ``prediction`` holds."""
        return self.outputs[0]

    @property
    def classes(self) -> tuple[str | bool | int | float, ...]:
        """A classifier's labels, in the order of its probabilities; empty for other tasks."""
        return self.answer.values if self.task == "classification" else ()

    def packed(self, array: str) -> tuple[Field, ...]:
        """The fields that travel in ``numbers`` or ``strings``, in order."""
        # A tensor may be named like a packed array, and is still none of its columns.
        return tuple(field for field in self.inputs if field.array == array and not field.is_tensor)

    def input(self, name: str) -> Field:
        """The input of this name.

        Raises:
            KeyError: there is none.
        """
        for field in self.inputs:
            if field.name == name:
                return field
        raise KeyError(name)


def with_captures(signature: Signature, private: Mapping[str, str]) -> Signature:
    """The signature with choices of what becomes of values where traffic is captured.

    Args:
        signature: of a model.
        private: ``keep``, ``hash``, ``encrypt`` or ``drop`` by the name of an input or output.

    Raises:
        SettingInvalid: no such name, or no such choice.
    """
    known = [*names(signature.inputs), *names(signature.outputs)]
    for name, choice in private.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            advice = f"did you mean {close[0]}?" if close else f"there are {', '.join(known[:20])}."
            raise SettingInvalid(f"The model has no column {name[:60]!r} to keep private; {advice}")
        if choice not in get_args(Capture):
            raise SettingInvalid(
                f"In captured traffic {name} is one of {', '.join(get_args(Capture))}, not {choice[:60]!r}."
            )

    def chosen(fields: tuple[Field, ...]) -> tuple[Field, ...]:
        return tuple(
            msgspec.structs.replace(field, capture=private.get(field.name, field.capture)) for field in fields
        )

    return msgspec.structs.replace(
        signature, inputs=chosen(signature.inputs), outputs=chosen(signature.outputs)
    )


def names(fields: Iterable[Field]) -> tuple[str, ...]:
    """The names of fields, in order."""
    return tuple(field.name for field in fields)


def is_table(fields: Sequence[Field]) -> bool:
    """Whether all fields are columns, so that a row is a flat object or list."""
    return not any(field.is_tensor for field in fields)


def encode(signature: Signature) -> bytes:
    """The signature as indented JSON, stable from run to run."""
    return msgspec.json.format(msgspec.json.encode(signature), indent=2) + b"\n"


def decode(data: bytes) -> Signature:
    """The signature kept in ``signature.json``.

    Raises:
        msgspec.MsgspecError: the bytes are not a signature; the package reader converts it.
    """
    return msgspec.json.decode(data, type=Signature)
