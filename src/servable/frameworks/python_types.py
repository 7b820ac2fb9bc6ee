"""Python types as fields of a signature, and values of these types from arrays and back.

``Scalar`` knows one value of a column, ``Tensor`` one array. What is not among them is refused with a
sentence that shows what to write.
"""

import dataclasses
import enum
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple, Union

import msgspec
import numpy as np

from servable.artifact.signature import Field, Kind
from servable.errors import SettingInvalid
from servable.tensors import MISSING_STRING, NUMBERS, STRINGS, Arrays

#: The mark of the row axis in the shape of an array.
ROWS = "rows"
#: What is said about a type that is none of ours.
KNOWN = (
    "str, int, float, bool, datetime, Literal, Enum, one of these or None, a dataclass, TypedDict or "
    'msgspec.Struct of them, or Annotated[NDArray[np.float32], ("rows", 4)]'
)
_PLAIN: dict[Any, tuple[Kind, str]] = {
    str: ("text", "str"),
    float: ("number", "float64"),
    int: ("number", "int64"),
    bool: ("boolean", "bool"),
    datetime: ("date", "datetime"),
}


class Scalar(NamedTuple):
    """One value.

    Attributes:
        kind: of its field.
        dtype: of its field.
        missing: whether it may be None.
        values: the only ones that there are; empty for any.
        members: of an Enum, by value; None for no Enum.
    """

    kind: Kind
    dtype: str
    missing: bool = False
    values: tuple[Any, ...] = ()
    members: Mapping[Any, Any] | None = None

    def field(self, name: str) -> Field:
        """A column of this type."""
        return Field(
            name=name,
            kind=self.kind,
            dtype=self.dtype,
            missing=self.missing,
            values=self.values,
            unknown="refuse" if self.values else "accept",
        )

    def read(self, packed: Any) -> Any:
        """The Python value of a packed one."""
        if self.dtype == "str":
            if self.missing and packed == MISSING_STRING:
                return None
            value: Any = packed
        else:
            if packed != packed:
                return None
            value = _FROM_NUMBER[self.dtype](packed)
        return value if self.members is None else self.members[value]

    def plain(self, value: Any) -> Any:
        """What a model returned, as it stands in an array.

        Raises:
            ValueError: it is none of this type.
        """
        if isinstance(value, enum.Enum):
            value = value.value
        elif isinstance(value, np.generic):
            value = value.item()
        if value is None:
            if not self.missing:
                raise ValueError("None")
            return MISSING_STRING if self.dtype == "str" else math.nan
        if self.values and value not in self.values:
            raise ValueError("a value that is none of its type's")
        if not isinstance(value, _TAKEN[self.dtype]) or (isinstance(value, bool) != (self.dtype == "bool")):
            raise ValueError(f"{type(value).__name__}")
        return value.timestamp() if isinstance(value, datetime) else value

    def column(self, values: Sequence[Any]) -> Any:
        """Returned values as one array ``[rows]``; raises as ``plain``."""
        plain = [self.plain(value) for value in values]
        if self.dtype == "str":
            array = np.empty(len(plain), object)
            array[:] = plain
            return array
        wide = self.dtype == "datetime" or (self.missing and self.dtype != "float64")
        return np.array(plain, np.float64 if wide else self.dtype)

    @property
    def given(self) -> Field:
        """Its dtype as that of an output."""
        wide = self.dtype == "datetime" or (self.missing and self.dtype not in ("float64", "str"))
        kind: Kind = "number" if wide else self.kind
        return Field(name="", kind=kind, dtype="float64" if wide else self.dtype, values=self.values)


class Tensor(NamedTuple):
    """One array.

    Attributes:
        dtype: of numpy.
        shape: without the row axis; -1 is a free size.
        rows: whether the model's array has a row axis before that.
    """

    dtype: str
    shape: tuple[int, ...]
    rows: bool

    def field(self, name: str) -> Field:
        """A tensor of this type."""
        return Field(name=name, kind="tensor", dtype=self.dtype, shape=self.shape)

    def checked(self, array: Any) -> Any:
        """A returned array of this type, with or without its row axis.

        Raises:
            ValueError: another shape, or values that its dtype does not hold.
        """
        found = np.asarray(array)
        if self.dtype != "str":
            found = found.astype(self.dtype, casting="same_kind" if found.dtype.kind != "O" else "unsafe")
        shape = found.shape[1:] if self.rows else found.shape
        fits = len(shape) == len(self.shape) and all(
            want in (-1, have) for want, have in zip(self.shape, shape, strict=True)
        )
        if not fits or (self.rows and found.ndim != len(self.shape) + 1):
            raise ValueError(f"an array of shape {found.shape}")
        return found


class Record(NamedTuple):
    """Several values under names.

    Attributes:
        make: from the values by name.
        fields: their types by name.
        look: the value of a name in a record that the model returned.
    """

    make: Callable[[dict[str, Any]], Any]
    fields: dict[str, Scalar]
    look: Callable[[Any, str], Any]


Item = Scalar | Tensor | Record


def plain_type(hint: Any) -> Any:
    """A type without the names that stand for it."""
    # The statement ``type X = ...`` of Python 3.12 makes such a name.
    while type(hint).__name__ == "TypeAliasType":
        hint = hint.__value__
    return hint


def item_of(hint: Any, where: str) -> Item:
    """What a type of one row is.

    Args:
        hint: the type, names resolved.
        where: the sentence's beginning, such as ``model.py: predict's parameter text``.

    Raises:
        SettingInvalid: none that is known.
    """
    hint = plain_type(hint)
    tensor = _tensor(hint, where)
    if tensor is not None:
        return tensor
    record = _record(hint, where)
    return record if record is not None else scalar_of(hint, where)


