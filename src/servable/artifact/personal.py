"""Columns that say who somebody is: marked in the signature, and kept out of everything that a package shows.

What is marked has no example, known value, range or profile in a package, and its sample rows hold stand-ins.
A model itself may still remember what it learned from: encoders hold the categories that they saw.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from servable.artifact.profile import Profile
from servable.artifact.signature import Field, Signature, names, with_captures
from servable.errors import SettingInvalid
from servable.tensors import Arrays

#: What may become of a personal column where traffic is captured; the first is usual.
CHOICES = ("drop", "hash", "encrypt")
#: Before the name of a header that says whom a request is about.
HEADER = "header:"
#: Different stand-ins for texts, so that what depends on their variety still works.
_STAND_INS = 7


def subject_header(subject: str) -> str:
    """The header whose value says whom a request is about, in small letters; empty where an input does.

    Args:
        subject: the name of an input, or ``header:NAME``; of gRPC the metadata of that name.
    """
    return subject[len(HEADER) :].lower() if subject.startswith(HEADER) else ""


def with_personal(signature: Signature, personal: Mapping[str, str]) -> Signature:
    """The signature with columns marked as personal, and nothing in it that tells of their values.

    Args:
        signature: of a model.
        personal: ``drop``, ``hash`` or ``encrypt`` by the name of an input: what becomes of its values where
            traffic is captured.

    Raises:
        SettingInvalid: no such input, or no such choice.
    """
    if not personal:
        return signature
    inputs = names(signature.inputs)
    for name, choice in personal.items():
        if choice not in CHOICES:
            raise SettingInvalid(
                f"A personal column is one of {', '.join(CHOICES)} in captured traffic; {name} cannot be "
                f"{choice[:60]!r}."
            )
        if name not in inputs and name in names(signature.outputs):
            raise SettingInvalid(f"{name} is what the model answers, and only inputs can be personal.")
    marked = with_captures(signature, personal)
    fields = tuple(_marked(field) if field.name in personal else field for field in marked.inputs)
    example = {name: value for name, value in marked.example.items() if name not in personal}
    return msgspec.structs.replace(marked, inputs=fields, example=example)


def personal_choices(signature: Signature) -> dict[str, str]:
    """The personal inputs of a signature, and what becomes of each where traffic is captured."""
    return {field.name: field.captured for field in signature.inputs if field.personal}


def without_people(signature: Signature, rows: Arrays) -> dict[str, NDArray[Any]]:
    """Packed rows with stand-ins where a column is personal; the same arrays where none is.

    Args:
        signature: of the rows.
        rows: are not changed.
    """
    made = {name: np.asarray(array) for name, array in rows.items()}
    for field in signature.inputs:
        if not field.personal or field.array not in made:
            continue
        if field.is_tensor:
            made[field.name] = _stand_ins(made[field.name].shape, made[field.name].dtype)
            continue
        array = made[field.array]
        place = names(signature.packed(field.array)).index(field.name)
        copy = array.copy()
        copy[:, place] = _stand_ins((len(array),), array.dtype)
        made[field.array] = copy
    return made


def profile_without_people(signature: Signature, profile: Profile) -> Profile:
    """A profile without the columns that are personal."""
    hidden = personal_choices(signature)
    return msgspec.structs.replace(
        profile,
        columns=[column for column in profile.columns if column.name not in hidden],
        constant=[column for column in profile.constant if column.name not in hidden],
    )


def _marked(field: Field) -> Field:
    truth = field.dtype == "bool"
    return msgspec.structs.replace(
        field,
        personal=True,
        example=None,
        values=field.values if truth else (),
        unknown="accept",
        minimum=None,
        maximum=None,
    )


def _stand_ins(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype.kind not in "OU":
        return np.zeros(shape, dtype)
    made = np.empty(shape, object)
    flat = made.reshape(-1)
    flat[:] = [f"person {place % _STAND_INS}" for place in range(made.size)]
    return made
