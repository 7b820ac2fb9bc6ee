"""What a person says about a model's inputs and labels, joined with what the model itself says. Pure.

Adapters whose models know no more than the shapes of their tensors use it: a description names inputs,
says that one of them is a picture and how it is prepared, and gives the labels of the scores.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from servable.artifact.signature import Field
from servable.errors import SettingInvalid
from servable.frameworks.base import Hints
from servable.inputs.samples import example_of


class Joined(NamedTuple):
    """One input of the model.

    Attributes:
        own: as the model has it.
        field: as callers see it.
        reshaped: the shape of one row as the model takes it, where it differs from the field's.
    """

    own: Field
    field: Field
    reshaped: tuple[int, ...] | None = None


def joined(own: Sequence[Field], hints: Hints) -> list[Joined]:
    """The inputs of a model with what was said about them.

    Args:
        own: every input as the model has it; dtype and shape are certain, -1 is a free size.
        hints: whose inputs are found by name, or by their order when there are as many.

    Raises:
        SettingInvalid: an input that the model does not have, or one that contradicts it.
    """
    said = _matched(own, hints.inputs)
    return [Joined(field, field) if hint is None else _joined(field, hint) for field, hint in said]


def _matched(own: Sequence[Field], said: Sequence[Field]) -> list[tuple[Field, Field | None]]:
    names = {field.name: field for field in said}
    known = {field.name for field in own}
    if names.keys() - {""} <= known and len(names) == len(said) and "" not in names:
        return [(field, names.get(field.name)) for field in own]
    if len(said) == len(own):
        return list(zip(own, said, strict=True))
    strange = ", ".join(sorted(name or "an input without a name" for name in names.keys() - known))
    raise SettingInvalid(
        f"The description speaks of {strange}; the model takes {', '.join(sorted(known))}: "
        "use these names, or describe every input in order."
    )


def _joined(own: Field, hint: Field) -> Joined:
    name = hint.name or own.name
    if hint.dtype not in ("", own.dtype):
        raise SettingInvalid(f"The description gives {name} as {hint.dtype} and the model takes {own.dtype}.")
    how = hint.preparation
    shape = hint.shape or own.shape if how is None else how.shape
    reshaped = None
    if not fits(own.shape, shape):
        if how is None or not same_values(own.shape, shape):
            what = "describes" if how is None else "prepares"
            raise SettingInvalid(
                f"The description {what} {name} as {_sizes(shape)} and the model takes {_sizes(own.shape)}; "
                "size, channels and layout of both must agree."
            )
        reshaped = _reshaped(own.shape, shape)
    if how is not None and own.dtype in ("str", "bool"):
        raise SettingInvalid(f"The model takes {name} as {own.dtype}, which no file becomes.")
    changed = {"name": name, "dtype": own.dtype, "shape": shape}
    if hint.example is None:
        # What callers send: a small file, or what the adapter made up.
        changed["example"] = own.example if how is None else example_of(how)
    return Joined(own, msgspec.structs.replace(hint, **changed), reshaped)


def fits(wanted: Sequence[int], given: Sequence[int]) -> bool:
    """Whether a shape is one that the model takes."""
    return len(wanted) == len(given) and all(
        want in (-1, have) for want, have in zip(wanted, given, strict=True)
    )


def same_values(wanted: Sequence[int], given: Sequence[int]) -> bool:
    """Whether a shape differs by axes of one element only, or the model takes all values in one axis."""
    if len(wanted) == 1:
        return wanted[0] in (-1, math.prod(given))
    return fits([size for size in wanted if size != 1], [size for size in given if size != 1])


def _reshaped(wanted: Sequence[int], given: Sequence[int]) -> tuple[int, ...]:
    """The shape that the model takes, free sizes filled in; ``same_values`` is true."""
    if len(wanted) == 1:
        return (math.prod(given),)
    sizes = iter([size for size in given if size != 1])
    return tuple(1 if size == 1 else next(sizes) for size in wanted)


def _sizes(shape: Sequence[int]) -> str:
    return " x ".join("any" if size < 0 else str(size) for size in shape) or "one value"