def scalar_of(hint: Any, where: str) -> Scalar:
    """What a type of one value is.

    Raises:
        SettingInvalid: none that is known.
    """
    hint = plain_type(hint)
    if typing.get_origin(hint) is Annotated:
        return scalar_of(typing.get_args(hint)[0], where)
    if typing.get_origin(hint) in (Union, types.UnionType):
        others = [each for each in typing.get_args(hint) if each is not type(None)]
        if len(others) == 1 and len(others) < len(typing.get_args(hint)):
            return scalar_of(others[0], where)._replace(missing=True)
        raise _unknown(hint, where)
    if hint in _PLAIN:
        return Scalar(*_PLAIN[hint])
    if typing.get_origin(hint) is Literal:
        return _one_of(tuple(typing.get_args(hint)), None, where)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        members = {member.value: member for member in hint}
        return _one_of(tuple(members), members, where)
    raise _unknown(hint, where)


def _one_of(values: tuple[Any, ...], members: Mapping[Any, Any] | None, where: str) -> Scalar:
    kinds = {type(value) for value in values}
    if kinds == {str} and "" not in values:
        return Scalar("category", "str", values=values, members=members)
    if kinds == {int}:
        return Scalar("category", "int64", values=values, members=members)
    if kinds == {bool}:
        return Scalar("boolean", "bool", members=members)
    raise SettingInvalid(
        f"{where} has values that are neither all texts nor all whole numbers; write for instance "
        'Literal["low", "high"].'
    )


def _tensor(hint: Any, where: str) -> Tensor | None:
    """A numpy array with its shape; None for any other type."""
    inner, shape = hint, None
    if typing.get_origin(hint) is Annotated:
        inner, *notes = typing.get_args(hint)
        inner = plain_type(inner)
        shape = next((note for note in notes if isinstance(note, tuple)), None)
    if inner is not np.ndarray and typing.get_origin(inner) is not np.ndarray:
        return None
    dtype = _dtype_of(inner)
    known = shape is not None and all(
        part == ROWS if index == 0 and isinstance(part, str) else type(part) is int and part >= -1
        for index, part in enumerate(shape)
    )
    if dtype is None or shape is None or not known:
        raise SettingInvalid(
            f"{where} is an array without its dtype or shape; write for instance "
            'Annotated[NDArray[np.float32], ("rows", 28, 28)] for all rows, '
            "or Annotated[NDArray[np.float32], (28, 28)] for one row, with -1 for a free size."
        )
    rows = shape[:1] == (ROWS,)
    return Tensor(dtype, tuple(shape[1:] if rows else shape), rows)


def _dtype_of(array: Any) -> str | None:
    """The dtype in ``NDArray[np.float32]``."""
    arguments = typing.get_args(array)
    inner = typing.get_args(arguments[1]) if len(arguments) > 1 else ()
    if not inner or not isinstance(inner[0], type) or not issubclass(inner[0], np.generic):
        return None
    try:
        dtype = np.dtype(inner[0])
    except TypeError:
        return None
    return dtype.name if dtype.kind in "biuf" else "str" if dtype.kind == "U" else None


def _record(hint: Any, where: str) -> Record | None:
    """The fields of a dataclass, a TypedDict or a Struct; None for any other type."""
    if not isinstance(hint, type):
        return None
    if typing.is_typeddict(hint):
        make: Callable[[dict[str, Any]], Any] = dict
        look: Callable[[Any, str], Any] = dict.__getitem__
    elif dataclasses.is_dataclass(hint) or issubclass(hint, msgspec.Struct):
        make = lambda values: hint(**values)  # noqa: E731 - as short as its name
        look = getattr
    else:
        return None
    hints = typing.get_type_hints(hint, include_extras=True)
    if not hints:
        raise SettingInvalid(f"{where} is {hint.__name__}, which has no fields with types.")
    fields = {name: scalar_of(inner, f"{hint.__name__}.{name}") for name, inner in hints.items()}
    return Record(make, fields, look)


def _unknown(hint: Any, where: str) -> SettingInvalid:
    name = getattr(hint, "__name__", None) if not typing.get_args(hint) else None
    return SettingInvalid(f"{where} has the type {name or hint}, which no request can hold; write {KNOWN}.")


def columns(item: Item, name: str, arrays: Arrays, places: Mapping[str, int], rows: int) -> Any:
    """The values of a parameter: a list with one for each row, or an array with the row axis first.

    Args:
        item: its type.
        name: its name.
        arrays: packed rows.
        places: the column of each field in its packed array.
        rows: how many there are.
    """
    if isinstance(item, Tensor):
        return arrays[name]
    if isinstance(item, Scalar):
        return _column(item, name, arrays, places)
    values = {each: _column(scalar, each, arrays, places) for each, scalar in item.fields.items()}
    return [item.make({each: column[row] for each, column in values.items()}) for row in range(rows)]


def _column(scalar: Scalar, name: str, arrays: Arrays, places: Mapping[str, int]) -> list[Any]:
    packed = arrays[STRINGS if scalar.dtype == "str" else NUMBERS]
    return [scalar.read(value) for value in packed[:, places[name]].tolist()]


_FROM_NUMBER: dict[str, Callable[[float], Any]] = {
    "float64": float,
    "int64": int,
    "bool": bool,
    "datetime": lambda seconds: datetime.fromtimestamp(seconds, UTC),
}
_TAKEN: dict[str, type | tuple[type, ...]] = {
    "float64": (float, int),
    "int64": int,
    "bool": bool,
    "str": str,
    "datetime": datetime,
}
