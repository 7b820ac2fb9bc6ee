"""What everybody may know about the columns of private rows: ranges of numbers, values of categories.

A model that is trained with differential privacy may learn from the rows only what its noise covers. Ranges,
means and lists of values that were taken from the rows would give them away beside it, so they are told.
"""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pandas as pd

from servable.artifact.signature import Field, Signature
from servable.errors import DataError, FileMissing, SettingInvalid
from servable.frameworks.frame import to_frame
from servable.tensors import NUMBERS, STRINGS

_FORM = 'a range such as {"min" = 17, "max" = 90}, or a list of values such as ["cook", "nurse"]'


class Range(NamedTuple):
    """The least and the largest value that a number may have; what is beyond is moved to it."""

    least: float
    most: float


class Bounds(NamedTuple):
    """What is known about each column, the target among them: a range, or all values.

    Attributes:
        columns: by name, in the order of the file.
        place: where it was read, for messages.
    """

    columns: Mapping[str, "Range | tuple[Any, ...]"]
    place: str

    def of(self, name: str) -> "Range | tuple[Any, ...]":
        """What is known about a column.

        Raises:
            DataError: nothing.
        """
        if name not in self.columns:
            raise DataError(f"{self.place} says nothing about {name!r}; give {_FORM}.")
        return self.columns[name]


def read_bounds(path: Path) -> Bounds:
    """The bounds in a file of TOML or JSON.

    Raises:
        FileMissing: there is no such file.
        SettingInvalid: it cannot be read, or says something else.
    """
    held = read_held(path)
    return Bounds({str(name): _read(str(name), said, path) for name, said in held.items()}, path.name)


def read_held(path: Path) -> dict[str, Any]:
    """What a file of TOML or JSON says, by name; raises what ``read_bounds`` does."""
    try:
        text = path.read_text(encoding="utf-8")
        held: Any = msgspec.json.decode(text) if path.suffix == ".json" else tomllib.loads(text)
    except FileNotFoundError as error:
        raise FileMissing(f"There is no file {path} with bounds.") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.MsgspecError) as error:
        raise SettingInvalid(f"{path} cannot be read as bounds ({error}).") from error
    if not isinstance(held, dict) or not held:
        raise SettingInvalid(f"{path} has no bounds; give each column {_FORM}.")
    return held


def _read(name: str, said: Any, path: Path) -> "Range | tuple[Any, ...]":
    if isinstance(said, dict) and said.keys() == {"min", "max"}:
        least, most = said["min"], said["max"]
        if _is_number(least) and _is_number(most) and least < most:
            return Range(float(least), float(most))
    if isinstance(said, list) and said and len(set(said)) == len(said):
        for kind in (bool, int, str):
            if all(type(value) is kind for value in said):
                return tuple(sorted(said))
    raise SettingInvalid(f"{path} does not bound {name!r}; give {_FORM}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def bounded(frame: pd.DataFrame, bounds: Bounds, target: str) -> tuple[pd.DataFrame, dict[str, str]]:
    """The columns that are bounded, with values within their bounds, and the kind of each.

    Args:
        frame: all columns.
        bounds: columns that they do not name are left out.
        target: the column to predict, of which every value must be within them.

    Raises:
        DataError: a column is not there, nothing is known about the target, or it has another value.
    """
    bounds.of(target)
    names = [str(name) for name in frame.columns]
    absent = next((name for name in bounds.columns if name not in names), None)
    if absent is not None:
        raise DataError(f"{bounds.place} bounds a column {absent!r}, which the data does not have.")
    frame = frame.set_axis(names, axis="columns")
    made, kinds = {}, {}
    for name, known in bounds.columns.items():
        made[name] = _within(frame[name], known)
        kinds[name] = "number" if isinstance(known, Range) else _kind(known)
    found = pd.DataFrame(made)
    missing = found[target].isna() & frame[target].notna()
    if missing.any():
        raise DataError(f"Column {target!r} has a value that {bounds.place} does not know.")
    kinds[target] = "number" if isinstance(bounds.of(target), Range) else "category"
    return found[found[target].notna()].reset_index(drop=True), kinds


def _kind(values: Sequence[Any]) -> str:
    return "boolean" if isinstance(values[0], bool) else "category"


def _within(column: "pd.Series[Any]", known: "Range | tuple[Any, ...]") -> "pd.Series[Any]":
    """A column with numbers moved into their range, and values that nobody knows as missing."""
    if isinstance(known, Range):
        numbers = pd.to_numeric(column, errors="coerce").astype("float64")
        return numbers.clip(known.least, known.most)
    values = {_text(value): value for value in known}
    found = column.map(lambda value: values.get(_text(value)), na_action="ignore")
    if isinstance(known[0], bool):
        return found.astype(object).where(found.notna(), None)
    return found.astype("float64") if isinstance(known[0], int) else found.astype("str")


def _text(value: Any) -> str:
    """A value as it is compared: ``1``, ``1.0`` and ``"1"`` are one, and so are ``True`` and ``"true"``."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    text = str(value).strip()
    return text.lower() if text in ("True", "False") else text


def signature_of(found: Signature, bounds: Bounds) -> Signature:
    """A signature that says of its inputs what the bounds say, and nothing that was seen in the rows."""
    fields = tuple(_field(field, bounds.of(field.name)) for field in found.inputs)
    answer = found.answer
    known = bounds.of(answer.name)
    if isinstance(known, Range):
        answer = msgspec.structs.replace(answer, minimum=known.least, maximum=known.most)
    return msgspec.structs.replace(
        found, inputs=fields, outputs=(answer,), example={field.name: field.example for field in fields}
    )


def _field(field: Field, known: "Range | tuple[Any, ...]") -> Field:
    if isinstance(known, Range):
        middle = (known.least + known.most) / 2
        return Field(
            name=field.name, kind="number", dtype="float64", missing=True, minimum=known.least,
            maximum=known.most, example=middle,
        )  # fmt: skip
    values = () if field.kind == "boolean" else known
    return msgspec.structs.replace(field, missing=True, values=values, example=known[0])


def check_classes(found: Signature, bounds: Bounds) -> None:
    """Whether a classifier's classes are those that the bounds name.

    Raises:
        DataError: one of them is in no row.
    """
    known = bounds.of(found.answer.name)
    if found.task != "classification" or isinstance(known, Range):
        return
    absent = next((value for value in known if value not in found.classes), None)
    if absent is not None:
        raise DataError(f"No row has the class {absent!r} that {bounds.place} names; leave it out there.")


def public_frame(signature: Signature, bounds: Bounds) -> pd.DataFrame:
    """Made-up rows that hold every bound and every value, in the form that pipelines are fitted on.

    Half of the rows have the least number of each range, half the largest, so that what scales by mean and
    deviation scales a range to -1 .. 1.
    """
    most = max((len(known) for known in bounds.columns.values()), default=2)
    count = 2 * most
    numbers, strings = signature.packed(NUMBERS), signature.packed(STRINGS)
    arrays: dict[str, Any] = {}
    if numbers:
        arrays[NUMBERS] = np.column_stack([_column(bounds.of(field.name), count) for field in numbers])
    if strings:
        arrays[STRINGS] = np.column_stack([_column(bounds.of(field.name), count) for field in strings])
    return to_frame(arrays, signature, "canonical")


def _column(known: "Range | tuple[Any, ...]", count: int) -> Any:
    if isinstance(known, Range):
        return np.tile(np.asarray(known, np.float64), count // 2)
    kind = object if isinstance(known[0], str) else np.float64
    return np.resize(np.asarray(known, dtype=kind), count)
